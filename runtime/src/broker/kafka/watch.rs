//! Notices that a topic was deleted and made anew: its name stays, its id does not.
//!
//! librdkafka goes on reading the new log where it was in the old one, without a word if the new log is that long.

use super::native::{Client, Event, Queue, TopicDescription};
use super::topics::short;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// How long an answer may take. See [`Client::reach`] for why not longer.
const ANSWER: Duration = Duration::from_secs(2);

/// The ids of the topics that a consumer reads, by the topics' names; asked for now and then.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Each topic's ids, the present one last: a broker that lags behind may tell an earlier one once more.
    ids: BTreeMap<String, Vec<TopicId>>,
    /// Where the answer to the last question will be.
    answers: Option<Queue>,
    next: Option<Instant>,
    anew: Vec<String>,
}

/// Never used twice in a cluster.
pub(super) type TopicId = (i64, i64);

impl Watch {
    /// Asks now and then, and takes answers. Never blocks.
    pub(super) fn turn(&mut self, client: &Arc<Client>, names: &[&str]) {
        if let Some(answers) = self.answers.take() {
            let answered = answers.poll(Duration::ZERO).map(|event| self.heard(&event)).is_some();
            self.answers = (!answered).then_some(answers);
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        // A question that was not answered in this time is given up.
        self.next = Some(now + EVERY);
        let answers = Queue::new(client);
        self.answers = client.describe_topics(names, &answers, ANSWER).is_ok().then_some(answers);
    }

    /// No broker answers now.
    pub(super) fn rest(&mut self) {
        self.next = Some(Instant::now() + EVERY);
    }

    fn heard(&mut self, event: &Event<'_>) {
        // An outage, or a missing right, is told by what it hinders.
        for topic in event.described().unwrap_or_default() {
            self.note(&topic);
        }
    }

    /// What the broker says of a topic.
    pub(super) fn note(&mut self, topic: &TopicDescription) {
        // One that is gone has no id; what comes after it has another.
        let (Ok(_), Some(id)) = (&topic.partitions, topic.id) else { return };
        let known = self.ids.entry(topic.name.clone()).or_default();
        if known.contains(&id) {
            return;
        }
        known.push(id);
        if known.len() > 1 && !self.anew.contains(&topic.name) {
            self.anew.push(topic.name.clone());
        }
    }

    /// The id of a topic, as it was heard last, short; 0 when unknown.
    pub(super) fn short_id(&self, name: &str) -> u64 {
        self.ids.get(name).and_then(|ids| ids.last()).map_or(0, |id| short(*id))
    }

    /// The topics that were made anew, told once.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.anew)
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::{Code, Failure};
    use super::*;

    fn topic(name: &str, id: Option<TopicId>) -> TopicDescription {
        let gone = || Failure::new(Code::UnknownTopicOrPartition, "gone");
        TopicDescription { name: name.to_owned(), id, partitions: id.map(|_| 3).ok_or_else(gone), replicas: 1 }
    }

    #[test]
    fn another_id_is_another_topic_also_after_it_was_gone() {
        let mut watch = Watch::default();
        for seen in [topic("a", Some((1, 1))), topic("b", Some((2, 2))), topic("a", Some((1, 1))), topic("a", None)] {
            watch.note(&seen);
            assert_eq!(watch.take(), Vec::<String>::new());
        }
        assert_eq!([watch.short_id("a"), watch.short_id("b"), watch.short_id("c")], [1, 1, 0]);
        watch.note(&topic("a", Some((1, 7))));
        assert_eq!(watch.short_id("a"), 6);
        watch.note(&topic("a", Some((1, 8))));
        assert_eq!(watch.take(), ["a"]);
        for late in [(1, 8), (1, 1), (1, 7)] {
            watch.note(&topic("a", Some(late)));
            assert_eq!((watch.take(), watch.short_id("a")), (Vec::new(), 9), "{late:?}");
        }
    }
}
