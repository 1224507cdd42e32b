#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::fuzz::{record_seeds, runs};
use super::*;
use crate::record::{RecordBuilder, TopicPartition};
use crate::wasm::{Reads, Span};
use keyrail_engine::message::Partition;
use keyrail_engine::order::OrderKey;
use keyrail_engine::state::{Call, Kept as _, Owner, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

const AT: Partition = Partition { topic: 0, number: 0 };

fn owner() -> Owner {
    Owner::of(OrderKey::Key(b"k")).unwrap()
}

fn reads(names: &[(&str, Option<&str>)], spans: &[(&str, Option<&str>, Option<&str>)]) -> Reads {
    let value = |text: &str| Arc::from(text.as_bytes());
    let names: BTreeMap<_, _> = names.iter().map(|(n, v)| ((*n).to_owned(), v.map(value))).collect();
    let span = |(prefix, after, until): &(&str, Option<&str>, Option<&str>)| Span {
        prefix: (*prefix).to_owned(),
        after: after.map(str::to_owned),
        until: until.map(str::to_owned),
    };
    Reads::of(names, spans.iter().map(span).collect(), false)
}

#[test]
fn what_is_written_is_read_and_what_is_cut_or_goes_on_is_not() {
    for (run, sealed) in runs().iter().zip(record_seeds()) {
        let (read, ..) = Recorded::decode(&sealed).unwrap();
        assert_eq!(read, *run);
        for end in 1..sealed.len() {
            assert_eq!(Recorded::decode(&sealed[..end]), Err(Unreadable::Damaged), "{end} of {}", sealed.len());
        }
        assert_eq!(Recorded::decode(&[&sealed[..], b"\0"].concat()), Err(Unreadable::Damaged));
        assert_eq!(Recorded::decode(&[&[9], &sealed[1..]].concat()), Err(Unreadable::Version(9)));
    }
    // A list's length is believed only as far as something is there.
    let huge = [&[VERSION, 0][..], &[0xff; 9], &[1]].concat();
    assert_eq!(Recorded::decode(&huge), Err(Unreadable::Damaged));
    assert_eq!(Recorded::decode(b""), Err(Unreadable::Damaged));
}

#[test]
fn the_format_is_what_it_was() {
    // Pinned: letters stay for long.
    let run = &runs()[1];
    let told: String = seal(&run.encode(), 2, &[(1, b"n".to_vec(), None)]).iter().map(|b| format!("{b:02x}")).collect();
    let handler = "01".repeat(32);
    let expected = [
        "01", /* version */
        "02", /* own headers */
        "01", /* lost */
        "01016e00",
        "07", /* flags */
        &handler,
        "01", /* setup */
        "087061796d656e7473",
        "02696e",
        "06",             /* partition 3 */
        "02",             /* offset 1 */
        "02",             /* timestamp */
        "0174ffffffff0f", /* timer */
        "07",             /* attempt */
        "02",             /* now */
        "01",             /* deadline */
        "01",             /* skip */
        "04636f6465",
        "05776f726473",
        "01", /* again after 0 ms */
        "03",
        "01610231",
        "016200",
        "02c3a901",
        "02",
        "01700003707a",
        "017003707a00",
    ];
    assert_eq!(told, expected.concat());
}

#[test]
fn headers_that_the_letter_has_not_come_back_at_their_places() {
    let run = &runs()[0];
    let mut builder = RecordBuilder::new(Some(b"k"), None);
    for name in ["a", "c", "keyrail-code"] {
        builder.header(name.as_bytes(), Some(b"letter"));
    }
    let letter = builder.build(TopicPartition { topic: 0, partition: 0 }, 9, 9);
    let lost = [(0, b"keyrail-code".to_vec(), Some(b"own".to_vec())), (2, b"b".to_vec(), None)];
    let case = Case::of(&letter, run, 2, &lost).unwrap();
    let names: Vec<_> = case.headers.iter().map(|(name, _)| str::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["keyrail-code", "a", "b", "c"]);
    assert_eq!(case.headers[0].1.as_deref(), Some(&b"own"[..]));
    assert_eq!((case.key.as_deref(), case.offset), (Some(&b"k"[..]), run.offset));
    assert_eq!(Case::of(&letter, run, 4, &[]), Err(Unreadable::Damaged), "more than it has");
    assert_eq!(Case::of(&letter, run, 1, &[(2, Vec::new(), None)]), Err(Unreadable::Damaged), "beyond the end");
}

#[test]
fn what_was_read_is_answered_and_what_was_not_is_told() {
    let all = [("a", Some("1")), ("b", None), ("p1", Some("2")), ("p3", Some("3"))];
    let kept = Remembered::new(reads(&all, &[("p", None, Some("p3"))]));
    let get = |name: &str| kept.get(AT, &owner().key(name)).map(|entry| entry.value.to_vec());
    assert_eq!([get("a"), get("b"), get("p1"), get("p2")], [Some(b"1".to_vec()), None, Some(b"2".to_vec()), None]);
    assert!(kept.missing().is_empty());
    assert_eq!((get("c"), get("p4")), (None, None));
    assert_eq!(kept.missing(), ["the value of \"c\"", "the value of \"p4\""]);
}

#[test]
fn a_scan_is_exact_as_far_as_all_is_known() {
    let all = [("a", Some("0")), ("p1", Some("1")), ("p2", Some("2")), ("p3", Some("3")), ("q", Some("4"))];
    let scan = |spans: &[_], prefix: &str, after: Option<&str>, limit: usize| {
        let kept = Remembered::new(reads(&all, spans));
        let above = after.map(|after| owner().key(after)).unwrap_or_default();
        let found = kept.scan(AT, &owner().key(prefix), &above, limit, 0);
        let found: Vec<u8> = found.iter().map(|(_, entry)| entry.value[0] - b'0').collect();
        (found, kept.missing().is_empty())
    };
    let two_pages = [("p", None, Some("p2")), ("p", Some("p2"), None)];
    assert_eq!(scan(&two_pages, "p", None, 9), (vec![1, 2, 3], true));
    assert_eq!(scan(&two_pages, "p", Some("p1"), 1), (vec![2], true));
    assert_eq!(scan(&two_pages[..1], "p", None, 2), (vec![1, 2], true));
    assert_eq!(scan(&two_pages[..1], "p", None, 3), (vec![1, 2, 3], false), "one more than was asked for");
    assert_eq!(scan(&two_pages[1..], "p", None, 1), (vec![1], false), "from before what was asked for");
    assert_eq!(scan(&two_pages, "", None, 9), (vec![0, 1, 2, 3, 4], false), "all names");
    assert_eq!(scan(&two_pages, "p3", None, 9), (vec![3], true), "a part of them");
    assert_eq!(scan(&[], "x", None, 9), (vec![], false));
    assert_eq!(scan(&[("", None, None)], "x", Some("xa"), 9), (vec![], true));
}

#[test]
fn what_the_message_changes_itself_is_not_asked_of_the_record() {
    let kept = Remembered::new(reads(&[("a", Some("1"))], &[]));
    let mut call = Call::alone();
    call.write(0, (AT, owner()), "n", Write::Put(b"new", None)).unwrap();
    let found = call.get(0, (AT, &owner()), "n", 0, &kept).unwrap();
    assert_eq!((found.as_deref(), kept.missing().len()), (Some(&b"new"[..]), 0));
}

#[test]
fn reads_within_a_bound_say_that_they_are_cut() {
    let all = reads(&[("a", Some("1")), ("b", Some("2222")), ("c", None)], &[("", None, None)]);
    assert_eq!(all.clone().within(1_000), all);
    let cut = all.within(21);
    assert!(cut.cut && cut.spans.is_empty());
    assert_eq!(
        cut.names.keys().collect::<Vec<_>>(),
        ["a", "c"],
        "what is too large is left out, not what is behind it"
    );
}
