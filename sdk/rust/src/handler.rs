//! The forms that a handler may take, and the one line that makes a component of it.

use std::error::Error;

use crate::context::Context;
use crate::contract;
use crate::host::Host;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::setup::Setup;

/// A handler with something of its own: what `open` found in the configuration, metrics, a cache.
///
/// A handler without is a plain function: see [`handler!`](crate::handler).
pub trait Handler: Sized + 'static {
    /// Once per instance, before the first message. An error refuses this version of the handler; its text, sources
    /// included, is what the operator reads.
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>>;

    /// Handles one message. One key's messages come in order. Nothing undoes what a failed message changed in `self`,
    /// and the host may drop an instance at any time: keep only what may be lost.
    fn handle(&mut self, message: &Message, ctx: &Context<'_>) -> Outcome;
}

/// A handler that wants to see a whole batch at once, say to look something up for all of its messages together.
pub trait BatchHandler: Sized + 'static {
    /// As [`Handler::open`].
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>>;

    /// Handles a batch of at least one message: one outcome for each, in order. With any other number of outcomes, or
    /// a panic, the host runs the same messages again one by one, in a fresh instance. Where one fails, the host undoes
    /// the later ones of its key and brings them again behind it.
    fn process(&mut self, batch: &[Delivery<'_>]) -> Vec<Outcome>;
}

/// One message of a batch with its context.
pub struct Delivery<'a> {
    /// The message.
    pub message: &'a Message,
    /// Its side of the host.
    pub ctx: Context<'a>,
}

/// Pairs each message with its context, in slot order.
pub(crate) fn deliveries<'a>(setup: &'a Setup, batch: &'a [Message]) -> Vec<Delivery<'a>> {
    (0..).zip(batch).map(|(slot, message)| Delivery { message, ctx: Context { setup, message, slot } }).collect()
}

/// What the contract's `guest` interface runs.
pub trait Program: Sized + 'static {
    #[doc(hidden)]
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>>;
    #[doc(hidden)]
    fn process(&mut self, setup: &Setup, batch: &[Message]) -> Vec<contract::Outcome>;
}

/// Runs a [`Handler`] message by message.
pub struct Each<H>(H);

impl<H: Handler> Program for Each<H> {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        H::open(setup).map(Each)
    }

    fn process(&mut self, setup: &Setup, batch: &[Message]) -> Vec<contract::Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for (slot, message) in (0..).zip(batch) {
            setup.host.running(Some(message));
            outcomes.push(self.0.handle(message, &Context { setup, message, slot }).into());
        }
        setup.host.running(None);
        outcomes
    }
}

/// Runs a [`BatchHandler`].
pub struct Batched<H>(H);

impl<H: BatchHandler> Program for Batched<H> {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        H::open(setup).map(Batched)
    }

    fn process(&mut self, setup: &Setup, batch: &[Message]) -> Vec<contract::Outcome> {
        self.0.process(&deliveries(setup, batch)).into_iter().map(Into::into).collect()
    }
}

/// The `open` of a function handler that has none.
#[doc(hidden)]
pub fn accept(_setup: &Setup) -> Result<(), Box<dyn Error>> {
    Ok(())
}

/// Natively there is nothing to export; that the handler fits is checked all the same.
#[doc(hidden)]
pub fn check<P: Program>() {}

/// Makes the crate a Keyrail handler. Once per crate, anywhere at its top level:
///
/// ```
/// # use keyrail_sdk::prelude::*;
/// # fn handle(_: &Message, _: &Context) -> Outcome { Ok(Done) }
/// keyrail_sdk::handler!(handle);
/// ```
///
/// | form | for |
/// |---|---|
/// | `handler!(handle)` | `fn(&Message, &Context) -> Outcome` |
/// | `handler!(handle, open = open)` | the same, after a `fn(&Setup) -> Result<(), E>` that may refuse the setup |
/// | `handler!(type Payments)` | a type that implements [`Handler`](crate::Handler) |
/// | `handler!(batch type Payments)` | a type that implements [`BatchHandler`](crate::BatchHandler) |
/// | [`http_handler!`](crate::http_handler) | two steps, between which HTTP requests are made for the whole batch |
///
/// `E` is text or any error. Natively the macro exports nothing, so the crate's tests build and run like any other's.
#[macro_export]
macro_rules! handler {
    (batch type $handler:ty) => {
        $crate::__export!($crate::__private::Batched<$handler>);
    };
    (type $handler:ty) => {
        $crate::__export!($crate::__private::Each<$handler>);
    };
    ($handle:path) => {
        $crate::handler!($handle, open = $crate::__private::accept);
    };
    ($handle:path, open = $open:path) => {
        const _: () = {
            struct Function;

            impl $crate::Handler for Function {
                fn open(
                    setup: &$crate::Setup,
                ) -> ::core::result::Result<Self, ::std::boxed::Box<dyn ::std::error::Error>> {
                    $open(setup)?;
                    ::core::result::Result::Ok(Function)
                }

                fn handle(&mut self, message: &$crate::Message, ctx: &$crate::Context<'_>) -> $crate::Outcome {
                    $handle(message, ctx)
                }
            }

            $crate::__export!($crate::__private::Each<Function>);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($program:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::__private::check::<$program>;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::__private::Instance<$program> = const { $crate::__private::Instance::new() };
            }

            struct Component;

            impl $crate::__private::Guest for Component {
                fn open(setup: $crate::__private::RawSetup) -> ::core::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.open(setup))
                }

                fn process(batch: ::std::vec::Vec<$crate::Message>) -> ::std::vec::Vec<$crate::__private::RawOutcome> {
                    INSTANCE.with(|instance| instance.process(batch))
                }
            }

    $crate::__private::bindings::export!(Component with_types_in $crate::__private::bindings);
        };
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
