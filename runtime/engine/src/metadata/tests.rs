//! What a commit's metadata says, and what is never believed.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use crate::testing::{Dice, ranges};
use alloc::vec;

fn text_of(data: &[u8]) -> String {
    seal(data.to_vec())
}

/// Text with an honest check sum over these numbers.
fn forged(numbers: &[u64]) -> String {
    let mut data = Vec::new();
    for n in numbers {
        put(&mut data, *n);
    }
    text_of(&data)
}

#[test]
fn what_is_written_is_read_back() {
    let cases: &[(i64, Metadata)] = &[
        (0, Metadata::default()),
        (
            7,
            Metadata {
                sequence: 1,
                partitions: 0,
                held: None,
                log: 0,
                kept: Kept::default(),
                settled: ranges(&[(8, 9)]),
            },
        ),
        (
            7,
            Metadata {
                sequence: u64::MAX,
                partitions: u32::MAX,
                held: None,
                log: 0,
                kept: Kept::default(),
                settled: ranges(&[(8, 9), (10, 12), (500, 501)]),
            },
        ),
        // Runs longer than 32,767 and than 2^31.
        (
            0,
            Metadata {
                sequence: 0,
                partitions: 3,
                held: None,
                log: 0,
                kept: Kept::default(),
                settled: ranges(&[(40_000, 90_000), (5_000_000_000, 9_000_000_000)]),
            },
        ),
        (
            i64::MAX - 3,
            Metadata {
                sequence: 2,
                partitions: 1,
                held: None,
                log: u64::MAX,
                kept: Kept::default(),
                settled: ranges(&[(i64::MAX - 2, i64::MAX)]),
            },
        ),
    ];
    for (offset, metadata) in cases {
        let text = metadata.encode(*offset);
        assert_eq!(Metadata::decode(&text, *offset, i64::MAX), Ok(metadata.clone()), "{text}");
    }
}

#[test]
fn any_map_that_fits_survives() {
    let mut dice = Dice(11);
    for _ in 0..300 {
        let offset = dice.roll(1 << 40) as i64;
        let (count, longest) = (dice.roll(40), 1 + dice.roll(1 << 20));
        let metadata = Metadata {
            sequence: dice.roll(u64::MAX),
            partitions: dice.roll(1 << 32) as u32,
            held: dice.roll(1 << 33).checked_sub(1 << 32).map(|held| held as u32),
            log: 0,
            kept: Kept::default(),
            settled: dice.ranges(offset, count, longest),
        };
        let text = metadata.encode(offset);
        assert!(text.len() < MAX_TEXT_BYTES);
        assert_eq!(Metadata::decode(&text, offset, i64::MAX), Ok(metadata));
    }
}

#[test]
fn short_runs_are_told_by_a_bit_each() {
    let mut dice = Dice(17);
    for offset in [0, 1, 77, 1 << 40, i64::MAX - 25_000] {
        for span in [1, 7, 8, 9, 64, 1_000, 23_000] {
            let mut settled = Ranges::new();
            for at in 1..=span {
                // The last one is, so that the map is as long as told.
                if dice.roll(2) == 0 || at == span {
                    settled.push(offset + at, offset + at + 1);
                }
            }
            let metadata = Metadata { settled, ..Metadata::default() };
            let text = metadata.encode(offset);
            let bits = (4 + 5 + span / 8 + 2 + 4) as usize;
            assert!(text.len() <= 4 + bits * 4 / 3, "{} for {span}", text.len());
            assert_eq!(Metadata::decode(&text, offset, i64::MAX), Ok(metadata.clone()), "{offset} {span}");
            assert_eq!(Metadata::decode(&text, offset, offset + span), Err(Unusable::PastEnd), "{offset} {span}");
        }
    }
    let of = |map: &[u8]| {
        let head = Metadata::default().encode(0);
        let head = URL_SAFE_NO_PAD.decode(head.strip_prefix(PREFIX).unwrap()).unwrap();
        let text = seal([&head[..head.len() - CHECK_BYTES], map].concat());
        Metadata::decode(&text, 10, i64::MAX).map(|metadata| metadata.settled)
    };
    assert_eq!(of(&[0, 0b10]), Ok(ranges(&[(11, 12)])));
    assert_eq!(of(&[0, 0b1000_0000, 0b101]), Ok(ranges(&[(17, 19), (20, 21)])));
    for damaged in [&[0][..], &[0, 0], &[0, 2, 0], &[0, 0b11]] {
        assert_eq!(of(damaged), Err(Unusable::Damaged), "{damaged:?}");
    }
}

#[test]
fn overflow_keeps_the_lower_part_and_the_limit() {
    for width in [1, 100, 300, 1 << 40] {
        let list: Vec<(i64, i64)> = (0..50_000).map(|n| (n * 3 * width + width, n * 3 * width + 2 * width)).collect();
        let metadata = Metadata {
            sequence: 300,
            partitions: 9,
            held: None,
            log: 0,
            kept: Kept::default(),
            settled: ranges(&list),
        };
        let text = metadata.encode(0);
        assert!(text.len() <= MAX_TEXT_BYTES, "{}", text.len());
        // No more than the last run's room is wasted.
        assert!(text.len() > MAX_TEXT_BYTES - 40, "{}", text.len());
        let read = Metadata::decode(&text, 0, i64::MAX).unwrap();
        assert_eq!((read.sequence, read.partitions), (300, 9));
        let kept = read.settled.len();
        assert!(kept > 50 && read.settled.iter().eq(metadata.settled.iter().take(kept)), "{kept}");
    }
}

#[test]
fn a_map_of_exactly_the_limit_is_written_whole() {
    // Partitions, holder and what is kept take a byte each, the sequence, the log and each run of one offset two.
    let runs = (MAX_DATA_BYTES - 7) / 2;
    let list: Vec<(i64, i64)> = (0..runs as i64 + 1).map(|n| (100 * n + 99, 100 * n + 100)).collect();
    for count in [runs, runs + 1] {
        let text = Metadata {
            sequence: 300,
            partitions: 1,
            held: None,
            log: 200,
            kept: Kept::default(),
            settled: ranges(&list[..count]),
        }
        .encode(0);
        assert_eq!(text.len(), MAX_TEXT_BYTES);
        assert_eq!(Metadata::decode(&text, 0, i64::MAX).unwrap().settled, ranges(&list[..runs]));
    }
}

#[test]
fn no_metadata_is_an_empty_map() {
    assert_eq!(Metadata::decode("", 5, 10), Ok(Metadata::default()));
}

#[test]
fn foreign_damaged_and_hostile_text_is_refused() {
    let good =
        Metadata { sequence: 5, partitions: 2, held: None, log: 0, kept: Kept::default(), settled: ranges(&[(8, 10)]) }
            .encode(7);
    assert!(Metadata::decode(&good, 7, 10).is_ok());
    let mut flipped = good.clone().into_bytes();
    flipped[5] = if flipped[5] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let run = 1u64 << 31;
    let cases: &[(&str, String, Unusable)] = &[
        ("the text of Kafka Streams", "AAAAAAAB".into(), Unusable::Foreign),
        ("an operator's note", "reset by hand".into(), Unusable::Foreign),
        ("our prefix and no base64", "kr4.***".into(), Unusable::Damaged),
        ("our prefix alone", "kr4.".into(), Unusable::Damaged),
        ("too short for a check", "kr4.AAAA".into(), Unusable::Damaged),
        ("one character changed", flipped, Unusable::Damaged),
        ("cut short", good[..good.len() - 4].into(), Unusable::Damaged),
        ("no sequence", text_of(&[]), Unusable::Damaged),
        ("no partitions", forged(&[1]), Unusable::Damaged),
        ("more partitions than a u32", forged(&[1, 1 << 32]), Unusable::Damaged),
        ("no holder", forged(&[1, 1]), Unusable::Damaged),
        ("a holder with more than a u32", forged(&[1, 1, (1 << 32) + 1]), Unusable::Damaged),
        ("no log", forged(&[1, 1, 0]), Unusable::Damaged),
        ("nothing of what is kept", forged(&[1, 1, 0, 5]), Unusable::Damaged),
        ("what is kept, of a later version", forged(&[1, 1, 0, 5, 1 << 9]), Unusable::Damaged),
        ("no place in the inbox", forged(&[1, 1, 0, 5, 2]), Unusable::Damaged),
        ("a place in the inbox that is none", forged(&[1, 1, 0, 5, 2, 1 << 63]), Unusable::Damaged),
        ("a mark of more than 32 bits", forged(&[1, 1, 0, 5, 8, 1 << 32]), Unusable::Damaged),
        ("half a run", forged(&[1, 1, 0, 5, 0, 4]), Unusable::Damaged),
        ("an empty gap behind a run", forged(&[1, 1, 0, 5, 0, 1, 1, 0, 4]), Unusable::Damaged),
        ("bits without any", forged(&[1, 1, 0, 5, 0, 0]), Unusable::Damaged),
        ("a bit past the end", forged(&[1, 1, 0, 5, 0, 0, 0x10]), Unusable::PastEnd),
        ("an empty run", forged(&[1, 1, 0, 5, 0, 4, 0]), Unusable::Damaged),
        ("a run of 2^31", forged(&[1, 1, 0, 5, 0, 1, run]), Unusable::PastEnd),
        ("one past the end", forged(&[1, 1, 0, 5, 0, 1, 3]), Unusable::PastEnd),
        ("past the last offset there can be", forged(&[1, 1, 0, 5, 0, i64::MAX as u64]), Unusable::PastEnd),
        ("a run larger than an i64", forged(&[1, 1, 0, 5, 0, u64::MAX]), Unusable::Damaged),
        ("an endless number", text_of(&[0x80; 40]), Unusable::Damaged),
        (
            "a number of 65 bits",
            text_of(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1]),
            Unusable::Damaged,
        ),
        ("a number without its end", text_of(&[1, 0x80]), Unusable::Damaged),
    ];
    for (what, text, expected) in cases {
        assert_eq!(Metadata::decode(text, 7, 10), Err(*expected), "{what}");
    }
    assert_eq!(Metadata::decode(&forged(&[1, 1, 0, 5, 0, 1, 2]), 7, 10).unwrap().settled, ranges(&[(8, 10)]));
}

#[test]
fn what_is_kept_is_read_back_whatever_of_it_there_is() {
    let whole = Kept {
        parked: true,
        breaker: true,
        seen: 1,
        state: 300,
        retry: u32::MAX,
        order: 7,
        inbox: 1 << 31,
        inbox_at: i64::MAX,
        inbox_done: u64::MAX,
    };
    for bits in 0..512u32 {
        let mark = |index: u32, mark: u32| if bits & 1 << index == 0 { 0 } else { mark };
        let kept = Kept {
            parked: bits & 1 != 0,
            breaker: bits & 256 != 0,
            inbox_at: if bits & 2 == 0 { 0 } else { whole.inbox_at },
            inbox_done: if bits & 4 == 0 { 0 } else { whole.inbox_done },
            seen: mark(3, whole.seen),
            state: mark(4, whole.state),
            retry: mark(5, whole.retry),
            order: mark(6, whole.order),
            inbox: mark(7, whole.inbox),
        };
        let metadata = Metadata { sequence: 3, kept, settled: ranges(&[(8, 10)]), ..Metadata::default() };
        assert_eq!(Metadata::decode(&metadata.encode(7), 7, 10), Ok(metadata));
    }
}

#[test]
fn metadata_of_a_version_that_kept_nothing_is_read() {
    let mut data = Vec::new();
    for number in [5, 2, 1, 9, 1, 2] {
        put(&mut data, number);
    }
    let text = text_of(&data).replace(PREFIX, "kr3.");
    let expected = Metadata {
        sequence: 5,
        partitions: 2,
        held: Some(0),
        log: 9,
        settled: ranges(&[(8, 10)]),
        ..Metadata::default()
    };
    assert_eq!(Metadata::decode(&text, 7, 10), Ok(expected));
}

#[test]
fn numbers_take_seven_bits_a_byte() {
    let cases: &[(u64, &[u8])] = &[
        (0, &[0]),
        (0x7f, &[0x7f]),
        (0x80, &[0x80, 1]),
        (300, &[0xac, 2]),
        (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ];
    for (number, bytes) in cases {
        let mut data = vec![];
        put(&mut data, *number);
        assert_eq!(data, *bytes);
        data.push(9);
        let mut rest = data.as_slice();
        assert_eq!(take(&mut rest), Some(*number));
        assert_eq!(rest, [9]);
    }
}

#[test]
fn a_map_that_fits_is_written_whole() {
    let mut dice = Dice(5);
    let mut full = 0;
    for _ in 0..2_000 {
        let (mut settled, mut at) = (Ranges::new(), 1_000);
        let (runs, gap, run) = (dice.roll(1_700), 1 + dice.roll(300), 1 + dice.roll(20_000));
        for _ in 0..runs {
            let start = at + 1 + dice.roll(gap) as i64;
            at = start + 1 + dice.roll(run) as i64;
            settled.push(start, at);
        }
        if fits(settled.len(), at.abs_diff(1_000)) {
            full += 1;
            let (log, held) = (u64::MAX, Some(u32::MAX));
            let text = Metadata {
                sequence: u64::MAX,
                partitions: u32::MAX,
                held,
                log,
                kept: Kept::default(),
                settled: settled.clone(),
            };
            let read = Metadata::decode(&text.encode(1_000), 1_000, i64::MAX).unwrap();
            assert_eq!(read.settled, settled);
        }
    }
    assert!((400..1_600).contains(&full), "{full} fit");
    assert!(fits(1_300, 30_000) && !fits(1_480, 30_000) && fits(1, u64::MAX));
    // A bit each.
    assert!(fits(20_000, 20_000) && !fits(24_500, 24_500));
}
