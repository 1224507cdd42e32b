//! The log's line for dead letters, and what alerts are told of them: one a second at most, however many there are, with
//! the number of those that it stands for. A message that is discarded has a line of its own in any case: nothing else is left of it.

use super::committer::Names;
use super::link::Payload;
use super::show::readable;
use crate::alerts::{Alerts, Example, Kind, Place, What};
use keyrail_engine::message::Fate;
use keyrail_engine::shard::Settled;
use std::collections::BTreeMap;

/// Between two lines of a pipeline.
const EVERY_MS: u64 = 1_000;

/// Where a message stands and why it is given up. The log is told nothing of what it says: it has other readers than a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter {
    topic: u32,
    partition: i32,
    offset: i64,
    reason: &'static str,
    code: String,
    attempts: u32,
    /// Of the message and of its failure, for alerts alone.
    said: Option<(Option<String>, String)>,
}

impl Letter {
    fn of(message: &Settled<Payload>, alerts: &Alerts) -> Option<Self> {
        let Fate::DeadLetter(epitaph) = &message.fate else { return None };
        let at = message.ticket.partition;
        Some(Self {
            topic: at.topic,
            partition: at.number,
            // A timer has no place in the input: it is told by the message that set it.
            offset: message.message.record.offset,
            reason: epitaph.reason.as_str(),
            code: epitaph.failure.code.clone(),
            attempts: epitaph.attempts,
            said: alerts
                .wants(Kind::DeadLetters)
                .then(|| (message.message.record.key().map(|key| readable(Some(key))), epitaph.failure.detail.clone())),
        })
    }

    /// It, and so many at these places.
    fn alert(self, names: &Names, alerts: &Alerts, places: BTreeMap<(u32, i32), u64>) {
        let topic = |number: u32| names.inputs.get(number as usize).map_or("?", String::as_str).to_owned();
        let Some((key, detail)) = self.said else { return };
        let example = Example {
            topic: Some(topic(self.topic)),
            partition: Some(self.partition),
            offset: Some(self.offset),
            key,
            reason: Some(self.reason),
            code: Some(self.code),
            detail: Some(detail).filter(|detail| !detail.is_empty()),
        };
        let count = places.values().sum();
        let place = |((number, partition), count)| (Place { topic: topic(number), partition: Some(partition) }, count);
        let places = places.into_iter().map(place).collect();
        alerts.tell(&names.pipeline, Kind::DeadLetters, What::Happened { count, places, example });
    }

    fn tell(&self, names: &Names, not_shown: u64) {
        let topic = names.inputs.get(self.topic as usize).map_or("?", String::as_str);
        tracing::warn!(
            pipeline = names.pipeline,
            topic,
            partition = self.partition,
            offset = self.offset,
            reason = self.reason,
            code = self.code,
            attempts = self.attempts,
            not_shown = (not_shown > 0).then_some(not_shown),
            "a message is a dead letter"
        );
    }
}

/// What of them waits for its line.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The last one, and how many before it have no line.
    waiting: Option<(Letter, u64)>,
    /// How many wait of each topic and partition.
    places: BTreeMap<(u32, i32), u64>,
    next_ms: u64,
}

impl Letters {
    /// A message settled: if it is a dead letter, that is told now or later.
    pub(super) fn note(&mut self, names: &Names, alerts: &Alerts, message: &Settled<Payload>, now_ms: u64) {
        if let Some(letter) = Letter::of(message, alerts) {
            self.add(letter);
            self.tell(names, alerts, now_ms);
        }
    }

    /// Tells what waits, if it is time.
    pub(super) fn tell(&mut self, names: &Names, alerts: &Alerts, now_ms: u64) {
        if let Some((letter, not_shown)) = self.due(now_ms) {
            letter.tell(names, not_shown);
            letter.alert(names, alerts, std::mem::take(&mut self.places));
        }
    }

    /// Tells what waits: nothing more comes.
    pub(super) fn end(&mut self, names: &Names, alerts: &Alerts) {
        self.tell(names, alerts, u64::MAX);
    }

    fn add(&mut self, letter: Letter) {
        *self.places.entry((letter.topic, letter.partition)).or_insert(0) += 1;
        let not_shown = self.waiting.take().map_or(0, |(_, before)| before + 1);
        self.waiting = Some((letter, not_shown));
    }

    fn due(&mut self, now_ms: u64) -> Option<(Letter, u64)> {
        if now_ms < self.next_ms {
            return None;
        }
        let due = self.waiting.take()?;
        self.next_ms = now_ms.saturating_add(EVERY_MS);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64) -> Letter {
        let code = "bad".to_owned();
        Letter { topic: 0, partition: 0, offset, reason: "rejected", code, attempts: 1, said: None }
    }

    /// Offset and number of those not shown of each line.
    fn lines(letters: &mut Letters, at: &[u64]) -> Vec<(i64, u64)> {
        let mut lines = Vec::new();
        for (offset, now_ms) in (0..).zip(at) {
            letters.add(letter(offset));
            lines.extend(letters.due(*now_ms).map(|(letter, not_shown)| (letter.offset, not_shown)));
        }
        lines
    }

    #[test]
    fn a_few_have_a_line_each() {
        let mut letters = Letters::default();
        assert_eq!(lines(&mut letters, &[0, 1_000, 5_000]), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(letters.due(u64::MAX), None, "nothing waits");
    }

    #[test]
    fn a_flood_has_a_line_a_second_and_each_is_counted_once() {
        let mut letters = Letters::default();
        let flood: Vec<u64> = (0..2_500).collect();
        assert_eq!(lines(&mut letters, &flood), [(0, 0), (1_000, 999), (2_000, 999)]);
        // The rest is told when its second is over, though none follows.
        assert_eq!(letters.due(2_999), None);
        assert_eq!(letters.due(3_000), Some((letter(2_499), 498)));
        assert_eq!(letters.due(u64::MAX), None);
    }

    #[test]
    fn what_waits_at_the_end_is_told_at_once() {
        let mut letters = Letters::default();
        assert_eq!(lines(&mut letters, &[10, 11, 12]), [(0, 0)]);
        assert_eq!(letters.due(u64::MAX), Some((letter(2), 1)));
    }
}
