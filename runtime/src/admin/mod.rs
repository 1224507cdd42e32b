//! What an operator sees of a running process: metrics, health, logs, and the HTTP server that shows them.
//!
//! The pipeline's threads write into [`metrics::PipelineMetrics`] and [`health::PipelineHealth`]; nothing here is on
//! the way of a message.

pub mod client;
pub mod deployment;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod stop;
