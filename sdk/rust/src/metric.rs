//! Metrics of the handler's own.

/// A registered metric, cheap to copy and to observe. [`Setup`](crate::Setup) and [`Context`](crate::Context) give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(pub(crate) u32);

/// What an observed value does to the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is added; never negative.
    Counter,
    /// It replaces the last one.
    Gauge,
    /// It is one sample of a distribution.
    Histogram,
}
