#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::record::{RecordBuilder, TopicPartition};

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>], timestamp_ms: i64) -> Record {
    let mut builder = RecordBuilder::new(key, value);
    for (name, value) in headers {
        builder.header(name, *value);
    }
    builder.build(TopicPartition { topic: 0, partition: 3 }, i64::MAX, timestamp_ms)
}

fn printed(record: &Record) -> String {
    let mut out = Vec::new();
    print("t", record, &mut out);
    String::from_utf8(out).unwrap()
}

/// What comes out goes in again, all of it.
fn round_trip(record: &Record) {
    let text = printed(record);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let line = parse(text.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong:?} in {text}"));
    assert_eq!(line.key.as_deref(), record.key(), "{text}");
    assert_eq!(line.value.as_deref(), record.value(), "{text}");
    let headers: Vec<Header<'_>> = line.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
    assert_eq!(headers, record.headers().collect::<Vec<_>>(), "{text}");
    assert_eq!(line.timestamp_ms, (record.timestamp_ms >= 0).then_some(record.timestamp_ms));
    assert_eq!(line.partition, Some(record.at.partition));
}

#[test]
fn the_shape_that_is_promised() {
    let headers: [Header<'_>; 3] = [(b"h", Some(b"v")), (b"n", None), (b"b", Some(b"\xff"))];
    assert_eq!(
        printed(&record(Some(b"k1"), Some("\u{e4}\"\\\n\u{9b}\x7f".as_bytes()), &headers, 1_700_000_000_000)),
        "{\"topic\":\"t\",\"partition\":3,\"offset\":9223372036854775807,\"timestamp\":1700000000000,\"key\":\"k1\",\
         \"value\":\"\u{e4}\\\"\\\\\\n\\u009b\\u007f\",\"headers\":{\"h\":\"v\",\"n\":null,\"b\":{\"base64\":\"/w==\"}}}\n"
    );
    assert_eq!(
        printed(&record(None, None, &[(b"a", Some(b"1")), (b"a", None)], -1)),
        "{\"topic\":\"t\",\"partition\":3,\"offset\":9223372036854775807,\"timestamp\":null,\"key\":null,\"value\":null,\
         \"headers\":{\"a\":[\"1\",null]}}\n"
    );
    assert!(printed(&record(None, None, &[(b"a", None), (b"b", None), (b"a", None)], 0)).contains("[[\"a\",null],["));
}

#[test]
fn what_is_printed_is_taken_again_byte_for_byte() {
    let all: Vec<u8> = (0..=255).collect();
    let controls: String = (0..=0x2ff).filter_map(char::from_u32).collect();
    let texts: [Option<&[u8]>; 7] = [
        None,
        Some(b""),
        Some(b"{\"base64\":\"eA==\"}"),
        Some(&all),
        Some(controls.as_bytes()),
        Some(b"\xed\xa0\x80"),
        Some(b"null"),
    ];
    for key in texts {
        for value in texts {
            round_trip(&record(key, value, &[(b"", key), (b"a", value), (b"a", key)], i64::MAX));
        }
    }
    round_trip(&record(None, None, &[(&all, Some(&all)), (b"a", None)], 0));
    round_trip(&record(None, None, &[(b"a", None), (b"b", Some(b"")), (b"a", Some(b"x")), (b"a", None)], 1));
}

#[test]
fn records_of_all_kinds_are_taken_again_byte_for_byte() {
    // A generator of its own: the same records on every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..3_000 {
        let mut bytes = || -> Option<Vec<u8>> {
            let kind = next(5);
            let length = next(40);
            (kind > 0).then(|| {
                (0..length)
                    .flat_map(|_| match kind {
                        1 => vec![next(256) as u8],
                        2 => vec![b'a' + next(3) as u8],
                        3 => char::from_u32(next(0x800) as u32).unwrap_or('x').to_string().into_bytes(),
                        _ => char::from_u32(next(0x11_0000) as u32).unwrap_or('\u{fffd}').to_string().into_bytes(),
                    })
                    .collect()
            })
        };
        let (key, value) = (bytes(), bytes());
        let owned: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..5)
            .map_while(|n| bytes().map(|name| (if n % 2 == 0 { b"same".to_vec() } else { name }, bytes())))
            .collect();
        let headers: Vec<Header<'_>> = owned.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
        let timestamp = next(u64::MAX) as i64;
        round_trip(&record(key.as_deref(), value.as_deref(), &headers, timestamp));
    }
}

#[test]
fn people_may_write_less_and_in_other_ways() {
    let line = parse(b" {\"value\": \"v\"} ").unwrap();
    assert_eq!(line, Line { value: Some(b"v".to_vec()), ..Line::default() });
    let line = parse(br#"{"value":{"base64":"_w"},"headers":null}"#);
    assert!(line.is_err_and(|wrong| wrong.why.starts_with("no base64")));
    let line = parse(br#"{"value":{"base64":"/w"},"headers":{"a":"1","a":["2",null],"b":[]},"key":null}"#).unwrap();
    assert_eq!(line.value.as_deref(), Some(&b"\xff"[..]));
    let a = |value: Option<&[u8]>| (b"a".to_vec(), value.map(<[u8]>::to_vec));
    assert_eq!(line.headers, [a(Some(b"1")), a(Some(b"2")), a(None)]);
}

#[test]
fn what_is_wrong_is_told_with_its_column() {
    for (text, column, why) in [
        (r#"{"value":"v""#, 12, "EOF while parsing an object"),
        (r#"{"vlaue":"v"}"#, 8, "unknown field `vlaue`, expected one of `key`, `value`"),
        (r#"{"value":12}"#, 11, "invalid type: integer `12`, expected text, null or {\"base64\":\"...\"}"),
        (r#"{"value":{"id":1}}"#, 14, "JSON inside a record is text"),
        (r#"{"value":{"base64":"x!"}}"#, 24, "no base64: "),
        (r#"{"value":"\ud800"}"#, 0, ""),
        (r#"{"value":"a","value":"b"}"#, 20, "duplicate field `value`"),
        (r#"{"value":"v","timestamp":9223372036854775808}"#, 44, "invalid value: integer `9223372036854775808`"),
        (r#"{"value":"v","timestamp":-1}"#, 0, "\"timestamp\" must be 0 or more"),
        (r#"{"value":"v","partition":-1}"#, 0, "\"partition\" must be 0 or more"),
        (r#"{"value":"v","headers":[["a"]]}"#, 0, "invalid length 1"),
        (r#"{"value":"v","headers":[[null,"a"]]}"#, 0, "a header needs a name"),
        (r#"{"key":"k"}"#, 0, "\"value\" is missing; write \"value\":null for a tombstone"),
        ("[1]", 0, ""),
        ("plain text", 1, "expected value"),
        ("{\"value\":\"v\"} x", 15, "trailing characters"),
    ] {
        let wrong = parse(text.as_bytes()).unwrap_err();
        assert!(wrong.why.contains(why) && !wrong.why.contains("at line"), "{text}: {wrong:?}");
        assert!(column == 0 || wrong.column == column, "{text}: {wrong:?}, wanted {column}");
    }
    assert!(parse(b"{\"value\":\"\xff\"}").is_err());
}
