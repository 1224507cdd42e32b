//! The retry topic as the table that it is: of each message the last record, if that is no tombstone.
//!
//! A partition is read twice, first to find out which record is a message's last. So what is held in memory of a message is two
//! numbers; where a partition may hold more messages than there is room for, it is read in several turns.

use crate::cli::quiet::Quiet;
use crate::cli::terminal::{Progress, counted};
use keyrail::broker::client::Client;
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::parking::{self, Envelope, Origin, Unusable};
use std::collections::HashMap;
use std::time::Duration;

/// How long one look for records takes at most.
const LOOK: Duration = Duration::from_millis(100);
/// Messages that a turn tells apart, at most; some 70 MB.
const TURN: i64 = 1 << 21;

/// A record of a retry topic that stands.
#[allow(clippy::large_enum_variant, reason = "it is handed over, and used at once")]
pub(in crate::cli) enum Found<'a> {
    /// A parked message: where it was read, and what is kept of it, if that can be read.
    Message(i64, Result<Envelope<'a>, Unusable>),
    /// Its key is not Keyrail's, or of another input.
    Stranger,
}

/// Reads a partition of a retry topic. `input`: the topic whose messages wait there.
pub(in crate::cli) struct Live<'a> {
    pub(in crate::cli) client: &'a mut dyn Client,
    pub(in crate::cli) topic: &'a str,
    pub(in crate::cli) input: &'a str,
    pub(in crate::cli) partition: i32,
    /// After an outage a reader goes on by itself.
    pub(in crate::cli) comes_back: bool,
    pub(in crate::cli) most: i64,
}

impl<'a> Live<'a> {
    pub(in crate::cli) fn new(
        client: &'a mut dyn Client,
        topic: &'a str,
        input: &'a str,
        partition: i32,
        comes_back: bool,
    ) -> Self {
        Self { client, topic, input, partition, comes_back, most: TURN }
    }

    /// All that stands at the partition's end of this moment, in no order.
    pub(in crate::cli) fn each(&mut self, each: &mut dyn FnMut(&Record, Found<'_>)) -> anyhow::Result<()> {
        let bounds = self.client.bounds(self.topic, &[self.partition])?;
        let Some(bounds) = bounds.first().copied().filter(|bounds| bounds.start < bounds.end) else { return Ok(()) };
        let turns = (bounds.end - bounds.start + self.most - 1) / self.most;
        for turn in 0..turns {
            let mut last: HashMap<i64, i64> = HashMap::new();
            self.read(bounds.start, bounds.end, &mut |record, origin| match origin {
                Some(offset) if offset.rem_euclid(turns) == turn => {
                    if record.value().is_some() {
                        last.insert(offset, record.offset);
                    } else {
                        last.remove(&offset);
                    }
                }
                _ => {}
            })?;
            if last.is_empty() && turn > 0 {
                continue;
            }
            self.read(bounds.start, bounds.end, &mut |record, origin| match (origin, record.value()) {
                (Some(offset), Some(value)) if last.get(&offset) == Some(&record.offset) => {
                    each(record, Found::Message(offset, parking::decode(value)));
                }
                (None, _) if turn == 0 => each(record, Found::Stranger),
                _ => {}
            })?;
        }
        Ok(())
    }

    fn read(&mut self, start: i64, end: i64, each: &mut dyn FnMut(&Record, Option<i64>)) -> anyhow::Result<()> {
        let at = TopicPartition { topic: 0, partition: self.partition };
        let mut reader = self.client.read(&[self.topic.to_owned()], &[(at, start)])?;
        let (mut records, mut count) = (Vec::new(), 0);
        let (mut quiet, mut progress) = (Quiet::new(false, self.comes_back), Progress::new());
        while !reader.has_passed(at, end) {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty())?;
            for record in records.iter().filter(|record| record.offset < end) {
                let origin = Origin::decode(record.key().unwrap_or_default());
                let own = origin.ok().filter(|o| o.topic == self.input && o.partition == self.partition);
                each(record, own.map(|origin| origin.offset));
            }
            count += records.len() as u64;
            progress.show(|| format!("{} read", counted(count, "record")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail::broker::Produce;
    use keyrail::broker::client::NewTopic;
    use keyrail::broker::embedded::{Embedded, Options};
    use keyrail::record::RecordBuilder;
    use keyrail_engine::message::Failure;
    use keyrail_engine::parking::Waiting;
    use keyrail_engine::retry::History;
    use std::collections::BTreeMap;

    fn envelope(number: u64) -> Vec<u8> {
        let history = History { attempts: 1, failures: 1, first_failed_ms: None };
        let waiting = Waiting { number, due_ms: 5, history, failure: Failure::default(), given_up: None };
        let at = TopicPartition { topic: 0, partition: 0 };
        parking::encode(&waiting, None, &RecordBuilder::new(Some(b"k"), None).build(at, 0, 0))
    }

    #[test]
    fn the_last_record_of_each_message_counts_in_however_many_turns() {
        let dir = std::env::temp_dir().join(format!("keyrail-live-{}", std::process::id()));
        let options = Options { dir: dir.clone(), partitions: 1, durable: false };
        let mut client = Embedded::open(&options).unwrap().client().unwrap();
        client
            .create_topic(&NewTopic { name: "g.in.retry".to_owned(), partitions: Some(1), settings: Vec::new() })
            .unwrap();
        let key = |topic: &str, offset| Origin { topic, partition: 0, offset }.encode();
        // Of 40 messages every third is resolved, every fourth is written anew.
        let mut all: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            (0..40).map(|n| (key("in", n), Some(envelope(1 + n as u64)))).collect();
        all.extend((0..40).filter(|n| n % 4 == 0).map(|n| (key("in", n), Some(envelope(100 + n as u64)))));
        all.extend((0..40).filter(|n| n % 3 == 0).map(|n| (key("in", n), None)));
        all.push((key("in", 3), Some(b"torn".to_vec())));
        all.extend([(b"mine".to_vec(), Some(b"x".to_vec())), (key("other", 1), Some(envelope(1)))]);
        let records: Vec<Produce<'_>> = all
            .iter()
            .map(|(key, value)| Produce {
                topic: "g.in.retry",
                partition: Some(0),
                key: Some(key),
                value: value.as_deref(),
                headers: &[],
                timestamp_ms: None,
            })
            .collect();
        assert!(client.produce(&records).unwrap().iter().all(Result::is_ok));
        for most in [1 << 20, 7, 1] {
            let (mut found, mut strangers, mut torn) = (BTreeMap::new(), 0, 0);
            let mut live = Live::new(client.as_mut(), "g.in.retry", "in", 0, false);
            live.most = most;
            live.each(&mut |_, one| match one {
                Found::Message(offset, Ok(envelope)) => {
                    assert!(found.insert(offset, envelope.waiting.number).is_none())
                }
                Found::Message(offset, Err(_)) => torn += offset,
                Found::Stranger => strangers += 1,
            })
            .unwrap();
            let number = |n: i64| (n, if n % 4 == 0 { 100 + n.unsigned_abs() } else { 1 + n.unsigned_abs() });
            let expected: BTreeMap<i64, u64> = (0..40).filter(|n| n % 3 != 0).map(number).collect();
            assert_eq!((found, strangers, torn), (expected, 2, 3), "at most {most} at a time");
        }
        drop(client);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
