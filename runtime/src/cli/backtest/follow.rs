//! What comes while somebody looks: both versions run it in the shadow of the pipeline, which knows nothing of that.

use super::feed::{LOOK, Span};
use super::show::{self, Example};
use super::{Came, MOST_BYTES, Run, told};
use crate::cli::broker::One;
use crate::cli::place;
use crate::cli::quiet::Quiet;
use crate::cli::terminal::{Progress, counted, grouped, say};
use anyhow::Context as _;
use keyrail::backtest::{Pair, Seen};
use keyrail::record::Record;
use keyrail_engine::message::Partition;
use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::time::Instant;

/// Both versions, by task.
type Pairs = BTreeMap<Partition, Pair>;

impl Run<'_> {
    /// From the spans' starts on, until it is told to stop, its time is over, or there were enough. Partitions that are added
    /// meanwhile are not looked at.
    pub(super) fn follow(&self, one: &mut One, spans: &[Span], came: &mut Came) -> anyhow::Result<()> {
        let topics = one.pipeline.input.clone();
        let starts: Vec<_> = spans.iter().map(|span| (span.at, span.from)).collect();
        let mut reader = one.client.read(&topics, &starts)?;
        let mut quiet = Quiet::new(true, one.comes_back());
        let end = self.args.lasts.and_then(|lasts| Instant::now().checked_add(lasts));
        let (mut pairs, mut records, mut progress) = (Pairs::new(), Vec::new(), Progress::new());
        let most = self.args.limit.unwrap_or(u64::MAX);
        say(&format!("keyrail: follows {}: Ctrl-C ends it and shows the report", topics.join(", ")));
        while !self.stop.requested() && end.is_none_or(|end| Instant::now() < end) && came.tally.messages.all < most {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            // An outage is no calm: there may be messages that nobody can read.
            let calm = read.is_ok() && records.is_empty();
            quiet.after(read, records.is_empty())?;
            for record in &records {
                if self.stop.requested() || came.tally.messages.all >= most {
                    break;
                }
                self.shadow(one, record, &mut pairs, came, &mut progress)?;
            }
            if calm {
                self.timers(&mut pairs, &topics, came, &mut progress)?;
            }
            progress.show(|| shown(came));
        }
        for (old, new) in pairs.values().map(Pair::took) {
            came.took.0.and(old);
            came.took.1.and(new);
        }
        Ok(())
    }

    /// One message.
    fn shadow(
        &self,
        one: &mut One,
        record: &Record,
        pairs: &mut Pairs,
        came: &mut Came,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        if self.args.key.as_ref().is_some_and(|key| record.key() != Some(key.as_bytes())) {
            return Ok(());
        }
        let topics = one.pipeline.input.clone();
        let order = &one.pipeline.policy.order;
        let task = order.task(Partition { topic: record.at.topic, number: record.at.partition });
        let pair = match pairs.entry(task) {
            Slot::Occupied(pair) => pair.into_mut(),
            Slot::Vacant(slot) => {
                // All of them together take no more than a back-test's one.
                let inputs = one.all.iter().filter(|topic| topics.contains(&topic.name));
                let tasks: u64 = inputs.map(|topic| u64::from(topic.partitions.unsigned_abs())).sum();
                let Some(pair) = self.pair_of(one, record, MOST_BYTES / tasks.max(1))? else { return Ok(()) };
                slot.insert(pair)
            }
        };
        came.note_time(record.timestamp_ms);
        let stop = || self.stop.requested();
        let mut each = |seen: &Seen<'_>| self.add(seen, &topics, came, progress);
        pair.is_now(place::now_ms());
        let ran = pair.run(record, &stop, &mut each);
        ran.map_err(|why| told(&why)).with_context(|| show::place(record, &topics))?;
        Ok(())
    }

    /// Those that are due by now.
    fn timers(
        &self,
        pairs: &mut Pairs,
        topics: &[String],
        came: &mut Came,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        for pair in pairs.values_mut() {
            let mut each = |seen: &Seen<'_>| self.add(seen, topics, came, progress);
            let ran = pair.idle_until(place::now_ms(), &|| self.stop.requested(), &mut each);
            ran.map_err(|why| told(&why)).context("timers")?;
        }
        Ok(())
    }

    /// The first of a key that differs is told at once.
    fn add(&self, seen: &Seen<'_>, topics: &[String], came: &mut Came, progress: &mut Progress) {
        came.tally.add(seen, || {
            let example = Example::of(seen, topics, self.args.json);
            progress.clear();
            say(&format!("keyrail: differs: {}", example.line(seen)));
            example
        });
        if came.tally.keys.len() == self.args.limit_keys && !std::mem::replace(&mut came.many, true) {
            progress.clear();
            say("keyrail: further keys that differ are counted: --limit-keys tells of more");
        }
    }
}

/// While it runs.
fn shown(came: &Came) -> String {
    let differing = grouped(i64::try_from(came.tally.differing()).unwrap_or(i64::MAX));
    format!("{}, {differing} differ", counted(came.tally.messages.all, "message"))
}
