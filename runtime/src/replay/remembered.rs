//! The state of a run that is over, as far as it was read.

use crate::wasm::{Reads, Span};
use keyrail_engine::message::Partition;
use keyrail_engine::state::{Entry, Kept, Key};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers as state did, where the record tells. Elsewhere nothing is there, and it is noted that this was asked for.
#[derive(Debug)]
pub struct Remembered {
    reads: Reads,
    missing: Mutex<BTreeSet<String>>,
}

impl Remembered {
    /// State of which this was read.
    #[must_use]
    pub fn new(reads: Reads) -> Self {
        Self { reads, missing: Mutex::default() }
    }

    /// What was asked for and is not told, in words.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn miss(&self, what: String) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// Whether nothing else is there of these names than what is told: up to the `most`-th behind `after`.
    fn is_known(&self, prefix: &str, after: Option<&str>, most: usize) -> bool {
        let mut at = after;
        loop {
            let goes_on = |span: &&Span| {
                let starts = span.after.as_deref().is_none_or(|start| at.is_some_and(|at| start <= at));
                let ends = span.until.as_deref().is_none_or(|end| at.is_none_or(|at| at < end));
                prefix.starts_with(&span.prefix) && starts && ends
            };
            match self.reads.spans.iter().find(goes_on).map(|span| span.until.as_deref()) {
                None => return false,
                Some(None) => return true,
                Some(end) => at = end,
            }
            if self.of(prefix, after, at).take(most).count() >= most {
                return true;
            }
        }
    }

    /// Names and values behind `after` and up to `until`.
    fn of<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        until: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<[u8]>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(prefix.to_owned()),
        };
        let names = self.reads.names.range((from, Bound::Unbounded));
        let asked = names
            .take_while(move |(name, _)| name.starts_with(prefix) && until.is_none_or(|until| name.as_str() <= until));
        asked.filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

fn entry(value: &Arc<[u8]>) -> Entry {
    Entry { value: value.clone(), expires_ms: None }
}

impl Kept for Remembered {
    fn get(&self, _: Partition, key: &[u8]) -> Option<Entry> {
        let name = Key::decode(key).ok()?.name;
        if let Some(known) = self.reads.names.get(name) {
            return known.as_ref().map(entry);
        }
        let covers = |span: &Span| {
            name.starts_with(&span.prefix)
                && span.after.as_deref().is_none_or(|after| name > after)
                && span.until.as_deref().is_none_or(|until| name <= until)
        };
        if !self.reads.spans.iter().any(covers) {
            self.miss(format!("the value of {name:?}"));
        }
        None
    }

    fn scan(&self, _: Partition, from: &[u8], above: &[u8], limit: usize, _: i64) -> Vec<(Arc<[u8]>, Entry)> {
        let Ok(Key { name: prefix, .. }) = Key::decode(from) else { return Vec::new() };
        let after = Key::decode(above).ok().map(|key| key.name);
        if limit > 0 && !self.is_known(prefix, after, limit) {
            let behind = after.map_or_else(String::new, |after| format!(" behind {after:?}"));
            self.miss(format!("names that begin with {prefix:?}{behind}"));
        }
        // Whose they are stands before the name.
        let owner = &from[..from.len() - prefix.len()];
        let found = self.of(prefix, after, None).take(limit);
        found.map(|(name, value)| (Arc::from([owner, name.as_bytes()].concat()), entry(value))).collect()
    }
}
