//! Errors of the embedded broker.

use crate::broker::{BrokerError, BrokerErrorKind, Refusal};

pub(crate) use crate::broker::operator;

pub(crate) fn retry(message: impl Into<String>) -> BrokerError {
    BrokerError { kind: BrokerErrorKind::Retry, message: message.into() }
}

pub(crate) fn fatal(message: impl Into<String>) -> BrokerError {
    BrokerError { kind: BrokerErrorKind::Fatal, message: message.into() }
}

pub(crate) fn superseded(message: impl Into<String>) -> BrokerError {
    BrokerError { kind: BrokerErrorKind::Superseded, message: message.into() }
}

pub(crate) fn no_topic(name: &str) -> BrokerError {
    operator(format!("there is no topic {name:?}"))
}

pub(crate) fn no_partition(topic: &str, partition: i32, count: usize) -> BrokerError {
    operator(format!("topic {topic:?} has {count} partitions, and no partition {partition}"))
}

/// What a failed write means for the record.
pub(crate) fn refusal(error: &BrokerError) -> Refusal {
    match error.kind {
        BrokerErrorKind::Fatal => Refusal::Fenced(error.message.clone()),
        _ => Refusal::Blocked(error.message.clone()),
    }
}
