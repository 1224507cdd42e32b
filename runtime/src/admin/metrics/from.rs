//! What the engine and the handlers' host say, in the words of the metrics.

use super::extra::{ExtraMetrics, Sample, SampleValue};
use super::labels::{ClosedReason, DeadLetterReason, Failure, Fate, RefusedReason};
use crate::broker::Refusal;
use crate::wasm::{CallFailure, HandlerMetrics, MetricKind, MetricSnapshot, MetricValue};
use keyrail_engine::message;

impl DeadLetterReason {
    /// Why a message is a dead letter. What is dropped by hand is none.
    #[must_use]
    pub const fn of(reason: message::Reason) -> Option<Self> {
        match reason {
            message::Reason::Attempts => Some(Self::Attempts),
            message::Reason::Age => Some(Self::Age),
            message::Reason::Rejected => Some(Self::Rejected),
            message::Reason::Expired => Some(Self::Expired),
            message::Reason::Trap => Some(Self::Trap),
            message::Reason::Timeout => Some(Self::Timeout),
            message::Reason::Oversized => Some(Self::Oversized),
            message::Reason::Undecodable => Some(Self::Undecodable),
            message::Reason::Undeliverable => Some(Self::Undeliverable),
            message::Reason::Follows => Some(Self::Follows),
            message::Reason::Dropped => None,
        }
    }
}

impl From<&message::Fate> for Fate {
    fn from(fate: &message::Fate) -> Self {
        match fate {
            message::Fate::Done => Self::Done,
            message::Fate::Skipped => Self::Skipped,
            message::Fate::Duplicate { .. } => Self::Duplicate,
            message::Fate::DeadLetter(_) => Self::DeadLettered,
            message::Fate::Discarded(_) => Self::Discarded,
            message::Fate::Parked(_) | message::Fate::ParkedBefore | message::Fate::Buried => Self::Parked,
        }
    }
}

impl From<&CallFailure> for Failure {
    fn from(failure: &CallFailure) -> Self {
        match failure {
            CallFailure::Trap { .. } => Self::Trap,
            CallFailure::Timeout => Self::Timeout,
            CallFailure::Memory { .. } => Self::Memory,
            CallFailure::WrongCount { .. } => Self::WrongCount,
            CallFailure::HostCalls { .. } => Self::HostCalls,
        }
    }
}

impl From<&CallFailure> for ClosedReason {
    fn from(failure: &CallFailure) -> Self {
        if matches!(failure, CallFailure::Timeout) { Self::Timeout } else { Self::Trapped }
    }
}

impl From<&Refusal> for RefusedReason {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Undeliverable(_) => Self::Undeliverable,
            Refusal::Blocked(_) => Self::Blocked,
            Refusal::Fenced(_) => Self::Fenced,
        }
    }
}

impl ExtraMetrics for HandlerMetrics {
    fn render(&self, out: &mut Vec<Sample>) {
        out.extend(self.snapshot().into_iter().map(Sample::from));
    }
}

impl From<MetricSnapshot> for Sample {
    fn from(metric: MetricSnapshot) -> Self {
        let value = match metric.value {
            MetricValue::Number(value) if metric.kind == MetricKind::Counter => SampleValue::Counter(value),
            MetricValue::Number(value) => SampleValue::Gauge(value),
            MetricValue::Histogram { buckets, sum } => {
                // Theirs count what lies at or below a bound, and the last bound is infinite.
                let below = buckets.iter().map(|(_, count)| *count);
                let before = std::iter::once(0).chain(below.clone());
                let counts = below.zip(before).map(|(below, before)| below.saturating_sub(before)).collect();
                let bounds = buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
                SampleValue::Histogram { bounds, counts, sum }
            }
        };
        Self { name: metric.name, labels: metric.labels, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handlers_histogram_keeps_its_counts() {
        let value = MetricValue::Histogram { buckets: vec![(0.5, 2), (1.0, 2), (f64::INFINITY, 5)], sum: 9.0 };
        let metric = MetricSnapshot { name: "size".to_owned(), kind: MetricKind::Histogram, labels: Vec::new(), value };
        let expected = SampleValue::Histogram { bounds: vec![0.5, 1.0], counts: vec![2, 0, 3], sum: 9.0 };
        assert_eq!(Sample::from(metric).value, expected);
    }
}
