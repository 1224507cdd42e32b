//! What is shown per partition. Written once per commit, not per message.

use super::catalog::Id;
use super::labels::{BlockReason, Label, PauseReason};
use super::page::Page;
use crate::record::TopicPartition;
use std::collections::BTreeMap;

/// The values of one assigned partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionValues {
    /// The next offset to read, as the group has it; `None` before the first commit.
    pub committed_offset: Option<i64>,
    /// One past the last offset received; `None` before the first record.
    pub received_offset: Option<i64>,
    /// The log's end (high watermark); `None` while unknown. With it and `committed_offset` the lag is shown.
    pub end_offset: Option<i64>,
    /// Messages received and not settled.
    pub unsettled: u64,
    /// When the oldest of them was received, in milliseconds since the Unix epoch; `None` when there is none. The age is
    /// worked out by the scrape, so it grows even if whoever writes this stands still.
    pub oldest_unsettled_ms: Option<u64>,
    /// Size of the last commit's metadata.
    pub commit_metadata_bytes: u64,
    /// Why it is not fetched for now; `None` while it is.
    pub paused: Option<PauseReason>,
    /// Why it can't go on; `None` while it can.
    pub blocked: Option<BlockReason>,
    /// The message that runs for long and holds its commits up: offset and key, as they are shown.
    pub slow: Option<(i64, String)>,
}

/// The assigned partitions of one pipeline.
#[derive(Debug, Default)]
pub struct PartitionTable {
    topics: Vec<String>,
    rows: BTreeMap<TopicPartition, PartitionValues>,
}

impl PartitionTable {
    /// Names the input topics, by the index of [`TopicPartition::topic`].
    pub fn set_topics(&mut self, topics: &[String]) {
        topics.clone_into(&mut self.topics);
    }

    /// The partition's values, made if it is new.
    pub fn row(&mut self, at: TopicPartition) -> &mut PartitionValues {
        self.rows.entry(at).or_default()
    }

    /// Changes the values of a partition that is in the table; one that was taken away meanwhile stays away.
    pub fn update(&mut self, at: TopicPartition, change: impl FnOnce(&mut PartitionValues)) {
        if let Some(row) = self.rows.get_mut(&at) {
            change(row);
        }
    }

    /// Takes a partition away: its series end.
    pub fn remove(&mut self, at: TopicPartition) {
        self.rows.remove(&at);
    }

    /// The partitions in the table.
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &PartitionValues)> {
        self.rows.iter().map(|(at, row)| (*at, row))
    }

    pub(super) fn render(&self, pipeline: &str, page: &mut Page, now_ms: u64) {
        for (at, row) in &self.rows {
            let number = at.partition.to_string();
            let topic = self.topics.get(at.topic as usize).map_or("", String::as_str);
            let labels = [("pipeline", pipeline), ("topic", topic), ("partition", number.as_str())];
            row.render(&labels, page, now_ms);
        }
        for reason in PauseReason::ALL {
            let count = self.rows.values().filter(|row| row.paused == Some(*reason)).count();
            page.put(Id::Paused, &[("pipeline", pipeline), ("reason", reason.text())], count as u64);
        }
    }
}

impl PartitionValues {
    fn render(&self, labels: &[(&str, &str); 3], page: &mut Page, now_ms: u64) {
        let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
        if let Some(committed) = self.committed_offset {
            page.put(Id::Committed, labels, offset(committed));
            if let Some(end) = self.end_offset {
                // The end may be older than the commit: such a lag is 0, never negative.
                page.put(Id::Lag, labels, offset(end.saturating_sub(committed)));
            }
        }
        if let Some(received) = self.received_offset {
            page.put(Id::ReceivedOffset, labels, offset(received));
        }
        page.put(Id::Unsettled, labels, self.unsettled);
        let age_ms = self.oldest_unsettled_ms.map_or(0, |since| now_ms.saturating_sub(since));
        page.put_real(Id::OldestUnsettled, labels, age_ms as f64 / 1e3);
        if let Some((at, key)) = &self.slow {
            let [pipeline, topic, partition] = *labels;
            let at = at.to_string();
            let labels = [pipeline, topic, partition, ("offset", at.as_str()), ("key", key.as_str())];
            page.put_real(Id::SlowMessage, &labels, age_ms as f64 / 1e3);
        }
        page.put(Id::MetadataBytes, labels, self.commit_metadata_bytes);
        if let Some(reason) = self.blocked {
            let [pipeline, topic, partition] = *labels;
            page.put(Id::Blocked, &[pipeline, topic, partition, ("reason", reason.text())], 1);
        }
    }
}
