//! Dead letters by what they died of.

use super::letter::Letter;
use super::told_time;
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::{counted, grouped};
use keyrail::record::Record;
use serde::Serialize;
use std::collections::BTreeMap;

/// So many causes are told apart; the rest is one.
const MOST: usize = 10_000;
/// So much of a digest stands in a table.
const DIGEST: usize = 12;

/// What letters have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Cause {
    letters: String,
    reason: String,
    code: String,
    handler: String,
    /// Where the messages were first read; empty where the letters don't tell.
    topic: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    count: u64,
    /// Of these: sent back.
    redriven: u64,
    /// When the first was written, and the last; -1 without a time.
    first: i64,
    last: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Causes {
    all: BTreeMap<Cause, Count>,
    /// Of causes for which there is no room.
    others: Count,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    cause: &'a Cause,
    #[serde(flatten)]
    count: &'a Count,
}

#[derive(Serialize)]
struct Page<'a> {
    count: u64,
    redriven: u64,
    causes: Vec<Row<'a>>,
    /// Letters of further causes.
    others: u64,
}

impl Count {
    fn add(&mut self, time_ms: i64, done: bool) {
        if self.count == 0 {
            (self.first, self.last) = (time_ms, time_ms);
        }
        self.count += 1;
        self.redriven += u64::from(done);
        (self.first, self.last) = (self.first.min(time_ms), self.last.max(time_ms));
    }
}

impl Causes {
    pub(super) fn take(&mut self, letters: &str, record: &Record, letter: &Letter, done: bool) {
        let cause = Cause {
            letters: letters.to_owned(),
            reason: Letter::cut(letter.reason()),
            code: Letter::cut(letter.code()),
            handler: Letter::cut(letter.handler()),
            topic: letter.origin.as_ref().map_or_else(String::new, |origin| Letter::cut(&origin.topic)),
        };
        let room = self.all.len() < MOST;
        let count = match self.all.get_mut(&cause) {
            Some(count) => count,
            None if room => self.all.entry(cause).or_default(),
            None => &mut self.others,
        };
        count.add(record.timestamp_ms, done);
    }

    /// The largest first.
    fn sorted(&self) -> Vec<(&Cause, &Count)> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(count.count));
        all
    }

    pub(super) fn count(&self) -> u64 {
        self.all.values().map(|count| count.count).sum::<u64>() + self.others.count
    }

    fn redriven(&self) -> u64 {
        self.all.values().map(|count| count.redriven).sum::<u64>() + self.others.redriven
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        let causes = self.sorted().into_iter().map(|(cause, count)| Row { cause, count }).collect();
        let page = Page { count: self.count(), redriven: self.redriven(), causes, others: self.others.count };
        Ok(serde_json::to_string(&page)? + "\n")
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            Column("reason", false),
            Column("code", false),
            Column("handler", false),
            Column("from", false),
            Column("letters", true),
            Column("redriven", true),
            Column("first", false),
            Column("last", false),
        ]);
        let plain = |text: String| (text, Tone::Plain);
        let known = |text: &str| plain(if text.is_empty() { "-".to_owned() } else { text.replace('\n', " ") });
        let number = |n: u64| plain(grouped(i64::try_from(n).unwrap_or(i64::MAX)));
        for (cause, count) in self.sorted() {
            table.row([
                known(&cause.reason),
                known(&cause.code),
                known(&short(&cause.handler)),
                known(if cause.topic.is_empty() { &cause.letters } else { &cause.topic }),
                number(count.count),
                number(count.redriven),
                plain(told_time(count.first)),
                plain(told_time(count.last)),
            ]);
        }
        table
    }

    pub(super) fn told(&self) -> String {
        let mut told = format!("{} of {}", counted(self.count(), "letter"), counted(self.all.len() as u64, "cause"));
        if self.redriven() > 0 {
            told += &format!(", {} of them sent back", grouped(i64::try_from(self.redriven()).unwrap_or(i64::MAX)));
        }
        if self.others.count > 0 {
            told += &format!("; {} of further causes, which are not told apart", counted(self.others.count, "letter"));
        }
        told
    }
}

/// A handler's version with its digest cut, whole characters only.
pub(super) fn short(handler: &str) -> String {
    match handler.rsplit_once('@') {
        Some((name, digest)) => format!("{name}@{}", digest.chars().take(DIGEST).collect::<String>()),
        None => handler.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail::record::{RecordBuilder, TopicPartition};

    fn take(causes: &mut Causes, code: &str, time_ms: i64, done: bool) {
        let mut builder = RecordBuilder::new(None, None);
        builder.header(b"keyrail-topic", Some(b"orders"));
        builder.header(b"keyrail-code", Some(code.as_bytes()));
        let record = builder.build(TopicPartition { topic: 0, partition: 0 }, 0, time_ms);
        causes.take("p.orders.dlq", &record, &Letter::of(&record), done);
    }

    #[test]
    fn the_largest_first_with_the_time_of_the_first_and_the_last() {
        let mut causes = Causes::default();
        take(&mut causes, "few", 3_000, false);
        take(&mut causes, "many", 9_000, true);
        take(&mut causes, "many", 5_000, false);
        let json = causes.json().unwrap_or_default();
        let row = r#"{"letters":"p.orders.dlq","reason":"","code":"many","handler":"","topic":"orders","count":2,"redriven":1,"first":5000,"last":9000}"#;
        assert!(json.starts_with(&format!("{{\"count\":3,\"redriven\":1,\"causes\":[{row},")), "{json}");
        assert!(causes.table().render(None, false).lines().nth(1).is_some_and(|line| line.contains("many")));
        assert_eq!(causes.told(), "3 letters of 2 causes, 1 of them sent back");
    }

    #[test]
    fn causes_without_bound_are_not_held_without_bound() {
        let mut causes = Causes::default();
        for n in 0..MOST + 7 {
            take(&mut causes, &format!("code {n}"), 1, false);
        }
        take(&mut causes, "code 0", 1, false);
        assert_eq!((causes.all.len(), causes.others.count, causes.count()), (MOST, 7, MOST as u64 + 8));
        assert!(causes.told().ends_with("7 letters of further causes, which are not told apart"));
    }

    #[test]
    fn a_digest_is_cut() {
        assert_eq!(short("pay@0123456789abcdef"), "pay@0123456789ab");
        assert_eq!((short("sink").as_str(), short("a@b@c").as_str()), ("sink", "a@b@c"));
    }
}
