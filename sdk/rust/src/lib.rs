#![doc = include_str!("../README.md")]

mod context;
mod contract;
mod error;
mod handler;
mod host;
pub mod http;
mod message;
mod metric;
mod outcome;
mod send;
mod setup;
mod steps;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(target_arch = "wasm32")]
mod wasm;

pub use context::{Context, State, Timers};
pub use error::Error;
pub use handler::{BatchHandler, Delivery, Handler};
pub use log;
pub use message::{Header, Message, Source};
pub use metric::{Kind, Metric};
pub use outcome::{OrFail, Outcome, Problem, Verdict, dead_letter, retry};
pub use send::{Null, Outgoing, Payload};
pub use setup::{ConfigError, Setup};
pub use steps::{HttpHandler, TwoSteps};

/// All that most handlers name.
pub mod prelude {
    pub use crate::Verdict::{Done, Skip};
    pub use crate::log::{debug, error, info, trace, warn};
    pub use crate::{Context, Handler, Message, Null, OrFail, Outcome, Problem, Setup, dead_letter, retry};
}

/// For the macros only.
#[doc(hidden)]
pub mod __private {
    pub use crate::contract::{Outcome as RawOutcome, Setup as RawSetup};
    pub use crate::handler::{Batched, Each, accept, check};
    pub use crate::steps::Stepped;

    #[cfg(target_arch = "wasm32")]
    pub use crate::wasm::bindings::exports::keyrail::handler::guest::Guest;
    #[cfg(target_arch = "wasm32")]
    pub use crate::wasm::{Instance, bindings};
}

/// Whole milliseconds; what no `u64` holds is as long as one can say.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
