//! Metrics that others keep: a handler's own. Names and labels come from guests, so they are checked here once more
//! whatever the collector did.

use super::catalog::Kind;
use super::page::{Format, Real, family_head, line, put_buckets};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Series of all handlers together that one page shows at most.
const MAX_SERIES: usize = 10_000;

/// Keeps metrics of its own and shows them on request.
pub trait ExtraMetrics: Send + Sync + std::fmt::Debug {
    /// Appends what there is now. Called by each scrape on the admin thread: no blocking, no waiting.
    fn render(&self, out: &mut Vec<Sample>);
}

/// One series of a handler's own metric. Shown as `handler_NAME`, with the label `pipeline` added.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// As the handler named it; characters that a metric name can't have become `_`.
    pub name: String,
    /// Names and values. `pipeline`, `le` and names that repeat are left out.
    pub labels: Vec<(String, String)>,
    /// What was measured.
    pub value: SampleValue,
}

/// What a handler measured.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// Only grows; the name gets `_total` unless it has it.
    Counter(f64),
    /// Goes up and down.
    Gauge(f64),
    /// Counts by bucket.
    Histogram {
        /// Upper bounds, ascending.
        bounds: Vec<f64>,
        /// Observations in each bucket alone; one more than `bounds`, the last for what lies above.
        counts: Vec<u64>,
        /// Sum of all observed values.
        sum: f64,
    },
}

impl SampleValue {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram { .. } => Kind::Histogram,
        }
    }
}

/// Gathers the samples of all pipelines, since a family's lines must stand together.
#[derive(Default)]
pub(super) struct Extra {
    families: BTreeMap<String, (Kind, String)>,
    seen: HashSet<String>,
    dropped: u64,
}

impl Extra {
    pub(super) fn collect(&mut self, pipeline: &str, source: Option<&Arc<dyn ExtraMetrics>>) {
        let Some(source) = source else { return };
        let mut samples = Vec::new();
        source.render(&mut samples);
        for sample in &samples {
            if !self.add(pipeline, sample) {
                self.dropped += 1;
            }
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn finish(self, format: Format) -> String {
        let mut out = String::new();
        for (name, (kind, lines)) in self.families {
            family_head(&mut out, format, &name, kind, "Reported by a handler");
            out.push_str(&lines);
        }
        out
    }

    /// `false`: left out, since the page would not be valid with it (same series twice, one name of two kinds, bounds
    /// out of order) or would be too long.
    fn add(&mut self, pipeline: &str, sample: &Sample) -> bool {
        let kind = sample.value.kind();
        let mut name = format!("handler_{}", cleaned(&sample.name));
        if kind == Kind::Counter && !name.ends_with("_total") {
            name.push_str("_total");
        }
        let labels = labels(pipeline, &sample.labels);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if self.families.get(&name).is_some_and(|(k, _)| *k != kind) || self.seen.len() >= MAX_SERIES {
            return false;
        }
        let mut lines = String::new();
        match &sample.value {
            SampleValue::Counter(v) | SampleValue::Gauge(v) => line(&mut lines, &name, "", &labels, None, Real(*v)),
            SampleValue::Histogram { bounds, counts, sum } => {
                if counts.len() != bounds.len() + 1 || !bounds.is_sorted_by(|a, b| a < b) {
                    return false;
                }
                put_buckets(&mut lines, &name, &labels, bounds, counts, *sum);
            }
        }
        let mut series = String::new();
        line(&mut series, &name, "", &labels, None, "");
        if !self.seen.insert(series) {
            return false;
        }
        self.families.entry(name).or_insert_with(|| (kind, String::new())).1.push_str(&lines);
        true
    }
}

/// Only what a metric or label name may hold. It is always prefixed or checked for its first character.
fn cleaned(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn labels(pipeline: &str, given: &[(String, String)]) -> Vec<(String, String)> {
    let mut labels = vec![("pipeline".to_owned(), pipeline.to_owned())];
    for (name, value) in given {
        let mut name = cleaned(name);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            // Neither a digit nor the reserved `__` may start a label's name.
            name.insert(0, 'l');
        }
        if name != "le" && labels.iter().all(|(n, _)| *n != name) {
            labels.push((name, value.clone()));
        }
    }
    labels
}
