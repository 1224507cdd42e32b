use keyrail_sdk::testing::Host;

use super::*;

const KNOWN: [&str; 5] = ["keep", "window", "paths", "output", "schema.*"];

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    for (key, said) in [
        ("kep", "unknown key; did you mean `keep`?"),
        ("wndow", "did you mean `window`?"),
        ("zzz", "unknown key; the keys are keep, window"),
        ("schema.", "unknown key"),
        ("schema", "unknown key"),
    ] {
        let host = Host::new().config(key, "1");
        let refused = Config::new(&host.setup(), &KNOWN).err().unwrap().to_string();
        assert!(refused.starts_with(&format!("[config] {key}: ")) && refused.contains(said), "{refused}");
    }
    assert!(Config::new(&Host::new().config("schema.x", "1").setup(), &KNOWN).is_ok());
    assert!(Config::new(&Host::new().setup(), &KNOWN).is_ok());
}

#[test]
fn a_wrong_value_is_refused_with_key_problem_and_cure() {
    let read = |value: &str, read: &dyn Fn(&Config<'_>) -> Result<String, Wrong>| {
        let setup = Host::new().output("kept").config("window", value).setup();
        read(&Config::new(&setup, &KNOWN).unwrap()).map_err(|wrong| wrong.to_string())
    };
    let duration = |value: &str| read(value, &|c| c.duration_ms("window", 0..=1_000_000, 7).map(|ms| ms.to_string()));
    assert_eq!(duration("10s"), Ok("10000".to_owned()));
    assert_eq!(duration("500ms"), Ok("500".to_owned()));
    for (value, said) in [
        ("10", "with its unit"),
        ("s", "with its unit"),
        ("1.5s", "with its unit"),
        ("-1s", "with its unit"),
        ("99999999999999999999s", "with its unit"),
        ("18446744073709551615d", "with its unit"),
        ("1h", "between 0 ms and 1000000 ms"),
        (" ", "is empty"),
    ] {
        let refused = duration(value).unwrap_err();
        assert!(refused.starts_with("[config] window") && refused.contains(said), "{value}: {refused}");
    }
    let number = |value: &str| read(value, &|c| c.number("window", 1..=9, 3).map(|n| n.to_string()));
    assert_eq!(number("9"), Ok("9".to_owned()));
    assert!(number("10").unwrap_err().contains("from 1 to 9"));
    let choice = |value: &str| read(value, &|c| c.otherwise("window", Otherwise::Keep).map(|o| format!("{o:?}")));
    assert_eq!(choice("dead-letter"), Ok("DeadLetter".to_owned()));
    assert!(choice("dead-leter").unwrap_err().contains("did you mean `dead-letter`?"));
    let output = |value: &str| read(value, &|c| c.output("window", "none"));
    assert_eq!(output("kept"), Ok("kept".to_owned()));
    assert!(output("kepd").unwrap_err().contains("did you mean `kept`?"));
    let none = Host::new().setup();
    let none = Config::new(&none, &KNOWN).unwrap();
    assert!(none.required("keep", "'a == 1'").unwrap_err().to_string().contains("for example keep = 'a == 1'"));
    assert_eq!(none.duration_ms("window", 0..=9, 7), Ok(7));
}

#[test]
fn paths_stand_on_one_line_or_on_many() {
    let read = |value: &str| {
        let setup = Host::new().config("paths", value).setup();
        let paths = Config::new(&setup, &KNOWN).unwrap().paths("paths");
        paths.map(|paths| paths.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(|wrong| wrong.to_string())
    };
    assert_eq!(read("a.b, c[*].d ,e"), Ok(vec!["a.b".to_owned(), "c[*].d".to_owned(), "e".to_owned()]));
    assert_eq!(read("\n  a\n  \"b, c\",\n\n"), Ok(vec!["a".to_owned(), "\"b, c\"".to_owned()]));
    assert!(read("a b").unwrap_err().contains("separate paths by commas"));
    assert!(read("a,,b").unwrap_err().starts_with("[config] paths: a field's name is missing"));
}

#[test]
fn a_slip_of_the_pen_is_one_step_away() {
    for (a, b, steps) in [
        ("keep", "keep", 0),
        ("kep", "keep", 1),
        ("kepe", "keep", 1),
        ("keepx", "keep", 1),
        ("", "keep", 4),
        ("abc", "xyz", 3),
    ] {
        assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
    }
}
