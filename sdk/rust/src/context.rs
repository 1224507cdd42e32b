//! What a handler can ask and do for one message.

use std::time::Duration;

use crate::error::Error;
use crate::host::{Entries, Host, Output};
use crate::http::{Answer, Request, fetch_all};
use crate::message::{Header, Message, Source};
use crate::metric::Metric;
use crate::millis;
use crate::send::{Outgoing, Payload};
use crate::setup::Setup;

/// One message's side of the host: what else is known of it, and what its handler does.
///
/// What is staged here (sends, state, timers) takes effect only if the message is settled with `Ok`, together with the
/// commit of its offset. The handler's own memory is not undone: keep in it only what may be lost.
pub struct Context<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) message: &'a Message,
    pub(crate) slot: u32,
}

impl Context<'_> {
    /// Starts a record to one of the manifest's `[output]` names. It carries the message's own key, so that the
    /// message's order holds downstream too; [`Outgoing`] says how to change that.
    ///
    /// ```
    /// # use keyrail_sdk::prelude::*;
    /// fn handle(message: &Message, ctx: &Context) -> Outcome {
    ///     ctx.send("audit", message.value()).header("seen-by", "example").dispatch()?;
    ///     ctx.send("latest", Null).key("order-7").dispatch()?; // a tombstone
    ///     Ok(Done)
    /// }
    /// ```
    pub fn send<'a>(&'a self, to: &'a str, value: impl Payload<'a>) -> Outgoing<'a> {
        let output = Output {
            to,
            key: self.message.key().into_payload(),
            value: value.into_payload(),
            headers: Vec::new(),
            forward_headers: false,
            timestamp_ms: None,
            delay_ms: None,
        };
        Outgoing { host: &self.setup.host, slot: self.slot, output }
    }

    /// The message's identity, the same over retries, parking, redrive and replay: the idempotency key for effects
    /// outside Keyrail.
    pub fn id(&self) -> String {
        self.setup.host.id(self.slot)
    }

    /// The message's topic; `None` for a timer.
    pub fn topic(&self) -> Option<&str> {
        match self.message.source {
            Source::Topic(index) => self.setup.topics().get(usize::try_from(index).ok()?).map(String::as_str),
            Source::Timer(_) => None,
        }
    }

    /// All headers in order.
    pub fn headers(&self) -> Vec<Header> {
        self.setup.host.headers(self.slot)
    }

    /// The value of the last header of this name; `None` if there is none or it is Kafka's null.
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.setup.host.header_value(self.slot, name)
    }

    /// Whether an earlier message of this key was dead-lettered or discarded.
    pub fn follows_dead_letter(&self) -> bool {
        self.setup.host.follows_dead_letter(self.slot)
    }

    /// Milliseconds since the Unix epoch, fixed within a call. The standard library's clock doesn't work here.
    pub fn now_ms(&self) -> i64 {
        self.setup.host.now_ms()
    }

    /// The next number of a sequence seeded by the message's id and attempt, so that a run can be repeated.
    pub fn random(&self) -> u64 {
        self.setup.host.random(self.slot)
    }

    /// When the host will stop this call, in milliseconds since the Unix epoch.
    pub fn deadline_ms(&self) -> i64 {
        self.setup.host.deadline_ms()
    }

    /// The pipeline as its manifest describes it, with its `[config]`.
    pub fn setup(&self) -> &Setup {
        self.setup
    }

    /// The state of the message's key.
    pub fn state(&self) -> State<'_> {
        State { setup: self.setup, slot: self.slot }
    }

    /// The timers of the message's key.
    pub fn timers(&self) -> Timers<'_> {
        Timers { setup: self.setup, slot: self.slot }
    }

    /// Makes an HTTP request to a host that the manifest grants under `capabilities.http`, and waits for its answer. It is made
    /// now, whatever becomes of the message, and again if the message runs again, with the same `idempotency-key`.
    ///
    /// ```
    /// # use keyrail_sdk::http::Request;
    /// # use keyrail_sdk::prelude::*;
    /// fn handle(message: &Message, ctx: &Context) -> Outcome {
    ///     let score = ctx.fetch(Request::get("https://api.example.com/score"))?.ok_or_retry()?;
    ///     ctx.send("scores", score.body()).dispatch()?;
    ///     Ok(Done)
    /// }
    /// ```
    ///
    /// # Errors
    /// See [`http::Reason`](crate::http::Reason). Any status is an answer.
    pub fn fetch(&self, request: Request) -> Answer {
        self.fetch_all([request]).swap_remove(0)
    }

    /// Makes HTTP requests at the same time, and waits for the last answer: one for each, in their order.
    pub fn fetch_all(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
        fetch_all(&self.setup.host, requests.into_iter().map(|request| (self.slot, request)).collect())
    }

    /// Observes a value of a metric: see [`Setup::counter`], [`Setup::gauge`] and [`Setup::histogram`]. Not undone if
    /// the message fails.
    pub fn observe(&self, metric: Metric, value: f64) {
        self.setup.host.metric_observe(metric.0, value);
    }
}

/// State of the message's order key, or of the whole partition with `order.by = "partition"`. One key's messages run one
/// at a time, in order, so a plain read, change and write is safe.
///
/// A message sees what it wrote, and what earlier ones of its key wrote, in the same batch too. What it wrote counts only if it
/// is settled with `Ok`, and is committed with its offset; otherwise it is undone.
///
/// # Errors
/// Each call gives [`Error::NoKey`] for a message without an order key, [`Error::TooLarge`] for a name of more than 1 KiB or an
/// order key of more than 32 KiB, and [`Error::Other`] where the manifest does not say `guarantee = "exactly-once"`.
pub struct State<'a> {
    setup: &'a Setup,
    slot: u32,
}

impl State<'_> {
    /// The value under this name.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.setup.host.state_get(self.slot, name)
    }

    /// Writes a value, of at most 512 KiB, else `Error::TooLarge`. It counts against the manifest's `limits.output-bytes`
    /// together with what the message sends, else `Error::OverQuota`.
    pub fn put(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.setup.host.state_put(self.slot, name, value.as_ref(), None)
    }

    /// Writes a value that goes away after this long, by the clock of the machine that the handler runs on.
    pub fn put_for(&self, name: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
        self.setup.host.state_put(self.slot, name, value.as_ref(), Some(millis(ttl)))
    }

    /// Removes a name; no error if it isn't there. It counts like a value that is empty.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        self.setup.host.state_delete(self.slot, name)
    }

    /// At most `limit` names that start with `prefix`, with their values, in byte order, those after `after`. A page has at most
    /// 1,000 names and 4 MiB of names and values, else `Error::TooLarge`.
    pub fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Entries, Error> {
        self.setup.host.state_scan(self.slot, prefix, after, limit)
    }
}

/// Timers of the message's order key. A timer is a message to the same key, later, in that key's order.
///
/// # Errors
/// Each call gives [`Error::NoKey`] for a message without an order key, and [`Error::Other`] where the host keeps no
/// timers: they need `guarantee = "exactly-once"` and `order.scope = "topic"`.
pub struct Timers<'a> {
    setup: &'a Setup,
    slot: u32,
}

impl Timers<'_> {
    /// Sets a timer for a time in milliseconds since the Unix epoch; it replaces one of the same key and name. Its
    /// payload arrives as the message's value.
    pub fn set(&self, name: &str, at_ms: i64, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.setup.host.timer_set(self.slot, name, at_ms, payload.as_ref())
    }

    /// Sets a timer for this long from now.
    pub fn set_after(&self, name: &str, wait: Duration, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let at_ms = self.setup.host.now_ms().saturating_add_unsigned(millis(wait));
        self.set(name, at_ms, payload)
    }

    /// Cancels a timer; no error if there is none.
    pub fn cancel(&self, name: &str) -> Result<(), Error> {
        self.setup.host.timer_cancel(self.slot, name)
    }
}
