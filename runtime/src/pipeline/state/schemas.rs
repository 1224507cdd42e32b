//! Whether the handler can read what is kept of a partition.

use super::Held;
use crate::pipeline::Trouble;
use keyrail_engine::message::Partition;
use keyrail_engine::state::schema::{Found, Schemas, Unread};
use keyrail_engine::state::{Entry, Kept};
use std::sync::Arc;

/// What is kept of one partition, whoever asks.
#[derive(Debug)]
struct Own<'a>(&'a Held);

impl Kept for Own<'_> {
    fn get(&self, _: Partition, key: &[u8]) -> Option<Entry> {
        self.0.get(key)
    }

    fn scan(&self, _: Partition, prefix: &[u8], after: &[u8], limit: usize, now_ms: i64) -> Vec<(Arc<[u8]>, Entry)> {
        self.0.scan(prefix, after, limit, now_ms)
    }
}

impl Held {
    /// Which schemas must be marked before its first change. All of its topic is read.
    ///
    /// # Errors
    /// The handler can't read what is there: a person must act. Or nobody can tell, for now.
    pub(in crate::pipeline) fn schemas(&self, task: Partition) -> Result<Vec<u16>, Trouble> {
        let found = Found::of(&Own(self), task);
        if let Some(why) = self.broken() {
            return Err(Trouble::Again(why.clone()));
        }
        self.place.found.add(&found.schemas);
        let Err(Unread(unread)) = self.place.schemas.check(&found.schemas) else {
            return Ok(self.place.schemas.to_mark(&found));
        };
        let (topic, partition) = (self.place.topic(self.at), self.at.partition);
        Err(Trouble::Operator(unreadable(&format!("{topic}/{partition} holds"), &unread, &self.place.schemas)))
    }
}

/// What is told of schemas that a version can't read; `who` says where they are.
pub(crate) fn unreadable(who: &str, unread: &[u16], schemas: &Schemas) -> String {
    let numbers = |all: &mut dyn Iterator<Item = u16>| all.map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let (all, own) = (numbers(&mut unread.iter().copied()), schemas.own());
    let accepted = numbers(&mut schemas.accepts());
    let also = if accepted.is_empty() { String::new() } else { format!(" and accepts {accepted}") };
    format!(
        "{who} state of schema {all}, and the manifest's is {own}{also}: if the handler reads {all}, add it to [state] accepts; else \
         put the version back that does, or `keyrail rewind` with --state forget"
    )
}
