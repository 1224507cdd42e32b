//! What the stateful count is given, and whether it counted right.

use crate::rig::Rig;
use crate::topics::{chance, fill, producer, read_all, send, value};
use anyhow::{Context as _, Result, ensure};
use rdkafka::message::Message as _;
use rdkafka::producer::Producer as _;
use std::time::Duration;

/// Takes the first message of each key out of order: a prime, so that none is left out.
const SCATTER: u64 = 2_654_435_761;

/// A topic and how often each key is in it.
pub(crate) struct Input {
    pub(crate) topic: String,
    /// By the key's number.
    counts: Vec<u32>,
    total: u64,
}

impl Input {
    /// A topic of `messages`: each of `keys` once, then any of them by chance.
    pub(crate) fn fill(rig: &Rig, keys: u64, messages: u64) -> Result<Self> {
        let topic = rig.topic("keys", &[])?;
        let mut input = Self { topic, counts: vec![0; usize::try_from(keys)?], total: messages };
        let counts = &mut input.counts;
        fill(&rig.bootstrap, &input.topic, messages, |number| (written(counts, number), value(number)))?;
        Ok(input)
    }

    /// Messages in it.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// So many more.
    pub(crate) fn more(&mut self, rig: &Rig, count: u64) -> Result<()> {
        let producer = producer(&rig.bootstrap, "5")?;
        for number in self.total..self.total + count {
            send(&producer, &self.topic, &written(&mut self.counts, number), &value(number))?;
        }
        self.total += count;
        producer.flush(Duration::from_secs(30)).context("writing more messages")
    }

    /// Whether the last count that was written for each key is how often it is in the topic.
    pub(crate) fn judge(&self, rig: &Rig, outputs: &str, number: impl Fn([u8; 8]) -> u64) -> Result<()> {
        let mut last = vec![0; self.counts.len()];
        read_all(&rig.bootstrap, outputs, |message| {
            let key = message.key().and_then(number_of).context("an output under a key that no message has")?;
            let count = message.payload().and_then(|v| v.try_into().ok()).context("an output that is not 8 bytes")?;
            *last.get_mut(key).context("an output under a key that no message has")? = number(count);
            Ok(())
        })?;
        compare(&self.counts, &last)
    }
}

fn compare(expected: &[u32], counted: &[u64]) -> Result<()> {
    let differ = |key: &usize| counted.get(*key).copied() != Some(u64::from(expected[*key]));
    let wrong: Vec<usize> = (0..expected.len()).filter(differ).collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} keys are counted wrong; key {}: {} instead of {}",
        wrong.len(),
        expected.len(),
        text(wrong[0] as u64),
        counted[wrong[0]],
        expected[wrong[0]]
    );
    Ok(())
}

/// The key of a message, which counts.
fn written(counts: &mut [u32], number: u64) -> String {
    let keys = counts.len() as u64;
    let key = if number < keys { number * SCATTER % keys } else { chance(number) % keys };
    counts[key as usize] += 1;
    text(key)
}

fn text(key: u64) -> String {
    format!("key-{key:08}")
}

fn number_of(key: &[u8]) -> Option<usize> {
    std::str::from_utf8(key).ok()?.strip_prefix("key-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_and_counted() {
        let mut counts = vec![0; 1000];
        let keys: Vec<String> = (0..3000).map(|number| written(&mut counts, number)).collect();
        assert!(counts.iter().all(|count| *count > 0));
        assert_eq!(counts.iter().sum::<u32>(), 3000);
        let of = |key: usize| keys.iter().filter(|k| number_of(k.as_bytes()) == Some(key)).count();
        assert_eq!([of(0), of(999)], [counts[0] as usize, counts[999] as usize]);
    }

    #[test]
    fn a_wrong_count_is_told_with_its_key() {
        assert!(compare(&[2, 3], &[2, 3]).is_ok());
        let told = compare(&[2, 3], &[2, 4]).map_err(|e| e.to_string());
        assert_eq!(told, Err("1 of 2 keys are counted wrong; key key-00000001: 4 instead of 3".to_owned()));
        assert_eq!(number_of(b"key-00000012"), Some(12));
        assert_eq!(number_of(b"other"), None);
    }
}
