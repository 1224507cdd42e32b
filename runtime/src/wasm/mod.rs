//! Runs handlers: loads a file, checks it against the contract, compiles it, and calls its instances.
//!
//! [`Host`] is the engine, one per process. It loads a file into a [`Handler`], which is compiled, linked and cheap to
//! clone. A handler opens [`Instance`]s: warm, one per shard and pipeline, called with a batch at a time. What a guest
//! does wrong comes back as a [`CallFailure`]; such an instance is dead, and the caller opens another.
//!
//! Only this folder imports wasmtime. Nothing on the way of a message takes a lock.

mod cache;
mod call;
mod compiler;
mod contract;
mod delays;
mod effects;
mod error;
mod format;
mod handler;
mod host;
mod http;
mod imports;
mod instance;
mod limits;
mod logging;
mod long;
mod message;
mod metrics;
mod reads;
mod state;
mod text;
mod timers;
mod wasi;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use format::fuzz as format_fuzz;

pub use contract::CONTRACT_VERSION;
pub(crate) use delays::inherited;
pub use effects::{Effects, Send, SendHeaders};
pub(crate) use format::{uses_state, uses_timers};

pub use error::{CallFailure, LoadError, LoadErrorKind, OpenError, OpenErrorKind};
pub use handler::{Facts, Handler};
pub(crate) use handler::{hex, sha256_hex};
pub use host::{Host, HostOptions};
pub use instance::Instance;
pub use limits::Limits;
pub use long::LongCall;
pub use message::{Answer, Delivery, Failure, Fired, Outcome, Setup, State};
pub use metrics::{HandlerMetrics, MetricKind, MetricSnapshot, MetricValue};
pub use reads::{MOST_READ_BYTES, Reads, Span};
