//! What the contract imports, as one trait with two implementations: the real host's functions in Wasm, and
//! [`testing::Host`](crate::testing::Host) natively.

use std::borrow::Cow;

use crate::error::Error;
use crate::http::{Reason, Request, Response};
use crate::message::{Header, Message};
use crate::metric::Kind;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::World as Active;
#[cfg(target_arch = "wasm32")]
pub(crate) use crate::wasm::Imports as Active;

/// The contract's `emit.output`, borrowed where it can be.
pub(crate) struct Output<'a> {
    pub(crate) to: &'a str,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Vec<(&'a str, Option<Cow<'a, [u8]>>)>,
    pub(crate) forward_headers: bool,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) delay_ms: Option<u64>,
}

/// Names of a prefix with their values.
pub(crate) type Entries = Vec<(String, Vec<u8>)>;

/// The functions of the contract's imports, by slot.
pub(crate) trait Host {
    /// Which message log lines and panics are about from now on.
    fn running(&self, message: Option<&Message>);
    fn id(&self, slot: u32) -> String;
    fn headers(&self, slot: u32) -> Vec<Header>;
    fn header_value(&self, slot: u32, name: &str) -> Option<Vec<u8>>;
    fn follows_dead_letter(&self, slot: u32) -> bool;
    fn now_ms(&self) -> i64;
    fn random(&self, slot: u32) -> u64;
    fn deadline_ms(&self) -> i64;
    fn send(&self, slot: u32, output: &Output<'_>) -> Result<(), Error>;
    fn state_get(&self, slot: u32, name: &str) -> Result<Option<Vec<u8>>, Error>;
    fn state_put(&self, slot: u32, name: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error>;
    fn state_delete(&self, slot: u32, name: &str) -> Result<(), Error>;
    fn state_scan(&self, slot: u32, prefix: &str, after: Option<&str>, limit: u32) -> Result<Entries, Error>;
    fn timer_set(&self, slot: u32, name: &str, at_ms: i64, payload: &[u8]) -> Result<(), Error>;
    fn timer_cancel(&self, slot: u32, name: &str) -> Result<(), Error>;
    /// One answer for each request, in their order.
    fn fetch_all(&self, requests: Vec<(u32, Request)>) -> Vec<Result<Response, Reason>>;
    fn metric_register(&self, name: &str, kind: Kind, labels: &[(&str, &str)]) -> u32;
    fn metric_observe(&self, metric: u32, value: f64);
}
