#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
use super::*;
use crate::record::{RecordBuilder, TopicPartition};
use crate::wasm::Effects;
use keyrail_engine::message::{Company, Failure, Reason};

fn record(headers: &[(&[u8], Option<&[u8]>)]) -> Record {
    let mut builder = RecordBuilder::new(Some(b"k"), None);
    for (name, value) in headers {
        builder.header(name, *value);
    }
    builder.build(TopicPartition { topic: 0, partition: 3 }, 42, 1_700)
}

/// The names and values of an output's headers: of one that the handler sent with these, from this record.
fn output_of(headers: &[(&[u8], &[u8])], forward: bool, record: &Record) -> Vec<String> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(*value))).collect();
    let effects = Effects::one(b"v", &headers, forward, None);
    let source = Source::of(record);
    effects.of(0).flat_map(|send| names(&output_headers(&send, &source))).collect()
}

fn epitaph() -> Epitaph {
    let failure = Failure { code: "bad".into(), detail: "no amount".into() };
    Epitaph {
        reason: Reason::Attempts,
        failure,
        attempts: 16,
        first_failed_ms: 99,
        version: None,
        company: Company::Alone,
    }
}

fn origin(style: HeaderStyle, short: bool) -> Origin<'static> {
    Origin { topic: "orders", group: "g", handler: "h@abc", style, timer: None, delayed: None, short }
}

fn names(headers: &[Header<'_>]) -> Vec<String> {
    headers
        .iter()
        .map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), v.map_or("null".into(), String::from_utf8_lossy)))
        .collect()
}

#[test]
fn trace_headers_always_follow_and_others_on_request() {
    let r = record(&[(b"a", Some(b"1")), (b"traceparent", Some(b"t")), (b"a", None)]);
    assert_eq!(output_of(&[(b"x", b"y")], false, &r), ["x=y", "traceparent=t"]);
    assert_eq!(output_of(&[], true, &r), ["a=1", "traceparent=t", "a=null"]);
    // A handler that starts a span of its own has its word.
    assert_eq!(output_of(&[(b"traceparent", b"own")], false, &r), ["traceparent=own"]);
    assert_eq!(output_of(&[], true, &record(&[])), [] as [&str; 0]);
    assert_eq!(output_of(&[(b"x", b"y")], true, &record(&[])), ["x=y"]);
}

#[test]
fn the_letter_of_a_timer_tells_its_name() {
    for style in [HeaderStyle::Keyrail, HeaderStyle::Spring] {
        let of = |timer| letter_headers(&Origin { timer, ..origin(style, true) }, &record(&[]), &epitaph());
        assert_eq!(of(Some("remind")).last().unwrap(), &(TIMER, b"remind".to_vec()));
        assert!(of(None).iter().all(|(name, _)| *name != TIMER));
    }
}

#[test]
fn an_output_has_the_messages_time_unless_the_handler_gives_one() {
    let source = Source::of(&record(&[]));
    let times = [None, Some(5)].map(|own| {
        let effects = Effects::one(b"v", &[], false, own);
        let times: Vec<_> = effects.of(0).map(|send| output("t", &send, &source, &[]).timestamp_ms).collect();
        times
    });
    assert_eq!(times, [[Some(1_700)], [Some(5)]]);
}

#[test]
fn a_dead_letter_keeps_every_byte_and_tells_its_origin() {
    let r = record(&[(b"\xff", None), (b"a", Some(b""))]);
    let ours = letter_headers(&origin(HeaderStyle::Keyrail, false), &r, &epitaph());
    let all = all_letter_headers(&r, &ours);
    assert_eq!(all[..2], [(&b"\xff"[..], None), (&b"a"[..], Some(&b""[..]))]);
    assert_eq!(
        names(&all[2..]),
        [
            "keyrail-topic=orders",
            "keyrail-partition=3",
            "keyrail-offset=42",
            "keyrail-timestamp=1700",
            "keyrail-reason=attempts",
            "keyrail-group=g",
            "keyrail-handler=h@abc",
            "keyrail-attempts=16",
            "keyrail-first-failed=99",
            "keyrail-code=bad",
            "keyrail-detail=no amount",
        ]
    );
    let letter = letter("dlq", &r, &all);
    assert_eq!((letter.key, letter.value, letter.timestamp_ms), (Some(&b"k"[..]), None, None));
}

#[test]
fn a_letter_that_goes_with_another_names_that_one_and_an_older_name_is_gone() {
    let follows = |offset| Epitaph { reason: Reason::Follows, company: Company::Follows(offset), ..epitaph() };
    let r = record(&[(b"keyrail-follows", Some(b"first:1:2"))]);
    let ours = letter_headers(&origin(HeaderStyle::Keyrail, true), &r, &follows(17));
    let all = names(&all_letter_headers(&r, &ours));
    assert!(
        all.contains(&"keyrail-reason=follows".to_owned()) && all.contains(&"keyrail-follows=orders:3:17".to_owned())
    );
    assert_eq!(all.iter().filter(|header| header.starts_with("keyrail-follows")).count(), 1, "{all:?}");
    let ours = letter_headers(&origin(HeaderStyle::Keyrail, false), &r, &epitaph());
    let all = names(&all_letter_headers(&r, &ours));
    assert!(!all.iter().any(|header| header.starts_with("keyrail-follows")), "{all:?}");
}

#[test]
fn the_first_origin_is_kept_for_ever_and_the_last_failure_told() {
    let r =
        record(&[(b"keyrail-topic", Some(b"first")), (b"keyrail-offset", Some(b"1")), (b"keyrail-code", Some(b"old"))]);
    let ours = letter_headers(&origin(HeaderStyle::Keyrail, false), &r, &epitaph());
    let all = names(&all_letter_headers(&r, &ours));
    assert!(all.contains(&"keyrail-topic=first".to_owned()) && all.contains(&"keyrail-offset=1".to_owned()), "{all:?}");
    assert!(all.contains(&"keyrail-code=bad".to_owned()) && !all.contains(&"keyrail-code=old".to_owned()), "{all:?}");
}

#[test]
fn a_short_letter_tells_origin_and_reason() {
    let ours = letter_headers(&origin(HeaderStyle::Keyrail, true), &record(&[]), &epitaph());
    let told: Vec<&str> = ours.iter().map(|(n, _)| *n).collect();
    assert_eq!(told, ["keyrail-topic", "keyrail-partition", "keyrail-offset", "keyrail-timestamp", "keyrail-reason"]);
}

#[test]
fn spring_numbers_are_big_endian() {
    let ours = letter_headers(&origin(HeaderStyle::Spring, false), &record(&[]), &epitaph());
    let find = |name| ours.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap();
    assert_eq!(find("kafka_dlt-original-partition"), [0, 0, 0, 3]);
    assert_eq!(find("kafka_dlt-original-offset"), [0, 0, 0, 0, 0, 0, 0, 42]);
    assert_eq!(find("kafka_dlt-original-timestamp"), 1_700i64.to_be_bytes());
    assert_eq!(find("kafka_dlt-exception-message"), b"bad: no amount");
}

#[test]
fn a_letter_s_run_tells_which_headers_are_the_message_s_own() {
    let r = record(&[
        (b"keyrail-code", Some(b"own")),
        (b"a", Some(b"1")),
        (b"keyrail-record", Some(b"of before")),
        (b"keyrail-follows", None),
    ]);
    let mut ours = letter_headers(&origin(HeaderStyle::Keyrail, false), &r, &epitaph());
    let (name, value) = record_header(&r, &ours, b"run");
    let (own, lost, run): (u8, u8, &[u8]) = (value[1], value[2], &value[value.len() - 3..]);
    assert_eq!((name, value[0], own, lost, run), ("keyrail-record", replay::VERSION, 1, 3, &b"run"[..]));
    ours.push((name, value));
    let all = names(&all_letter_headers(&r, &ours));
    assert_eq!(all[0], "a=1", "what is the message's own comes first");
    assert_eq!(all.iter().filter(|header| header.starts_with("keyrail-record=")).count(), 1, "{all:?}");
    // Without a run of its own the letter has none of another's.
    let all = names(&all_letter_headers(&r, &letter_headers(&origin(HeaderStyle::Keyrail, true), &r, &epitaph())));
    assert!(!all.iter().any(|header| header.starts_with("keyrail-record=")), "{all:?}");
}
