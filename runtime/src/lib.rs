//! Keyrail runs message handlers, compiled to WebAssembly, over Apache Kafka.

pub mod admin;
pub mod alerts;
pub mod backtest;
pub mod broker;
pub mod config;
pub mod date;
mod durable;
pub mod fail;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod line;
mod nearest;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod rollout;
pub mod scenario;
pub mod signature;
pub mod wasm;
