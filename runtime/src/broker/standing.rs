//! What stands in a partition of an internal topic: whether anything is kept there, or how much of it waits.

use super::client::Client;
use super::{BrokerError, BrokerErrorKind};
use crate::record::TopicPartition;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// One look for records.
const LOOK: Duration = Duration::from_millis(200);
/// More is not counted: there is enough of it to say so.
const MOST: usize = 1_000_000;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Whether any record with a value is there: whoever was the first of one key, be it deleted later.
    Some,
    /// How many keys have a value, deletions counted; no more than a million, of which nobody waits for the end.
    Keys,
}

/// How many records, or keys, stand in each of these partitions of a topic, as a reader of committed records sees it; 0 also for a
/// topic, or a partition, that is not there. `goes_on` is asked now and then, and may end it.
///
/// # Errors
/// The broker does not answer, or `goes_on` said no.
pub fn standing(
    client: &mut dyn Client,
    topic: &str,
    partitions: &[i32],
    ask: Ask,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<BTreeMap<i32, usize>, BrokerError> {
    let mut found: BTreeMap<i32, usize> = partitions.iter().map(|partition| (*partition, 0)).collect();
    // The input may have been given more than this topic has.
    let count = client.partitions_of(topic)?.unwrap_or(0);
    let there: Vec<i32> = partitions.iter().copied().filter(|partition| *partition < count).collect();
    if there.is_empty() {
        return Ok(found);
    }
    let bounds = client.bounds(topic, &there)?;
    let filled = there.iter().zip(bounds).filter(|(_, bounds)| bounds.start < bounds.end);
    // Where each ends, those that are not through.
    let mut open: BTreeMap<i32, (i64, i64)> = filled.map(|(p, bounds)| (*p, (bounds.start, bounds.end))).collect();
    let starts: Vec<(TopicPartition, i64)> = open
        .iter()
        .map(|(partition, (start, _))| (TopicPartition { topic: 0, partition: *partition }, *start))
        .collect();
    if starts.is_empty() {
        return Ok(found);
    }
    let mut reader = client.read(&[topic.to_owned()], &starts)?;
    let (hasher, mut keys, mut records) = (RandomState::new(), HashSet::new(), Vec::new());
    while !open.is_empty() {
        if !goes_on() {
            let message = format!("{topic} could not be read to its end in time");
            return Err(BrokerError { kind: BrokerErrorKind::Retry, message });
        }
        reader.next(LOOK, &mut records)?;
        for record in records.drain(..) {
            let partition = record.at.partition;
            let key = hasher.hash_one((partition, record.key()));
            let news = if record.value().is_some() { keys.insert(key) } else { keys.remove(&key) };
            if let Some(count) = found.get_mut(&partition).filter(|_| news) {
                *count = if record.value().is_some() { *count + 1 } else { count.saturating_sub(1) };
                if *count >= if ask == Ask::Some { 1 } else { MOST } {
                    open.remove(&partition);
                }
            }
        }
        open.retain(|partition, (_, end)| {
            let at = TopicPartition { topic: 0, partition: *partition };
            reader.position(at).is_none_or(|position| position < *end)
        });
        if keys.len() >= MOST {
            break;
        }
    }
    Ok(found)
}
