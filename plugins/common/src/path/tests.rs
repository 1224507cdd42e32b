use super::*;
use crate::Doc;

const TEXT: &str =
    r#"{"a":{"b":1,"b":2},"items":[{"card":"x"},{"no":0},{"card":"y"},7],"odd name":{"d\u006ft.":[[3]]},"":5}"#;

fn found(path: &str) -> Vec<String> {
    let (path, doc) = (Path::parse(path).unwrap(), Doc::parse(TEXT.as_bytes()).unwrap());
    let mut found = Vec::new();
    path.each(doc.root(), &mut |value| {
        found.push(value.raw().to_owned());
        true
    });
    found
}

#[test]
fn a_path_finds_what_it_says_and_nothing_else() {
    let cases: [(&str, &[&str]); 13] = [
        ("a.b", &["1", "2"]),
        ("a", &[r#"{"b":1,"b":2}"#]),
        ("items[*].card", &[r#""x""#, r#""y""#]),
        ("items[2].card", &[r#""y""#]),
        ("items[3]", &["7"]),
        ("items[4]", &[]),
        ("items[18446744073709551615]", &[]),
        ("items.card", &[]),
        ("a[*]", &[]),
        ("a.b.c", &[]),
        (r#""odd name"."dot."[0][*]"#, &["3"]),
        (r#""""#, &["5"]),
        ("[0]", &[]),
    ];
    for (path, values) in cases {
        assert_eq!(found(path), values, "{path}");
    }
    let doc = Doc::parse(TEXT.as_bytes()).unwrap();
    let first = Path::parse("items[*].card").unwrap().first(doc.root()).unwrap();
    assert_eq!(first.raw(), r#""x""#);
}

#[test]
fn a_path_prints_as_it_is_read() {
    for text in ["a.b", "items[*].card", "a[0][1]", r#""odd name".x"#, "[*].a", "naïve.größe"] {
        assert_eq!(Path::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_wrong_path_is_refused_with_its_cure() {
    let cases = [
        ("", "name is missing"),
        ("a..b", "name is missing"),
        ("a.", "name is missing"),
        ("a.[0]", "leave it out"),
        ("a[", "`]` is missing"),
        ("a[x]", "say [*]"),
        ("a[-1]", "say [*]"),
        ("a b", "double quotes"),
        ("\"a", "closing quote"),
        ("a[0]b", "double quotes"),
    ];
    for (path, why) in cases {
        let refused = Path::parse(path).unwrap_err();
        assert!(refused.contains(why), "{path}: {refused}");
    }
    assert!(Path::parse(&vec!["a"; 33].join(".")).unwrap_err().contains("at most 32"));
}
