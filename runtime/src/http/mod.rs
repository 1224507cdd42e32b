//! HTTP for handlers: what a request is, which are allowed, and who answers them.
//!
//! A handler's thread blocks until its requests are answered, and the requests of all threads are under way together in one
//! [`Client`]. What stands for a server is behind [`Fetch`], so that runs can be repeated without one.

mod allow;
mod client;
mod pending;
mod scope;

#[cfg(test)]
mod tests;

pub(crate) use allow::shown;
pub use allow::{Allowed, HeaderFault, Host, HostFault, check_header};
pub use client::{Client, Clients, Options, Outside};
pub use pending::{Pending, wait_for_any};
pub use scope::Scope;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An answer that the client did not give when it was due is not waited for much longer.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// What a handler asks for. Nothing in it has been looked at yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// As it is sent: `GET`.
    pub method: String,
    /// The whole of it: `https://HOST/PATH`.
    pub url: String,
    /// Names in any case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `None`: it has none.
    pub body: Option<Vec<u8>>,
    /// The message of the call that it is made for, if that is told.
    pub slot: Option<u32>,
    /// How long it may take until the answer's last byte; `None`, and at most: what the pipeline allows.
    pub timeout: Option<Duration>,
}

/// What came back, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// As in HTTP: 200.
    pub status: u16,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it, as it came over the wire.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The manifest does not grant it; nothing was sent.
    Denied(String),
    /// No such request can be sent; nothing was.
    Invalid(String),
    /// It took too long, and may have been done all the same.
    Timeout,
    /// No connection, or one that broke: it may have been done all the same.
    Unreachable(String),
    /// The answer's body is larger than is allowed.
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) | Self::Invalid(why) | Self::Unreachable(why) => f.write_str(why),
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLarge => f.write_str("the answer is larger than limits.response-bytes allows"),
        }
    }
}

impl std::error::Error for Error {}

/// What came of one request.
pub type Fetched = Result<Response, Error>;

/// Answers requests.
pub trait Fetch: Send + Sync {
    /// Begins a request, and sends what comes of it to `done` with its `number`, at the latest soon after the scope's end. Returns
    /// at once. `done` has room for it.
    fn start(&self, number: u32, request: Request, scope: &Arc<Scope>, done: &Sender<(u32, Fetched)>);
}

/// Makes all requests at the same time, and waits for the last answer, which comes at the latest soon after the scope's end: one for
/// each, in their order.
pub fn fetch_all(fetch: &dyn Fetch, requests: Vec<Request>, scope: &Arc<Scope>) -> Vec<Fetched> {
    let (done, answers) = bounded(requests.len());
    // What is not told of by then has not come in time.
    let mut all: Vec<Fetched> = vec![Err(Error::Timeout); requests.len()];
    let mut missing = all.len();
    for (number, request) in (0..).zip(requests) {
        fetch.start(number, request, scope, &done);
    }
    drop(done);
    while missing > 0 {
        match answers.recv_deadline(scope.until() + GRACE) {
            Ok((number, fetched)) => {
                if let Some(place) = all.get_mut(number as usize) {
                    *place = fetched;
                }
                missing -= 1;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    all
}
