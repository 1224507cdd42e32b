use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

fn host(config: &[(&str, &str)]) -> Host {
    let host = Host::new().output("kept").output("rest");
    config.iter().fold(host, |host, (key, value)| host.config(key, value))
}

fn run(config: &[(&str, &str)], input: impl Into<Input>) -> Run {
    let mut host = host(config);
    let mut filter = Filter::open(&host.setup()).unwrap();
    host.run(|message, ctx| filter.handle(message, ctx), input)
}

fn refused(config: &[(&str, &str)]) -> String {
    Filter::open(&host(config).setup()).err().map(|why| why.to_string()).unwrap_or_default()
}

const ORDER: &str = r#"{"id":"o-1","total":12345678901234567890,"rate":1.10,"paid":true,"note":null,
    "customer":{"name":"Zo\u00eb","tags":["vip","eu"]},"items":[{"sku":"a","n":1},{"sku":"b","n":20}],"$odd":1,"in":2}"#;

#[test]
fn an_expression_means_what_the_page_says() {
    let cases = [
        ("id == 'o-1'", true),
        ("id == \"o-1\" and paid == true", true),
        ("id == 1", false),
        ("total == 12345678901234567890", true),
        ("total == 12345678901234567891", false),
        ("total > 12345678901234567889.5", true),
        ("rate == 1.1", true),
        ("rate <= 1.0999", false),
        ("rate >= 1.1 and rate < 1.11 and not rate > 1.1", true),
        ("note == null", true),
        ("note exists", true),
        ("missing exists", false),
        ("missing == null", false),
        ("missing != 1", true),
        ("not missing exists", true),
        ("missing < 1 or missing >= 1", false),
        ("id < 'o-2' and id > 'o-'", true),
        ("id < 5 or id > 5", false),
        ("customer exists and customer == 'x'", false),
        ("customer.name == 'Zoë'", true),
        ("customer.name starts-with 'Z' and customer.name ends-with 'ë'", true),
        ("customer.name contains 'oë'", true),
        ("customer.tags[*] == 'eu'", true),
        ("customer.tags[0] == 'eu'", false),
        ("items[*].n > 10", true),
        ("items[*].n > 100", false),
        ("items[*].n != 1", false),
        ("id in ['o-1', 'o-2', 3, null]", true),
        ("id not in ['o-2']", true),
        ("missing not in ['o-2']", true),
        ("id matches '^o-\\d+$'", true),
        ("id matches '^\\d+$'", false),
        ("paid == false or (id == 'x' or total > 1) and paid == true", true),
        ("paid == true or paid == false and id == 'x'", true),
        ("not (paid == true or id == 'x')", false),
        ("not not paid == true", true),
        ("\"$odd\" == 1 and \"in\" in [2]", true),
        ("in == 2", true),
        ("$key == 'k1' and $topic == 'input' and $partition == 0", true),
        ("$timestamp >= 1700000000000", true),
        ("$header.type == 'order' and $header.\"x.y\" exists", true),
        ("$header.none exists", false),
        ("$header.bytes exists and $header.bytes != 'x'", true),
        ("$header.bytes starts-with ''", false),
    ];
    for (expression, holds) in cases {
        let input = || {
            let input = Input::new(ORDER).key("k1").header("type", "first").header("type", "order");
            input.header("x.y", "").header("bytes", b"\xff")
        };
        let kept = run(&[("keep", expression)], input());
        let expected = if holds { Done } else { Skip };
        assert_eq!((kept.outcome, kept.sent.len()), (Ok(expected), usize::from(holds)), "keep {expression}");
        let dropped = run(&[("drop", expression)], input());
        assert_eq!((dropped.outcome.is_ok(), dropped.sent.len()), (true, usize::from(!holds)), "drop {expression}");
    }
}

#[test]
fn what_is_kept_goes_on_untouched_and_the_rest_where_it_is_told() {
    let input = || Input::new(ORDER).key(b"\xff\x00").header("h", Null).header("h", "2").timestamp_ms(42);
    for (expression, to) in [("paid == true", "kept"), ("paid == false", "rest")] {
        let run = run(&[("keep", expression), ("rest", "rest")], input());
        assert_eq!(run.outcome, Ok(Done));
        let sent = &run.sent[0];
        assert_eq!((sent.to.as_str(), sent.value(), sent.timestamp_ms), (to, ORDER.as_bytes(), 42));
        assert_eq!((sent.key.as_deref(), sent.headers.len()), (Some(&b"\xff\x00"[..]), 2));
    }
}

#[test]
fn what_is_no_json_goes_where_the_manifest_says() {
    let deep = "[".repeat(1 << 20);
    let huge = format!("[{}1]", "1,".repeat(1_100_000));
    let cases: [(&[u8], &str); 6] = [
        (b"", "bad-json"),
        (b"{\"paid\":true", "bad-json"),
        (b"\xff", "not-utf-8"),
        (b"{\"paid\":NaN}", "bad-json"),
        (deep.as_bytes(), "too-deep"),
        (huge.as_bytes(), "too-large"),
    ];
    for (value, code) in cases {
        let problem = run(&[("keep", "paid == true")], value).outcome.unwrap_err();
        assert_eq!((problem.code(), problem.is_dead_letter()), (code, true));
        for (fate, sent) in [("keep", 1), ("drop", 0)] {
            let run = run(&[("keep", "paid == true"), ("invalid", fate)], value);
            assert_eq!((run.outcome.is_ok(), run.sent.len()), (true, sent), "{code} {fate}");
        }
        // Whoever asks for no field does not care.
        assert_eq!(run(&[("keep", "$partition == 0")], value).sent.len(), 1);
    }
}

#[test]
fn a_tombstone_is_kept_unless_told_otherwise() {
    for (fate, expression, sent) in [
        ("keep", "paid == true", 1),
        ("drop", "paid != true", 0),
        ("test", "paid == true", 0),
        ("test", "paid != true", 1),
        ("drop", "$key == 'k'", 1),
    ] {
        let run = run(&[("keep", expression), ("tombstone", fate)], Input::new(Null).key("k"));
        assert_eq!((run.outcome.is_ok(), run.sent.len()), (true, sent), "{fate} {expression}");
        assert!(run.sent.iter().all(|sent| sent.value.is_none()));
    }
    assert_eq!(run(&[("keep", "paid == true")], Null).sent.len(), 1);
}

#[test]
fn a_repeated_field_passes_if_any_of_them_does() {
    for (expression, holds) in [("a == 1", true), ("a == 2", true), ("a == 3", false)] {
        assert_eq!(
            run(&[("keep", expression)], r#"{"a":1,"\u0061":2}"#).sent.len(),
            usize::from(holds),
            "{expression}"
        );
    }
}

#[test]
fn a_wrong_manifest_is_refused_with_place_and_cure() {
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[], "[config] keep or drop is missing"),
        (&[("keep", "a == 1"), ("drop", "b == 1")], "both set"),
        (&[("keep", "a == 1"), ("tombstones", "keep")], "[config] tombstones: unknown key; did you mean `tombstone`?"),
        (&[("keep", "a == 1"), ("invalid", "skip")], "[config] invalid = \"skip\""),
        (&[("keep", "a == 1"), ("output", "kep")], "did you mean `kept`?"),
        (&[("keep", "a == 1"), ("rest", "others")], "[config] rest = \"others\""),
        (&[("keep", " ")], "[config] keep is empty"),
    ];
    for (config, said) in cases {
        assert!(refused(config).contains(said), "{config:?}: {}", refused(config));
    }
    let cases = [
        ("a", "a test is expected here"),
        ("a = 1", "did you mean `==`?"),
        ("a == ", "a value is expected here"),
        ("a == b", "a value is expected here"),
        ("a start-with 'x'", "did you mean `starts-with`?"),
        ("a == 1 b == 2", "`and`, `or` or the end"),
        ("a == 1 and", "a field is expected here"),
        ("(a == 1", "`)` is expected"),
        ("a in 1", "`[` is expected"),
        ("a in []", "a value is expected"),
        ("a in [1 2]", "`,` or `]`"),
        ("a not == 1", "`in` is expected after `not`"),
        ("a == 'x", "closing quote"),
        ("a < true", "have an order"),
        ("a contains 1", "a text in quotes"),
        ("a matches '('", "the regular expression"),
        ("a[x] == 1", "[*]"),
        ("$kay == 'x'", "did you mean `$key`?"),
        ("$header == 'x'", "there are $key"),
        ("$header.a.b == 'x'", "one name"),
        ("a == 01", "a value is expected"),
    ];
    for (expression, said) in cases {
        let refused = refused(&[("keep", expression)]);
        assert!(refused.starts_with("[config] keep: ") && refused.contains(said), "{expression}: {refused}");
    }
    for hostile in ["(".repeat(100_000), "not ".repeat(100_000)] {
        assert!(refused(&[("keep", &hostile)]).contains("nested deeper than 32"));
    }
    assert!(refused(&[("keep", "a matches '(((a{99}){99}){99}){99}'")]).contains("the regular expression"));
}
