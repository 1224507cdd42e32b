//! Questions and answers.

use crate::broker::{BrokerError, BrokerErrorKind, Committed, LogBounds, Refusal};
use crate::record::TopicPartition;
use serde::{Deserialize, Serialize};

/// Index of a topic in the question's list, and partition.
pub(super) type At = (u32, i32);

pub(super) fn at((topic, partition): At) -> TopicPartition {
    TopicPartition { topic, partition }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(super) enum Ask {
    /// Comes first.
    Hello {
        protocol: u32,
    },
    Topics,
    Settings {
        topic: String,
    },
    LogOf {
        topic: String,
    },
    Create {
        topic: String,
        partitions: Option<i32>,
        settings: Vec<(String, String)>,
    },
    Bounds {
        topic: String,
        partitions: Vec<i32>,
    },
    OffsetsAt {
        topic: String,
        partitions: Vec<i32>,
        time_ms: i64,
    },
    /// Blocks from these offsets on; waits up to `wait_ms` for the first. Answered by `Blocks`.
    Fetch {
        topics: Vec<String>,
        from: Vec<(At, i64)>,
        wait_ms: u64,
    },
    /// The body is one block with all records; a timestamp of [`NOW`] is the time of arrival. `to` says for each record
    /// where it goes, a missing partition being chosen by its key.
    Produce {
        topics: Vec<String>,
        to: Vec<(u32, Option<i32>)>,
    },
    Groups,
    Committed {
        group: String,
        topics: Vec<String>,
        of: Vec<At>,
    },
    /// Answered by `Done`.
    Commit {
        group: String,
        topics: Vec<String>,
        offsets: Vec<(At, i64, String)>,
    },
    /// Takes a transactional id over, for offsets of a group without members in these topics; what this connection staged is
    /// forgotten. Answered by `Done`.
    Claim {
        id: String,
        group: String,
        topics: Vec<String>,
    },
    /// As `Produce`, but for the transaction that [`Ask::End`] writes.
    Stage {
        topics: Vec<String>,
        to: Vec<(u32, Option<i32>)>,
    },
    /// Writes what is staged, and offsets. Answered by `Done`.
    End {
        offsets: Vec<(At, i64, String)>,
    },
}

/// See [`Ask::Produce`].
pub(super) const NOW: i64 = i64::MIN;

/// A block of the body, in the order in which they lie there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockHead {
    pub(super) at: At,
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    Hello {
        protocol: u32,
        version: String,
        pid: u32,
    },
    Topics {
        topics: Vec<(String, i32)>,
    },
    Settings {
        settings: Vec<(String, String)>,
    },
    Created {
        new: bool,
    },
    Done,
    Log {
        log: u64,
    },
    Bounds {
        bounds: Vec<(i64, i64)>,
    },
    Offsets {
        offsets: Vec<i64>,
    },
    /// `moved`: positions that lay outside the log, and where they are now.
    Blocks {
        blocks: Vec<BlockHead>,
        moved: Vec<(At, i64)>,
    },
    /// All records that are not refused are durable.
    Produced {
        refused: Vec<(usize, Verdict, String)>,
    },
    Groups {
        groups: Vec<String>,
    },
    Committed {
        committed: Vec<(Option<i64>, String)>,
    },
    Failed {
        kind: Kind,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Retry,
    Superseded,
    Operator,
    Fatal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Undeliverable,
    Blocked,
    Fenced,
}

impl From<BrokerError> for Answer {
    fn from(error: BrokerError) -> Self {
        let kind = match error.kind {
            BrokerErrorKind::Retry => Kind::Retry,
            BrokerErrorKind::Superseded => Kind::Superseded,
            BrokerErrorKind::Operator => Kind::Operator,
            BrokerErrorKind::Fatal => Kind::Fatal,
        };
        Self::Failed { kind, message: error.message }
    }
}

pub(super) fn error(kind: Kind, message: String) -> BrokerError {
    let kind = match kind {
        Kind::Retry => BrokerErrorKind::Retry,
        Kind::Superseded => BrokerErrorKind::Superseded,
        Kind::Operator => BrokerErrorKind::Operator,
        Kind::Fatal => BrokerErrorKind::Fatal,
    };
    BrokerError { kind, message }
}

pub(super) fn verdict(refusal: Refusal) -> (Verdict, String) {
    match refusal {
        Refusal::Undeliverable(why) => (Verdict::Undeliverable, why),
        Refusal::Blocked(why) => (Verdict::Blocked, why),
        Refusal::Fenced(why) => (Verdict::Fenced, why),
    }
}

pub(super) fn refusal(verdict: Verdict, why: String) -> Refusal {
    match verdict {
        Verdict::Undeliverable => Refusal::Undeliverable(why),
        Verdict::Blocked => Refusal::Blocked(why),
        Verdict::Fenced => Refusal::Fenced(why),
    }
}

impl Answer {
    pub(super) fn bounds(all: Vec<LogBounds>) -> Self {
        Self::Bounds { bounds: all.into_iter().map(|b| (b.start, b.end)).collect() }
    }

    pub(super) fn committed(all: Vec<Committed>) -> Self {
        Self::Committed { committed: all.into_iter().map(|c| (c.offset, c.metadata)).collect() }
    }
}
