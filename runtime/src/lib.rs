//! Keyrail runs message handlers, compiled to WebAssembly, over Apache Kafka.

/// For the file that the fuzz targets take from the program.
#[cfg(feature = "fuzz")]
extern crate self as keyrail;

pub mod admin;
pub mod alerts;
pub mod broker;
pub mod config;
pub mod date;
pub mod fail;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod nearest;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod rollout;
pub mod wasm;
