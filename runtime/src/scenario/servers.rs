//! What answers the requests of a scenario's handler: nobody, but for the answers that the scenario gives.

use super::Answered;
use crate::http::{Allowed, Error, Fetch, Fetched, Request, Scope};
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Checks requests as a client would, and answers them at once.
#[derive(Debug, Default)]
pub(super) struct Servers {
    allowed: Allowed,
    largest: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By method and URL, in their order; the last one stays.
    answers: BTreeMap<(String, String), VecDeque<Fetched>>,
    /// What the call under way has asked for, by slot.
    asked: BTreeMap<u32, Vec<Request>>,
    /// Nothing is answered, and why.
    refused: Option<&'static str>,
}

impl Servers {
    pub(super) fn new(allowed: Allowed, largest: usize) -> Self {
        Self { allowed, largest, known: Mutex::default() }
    }

    pub(super) fn answer(&self, answer: &Answered) {
        let place = (answer.method.clone(), answer.url.clone());
        self.with(|known| known.answers.entry(place).or_default().push_back(answer.fetched.clone()));
    }

    /// From now on nothing is answered.
    pub(super) fn refuse(&self, why: &'static str) {
        self.with(|known| known.refused = Some(why));
    }

    /// What was asked for since this was last called, by slot.
    pub(super) fn asked(&self) -> BTreeMap<u32, Vec<Request>> {
        self.with(|known| std::mem::take(&mut known.asked))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        // One thread plays.
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, request: &Request) -> Fetched {
        self.allowed.check(request)?;
        if let Some(why) = self.with(|known| known.refused) {
            return Err(Error::Denied(why.to_owned()));
        }
        let Request { method, url, .. } = request;
        let found = self.with(|known| {
            let all = known.answers.get_mut(&(method.clone(), url.clone()))?;
            if all.len() > 1 { all.pop_front() } else { all.front().cloned() }
        });
        match found {
            Some(Ok(response)) if response.body.len() > self.largest => Err(Error::TooLarge),
            Some(fetched) => fetched,
            None => {
                let why = format!("the scenario has no answer to {method} {url}: add a line before its message, as");
                Err(Error::Denied(format!("{why} {{\"answer\":\"{method} {url}\",\"status\":200,\"body\":\"\"}}")))
            }
        }
    }
}

impl Fetch for Servers {
    fn start(&self, number: u32, request: Request, _: &Arc<Scope>, done: &Sender<(u32, Fetched)>) {
        let fetched = self.of(&request);
        self.with(|known| {
            // Where all is refused a call has one message.
            if let Some(slot) = request.slot.or(known.refused.map(|_| 0)) {
                known.asked.entry(slot).or_default().push(request);
            }
        });
        // Who asks has room for it, and waits.
        drop(done.try_send((number, fetched)));
    }
}
