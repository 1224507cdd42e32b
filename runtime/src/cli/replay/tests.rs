#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use bench::hex;
use fixture::Fixture;

#[test]
fn letters_are_named_as_they_are_listed() {
    let of = |name: &str, spot| Ok(Target { name: name.to_owned(), spot });
    assert_eq!(target("dlq:p.in.dlq/3@17"), of("p.in.dlq", Some((3, 17))));
    assert_eq!(target("dlq:payments"), of("payments", None));
    for wrong in
        ["p.in.dlq/3@17", "dlq:", "dlq:t/3", "dlq:t/3@", "dlq:t/-1@2", "dlq:t/1@-2", "dlq:t/a@b", "dlq:t/3@17@"]
    {
        assert!(target(wrong).is_err_and(|why| why.contains("dlq:TOPIC/PARTITION@OFFSET")), "{wrong}");
    }
}

#[test]
fn a_sum_tells_what_matters() {
    let sum = Sum { letters: 1_000, identical: 1_000, handled: 0, inexact: 0, problems: 0 };
    assert_eq!((sum.told(false).as_str(), sum.is_well(false)), ("1,000 letters: 1,000 identical", true));
    assert!(!sum.is_well(true), "none is handled");
    let sum = Sum { letters: 10, identical: 2, handled: 5, inexact: 1, problems: 2 };
    assert_eq!(sum.told(true), "10 letters: 5 handled, 2 end as they did, 1 fail otherwise, 1 inexact, 2 not run");
    assert_eq!(sum.told(false), "10 letters: 2 identical, 6 different, 1 inexact, 2 not run");
    assert!(!Sum::default().is_well(false));
}

#[test]
fn a_digest_is_written_as_everywhere() {
    assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
}

const WRITTEN: &str = r#"{"keyrail-fixture":1,"pipeline":"p","now":5,
    "message":{"topic":"in","partition":0,"offset":1,"timestamp":2,"key":"k","value":{"base64":"/w=="},"headers":[["h",null]]},
    "state":{"values":{"a":"1","b":null},"known":[{"prefix":"x"}]},"expect":{"outcome":"handled"}}"#;

#[test]
fn a_fixture_is_read_as_somebody_writes_it() {
    let case = Fixture::parse(WRITTEN).unwrap().case();
    assert_eq!((case.value.as_deref(), case.attempt, case.deadline_ms), (Some(&b"\xff"[..]), 1, 5_000));
    assert_eq!(case.headers, [(b"h".to_vec(), None)]);
    assert_eq!(case.reads.names.values().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert_eq!(case.reads.spans.len(), 1);
}

#[test]
fn a_fixture_that_is_none_says_why() {
    let wrong = |from: &str, to: &str| Fixture::parse(&WRITTEN.replace(from, to)).unwrap_err();
    assert!(wrong("\"keyrail-fixture\":1", "\"keyrail-fixture\":2").contains("knows 1"));
    assert!(wrong("handled", "well").contains("needs an \"outcome\": handled, done, skip"));
    assert!(wrong("\"now\":5", "\"noww\":5").contains("noww"));
    assert!(wrong("[\"h\",null]", "[null,\"h\"]").contains("needs a name"));
}
