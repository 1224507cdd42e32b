//! What an instance's handles of `wasi:http` stand for.
//!
//! Numbers are never given twice, so what is gone is never taken for something else.

use super::exchange::Exchange;
use super::fields::Fields;
use super::request::{Body, Options, Outgoing};
use super::response::{Answer, Contents, IncomingBody, Trailers};
use super::wire::ErrorCode;
use crate::http::Pending;
use crate::wasm::wasi::streams::STDERR;
use std::collections::BTreeMap;
use wasmtime::Result;

/// Something that holds bytes of a guest.
pub(super) trait Held {
    /// So many, and what it costs to keep them.
    fn bytes(&self) -> usize;
}

/// All things of one kind, by their numbers.
#[derive(Debug)]
pub(super) struct Things<T> {
    all: BTreeMap<u32, T>,
    /// What was given last. Streams have the numbers of bodies, and the first ones are taken.
    last: u32,
    bytes: usize,
}

impl<T> Default for Things<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), last: STDERR, bytes: 0 }
    }
}

impl<T: Held> Things<T> {
    pub(super) fn insert(&mut self, thing: T) -> Result<u32> {
        let number =
            self.last.checked_add(1).ok_or_else(|| wasmtime::format_err!("the numbers of handles are used up"))?;
        self.last = number;
        self.bytes += thing.bytes();
        self.all.insert(number, thing);
        Ok(number)
    }

    pub(super) fn find(&self, number: u32) -> Option<&T> {
        self.all.get(&number)
    }

    /// As [`Things::find`], for a guest that must have it.
    pub(super) fn get(&self, number: u32) -> Result<&T> {
        self.find(number).ok_or_else(gone)
    }

    /// Changes it. `None`: it is gone.
    pub(super) fn change<R>(&mut self, number: u32, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let thing = self.all.get_mut(&number)?;
        self.bytes -= thing.bytes();
        let result = change(thing);
        self.bytes += thing.bytes();
        Some(result)
    }

    /// As [`Things::change`], for a guest that must have it.
    pub(super) fn edit<R>(&mut self, number: u32, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.change(number, change).ok_or_else(gone)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.all.remove(&number)?;
        self.bytes -= thing.bytes();
        Some(thing)
    }

    /// As [`Things::remove`], for a guest that must have it.
    pub(super) fn take(&mut self, number: u32) -> Result<T> {
        self.remove(number).ok_or_else(gone)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.all.values()
    }

    fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }
}

fn gone() -> wasmtime::Error {
    wasmtime::format_err!(
        "a handle of wasi:http is used after its end: what belongs to a request ends with the call that made it"
    )
}

/// Why a stream's operation failed.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Failed {
    pub(super) code: ErrorCode,
    pub(in crate::wasm::wasi) words: String,
}

impl Held for Failed {
    fn bytes(&self) -> usize {
        self.words.len()
    }
}

/// Everything that the handles stand for.
#[derive(Debug, Default)]
pub(in crate::wasm::wasi) struct Table {
    pub(super) fields: Things<Fields>,
    pub(super) options: Things<Options>,
    pub(super) requests: Things<Outgoing>,
    /// Also by the numbers of the streams into them.
    pub(super) bodies: Things<Body>,
    pub(super) exchanges: Things<Exchange>,
    pub(super) answers: Things<Answer>,
    pub(super) incoming: Things<IncomingBody>,
    pub(super) contents: Things<Contents>,
    pub(super) trailers: Things<Trailers>,
    pub(super) failed: Things<Failed>,
}

impl Table {
    /// A call is over, and with it all that belongs to its requests. Fields and options belong to the guest.
    pub(in crate::wasm::wasi) fn end(&mut self) {
        self.requests.clear();
        self.bodies.clear();
        self.exchanges.clear();
        self.answers.clear();
        self.incoming.clear();
        self.contents.clear();
        self.trailers.clear();
        self.failed.clear();
    }

    /// Nothing more can come of that request, or it is gone.
    pub(in crate::wasm::wasi) fn is_over(&mut self, request: u32) -> bool {
        self.exchanges.change(request, Exchange::is_over).unwrap_or(true)
    }

    /// What can be waited for of it.
    pub(in crate::wasm::wasi) fn pending(&self, request: u32) -> Option<&Pending> {
        self.exchanges.find(request).and_then(Exchange::pending)
    }

    /// Ends a request that has nothing more to wait for.
    pub(in crate::wasm::wasi) fn give_up(&mut self, request: u32) {
        let _was_there = self.exchanges.change(request, Exchange::give_up);
    }

    /// What the host keeps of bytes that the guest made.
    pub(super) fn held_bytes(&self) -> usize {
        self.fields.bytes + self.options.bytes + self.requests.bytes + self.bodies.bytes + self.exchanges.bytes
    }

    /// Requests that are under way, and answers that may still be read.
    pub(super) fn open_requests(&self) -> usize {
        self.exchanges.values().filter(|one| !one.is_taken()).count()
            + self.answers.values().filter(|one| one.has_body()).count()
            + self.incoming.values().filter(|one| one.has_contents()).count()
            + self.contents.all.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    impl Held for Vec<u8> {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn numbers_are_given_once_and_bytes_are_counted_while_they_are_held() {
        let mut things = Things::<Vec<u8>>::default();
        let first = things.insert(vec![0; 5]).unwrap();
        assert_eq!((first, things.bytes), (STDERR + 1, 5));
        things.edit(first, |one| one.truncate(2)).unwrap();
        assert_eq!((things.get(first).unwrap().len(), things.bytes), (2, 2));
        assert_eq!(things.remove(first), Some(vec![0; 2]));
        assert_eq!((things.remove(first), things.bytes), (None, 0));
        let gone = things.take(first).unwrap_err().to_string();
        assert!(gone.starts_with("a handle of wasi:http is used after its end"), "{gone}");
        assert_eq!(things.change(first, |_| ()), None);
        assert_eq!(things.insert(vec![0; 9]).unwrap(), first + 1);
        things.clear();
        assert_eq!((things.bytes, things.insert(Vec::new()).unwrap()), (0, first + 2));
        things.last = u32::MAX;
        assert!(things.insert(Vec::new()).unwrap_err().to_string().contains("used up"));
    }
}
