use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

const SALT: (&str, &str) = ("salt", "0123456789abcdef");

fn host(config: &[(&str, &str)]) -> Host {
    config.iter().fold(Host::new().output("masked"), |host, (key, value)| host.config(key, value))
}

fn run(config: &[(&str, &str)], input: impl Into<Input>) -> Run {
    let mut host = host(config);
    let mut mask = Mask::open(&host.setup()).unwrap();
    host.run(|message, ctx| mask.handle(message, ctx), input)
}

fn masked(config: &[(&str, &str)], value: &str) -> String {
    let run = run(config, value);
    assert_eq!(run.outcome, Ok(Done), "{value}");
    String::from_utf8(run.sent[0].value().to_vec()).unwrap()
}

#[test]
fn every_byte_that_is_not_hidden_stays() {
    let value = "{ \"z\" : 1.10,\t\"big\":12345678901234567890, \"e\":1E+2, \"n\":\"\\u0041\\/\", \"card\" : \"4111111111111111\" ,\n\"a\":[ ] ,\"z\":-0 }";
    let hidden = value.replace("\"4111111111111111\"", "\"************1111\"");
    assert_eq!(masked(&[("partial", "card")], value), hidden);
    assert_eq!(masked(&[("partial", "none, a[*].b, card.x")], value), value);
}

#[test]
fn each_action_does_what_the_page_says() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 19] = [
        (&[("replace", "a")], r#"{"a":{"b":1},"c":2}"#, r#"{"a":"***","c":2}"#),
        (&[("replace", "a"), ("with", "\"x\"")], r#"{"a":null}"#, r#"{"a":"\"x\""}"#),
        (&[("replace", "[*]")], "[1,[2],{}]", r#"["***","***","***"]"#),
        (
            &[("partial", "i[*].c")],
            r#"{"i":[{"c":"123456789"},{"c":4111111111111111},{}]}"#,
            r#"{"i":[{"c":"*****6789"},{"c":"************1111"},{}]}"#,
        ),
        (&[("partial", "a")], r#"{"a":"12345678"}"#, r#"{"a":"********"}"#),
        (&[("partial", "a"), ("show", "2")], r#"{"a":"é\u00e9😀\ud83d\ude00x"}"#, r#"{"a":"***😀x"}"#),
        (
            &[("partial", "a,b,c,d")],
            r#"{"a":null,"b":true,"c":[1],"d":""}"#,
            r#"{"a":null,"b":"***","c":"***","d":""}"#,
        ),
        (&[("remove", "a")], r#"{"a":1}"#, "{}"),
        (&[("remove", "a")], r#"{ "a" : 1 , "b":2}"#, r#"{ "b":2}"#),
        (&[("remove", "b")], r#"{"a":1, "b":2 , "c":3}"#, r#"{"a":1 , "c":3}"#),
        (&[("remove", "b, c")], r#"{"a":1,"b":2,"c":3}"#, r#"{"a":1}"#),
        (&[("remove", "a, b")], r#"{"a":1,"b":2,"c":3}"#, r#"{"c":3}"#),
        (&[("remove", "a, c")], r#"{"a":1,"b":2,"c":3}"#, r#"{"b":2}"#),
        (&[("remove", "a, b")], r#"{"a":1,"b":2}"#, "{}"),
        (&[("remove", "a")], r#"{"a":1,"a":{"a":2},"b":[{"a":3}]}"#, r#"{"b":[{"a":3}]}"#),
        (&[("remove", "a"), ("replace", "a.b, c")], r#"{"a":{"b":1},"c":1}"#, r#"{"c":"***"}"#),
        (&[("replace", "a"), ("partial", "a.b, a.c[*]")], r#"{"a":{"b":1,"c":[1]},"d":1}"#, r#"{"a":"***","d":1}"#),
        (
            &[("replace", "a[0]"), ("partial", "a[*]")],
            r#"{"a":["123456789","123456789"]}"#,
            r#"{"a":["***","*****6789"]}"#,
        ),
        (&[("replace", "\"c\u{61}rd\"")], r#"{"c\u0061rd":1,"card":2}"#, r#"{"c\u0061rd":"***","card":"***"}"#),
    ];
    for (config, value, expected) in cases {
        assert_eq!(masked(config, value), expected, "{config:?} {value}");
        assert!(Doc::parse(expected.as_bytes()).is_ok(), "{expected}");
    }
}

#[test]
fn a_hash_is_hmac_sha256_and_the_same_for_the_same_text() {
    // RFC 4231, cases 1, 2 and 6.
    let cases: [(&[u8], &[u8], &str); 3] = [
        (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ];
    for (key, text, hash) in cases {
        assert_eq!(Secret::new(key).hash(text), hash);
    }
    let hash = |value: &str| masked(&[("hash", "a"), SALT], value);
    assert_eq!(hash(r#"{"a":"A7"}"#), hash(r#"{"a":"\u00417"}"#));
    assert_ne!(hash(r#"{"a":"A7"}"#), hash(r#"{"a":"A8"}"#));
    assert_ne!(hash(r#"{"a":"A7"}"#), masked(&[("hash", "a"), ("salt", "another0123456789")], r#"{"a":"A7"}"#));
    assert_eq!(hash(r#"{"a":null}"#), r#"{"a":null}"#);
    assert_eq!(hash(r#"{"a":[1]}"#).len(), 72);
}

#[test]
fn the_example_of_the_page_is_true() {
    let page = include_str!("../README.md");
    let example = |start: &str| page.lines().find_map(|line| line.strip_prefix(start)).unwrap();
    let config = [
        ("hash", "customer.email"),
        ("partial", "customer.card, payments[*].card"),
        ("replace", "customer.name"),
        ("remove", "customer.password"),
        SALT,
    ];
    assert!(config[..4].iter().all(|(key, value)| page.contains(&format!("{key:7} = \"{value}\""))));
    assert_eq!(masked(&config, example("in   ")), example("out  "));
}

#[test]
fn key_headers_and_tombstones_go_along() {
    let input = || Input::new(Null).key("k").header("h", "1").timestamp_ms(3);
    let kept = run(&[("remove", "a")], input());
    assert_eq!((kept.sent[0].value.as_deref(), kept.sent[0].key.as_deref()), (None, Some(&b"k"[..])));
    assert_eq!((kept.sent[0].headers.len(), kept.sent[0].timestamp_ms), (1, 3));
    assert!(run(&[("remove", "a"), ("headers", "drop")], input()).sent[0].headers.is_empty());
}

#[test]
fn what_is_no_json_is_never_let_through() {
    let deep = "{\"a\":".repeat(1 << 20);
    for (value, code) in
        [(&b""[..], "bad-json"), (b"{\"a\":1}}", "bad-json"), (b"\xff", "not-utf-8"), (deep.as_bytes(), "too-deep")]
    {
        let problem = run(&[("remove", "a")], value).outcome.unwrap_err();
        assert_eq!((problem.code(), problem.is_dead_letter()), (code, true));
        let dropped = run(&[("remove", "a"), ("invalid", "drop")], value);
        assert_eq!((dropped.outcome, dropped.sent.len()), (Ok(Skip), 0));
    }
}

#[test]
fn a_hundred_thousand_fields_are_hidden_at_once() {
    let value = format!("[{}{{}}]", r#"{"c":"123456789","x":1},"#.repeat(100_000));
    let masked = masked(&[("partial", "[*].c"), ("remove", "[*].x")], &value);
    assert_eq!(masked, format!("[{}{{}}]", r#"{"c":"*****6789"},"#.repeat(100_000)));
}

#[test]
fn a_wrong_manifest_is_refused_with_place_and_cure() {
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[], "[config] names no field to hide"),
        (&[("hash", "a")], "[config] salt is missing"),
        (&[("hash", "a"), ("salt", "short")], "[config] salt is too short"),
        (&[("remove", "a"), SALT], "no field is hashed"),
        (&[("remove", "a[0]")], "use replace"),
        (&[("remove", "a[*]")], "use replace"),
        (&[("remove", "a"), ("replace", "b, a")], "[config] replace = \"a\": the field has a rule already"),
        (&[("replace", "a b")], "separate paths by commas"),
        (&[("partial", "a"), ("show", "0")], "from 1 to 64"),
        (&[("remove", "a"), ("invalid", "keep")], "it is one of dead-letter, drop"),
        (&[("remove", "a"), ("headers", "x")], "it is one of keep, drop"),
        (&[("remov", "a")], "did you mean `remove`?"),
    ];
    for (config, said) in cases {
        let refused = Mask::open(&host(config).setup()).err().unwrap().to_string();
        assert!(refused.contains(said), "{config:?}: {refused}");
        assert!(!refused.contains("short") || !refused.contains("\"short\""), "the salt is told: {refused}");
    }
}
