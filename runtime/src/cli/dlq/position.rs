//! What was sent back already of a partition of dead letters, as it stands in the commits of a group of its own
//! (`TOPIC.redrive`).
//!
//! The committed offset says that all below it was sent back. What a choice passed over stays, so above the offset stand
//! notes in the commit's metadata: all that is below an offset and was meant by a choice was sent back. That takes the same
//! room however the chosen letters lie between the others.
//!
//! Kafka forgets what a group without members has committed, a week after the last commit (`offsets.retention.minutes`). What
//! was sent back is at least as old as the commit that says so; so where nothing is committed, it is not known of letters of
//! that age whether they were.

use super::letter::Letter;
use super::wanted::Wanted;
use keyrail::broker::Committed;
use keyrail::record::Record;
use serde::{Deserialize, Serialize};

/// The group that holds the positions of a topic, and the transactional id under which they are moved. It follows from the topic
/// alone, so that two ways to name the same letters can't send them back twice.
pub(super) fn group_of(topic: &str) -> String {
    format!("{topic}.redrive")
}

/// When Kafka forgets a group's commits by default, and an hour of clocks that differ.
const FORGOTTEN_MS: i64 = (7 * 24 - 1) * 3_600_000;
/// Kafka's limit on the metadata of a commit.
const MOST_BYTES: usize = 4096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// All below was sent back, or is gone.
    pub(super) offset: i64,
    notes: Vec<Note>,
    /// Which log of the topic's name it is of; 0: unknown.
    log: u64,
    /// Who sent back last.
    pub(super) last: Option<Last>,
    /// Something is committed. Otherwise nothing was ever sent back, or the broker has forgotten that it was.
    pub(super) is_known: bool,
}

/// All below `to` that is meant by `of` was sent back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    to: i64,
    of: Wanted,
}

/// Who, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    pub(super) by: String,
    pub(super) at_ms: i64,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "keyrail-redrive")]
    version: u32,
    log: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
}

const VERSION: u32 = 1;

/// The metadata is somebody else's, or of a later version: what was sent back is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Position {
    /// Nothing is known to have been sent back.
    pub(super) fn at(offset: i64) -> Self {
        Self { offset, ..Self::default() }
    }

    /// Reads what was committed for a partition whose log starts at `start`. Without metadata the offset alone counts, as
    /// somebody put it down. Of another log of the same name it counts for nothing.
    pub(super) fn read(committed: &Committed, log: u64, start: i64) -> Result<Self, Unreadable> {
        let none = Self { log, ..Self::at(start) };
        let Some(offset) = committed.offset else { return Ok(none) };
        if committed.metadata.is_empty() {
            return Ok(Self { offset: offset.max(start), is_known: true, ..none });
        }
        let written: Written = serde_json::from_str(&committed.metadata).map_err(|_| Unreadable)?;
        if written.version != VERSION {
            return Err(Unreadable);
        }
        if written.log != 0 && log != 0 && written.log != log {
            return Ok(Self { is_known: true, ..none });
        }
        Ok(Self { offset: offset.max(start), notes: written.notes, log, last: written.last, is_known: true })
    }

    /// Whether a letter was sent back.
    pub(super) fn is_done(&self, record: &Record, letter: &Letter) -> bool {
        record.offset < self.offset
            || self.notes.iter().any(|note| record.offset < note.to && note.of.takes(record, letter))
    }

    /// Whether a letter may have been sent back, and that it was be forgotten by a broker that forgets.
    pub(super) fn is_doubtful(&self, record: &Record, now_ms: i64) -> bool {
        !self.is_known && (record.timestamp_ms < 0 || now_ms.saturating_sub(record.timestamp_ms) >= FORGOTTEN_MS)
    }

    /// This position once all up to `to` was looked at and what `wanted` means of it was sent back. `left`: the first letter
    /// that was not, now or before.
    pub(super) fn after(&self, to: i64, left: Option<i64>, wanted: &Wanted, last: Last) -> Self {
        let offset = left.unwrap_or(to).max(self.offset);
        let mut notes: Vec<Note> = self.notes.iter().filter(|note| note.to > offset).cloned().collect();
        if left.is_some() {
            match notes.iter_mut().find(|note| note.of == *wanted) {
                Some(note) => note.to = note.to.max(to),
                None => notes.push(Note { to, of: wanted.clone() }),
            }
        }
        Self { offset, notes, log: self.log, last: Some(last), is_known: true }
    }

    /// The metadata of its commit; `None`: there is no room for it.
    pub(super) fn metadata(&self) -> Option<String> {
        let Self { notes, log, last, .. } = self.clone();
        let written = Written { version: VERSION, log, notes, last };
        serde_json::to_string(&written).ok().filter(|text| text.len() <= MOST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail::record::{RecordBuilder, TopicPartition};

    const CODES: [&str; 3] = ["a", "b", "c"];

    fn of(code: &str) -> Wanted {
        let text = if code.is_empty() { "{}".to_owned() } else { format!("{{\"codes\":[\"{code}\"]}}") };
        serde_json::from_str(&text).unwrap()
    }

    fn letter(offset: i64) -> Record {
        let mut builder = RecordBuilder::new(None, None);
        builder.header(b"keyrail-code", Some(CODES[offset as usize % 3].as_bytes()));
        builder.build(TopicPartition { topic: 0, partition: 0 }, offset, 0)
    }

    fn last() -> Last {
        Last { by: "me@here".to_owned(), at_ms: 5 }
    }

    /// Looks at all from the position up to `to`; gives what is sent back, and the position, as it is read again.
    fn send(position: &Position, wanted: &Wanted, to: i64) -> (Vec<i64>, Position) {
        let (mut sent, mut left) = (Vec::new(), None);
        for offset in position.offset..to {
            let record = letter(offset);
            let told = Letter::of(&record);
            if position.is_done(&record, &told) {
                continue;
            }
            if wanted.takes(&record, &told) {
                sent.push(offset);
            } else {
                left.get_or_insert(offset);
            }
        }
        let after = position.after(to, left, wanted, last());
        let committed = Committed { offset: Some(after.offset), metadata: after.metadata().unwrap() };
        assert_eq!(Position::read(&committed, 7, 0), Ok(after.clone()));
        (sent, after)
    }

    fn begin() -> Position {
        Position::read(&Committed { offset: None, metadata: String::new() }, 7, 0).unwrap()
    }

    #[test]
    fn each_letter_is_sent_back_once_whatever_is_chosen_in_which_order() {
        let (sent, position) = send(&begin(), &of("b"), 9);
        assert_eq!((sent, position.offset), (vec![1, 4, 7], 0));
        // Ended half-way: what is behind is still there.
        let (sent, position) = send(&position, &of("a"), 5);
        assert_eq!((sent, position.offset, position.notes.len()), (vec![0, 3], 2, 2));
        let (sent, position) = send(&position, &of("b"), 12);
        assert_eq!((sent, position.notes.len()), (vec![10], 2), "the same choice has one note");
        let (sent, position) = send(&position, &of("a"), 12);
        assert_eq!(sent, [6, 9]);
        let (sent, position) = send(&position, &of(""), 12);
        assert_eq!((sent, position.offset), (vec![2, 5, 8, 11], 12));
        assert!(position.notes.is_empty(), "nothing is left to tell of");
        assert_eq!(send(&position, &of(""), 13).0, [12]);
    }

    #[test]
    fn random_choices_send_each_letter_once() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let (mut position, mut all) = (begin(), Vec::new());
            let mut end = 0;
            for _ in 0..12 {
                end = (end + random(5) as i64).min(40);
                let code = ["", "a", "b", "c", "a", "b", "c"][random(7) as usize];
                let to = position.offset.max(random(end.unsigned_abs() + 1) as i64);
                let (sent, after) = send(&position, &of(code), to);
                all.extend(sent);
                position = after;
            }
            let (sent, position) = send(&position, &of(""), 40);
            all.extend(sent);
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<_>>());
            assert_eq!((position.offset, position.notes.len()), (40, 0));
        }
    }

    #[test]
    fn another_log_or_an_offset_put_down_by_hand_or_what_retention_took() {
        let (_, position) = send(&begin(), &of("b"), 9);
        let committed = Committed { offset: Some(position.offset), metadata: position.metadata().unwrap() };
        assert_eq!(Position::read(&committed, 8, 0).map(|p| (p.offset, p.notes.len())), Ok((0, 0)));
        assert_eq!(Position::read(&committed, 0, 4).map(|p| (p.offset, p.notes.len())), Ok((4, 1)));
        assert!(begin().is_doubtful(&letter(0), FORGOTTEN_MS) && !begin().is_doubtful(&letter(0), FORGOTTEN_MS - 1));
        assert!(!position.is_doubtful(&letter(0), FORGOTTEN_MS), "something is committed");
        let by_hand = Committed { offset: Some(6), metadata: String::new() };
        assert_eq!(Position::read(&by_hand, 7, 0).map(|p| p.offset), Ok(6));
        for foreign in ["kr4.AAAA", "{}", r#"{"keyrail-redrive":2,"log":7}"#, r#"{"keyrail-redrive":1,"log":7,"x":1}"#]
        {
            let committed = Committed { offset: Some(6), metadata: foreign.to_owned() };
            assert_eq!(Position::read(&committed, 7, 0), Err(Unreadable), "{foreign}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_told() {
        let mut position = begin();
        let mut count = 0;
        let told = loop {
            let wanted = of(&format!("code-{count}"));
            position = position.after(9, Some(0), &wanted, last());
            match position.metadata() {
                Some(text) => assert!(text.len() <= MOST_BYTES),
                None => break count,
            }
            count += 1;
        };
        assert!(told > 50, "{told} choices have room");
    }
}
