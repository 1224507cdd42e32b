//! Keyrail runs message handlers, compiled to WebAssembly, over Apache Kafka.

pub mod broker;
pub mod record;
