#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use keyrail::record::{RecordBuilder, TopicPartition};

type Pairs<'a> = &'a [(&'a str, &'a [u8])];

fn record(headers: Pairs<'_>) -> Record {
    let mut builder = RecordBuilder::new(Some(b"k"), Some(b"v"));
    headers.iter().for_each(|(name, value)| builder.header(name.as_bytes(), Some(value)));
    builder.build(TopicPartition { topic: 0, partition: 1 }, 7, 1_000)
}

fn of(headers: Pairs<'_>) -> Letter {
    Letter::of(&record(headers))
}

fn origin(by: Family, topic: &str, partition: i32, offset: i64, timestamp: Option<i64>) -> Option<Origin> {
    Some(Origin { by, topic: topic.to_owned(), partition: Some(partition), offset: Some(offset), timestamp })
}

fn cause(by: Family, reason: Option<&str>, code: Option<&str>, detail: Option<&str>) -> Cause {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Cause {
        by,
        reason: text(reason),
        code: text(code),
        detail: text(detail),
        handler: None,
        group: None,
        attempts: None,
        first_failed: None,
        follows: None,
    }
}

/// What is left of the headers when it is sent back.
fn sent_back(headers: Pairs<'_>) -> Vec<(String, String)> {
    let record = record(headers);
    let papers = Papers::of(&Letter::of(&record));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    papers.headers(&record).into_iter().map(|(name, value)| (text(name), text(value.unwrap()))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const OURS: Pairs<'static> = &[
    ("mine", b"1"),
    ("keyrail-topic", b"orders"),
    ("keyrail-partition", b"3"),
    ("keyrail-offset", b"41"),
    ("keyrail-timestamp", b"900"),
    ("keyrail-redrives", b"2"),
    ("keyrail-reason", b"rejected"),
    ("keyrail-group", b"pay"),
    ("keyrail-handler", b"pay@ab12"),
    ("keyrail-attempts", b"4"),
    ("keyrail-first-failed", b"950"),
    ("keyrail-code", b"bad-json"),
    ("keyrail-detail", b"at 1:2"),
];

#[test]
fn keyrails_own() {
    let letter = of(OURS);
    let told = Cause {
        handler: Some("pay@ab12".to_owned()),
        group: Some("pay".to_owned()),
        attempts: Some(4),
        first_failed: Some(950),
        ..cause(Keyrail, Some("rejected"), Some("bad-json"), Some("at 1:2"))
    };
    assert_eq!(letter, Letter { origin: origin(Keyrail, "orders", 3, 41, Some(900)), cause: Some(told), redrives: 2 });
    let left = sent_back(OURS);
    let first = pairs(&[
        ("mine", "1"),
        ("keyrail-topic", "orders"),
        ("keyrail-partition", "3"),
        ("keyrail-offset", "41"),
        ("keyrail-timestamp", "900"),
        ("keyrail-redrives", "3"),
    ]);
    assert_eq!(left, first);
}

#[test]
fn springs_numbers_are_big_endian_and_its_root_cause_counts() {
    let (partition, offset, timestamp) = (2_i32.to_be_bytes(), 1_000_000_i64.to_be_bytes(), 900_i64.to_be_bytes());
    let headers: Pairs<'_> = &[
        ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
        ("kafka_dlt-exception-message", b"Listener failed; no such account"),
        ("kafka_dlt-exception-stacktrace", b"at a.b.C"),
        ("kafka_dlt-original-topic", b"orders"),
        ("kafka_dlt-original-partition", &partition),
        ("kafka_dlt-original-offset", &offset),
        ("kafka_dlt-original-timestamp", &timestamp),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"shop"),
        ("retry_topic-attempts", &[0, 0, 0, 4]),
    ];
    let letter = of(headers);
    assert_eq!(letter.origin, origin(Spring, "orders", 2, 1_000_000, Some(900)));
    let told = letter.cause.unwrap();
    assert_eq!((told.by, told.code.as_deref()), (Spring, Some("java.lang.IllegalStateException")));
    assert_eq!((told.attempts, told.group.as_deref()), (Some(4), Some("shop")));
    // A number of four digits is no text there.
    assert_eq!(
        of(&[("kafka_dlt-original-topic", b"t"), ("kafka_dlt-original-partition", b"\0\0\0\x31")])
            .origin
            .unwrap()
            .partition,
        Some(0x31)
    );
    let left: Vec<String> = {
        let record = record(headers);
        let papers = Papers::of(&Letter::of(&record));
        papers.headers(&record).iter().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect()
    };
    let kept = ["topic", "partition", "offset", "timestamp", "timestamp-type", "consumer-group"];
    let kept: Vec<String> = kept.iter().map(|end| format!("kafka_dlt-original-{end}")).collect();
    let ours = ["keyrail-topic", "keyrail-partition", "keyrail-offset", "keyrail-timestamp", REDRIVES];
    assert_eq!(left, [kept, ours.map(str::to_owned).to_vec()].concat());
}

#[test]
fn keyrails_letters_with_springs_headers() {
    let told = of(&[
        ("kafka_dlt-original-topic", b"orders"),
        ("kafka_dlt-exception-fqcn", b"rejected"),
        ("kafka_dlt-exception-message", b"bad-json: expected: ident"),
    ]);
    assert_eq!(told.cause, Some(cause(Spring, Some("rejected"), Some("bad-json"), Some("expected: ident"))));
}

#[test]
fn kafka_streams_connect_and_share_groups() {
    let streams: Pairs<'_> = &[
        ("__streams.errors.exception", b"java.lang.RuntimeException"),
        ("__streams.errors.message", b"boom"),
        ("__streams.errors.stacktrace", b"at x"),
        ("__streams.errors.topic", b"orders"),
        ("__streams.errors.partition", b"1"),
        ("__streams.errors.offset", b"12"),
    ];
    let letter = of(streams);
    assert_eq!(letter.origin, origin(Streams, "orders", 1, 12, None));
    assert_eq!(letter.cause, Some(cause(Streams, None, Some("java.lang.RuntimeException"), Some("boom"))));
    // The first origin is kept, in Keyrail's words: Streams would write its own over it.
    let left = [("keyrail-topic", "orders"), ("keyrail-partition", "1"), ("keyrail-offset", "12"), (REDRIVES, "1")];
    assert_eq!(sent_back(streams), pairs(&left));

    let connect: Pairs<'_> = &[
        ("__connect.errors.topic", b"orders"),
        ("__connect.errors.partition", b"0"),
        ("__connect.errors.offset", b"9"),
        ("__connect.errors.connector.name", b"sink"),
        ("__connect.errors.task.id", b"1"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        ("__connect.errors.exception.class.name", b"DataException"),
        ("__connect.errors.exception.message", b"no schema"),
        ("__connect.errors.exception.stacktrace", b"at y"),
    ];
    let letter = of(connect);
    assert_eq!(letter.origin, origin(Connect, "orders", 0, 9, None));
    let told = cause(Connect, Some("VALUE_CONVERTER"), Some("DataException"), Some("no schema"));
    assert_eq!(letter.cause, Some(Cause { handler: Some("sink".to_owned()), ..told }));

    let share: Pairs<'_> = &[
        ("__dlq.errors.topic", b"orders"),
        ("__dlq.errors.partition", b"2"),
        ("__dlq.errors.offset", b"41"),
        ("__dlq.errors.group", b"workers"),
        ("__dlq.errors.delivery.count", b"5"),
        ("__dlq.errors.message", b"Offset delivery count exceeded the threshold."),
    ];
    let letter = of(share);
    assert_eq!(letter.origin, origin(ShareGroup, "orders", 2, 41, None));
    let told = letter.cause.unwrap();
    assert_eq!(
        (told.reason.as_deref(), told.attempts, told.group.as_deref()),
        (Some("attempts"), Some(5), Some("workers"))
    );
}

#[test]
fn a_letter_that_died_twice_tells_its_first_origin_and_its_last_cause() {
    let letter = of(&[
        ("keyrail-topic", b"first"),
        ("keyrail-partition", b"0"),
        ("keyrail-offset", b"1"),
        ("keyrail-redrives", b"1"),
        ("__connect.errors.topic", b"second"),
        ("__connect.errors.exception.class.name", b"DataException"),
    ]);
    assert_eq!(letter.origin, origin(Keyrail, "first", 0, 1, None));
    assert_eq!((letter.code(), letter.redrives), ("DataException", 1));
}

#[test]
fn what_tells_nothing_or_nonsense_is_no_letter_of_anybody() {
    assert_eq!(of(&[("mine", b"1"), ("keyrail-mine", b"2"), ("keyrail", b"3")]), Letter::default());
    let wild = of(&[
        ("keyrail-topic", b"\xff"),
        ("keyrail-partition", b"-4"),
        ("keyrail-offset", b"x"),
        ("keyrail-redrives", b"-1"),
    ]);
    let told = Origin { by: Keyrail, topic: "\u{fffd}".to_owned(), partition: None, offset: None, timestamp: None };
    assert_eq!(wild, Letter { origin: Some(told), cause: None, redrives: 0 });
    let most = of(&[("keyrail-redrives", b"99999999999")]);
    assert_eq!(most.redrives, u32::MAX);
    // A user's own header that only begins as Keyrail's stays.
    assert_eq!(sent_back(&[("keyrail-mine", b"2")]), pairs(&[("keyrail-mine", "2"), (REDRIVES, "1")]));
}

/// Headers come from anybody.
#[test]
fn whatever_headers_hold_nothing_breaks_and_what_goes_back_goes_back_again() {
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let names: Vec<String> = FAMILIES
        .iter()
        .flat_map(|(start, _, names)| names.iter().map(move |(name, _)| format!("{start}{name}")))
        .collect();
    for _ in 0..5_000 {
        let mut builder = RecordBuilder::new(None, Some(b"v"));
        for _ in 0..random(12) {
            let value: Vec<u8> = (0..random(10)).map(|_| b"0-9\xff\0a: x"[random(9)]).collect();
            let name = if random(5) == 0 { "mine" } else { names[random(names.len())].as_str() };
            builder.header(name.as_bytes(), (random(6) > 0).then_some(value.as_slice()));
        }
        let record = builder.build(TopicPartition { topic: 0, partition: 0 }, 1, 1);
        let letter = Letter::of(&record);
        let papers = Papers::of(&letter);
        let mut again = RecordBuilder::new(None, Some(b"v"));
        papers.headers(&record).iter().for_each(|(name, value)| again.header(name, *value));
        let again = again.build(record.at, 2, 2);
        let sent = Letter::of(&again);
        assert_eq!(sent.redrives, letter.redrives.saturating_add(1));
        assert_eq!(sent.origin.map(|origin| origin.topic), letter.origin.map(|origin| origin.topic));
        let mine = |record: &Record| record.headers().filter(|(name, _)| *name == b"mine").count();
        assert_eq!(mine(&again), mine(&record));
    }
}

#[test]
fn the_run_that_a_letter_keeps_is_no_cause_and_does_not_go_back() {
    let spring =
        [("kafka_dlt-exception-fqcn", &b"attempts"[..]), ("kafka_dlt-exception-message", &b"late: no answer"[..])];
    let with = [&spring[..], &[("keyrail-record", &b"\x01\xff"[..])]].concat();
    assert_eq!(of(&with), of(&spring));
    assert_eq!(
        sent_back(&[("mine", b"1"), ("keyrail-record", b"x")]),
        pairs(&[("mine", "1"), ("keyrail-redrives", "1")])
    );
}
