//! Requests that are begun first and waited for later.

use super::{Error, Fetch, Fetched, Request, Scope};
use crossbeam_channel::{Receiver, Select, TryRecvError, bounded};
use std::sync::Arc;
use std::time::Instant;

/// A request under way. Dropped, its answer goes nowhere.
#[derive(Debug)]
pub struct Pending(Receiver<(u32, Fetched)>);

impl Pending {
    /// Begins a request. Returns at once.
    pub fn begin(fetch: &dyn Fetch, request: Request, scope: &Arc<Scope>) -> Self {
        let (done, answer) = bounded(1);
        fetch.start(0, request, scope, &done);
        Self(answer)
    }

    /// What came of it, once; `None`: nothing yet. One that nobody answers any more has not come in time.
    #[must_use]
    pub fn poll(&self) -> Option<Fetched> {
        match self.0.try_recv() {
            Ok((_, fetched)) => Some(fetched),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Timeout)),
        }
    }
}

/// Waits until something has come of one of them, at the latest until then. `false`: nothing has.
#[must_use]
pub fn wait_for_any<'a>(all: impl IntoIterator<Item = &'a Pending>, until: Instant) -> bool {
    let mut select = Select::new();
    for one in all {
        select.recv(&one.0);
    }
    select.ready_deadline(until).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;
    use crate::http::Response;
    use crossbeam_channel::Sender;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Keeps whom it is to answer.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Sender<(u32, Fetched)>>>);

    impl Fetch for Kept {
        fn start(&self, _: u32, _: Request, _: &Arc<Scope>, done: &Sender<(u32, Fetched)>) {
            self.0.lock().unwrap().push(done.clone());
        }
    }

    #[test]
    fn the_first_that_is_answered_ends_the_wait() {
        let kept = Kept::default();
        let over = Instant::now() + Duration::from_secs(60);
        let scope = Arc::new(Scope::new(over, 0));
        let all = [1, 2].map(|_| Pending::begin(&kept, Request::default(), &scope));
        assert!(!wait_for_any(&all, Instant::now() + Duration::from_millis(10)));
        assert_eq!(all[1].poll(), None);
        let mut kept = kept.0.into_inner().unwrap();
        let second = kept.pop().unwrap();
        std::thread::spawn(move || second.send((0, Ok(Response::default()))));
        assert!(wait_for_any(&all, over));
        assert_eq!((all[0].poll(), all[1].poll()), (None, Some(Ok(Response::default()))));
        drop(kept);
        assert!(wait_for_any(&all[..1], over));
        assert_eq!(all[0].poll(), Some(Err(Error::Timeout)), "nobody is left to answer it");
    }
}
