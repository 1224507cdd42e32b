//! Handlers in two steps, whose requests are made for a whole batch at the same time.

use std::error::Error;

use crate::context::Context;
use crate::contract;
use crate::handler::Program;
use crate::host::Host;
use crate::http::{Answer, Request, fetch_all};
use crate::message::Message;
use crate::outcome::{Outcome, Problem};
use crate::setup::Setup;

/// A handler in two steps with something of its own: first each message of a batch says what it asks, then all requests are
/// made at the same time, then each is handled with its answers.
///
/// One without is a pair of plain functions: see [`http_handler!`](crate::http_handler).
pub trait HttpHandler: Sized + 'static {
    /// As [`Handler::open`](crate::Handler::open).
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>>;

    /// Names the message's requests, none or more. An error is the message's outcome: its requests are not made, and
    /// [`handle`](HttpHandler::handle) is not called.
    ///
    /// All messages of a batch are prepared before the first is handled. It has one of a key at most where the manifest grants
    /// hosts, so a service sees one key's requests in order.
    fn prepare(&mut self, message: &Message, ctx: &Context<'_>) -> Result<Vec<Request>, Problem>;

    /// Handles the message with what came of its requests: one answer for each, in their order.
    fn handle(&mut self, message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome;
}

/// Both steps of a handler: a pair of functions, or an [`HttpHandler`] by reference.
pub trait TwoSteps {
    /// The first.
    fn prepare(&mut self, message: &Message, ctx: &Context<'_>) -> Result<Vec<Request>, Problem>;
    /// The second.
    fn handle(&mut self, message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome;
}

impl<H: HttpHandler> TwoSteps for &mut H {
    fn prepare(&mut self, message: &Message, ctx: &Context<'_>) -> Result<Vec<Request>, Problem> {
        H::prepare(self, message, ctx)
    }

    fn handle(&mut self, message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome {
        H::handle(self, message, ctx, answers)
    }
}

impl<P, H> TwoSteps for (P, H)
where
    P: FnMut(&Message, &Context<'_>) -> Result<Vec<Request>, Problem>,
    H: FnMut(&Message, &Context<'_>, Vec<Answer>) -> Outcome,
{
    fn prepare(&mut self, message: &Message, ctx: &Context<'_>) -> Result<Vec<Request>, Problem> {
        (self.0)(message, ctx)
    }

    fn handle(&mut self, message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome {
        (self.1)(message, ctx, answers)
    }
}

/// Runs both steps over a batch.
pub(crate) fn run(mut steps: impl TwoSteps, setup: &Setup, batch: &[Message]) -> Vec<Outcome> {
    let mut requests = Vec::new();
    let mut prepared = Vec::with_capacity(batch.len());
    for (slot, message) in (0..).zip(batch) {
        setup.host.running(Some(message));
        let asked = steps.prepare(message, &Context { setup, message, slot });
        prepared.push(asked.map(|asked| {
            let count = asked.len();
            requests.extend(asked.into_iter().map(|request| (slot, request)));
            count
        }));
    }
    setup.host.running(None);
    let mut answers = fetch_all(&setup.host, requests).into_iter();
    let mut outcomes = Vec::with_capacity(batch.len());
    for ((slot, message), prepared) in (0..).zip(batch).zip(prepared) {
        setup.host.running(Some(message));
        outcomes.push(prepared.and_then(|count| {
            let answers = answers.by_ref().take(count).collect();
            steps.handle(message, &Context { setup, message, slot }, answers)
        }));
    }
    setup.host.running(None);
    outcomes
}

/// Runs an [`HttpHandler`].
pub struct Stepped<H>(H);

impl<H: HttpHandler> Program for Stepped<H> {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        H::open(setup).map(Stepped)
    }

    fn process(&mut self, setup: &Setup, batch: &[Message]) -> Vec<contract::Outcome> {
        run(&mut self.0, setup, batch).into_iter().map(Into::into).collect()
    }
}

/// Makes the crate a Keyrail handler in two steps, instead of [`handler!`](crate::handler):
///
/// ```
/// use keyrail_sdk::http::{Answer, Request};
/// use keyrail_sdk::prelude::*;
///
/// fn prepare(message: &Message, _ctx: &Context) -> Result<Vec<Request>, Problem> {
///     Ok(vec![Request::post("https://api.example.com/score").body(message.value().unwrap_or_default())])
/// }
///
/// fn handle(_message: &Message, ctx: &Context, answers: Vec<Answer>) -> Outcome {
///     for answer in answers {
///         ctx.send("scores", answer?.ok_or_retry()?.into_body()).dispatch()?;
///     }
///     Ok(Done)
/// }
///
/// keyrail_sdk::http_handler!(prepare, handle);
/// ```
///
/// | form | for |
/// |---|---|
/// | `http_handler!(prepare, handle)` | two functions, as above |
/// | `http_handler!(prepare, handle, open = open)` | the same, after a `fn(&Setup) -> Result<(), E>` that may refuse the setup |
/// | `http_handler!(type Scores)` | a type that implements [`HttpHandler`](crate::HttpHandler) |
#[macro_export]
macro_rules! http_handler {
    (type $handler:ty) => {
        $crate::__export!($crate::__private::Stepped<$handler>);
    };
    ($prepare:path, $handle:path) => {
        $crate::http_handler!($prepare, $handle, open = $crate::__private::accept);
    };
    ($prepare:path, $handle:path, open = $open:path) => {
        const _: () = {
            struct Functions;

            impl $crate::HttpHandler for Functions {
                fn open(
                    setup: &$crate::Setup,
                ) -> ::core::result::Result<Self, ::std::boxed::Box<dyn ::std::error::Error>> {
                    $open(setup)?;
                    ::core::result::Result::Ok(Functions)
                }

                fn prepare(
                    &mut self,
                    message: &$crate::Message,
                    ctx: &$crate::Context<'_>,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::http::Request>, $crate::Problem> {
                    $prepare(message, ctx)
                }

                fn handle(
                    &mut self,
                    message: &$crate::Message,
                    ctx: &$crate::Context<'_>,
                    answers: ::std::vec::Vec<$crate::http::Answer>,
                ) -> $crate::Outcome {
                    $handle(message, ctx, answers)
                }
            }

            $crate::__export!($crate::__private::Stepped<Functions>);
        };
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
