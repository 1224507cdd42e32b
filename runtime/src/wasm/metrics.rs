//! The import `metrics`: a registry for each handler, shared by its instances and read by `/metrics`.
//!
//! Registering takes a lock; observing, which is what happens per message, takes none.

use super::call::Ctx;
use super::contract::{WireKind, WirePairs};
use super::text::clean;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{Result, StoreContextMut};

/// Most metrics (a name with its labels) of a handler.
const METRICS: usize = 100;
/// Longest name of a metric or a label, in bytes.
const NAME_BYTES: usize = 64;
/// Most labels of a metric.
const LABELS: usize = 8;
/// Longest value of a label, in bytes.
const LABEL_VALUE_BYTES: usize = 128;
/// Upper bounds of a histogram's buckets; one more catches the rest.
const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 100.0, 1000.0, 10_000.0];
/// The handle of the metric that is none: what is observed there is lost.
const SINK: u32 = 0;

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A sum that only grows.
    Counter,
    /// The last value.
    Gauge,
    /// How values are distributed.
    Histogram,
}

/// A metric's state at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSnapshot {
    /// Letters, digits and `_`, starting with no digit; at most 64 bytes.
    pub name: String,
    /// What it measures.
    pub kind: MetricKind,
    /// Names (as a metric's) and values (at most 128 bytes, no control characters), in the handler's order.
    pub labels: Vec<(String, String)>,
    /// What was observed.
    pub value: MetricValue,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// A counter's sum or a gauge's last value.
    Number(f64),
    /// A histogram.
    Histogram {
        /// Upper bounds and how many values lie at or below each; the last bound is infinite.
        buckets: Vec<(f64, u64)>,
        /// The sum of all values.
        sum: f64,
    },
}

/// A handler's own metrics, over all its instances.
#[derive(Debug, Default)]
pub struct HandlerMetrics {
    metrics: Mutex<Vec<Arc<Metric>>>,
    warned: AtomicBool,
}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: MetricKind,
    labels: Vec<(String, String)>,
    /// A number as the bits of an `f64`; for a histogram, its sum.
    number: AtomicU64,
    buckets: Vec<AtomicU64>,
}

impl HandlerMetrics {
    /// All metrics and their values now, in the order of their registration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetricSnapshot> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics.iter().map(|metric| metric.snapshot()).collect()
    }

    /// Finds or makes a metric; `Err` says why there is none.
    fn register(
        &self,
        name: &str,
        kind: MetricKind,
        labels: Vec<(String, String)>,
    ) -> std::result::Result<Arc<Metric>, String> {
        if let Some(bad) = std::iter::once(name).chain(labels.iter().map(|(n, _)| &**n)).find(|n| !is_name(n)) {
            return Err(format!("`{bad}` is no name: letters, digits and _, at most {NAME_BYTES}"));
        }
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = metrics.iter().find(|m| m.name == name && m.kind != kind) {
            return Err(format!("`{name}` is a {:?} already", other.kind));
        }
        if let Some(metric) = metrics.iter().find(|m| m.name == name && m.labels == labels) {
            return Ok(Arc::clone(metric));
        }
        if metrics.len() >= METRICS {
            return Err(format!("it has {METRICS} already, each set of labels counted apart"));
        }
        let buckets = if kind == MetricKind::Histogram { BOUNDS.len() + 1 } else { 0 };
        let metric = Arc::new(Metric {
            name: name.to_owned(),
            kind,
            labels,
            number: AtomicU64::new(0f64.to_bits()),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        });
        metrics.push(Arc::clone(&metric));
        Ok(metric)
    }
}

impl Metric {
    /// A counter ignores what would make it fall; nothing takes what is no number.
    fn observe(&self, value: f64) {
        if !value.is_finite() || (self.kind == MetricKind::Counter && value < 0.0) {
            return;
        }
        if self.kind == MetricKind::Gauge {
            self.number.store(value.to_bits(), Ordering::Relaxed);
            return;
        }
        if let Some(bucket) = self.buckets.get(BOUNDS.partition_point(|bound| *bound < value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let mut bits = self.number.load(Ordering::Relaxed);
        loop {
            let sum = (f64::from_bits(bits) + value).to_bits();
            match self.number.compare_exchange_weak(bits, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }

    fn snapshot(&self) -> MetricSnapshot {
        let number = f64::from_bits(self.number.load(Ordering::Relaxed));
        let value = if self.kind == MetricKind::Histogram {
            let mut below = 0;
            let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
            let buckets = bounds.zip(&self.buckets).map(|(bound, count)| {
                below += count.load(Ordering::Relaxed);
                (bound, below)
            });
            MetricValue::Histogram { buckets: buckets.collect(), sum: number }
        } else {
            MetricValue::Number(number)
        };
        MetricSnapshot { name: self.name.clone(), kind: self.kind, labels: self.labels.clone(), value }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= NAME_BYTES
}

/// An instance's handles: index 0 is the sink.
pub(super) struct Handles {
    registry: Arc<HandlerMetrics>,
    metrics: Vec<Arc<Metric>>,
}

impl Handles {
    pub(super) fn new(registry: Arc<HandlerMetrics>) -> Self {
        Self { registry, metrics: Vec::new() }
    }

    fn register(&mut self, pipeline: &str, name: &str, kind: MetricKind, labels: Vec<(String, String)>) -> u32 {
        let metric = match self.registry.register(name, kind, labels) {
            Ok(metric) => metric,
            Err(reason) => {
                if !self.registry.warned.swap(true, Ordering::Relaxed) {
                    let name = clean(name, NAME_BYTES);
                    tracing::warn!(
                        pipeline,
                        "the handler's metric `{name}` is not kept: {reason}; further ones are not reported"
                    );
                }
                return SINK;
            }
        };
        let known = self.metrics.iter().position(|m| Arc::ptr_eq(m, &metric));
        let index = known.unwrap_or_else(|| {
            self.metrics.push(metric);
            self.metrics.len() - 1
        });
        // At most `METRICS` of them.
        index as u32 + 1
    }

    fn observe(&self, handle: u32, value: f64) {
        if let Some(metric) = handle.checked_sub(1).and_then(|index| self.metrics.get(index as usize)) {
            metric.observe(value);
        }
    }
}

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut metrics = linker.instance("keyrail:handler/metrics@0.1.0")?;
    type Register = (WasmStr, WireKind, WirePairs);
    metrics.func_wrap("register", |mut store: StoreContextMut<'_, Ctx>, (name, kind, labels): Register| {
        store.data_mut().call.charge()?;
        let pairs = labels.iter(&mut store)?.take(LABELS).collect::<Result<Vec<_>>>()?;
        let mut labels = Vec::with_capacity(pairs.len());
        for (name, value) in &pairs {
            let value = value.to_str(&store)?;
            labels.push((name.to_str(&store)?.into_owned(), clean(&value, LABEL_VALUE_BYTES).into_owned()));
        }
        let name = name.to_str(&store)?.into_owned();
        let kind = match kind {
            WireKind::Counter => MetricKind::Counter,
            WireKind::Gauge => MetricKind::Gauge,
            WireKind::Histogram => MetricKind::Histogram,
        };
        let ctx = store.data_mut();
        Ok((ctx.metrics.register(&ctx.setup.handler, &name, kind, labels),))
    })?;
    metrics.func_wrap("observe", |mut store: StoreContextMut<'_, Ctx>, (metric, value): (u32, f64)| {
        let ctx = store.data_mut();
        ctx.call.charge()?;
        ctx.metrics.observe(metric, value);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    #[test]
    fn two_instances_share_a_metric_and_caps_lead_to_the_sink() {
        let registry = Arc::new(HandlerMetrics::default());
        let (mut one, mut two) = (Handles::new(Arc::clone(&registry)), Handles::new(Arc::clone(&registry)));
        let label = || vec![("kind".to_owned(), "a".to_owned())];
        let first = one.register("p", "seen", MetricKind::Counter, label());
        assert_eq!((first, one.register("p", "seen", MetricKind::Counter, label())), (1, 1));
        assert_eq!(two.register("p", "seen", MetricKind::Counter, label()), 1);
        one.observe(1, 2.0);
        two.observe(1, 3.5);
        for ignored in [-1.0, f64::NAN, f64::INFINITY] {
            one.observe(1, ignored);
        }
        one.observe(SINK, 1.0);
        one.observe(99, 1.0);
        assert_eq!(one.register("p", "seen", MetricKind::Gauge, label()), SINK, "another kind");
        assert_eq!(one.register("p", "1st", MetricKind::Gauge, vec![]), SINK, "no name");
        assert_eq!(one.register("p", "x", MetricKind::Gauge, vec![("a-b".into(), String::new())]), SINK);
        for n in 1..METRICS {
            assert_eq!(one.register("p", &format!("m{n}"), MetricKind::Gauge, vec![]), n as u32 + 1);
        }
        assert_eq!(one.register("p", "full", MetricKind::Gauge, vec![]), SINK);
        let all = registry.snapshot();
        assert_eq!(all.len(), METRICS);
        let expected = MetricSnapshot {
            name: "seen".to_owned(),
            kind: MetricKind::Counter,
            labels: label(),
            value: MetricValue::Number(5.5),
        };
        assert_eq!(all[0], expected);
    }

    #[test]
    fn a_histogram_counts_cumulatively() {
        let registry = Arc::new(HandlerMetrics::default());
        let mut handles = Handles::new(Arc::clone(&registry));
        let h = handles.register("p", "took", MetricKind::Histogram, vec![]);
        for value in [0.001, 0.002, 7.0, 1e9] {
            handles.observe(h, value);
        }
        let MetricValue::Histogram { buckets, sum } = registry.snapshot().remove(0).value else { unreachable!() };
        assert_eq!((buckets[0], buckets[1]), ((0.001, 1), (0.0025, 2)));
        assert_eq!((buckets[12], buckets[15], buckets[16]), ((10.0, 3), (10_000.0, 3), (f64::INFINITY, 4)));
        assert!((sum - 1_000_000_007.003).abs() < 1e-6);
    }
}
