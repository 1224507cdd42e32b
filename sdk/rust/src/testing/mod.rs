//! A host in memory, to run handlers in ordinary tests.
//!
//! ```
//! use keyrail_sdk::prelude::*;
//! use keyrail_sdk::testing::{Host, Input};
//!
//! fn handle(message: &Message, ctx: &Context) -> Outcome {
//!     let text = std::str::from_utf8(message.value().unwrap_or_default()).or_dead_letter("not-utf-8")?;
//!     ctx.send("loud", text.to_uppercase()).dispatch()?;
//!     Ok(Done)
//! }
//!
//! let mut host = Host::new().output("loud");
//! let run = host.run(handle, Input::new("hello").key("k1"));
//! assert_eq!(run.outcome, Ok(Done));
//! assert_eq!(run.sent[0].value(), b"HELLO");
//! assert_eq!(run.sent[0].key.as_deref(), Some(&b"k1"[..]));
//! ```
//!
//! What a message staged is applied or undone as the real host does it, and the manifest's default limits and those of
//! state hold. Broker,
//! retry policy and order between messages are not here: each call runs what it is given, once.

mod capture;
mod input;
mod outside;
mod world;

use std::time::Duration;

use crate::context::Context;
use crate::contract;
use crate::handler::{Delivery, deliveries};
use crate::http::{Reason, Request, Response};
use crate::message::{Header, Message};
use crate::millis;
use crate::outcome::Outcome;
use crate::setup::Setup;
use crate::steps::{self, TwoSteps};

pub use capture::LogLine;
pub use input::Input;
pub use outside::Requested;
pub(crate) use world::World;

/// A host in memory: outputs, state, timers, metrics and a clock that stands until it is moved.
pub struct Host {
    world: World,
    setup: contract::Setup,
    next_offset: u64,
}

/// What became of one message.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the handler returned.
    pub outcome: Outcome,
    /// The message's effects were thrown away: it failed, or an earlier message of its key failed in the same batch, in
    /// which case the real host brings it again whatever its outcome was.
    pub undone: bool,
    /// What it sent, in order; empty if it was undone.
    pub sent: Vec<Sent>,
}

/// A record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The output's name.
    pub to: String,
    /// Its key; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// All its headers, the message's own too where they go along.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// How long after settling it is delivered at the earliest.
    pub delay: Option<Duration>,
}

impl Sent {
    /// The value's bytes; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rfind(|header| header.name == name)?.value.as_deref()
    }
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its key.
    pub key: Vec<u8>,
    /// Its name; the key's only one of that name.
    pub name: String,
    /// When it is due, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What it carries.
    pub payload: Vec<u8>,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

impl Host {
    /// A host whose handler `test` reads the one topic `input`, at 2023-11-14 22:13:20 UTC, with no outputs and no
    /// configuration.
    pub fn new() -> Self {
        let setup = contract::Setup {
            handler: "test".to_owned(),
            topics: vec!["input".to_owned()],
            max_batch: 256,
            ..contract::Setup::default()
        };
        Host { world: World::new(1_700_000_000_000), setup, next_offset: 0 }
    }

    /// Names an output, as `[output]` does.
    #[must_use]
    pub fn output(mut self, name: &str) -> Self {
        self.setup.outputs.push(name.to_owned());
        self.world.edit(|inner| inner.outputs.push(name.to_owned()));
        self
    }

    /// Sets a value of `[config]`.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.setup.config.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the input topics; [`Input::topic`] chooses among them.
    #[must_use]
    pub fn topics(mut self, names: &[&str]) -> Self {
        self.setup.topics = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Sets `limits.outputs` and `limits.output-bytes`: 1000 and 4 MiB unless set.
    #[must_use]
    pub fn limits(self, outputs: usize, output_bytes: usize) -> Self {
        self.world.edit(|inner| (inner.max_outputs, inner.max_output_bytes) = (outputs, output_bytes));
        self
    }

    /// Answers HTTP requests of this method to this URL, which are written as the handler sends them.
    #[must_use]
    pub fn answer(self, method: &str, url: &str, answer: impl Into<Result<Response, Reason>>) -> Self {
        self.world.edit(|inner| inner.outside.answer(method, url, answer.into()));
        self
    }

    /// Answers all HTTP requests that [`answer`](Host::answer) names no answer for.
    #[must_use]
    pub fn answer_with<A: Into<Result<Response, Reason>>>(
        self,
        mut server: impl FnMut(&Request) -> A + 'static,
    ) -> Self {
        self.world.edit(|inner| inner.outside.serve(Box::new(move |request| server(request).into())));
        self
    }

    /// What `open` gets: `Payments::open(&host.setup())`.
    pub fn setup(&self) -> Setup {
        Setup { host: self.world.clone(), data: self.setup.clone() }
    }

    /// Runs one message. For a [`Handler`](crate::Handler): `host.run(|m, ctx| payments.handle(m, ctx), input)`.
    ///
    /// # Panics
    /// If the handler does.
    pub fn run(&mut self, mut handle: impl FnMut(&Message, &Context<'_>) -> Outcome, input: impl Into<Input>) -> Run {
        let mut runs = self.run_batch(
            |batch| batch.iter().map(|delivery| handle(delivery.message, &delivery.ctx)).collect(),
            [input.into()],
        );
        runs.remove(0)
    }

    /// Runs one message in two steps: `host.run_http((prepare, handle), input)`, or `host.run_http(&mut scores, input)` for an
    /// [`HttpHandler`](crate::HttpHandler).
    ///
    /// # Panics
    /// If the handler does.
    pub fn run_http(&mut self, steps: impl TwoSteps, input: impl Into<Input>) -> Run {
        self.run_http_batch(steps, [input.into()]).remove(0)
    }

    /// Runs messages in one batch, in two steps, as [`run_http`](Host::run_http) runs one.
    ///
    /// # Panics
    /// If the handler does.
    pub fn run_http_batch<I: Into<Input>>(
        &mut self,
        steps: impl TwoSteps,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Run> {
        let process = |setup: &Setup, batch: &[Message]| steps::run(steps, setup, batch);
        self.run_messages(process, inputs.into_iter().map(Into::into).collect())
    }

    /// Runs messages in one batch. For a [`BatchHandler`](crate::BatchHandler):
    /// `host.run_batch(|batch| payments.process(batch), inputs)`.
    ///
    /// # Panics
    /// If the handler does, or if it returns another number of outcomes than it got messages.
    pub fn run_batch<I: Into<Input>>(
        &mut self,
        process: impl FnOnce(&[Delivery<'_>]) -> Vec<Outcome>,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Run> {
        let process = |setup: &Setup, batch: &[Message]| process(&deliveries(setup, batch));
        self.run_messages(process, inputs.into_iter().map(Into::into).collect())
    }

    fn run_messages(
        &mut self,
        process: impl FnOnce(&Setup, &[Message]) -> Vec<Outcome>,
        inputs: Vec<Input>,
    ) -> Vec<Run> {
        let setup = self.setup();
        let batch: Vec<Message> = inputs.iter().map(|input| self.admit(input)).collect();
        self.world.begin(&setup, &inputs, &batch);
        let outcomes = capture::scope(&self.world, || process(&setup, &batch));
        assert_eq!(outcomes.len(), batch.len(), "a batch handler returns one outcome for each message");
        self.world.settle(outcomes)
    }

    fn admit(&mut self, input: &Input) -> Message {
        let offset = input.offset.unwrap_or(self.next_offset);
        self.next_offset = self.next_offset.max(offset + 1);
        input.message(offset, self.world.edit(|inner| inner.now_ms))
    }

    /// Moves the clock on.
    pub fn advance(&mut self, by: Duration) {
        self.world.edit(|inner| inner.now_ms = inner.now_ms.saturating_add_unsigned(millis(by)));
    }

    /// Takes the timers that are due, earliest first, as messages to run.
    pub fn due_timers(&mut self) -> Vec<Input> {
        self.world.due_timers().iter().map(Input::from).collect()
    }

    /// The timers that are set, by key and name.
    pub fn timers(&self) -> Vec<Timer> {
        self.world.edit(|inner| inner.timers.values().cloned().collect())
    }

    /// A key's state under a name.
    pub fn state(&self, key: impl AsRef<[u8]>, name: &str) -> Option<Vec<u8>> {
        self.world.stored(key.as_ref(), name)
    }

    /// Sets a key's state under a name, as if an earlier message had.
    pub fn set_state(&mut self, key: impl AsRef<[u8]>, name: &str, value: impl Into<Vec<u8>>) {
        self.world.store(key.as_ref(), name, value.into());
    }

    /// The HTTP requests that were made, in order, of failed messages too.
    pub fn requests(&self) -> Vec<Requested> {
        self.world.edit(|inner| inner.outside.made.clone())
    }

    /// What was logged while messages ran, failed ones too.
    pub fn logs(&self) -> Vec<LogLine> {
        self.world.edit(|inner| inner.logs.clone())
    }

    /// The values that a metric observed, in order, over all its labels.
    pub fn observed(&self, metric: &str) -> Vec<f64> {
        self.world.observed(metric)
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test")]
mod tests;
