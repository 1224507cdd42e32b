#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use crate::testing::Msg;

const ID: CommandId = CommandId(*b"0123456789abcdef");
const ORIGIN: Origin<'_> = Origin { topic: "in", partition: 3, offset: 258 };
const MSG: Msg = Msg { key: Some(b"k"), value: None, headers: &[(b"h", None)], timestamp_ms: 99, size: 20 };

fn failure() -> Failure {
    Failure { code: "no".into(), detail: "it did not".into() }
}

fn read<'a>(key: &[u8], value: &'a [u8]) -> Command<'a> {
    match decode(key, value).unwrap() {
        Entry::Command(command) => command,
        Entry::Answer(..) => unreachable!(),
    }
}

#[test]
fn what_is_written_is_read() {
    for (answer, deed) in [(true, Deed::Retry), (false, Deed::Drop)] {
        let value = encode::<Msg>(answer, &ORIGIN, &deed);
        let read = read(&key(COMMAND, ID), &value);
        assert_eq!((read.id, read.answer, read.origin), (ID, answer, ORIGIN));
        assert!(matches!((deed, read.deed), (Deed::Retry, Deed::Retry) | (Deed::Drop, Deed::Drop)));
    }
    let value = encode(true, &ORIGIN, &Deed::Redrive((&failure(), &MSG)));
    let Deed::Redrive(envelope) = read(&key(COMMAND, ID), &value).deed else { unreachable!() };
    assert_eq!((envelope.key, envelope.value, envelope.timestamp_ms), (MSG.key, MSG.value, 99));
    assert_eq!(envelope.headers, MSG.headers);
    assert_eq!(envelope.waiting, returned(1, failure(), 0));
    for answer in [Answer::Obeyed, Answer::Refused("it is not there".into())] {
        let value = encode_answer(&answer);
        assert_eq!(decode(&key(ANSWER, ID), &value), Ok(Entry::Answer(ID, answer)));
    }
}

#[test]
fn the_formats_are_frozen() {
    assert_eq!(key(COMMAND, ID), *b"\x010123456789abcdef");
    let origin = b"\x01\0\x02in\0\0\0\x03\0\0\0\0\0\0\x01\x02";
    let expected = [&b"\x01\x01\x01\x11\0"[..], origin].concat();
    assert_eq!(encode::<Msg>(true, &ORIGIN, &Deed::Retry), expected);
    assert_eq!(encode::<Msg>(false, &ORIGIN, &Deed::Drop), [&b"\x01\x02\0\x11\0"[..], origin].concat());
    let redrive = encode(false, &ORIGIN, &Deed::Redrive((&failure(), &MSG)));
    let envelope = parking::encode(&returned(1, failure(), 0), None, &MSG);
    assert_eq!(redrive, [&b"\x01\x03\0\x11\0"[..], origin, &envelope].concat());
    assert_eq!(encode_answer(&Answer::Obeyed), b"\x01\0");
    assert_eq!(encode_answer(&Answer::Refused("no".into())), b"\x01\x01no");
}

#[test]
fn what_others_wrote_is_told() {
    let good = encode(false, &ORIGIN, &Deed::Redrive((&failure(), &MSG)));
    let command = key(COMMAND, ID);
    let retry = encode::<Msg>(false, &ORIGIN, &Deed::Retry);
    let cases: &[(&str, &[u8], &[u8], Unusable)] = &[
        ("no key", b"", &good, Unusable::Foreign),
        ("a short id", &command[..16], &good, Unusable::Foreign),
        ("a long id", &[&command[..], b"x"].concat(), &good, Unusable::Foreign),
        ("another kind", &key(3, ID), &good, Unusable::Foreign),
        ("no value", &command, b"", Unusable::Foreign),
        ("a later version", &command, b"\x02\x01\0", Unusable::Foreign),
        ("a deed of a later version", &command, &[b"\x01\x09\0\x11\0", &retry[5..]].concat(), Unusable::Foreign),
        ("more behind it", &command, &[&retry[..], b"x"].concat(), Unusable::Torn),
        ("a longer place than there is", &command, b"\x01\x01\0\xff\xff\x01", Unusable::Torn),
        ("an answer of a later version", &key(ANSWER, ID), b"\x01\x07", Unusable::Torn),
        ("an answer that is no text", &key(ANSWER, ID), b"\x01\x01\xff", Unusable::Torn),
    ];
    for (what, key, value, expected) in cases {
        assert_eq!(decode(key, value), Err(*expected), "{what}");
    }
    for length in 0..good.len() {
        assert!(decode(&command, &good[..length]).is_err(), "{length}");
    }
}
