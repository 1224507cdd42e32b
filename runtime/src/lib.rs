//! Keyrail runs message handlers, compiled to WebAssembly, over Apache Kafka.

pub mod admin;
pub mod broker;
pub mod config;
pub mod fail;
mod nearest;
pub mod pipeline;
pub mod record;
pub mod rollout;
pub mod wasm;
