//! How far a restore is, in log, metrics and words.

use super::Span;
use crate::admin::metrics::PipelineMetrics;
use crate::broker::BrokerError;
use crate::record::{Record, TopicPartition};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two lines of the log.
const LINE: Duration = Duration::from_secs(5);
/// A log that gives nothing for so long before its end waits for a transaction.
const SILENT: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Progress {
    metrics: Arc<PipelineMetrics>,
    pipeline: String,
    records: u64,
    bytes: u64,
    entries: u64,
    /// When something came last.
    came: Instant,
    next_line: Instant,
}

impl Progress {
    pub(super) fn new(metrics: Arc<PipelineMetrics>, pipeline: String) -> Self {
        let now = Instant::now();
        Self { metrics, pipeline, records: 0, bytes: 0, entries: 0, came: now, next_line: now + LINE }
    }

    pub(super) fn read(&mut self, record: &Record, entries: u64) {
        self.records += 1;
        self.bytes += record.content_bytes() as u64;
        self.entries += entries;
        self.metrics.restore_records.add(1);
        self.metrics.restore_bytes.add(record.content_bytes() as u64);
        self.metrics.restore_entries.add(entries);
    }

    /// Reading begins, or goes on.
    pub(super) fn begin(&mut self) {
        self.came = Instant::now();
    }

    pub(super) fn took(&self, time: Duration) {
        self.metrics.restore_millis.add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// `open`: what is left; `came`: records that came with the last look. Gives words for people.
    pub(super) fn tell(
        &mut self,
        open: impl Iterator<Item = (TopicPartition, Span)>,
        topics: &[String],
        came: usize,
    ) -> String {
        let (mut partitions, mut left, mut all, mut first) = (0_u64, 0_u64, 0_u64, None);
        for (at, span) in open {
            partitions += 1;
            left += span.end.saturating_sub(span.next).max(0).unsigned_abs();
            all += span.end.saturating_sub(span.from).max(0).unsigned_abs();
            first = first.or(Some(at));
        }
        self.metrics.restore_remaining.set(left);
        let now = Instant::now();
        if came > 0 {
            self.came = now;
        }
        let Some(first) = first else {
            self.done();
            return String::new();
        };
        let percent = (all - left.min(all)) * 100 / all.max(1);
        let topic = topics.get(first.topic as usize).map_or("?", String::as_str);
        let waits = now.duration_since(self.came) > SILENT;
        let told = if waits {
            format!(
                "waits for a transaction on {topic}/{} that is still open; the broker ends it when its process is dead",
                first.partition
            )
        } else {
            format!("reads what its internal topics hold: {percent} % of what is left of {partitions} partitions")
        };
        if now >= self.next_line {
            self.next_line = now + LINE;
            let Self { pipeline, records, bytes, entries, .. } = self;
            if waits {
                tracing::warn!(pipeline, topic, partition = first.partition, left, "{told}");
            } else {
                tracing::info!(pipeline, partitions, records, bytes, entries, left, percent, "restoring");
            }
        }
        told
    }

    pub(super) fn trouble(&mut self, error: &BrokerError) {
        let now = Instant::now();
        if now >= self.next_line {
            self.next_line = now + LINE;
            tracing::warn!(pipeline = self.pipeline, %error, "restoring waits for the broker");
        }
    }

    /// All that was wanted is read.
    fn done(&mut self) {
        let Self { pipeline, records, bytes, entries, .. } = self;
        if *records > 0 {
            tracing::info!(pipeline, records, bytes, entries, "restored: what its internal topics hold is known");
        }
        (self.records, self.bytes, self.entries) = (0, 0, 0);
        self.idle();
    }

    /// Nothing is wanted any more.
    pub(super) fn idle(&self) {
        self.metrics.restore_remaining.set(0);
    }
}
