#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use crate::testing::Msg;

fn waiting() -> Waiting {
    Waiting {
        number: 7,
        due_ms: 258,
        history: History { attempts: 3, failures: 4, first_failed_ms: Some(-1) },
        failure: Failure { code: "no".into(), detail: "it did not".into() },
        given_up: None,
    }
}

const MSG: Msg = Msg {
    key: Some(b"k"),
    value: None,
    headers: &[(b"a", Some(b"1")), (b"", None), (b"a", Some(b""))],
    timestamp_ms: 99,
    size: 20,
};

#[test]
fn what_is_written_is_read() {
    let value = encode(&waiting(), None, &MSG);
    let read = decode(&value).unwrap();
    assert_eq!(read.waiting, waiting());
    assert_eq!((read.timestamp_ms, read.key, read.value), (99, Some(&b"k"[..]), None));
    assert_eq!(read.headers, MSG.headers);
    let follower = Waiting { number: u64::MAX, due_ms: AT_ONCE, history: History::default(), ..waiting() };
    assert_eq!(decode(&encode(&follower, None, &Msg::default())).unwrap().waiting, follower);
}

#[test]
fn the_formats_are_frozen() {
    let origin = Origin { topic: "in", partition: 3, offset: 258 };
    assert_eq!(origin.encode(), b"\x01\0\x02in\0\0\0\x03\0\0\0\0\0\0\x01\x02");
    assert_eq!(Origin::decode(&origin.encode()), Ok(origin));
    let value = encode(&waiting(), None, &Msg { headers: &[(b"h", None)], ..MSG });
    let expected = [
        &b"\x01\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0no\x0a\0\0\0it did not\x63\0\0\0\0\0\0\0",
        b"\x01\0\0\0k\xff\xff\xff\xff\x01\0\0\0\x01\0\0\0h\xff\xff\xff\xff",
    ];
    assert_eq!(value, expected.concat());
}

#[test]
fn what_is_given_up_says_why_and_up_to_which_number_and_another_first_byte_so() {
    for reason in [Reason::Attempts, Reason::Age, Reason::Trap, Reason::Timeout, Reason::Oversized] {
        let given_up = Waiting { given_up: Some(GivenUp { reason, until: 258 }), ..waiting() };
        let value = encode(&given_up, None, &MSG);
        assert_eq!(decode(&value).unwrap().waiting, given_up);
        for end in 0..value.len() {
            assert!(decode(&value[..end]).is_err(), "{end}");
        }
    }
    let trap = Waiting { given_up: Some(GivenUp { reason: Reason::Trap, until: 258 }), ..waiting() };
    let (value, plain) = (encode(&trap, None, &MSG), encode(&waiting(), None, &MSG));
    assert_eq!(value[..10], *b"\x02\x03\x02\x01\0\0\0\0\0\0");
    assert_eq!(value[10..], plain[1..]);
    let unknown = [&[GIVEN_UP, 99], &value[2..]].concat();
    assert_eq!(decode(&unknown).unwrap_err(), Unusable::Torn);
}

#[test]
fn a_timer_tells_its_name_and_who_set_it_and_another_first_byte_so() {
    let timer = Fired { name: "due", hops: 3, offset: 258 };
    for given_up in
        [None, Some(GivenUp { reason: Reason::Trap, until: 0 }), Some(GivenUp { reason: Reason::Age, until: 9 })]
    {
        let waiting = Waiting { given_up, ..waiting() };
        let value = encode(&waiting, Some(timer), &MSG);
        let read = decode(&value).unwrap();
        assert_eq!((read.waiting, read.timer, read.key), (waiting, Some(timer), Some(&b"k"[..])));
        for end in 0..value.len() {
            assert!(decode(&value[..end]).is_err(), "{end}");
        }
    }
    let (value, plain) = (encode(&waiting(), Some(timer), &MSG), encode(&waiting(), None, &MSG));
    let head = b"\x03\0\0\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\x03\0\0\0due";
    assert_eq!(value, [&head[..], &plain[1..]].concat());
    assert_eq!(decode(&plain).unwrap().timer, None);
    let unknown = [&[TIMER, 99], &value[2..]].concat();
    assert_eq!(decode(&unknown).unwrap_err(), Unusable::Torn);
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    let (key, value) = (Origin { topic: "in", partition: 0, offset: 1 }.encode(), encode(&waiting(), None, &MSG));
    for end in 0..value.len() {
        assert!(decode(&value[..end]).is_err(), "{end}");
    }
    for end in 0..key.len() {
        assert!(Origin::decode(&key[..end]).is_err(), "{end}");
    }
    assert_eq!(decode(&[&value[..], b"x"].concat()).unwrap_err(), Unusable::Torn);
    assert_eq!(Origin::decode(&[&key[..], b"x"].concat()).unwrap_err(), Unusable::Torn);
    assert_eq!(decode(b"\x04").unwrap_err(), Unusable::Foreign);
    assert_eq!(decode(b"").unwrap_err(), Unusable::Foreign);
    assert_eq!(Origin::decode(b"\x02\0\0").unwrap_err(), Unusable::Foreign);
}

#[test]
fn no_number_is_no_place() {
    let value = encode(&Waiting { number: 0, ..waiting() }, None, &MSG);
    assert_eq!(decode(&value).unwrap_err(), Unusable::Torn);
}

#[test]
fn a_count_that_lies_costs_no_memory() {
    let mut value = encode(&waiting(), None, &Msg { headers: &[], ..MSG });
    let at = value.len() - 4;
    value[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&value).unwrap_err(), Unusable::Torn);
}

#[test]
fn long_words_are_cut_between_characters() {
    let long = Waiting { failure: Failure { code: "ä".repeat(300), detail: "€".repeat(3_000) }, ..waiting() };
    let value = encode(&long, None, &MSG);
    let read = decode(&value).unwrap().waiting.failure;
    assert_eq!((read.code.len(), read.detail.len()), (256, 4_095));
    assert!(long.failure.code.starts_with(&read.code) && long.failure.detail.starts_with(&read.detail));
}
