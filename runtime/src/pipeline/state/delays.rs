//! Delayed sends as the store holds them: entries of state that are found by when they are due.

use super::timers::Kind;
use super::{Failed, Held, failed};
use crate::pipeline::kept::Memory;
use crate::pipeline::link::{MESSAGE_BYTES, Payload, Postponed};
use crate::record::RecordBuilder;
use keyrail_engine::delays::{Delayed, Delays, Loaded};
use keyrail_engine::message::Partition;
use keyrail_engine::timers::{Due, number};
use keyrail_store::StateIndex;
use std::sync::Arc;

/// What is known of delayed sends, and the outputs that there are. What can't be looked up is told by [`Memory::broken`].
#[derive(Debug)]
pub(in crate::pipeline) struct Outgoing<'a> {
    pub(in crate::pipeline) memory: &'a Memory,
    /// Their names.
    pub(in crate::pipeline) outputs: &'a [String],
}

impl Held {
    fn load_delayed(&self, key: &[u8], outputs: &[String]) -> Result<Option<Loaded<Payload>>, Failed> {
        let Some(entry) = self.index()?.get(key).map_err(failed)? else { return Ok(None) };
        let value = &entry.value;
        // What is committed was read as one before it came here.
        let unreadable = |why| Failed::Again(format!("a delayed send can't be read any more: {why}"));
        let delayed = Delayed::decode(value).map_err(unreadable)?;
        let mut builder = RecordBuilder::new(delayed.key, delayed.value);
        delayed.headers.iter().for_each(|(name, value)| builder.header(name, *value));
        let record = builder.build(self.at, delayed.offset, delayed.timestamp_ms.unwrap_or(-1));
        let index = outputs.iter().position(|name| name == delayed.output);
        let refused = index.is_none().then(|| {
            format!(
                "it was to be sent to {:?} by now, and the manifest names no output like that any more",
                delayed.output
            )
        });
        let charge = self.place.timers.budget.lot().charge(record.size() + MESSAGE_BYTES);
        let delayed = Some(Arc::new(Postponed { output: delayed.output.to_owned(), index }));
        Ok(Some(Loaded {
            number: number(key, value),
            size: u32::try_from(record.size()).unwrap_or(u32::MAX),
            at_ms: Delayed::due_ms(value).unwrap_or(i64::MAX),
            message: Payload { record, timer: None, delayed, recording: None, _charge: charge },
            refused,
        }))
    }

    fn delayed(&self, after: Option<(i64, &[u8])>, until_ms: i64, most: usize) -> Vec<Due> {
        self.sound(self.due(Kind::Delayed, after, until_ms, most)).unwrap_or_default()
    }
}

impl Delays<Payload> for Outgoing<'_> {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let after = after.map(|(at_ms, key)| (*at_ms, &**key));
        self.memory.state(task).map(|held| held.delayed(after, until_ms, most)).unwrap_or_default()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        let after = (after_ms.saturating_add(1), &b""[..]);
        Some(self.memory.state(task)?.delayed(Some(after), i64::MAX, 1).first()?.0)
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<Payload>> {
        let held = self.memory.state(task)?;
        held.sound(held.load_delayed(key, self.outputs)).flatten()
    }
}
