//! The exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! Written here and not by a client library: the libraries at hand keep metrics in maps of label sets behind locks and
//! take a lock for each histogram observation. Keyrail's values live in plain atomics and in one table that a scrape
//! reads, which leaves a library nothing to do but to print lines.

use super::catalog::{FAMILIES, Family, Id, Kind};
use super::value::{Histogram, MAX_BUCKETS};
use std::sync::atomic::Ordering::Relaxed;

/// Which text a scraper understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which every scraper reads.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for; Prometheus where there is none.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let wants = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && parts.all(|p| !matches!(p.split_once('='), Some(("q", q)) if q.parse() == Ok(0.0)))
        };
        if accept.is_some_and(|accept| accept.split(',').any(wants)) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` that names it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Label names and values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page being written: samples may come in any order, families come out in the catalog's.
pub(super) struct Page {
    format: Format,
    lines: Vec<String>,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { format, lines: vec![String::new(); FAMILIES.len()] }
    }

    /// One sample of a counter or gauge.
    pub(super) fn put(&mut self, id: Id, labels: Labels<'_>, value: u64) {
        // Exact up to 2^53, as every number in the formats.
        line(&mut self.lines[id as usize], FAMILIES[id as usize].name, "", labels, None, value);
    }

    /// One sample that is no whole number.
    pub(super) fn put_real(&mut self, id: Id, labels: Labels<'_>, value: f64) {
        line(&mut self.lines[id as usize], FAMILIES[id as usize].name, "", labels, None, Real(value));
    }

    /// All samples of one histogram.
    pub(super) fn put_histogram(&mut self, id: Id, labels: Labels<'_>, histogram: &Histogram) {
        let scale = histogram.scale;
        let mut counts = [0; MAX_BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&histogram.buckets) {
            *count = bucket.load(Relaxed);
        }
        let bounds: Vec<f64> = scale.bounds.iter().map(|b| *b as f64 / scale.per_unit).collect();
        let sum = histogram.sum.load(Relaxed) as f64 / scale.per_unit;
        put_buckets(&mut self.lines[id as usize], FAMILIES[id as usize].name, labels, &bounds, &counts, sum);
    }

    /// The finished page; `more` is what [`family_head`] and the samples of other families made.
    pub(super) fn finish(self, more: &str) -> String {
        let mut out = String::with_capacity(self.lines.iter().map(|l| l.len() + 160).sum::<usize>() + more.len() + 8);
        for (family, lines) in FAMILIES.iter().zip(&self.lines) {
            if !lines.is_empty() {
                let Family { name, kind, help } = family;
                family_head(&mut out, self.format, name, *kind, help);
                out.push_str(lines);
            }
        }
        out.push_str(more);
        if self.format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

/// `# HELP` and `# TYPE`. OpenMetrics names a counter's family without its `_total`.
pub(super) fn family_head(out: &mut String, format: Format, name: &str, kind: Kind, help: &str) {
    let family = match (format, kind) {
        (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    out.push_str("# HELP ");
    out.push_str(family);
    out.push(' ');
    escape(out, help, format == Format::OpenMetrics);
    out.push_str("\n# TYPE ");
    out.push_str(family);
    out.push(' ');
    out.push_str(kind.text());
    out.push('\n');
}

/// The lines of one histogram; `counts` are those of each bucket alone, the last for what lies above every bound.
pub(super) fn put_buckets(out: &mut String, name: &str, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
    let mut total = 0u64;
    for (bound, count) in bounds.iter().zip(counts) {
        total = total.wrapping_add(*count);
        line(out, name, "_bucket", labels, Some(*bound), total);
    }
    // The total is the sum of the buckets, not a number of its own, so a scrape in between never contradicts itself.
    for count in counts.iter().skip(bounds.len()) {
        total = total.wrapping_add(*count);
    }
    line(out, name, "_bucket", labels, Some(f64::INFINITY), total);
    line(out, name, "_sum", labels, None, Real(sum));
    line(out, name, "_count", labels, None, total);
}

/// One sample.
pub(super) fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: Labels<'_>,
    bound: Option<f64>,
    value: impl std::fmt::Display,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = '{';
    for (label, text) in labels {
        out.push(open);
        out.push_str(label);
        out.push_str("=\"");
        escape(out, text, true);
        out.push('"');
        open = ',';
    }
    if let Some(bound) = bound {
        out.push_str(&format!("{open}le=\"{}\"", Bound(bound)));
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    out.push_str(&format!(" {value}\n"));
}

/// Label values and help texts: backslash, line feed and, in the former, the quote.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// A number as the formats write it.
pub(super) struct Real(pub(super) f64);

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            v if v.is_nan() => f.write_str("NaN"),
            v if v == f64::INFINITY => f.write_str("+Inf"),
            v if v == f64::NEG_INFINITY => f.write_str("-Inf"),
            v => write!(f, "{v}"),
        }
    }
}

/// A bucket's bound. OpenMetrics wants `1.0` where it means 1, and so that a series keeps its name in both formats,
/// both get it.
struct Bound(f64);

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { Real(self.0).fmt(f) }
    }
}
