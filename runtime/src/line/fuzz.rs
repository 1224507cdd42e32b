//! Lines as anybody may give them to `send`, and records as anybody may have produced them.

use super::{Line, parse, print};
use crate::record::{Record, RecordBuilder, TopicPartition};

/// A line: it is refused with a reason, or `tail` prints what is read of it so that it is read again.
pub(crate) fn line(input: &[u8]) {
    match parse(input) {
        Ok(line) => {
            let mut builder = RecordBuilder::new(line.key.as_deref(), line.value.as_deref());
            line.headers.iter().for_each(|(name, value)| builder.header(name, value.as_deref()));
            let at = TopicPartition { topic: 0, partition: line.partition.unwrap_or(0) };
            survives(&builder.build(at, 0, line.timestamp_ms.unwrap_or(-1)));
        }
        Err(wrong) => assert!(!wrong.why.is_empty() && wrong.column <= input.len() + 1, "{wrong:?}"),
    }
}

/// A record made of the input: pieces between bytes of 255, the first of which says which others are there.
pub(crate) fn line_write(input: &[u8]) {
    let mut pieces = input.split(|byte| *byte == 0xff);
    let head = pieces.next().unwrap_or_default();
    let of = |n: usize| head.get(n).copied().unwrap_or(0);
    // In a piece, 254 stands for 255: bytes that are no UTF-8 of either kind must be met.
    let piece = |piece: &[u8]| piece.iter().map(|byte| if *byte == 0xfe { 0xff } else { *byte }).collect::<Vec<u8>>();
    let mut pieces = pieces.map(piece);
    let mut next = |there: bool| if there { pieces.next() } else { None };
    let (key, value) = (next(of(0) & 1 == 1), next(of(0) & 2 == 2));
    let mut builder = RecordBuilder::new(key.as_deref(), value.as_deref());
    for n in 0..of(1) % 6 {
        let Some(name) = next(true) else { break };
        builder.header(&name, next(of(2) >> n & 1 == 1).as_deref());
    }
    let at = TopicPartition { topic: 0, partition: of(3).into() };
    survives(&builder.build(at, i64::MAX, (i64::from(of(4)) - 1) << (of(5) % 55)));
}

fn survives(record: &Record) {
    let mut out = Vec::new();
    print("topic", record, &mut out);
    let text = String::from_utf8_lossy(&out);
    assert!(text.ends_with('\n') && !text.trim_end_matches('\n').contains(char::is_control), "{text:?}");
    let line = match parse(&out) {
        Ok(line) => line,
        Err(wrong) => unreachable!("{wrong:?} in {text}"),
    };
    let expected = Line {
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
        partition: Some(record.at.partition),
    };
    assert_eq!(line, expected, "{text}");
}

pub(crate) fn line_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"key":"k1","value":"text","headers":{"h":"v"},"timestamp":1700000000000}"#,
        r#"{"topic":"t","partition":3,"offset":9,"timestamp":null,"key":null,"value":{"base64":"/w=="}}"#,
        r#"{"value":"\u009b\n\ud83d\ude00","headers":{"a":["1",null,{"base64":"eA"}],"b":null}}"#,
        r#"{"value":null,"headers":[["a",null],[{"base64":"/w"},"2"],["a","3"]],"partition":0}"#,
        r#"{"value":{"json":[1,2]},"key":7}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .into()
}

pub(crate) fn line_write_seeds() -> Vec<Vec<u8>> {
    [
        &b"\x03\x02\x03\x01\x09\x1e\xffkey\xffvalue \"\n\xc2\x9b\xffname\xff\xfe\xff\xfe\xfflast"[..],
        b"\x02\x03\x07\0\0\0\xff{\"base64\":\"eA==\"}\xffa\xff1\xffa\xff2\xffb\xff",
        b"\x02\x03\x05\0\0\0\xff\xffa\xff1\xffb\xffa\xff3",
        b"\0\0\0\0\x01\x36",
    ]
    .map(<[u8]>::to_vec)
    .into()
}
