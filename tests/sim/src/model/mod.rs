//! The broker of the model: input logs, output partitions with their producers' queues, transactions, and the consumer
//! group.

pub mod group;
pub mod internal;
pub mod log;
pub mod outputs;
pub mod transactions;
