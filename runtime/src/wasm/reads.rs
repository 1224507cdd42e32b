//! What the slots of a call read of state, where dead letters are to keep it.
//!
//! It is noted as what was there before the slot began, since what it staged itself follows from running it again.

use super::message::State;
use keyrail_engine::message::Partition;
use keyrail_engine::state::Owner;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many bytes of it are kept of a slot, at most. A topic of dead letters that Keyrail makes takes 64 KiB more than its input.
pub const MOST_READ_BYTES: usize = 48 << 10;
/// What a name counts beside its bytes and those of its value.
const NAME_BYTES: usize = 8;

/// A part of an owner's names of which all is known: those that begin so, after one of them, up to one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// What they begin with.
    pub prefix: String,
    /// They come behind this one; `None`: from the first on.
    pub after: Option<String>,
    /// Up to this one; `None`: to the last.
    pub until: Option<String>,
}

impl Span {
    fn size(&self) -> usize {
        let length = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        self.prefix.len() + length(&self.after) + length(&self.until) + NAME_BYTES
    }
}

/// What a slot read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads {
    /// By name, what was there; `None`: nothing.
    pub names: BTreeMap<String, Option<Arc<[u8]>>>,
    /// In these nothing else was there than what stands in `names`.
    pub spans: Vec<Span>,
    /// There was no room for all that it read.
    pub cut: bool,
    /// Of names and values.
    bytes: usize,
}

impl Reads {
    /// Names and what stood under them, as somebody else tells it.
    #[must_use]
    pub fn of(names: BTreeMap<String, Option<Arc<[u8]>>>, spans: Vec<Span>, cut: bool) -> Self {
        let bytes: usize = names.iter().map(|(name, value)| size(name, value.as_ref())).sum();
        let bytes = bytes + spans.iter().map(Span::size).sum::<usize>();
        Self { names, spans, cut, bytes }
    }

    /// No more than so many bytes of it. What is left is cut then, and of no part all is known.
    #[must_use]
    pub fn within(mut self, most: usize) -> Self {
        if self.bytes <= most {
            return self;
        }
        let mut room = most;
        self.names.retain(|name, value| match room.checked_sub(size(name, value.as_ref())) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        });
        Self::of(self.names, Vec::new(), true)
    }

    /// `found` was the answer to a question for a name.
    pub(super) fn note_get(
        &mut self,
        slot: u32,
        at: (Partition, &Owner),
        name: &str,
        found: Option<&Arc<[u8]>>,
        (now_ms, state): (i64, &State),
    ) {
        if self.names.contains_key(name) {
            return;
        }
        let before = match state.call.has_changed(slot, at, name) {
            false => Ok(found.cloned()),
            true => state.call.get_before(slot, at, name, now_ms, state.kept.as_ref()),
        };
        match before {
            Ok(before) => drop(self.add(name, before)),
            Err(_) => self.cut = true,
        }
    }

    /// A part of the names was asked for.
    pub(super) fn note_scan(
        &mut self,
        slot: u32,
        at: (Partition, &Owner),
        page: (&str, Option<&str>, u32),
        (now_ms, state): (i64, &State),
    ) {
        if self.cut {
            return;
        }
        let Ok((found, most)) = state.call.scan_before(slot, at, page, now_ms, state.kept.as_ref()) else {
            self.cut = true;
            return;
        };
        let until = found.last().filter(|_| found.len() >= most).map(|(name, _)| name.clone());
        let whole = found.len() < most;
        if found.into_iter().all(|(name, value)| self.add(&name, Some(value))) && (whole || until.is_some()) {
            let span = Span { prefix: page.0.to_owned(), after: page.1.map(str::to_owned), until };
            if self.spans.contains(&span) {
                return;
            }
            let bytes = span.size();
            self.cut |= self.bytes + bytes > MOST_READ_BYTES;
            if !self.cut {
                self.bytes += bytes;
                self.spans.push(span);
            }
        }
    }

    /// `false`: there is no room for it.
    fn add(&mut self, name: &str, value: Option<Arc<[u8]>>) -> bool {
        if self.names.contains_key(name) {
            return true;
        }
        let bytes = size(name, value.as_ref());
        if self.bytes + bytes > MOST_READ_BYTES {
            self.cut = true;
            return false;
        }
        self.bytes += bytes;
        self.names.insert(name.to_owned(), value);
        true
    }
}

fn size(name: &str, value: Option<&Arc<[u8]>>) -> usize {
    name.len() + value.map_or(0, |value| value.len()) + NAME_BYTES
}
