//! What the ledger shows of its partitions, in metrics and log.

use super::Trouble;
use super::clock::wall_ms;
use super::committer::Names;
use super::link::to_broker;
use crate::admin::metrics::{BlockReason, PauseReason, PipelineMetrics};
use crate::broker::{BrokerError, BrokerErrorKind};
use keyrail_engine::message::{Fate, Now, Partition};
use keyrail_engine::pipeline::Pipeline;

/// So many characters of a key are shown.
const KEY_CHARS: usize = 60;

/// Writes how each partition stands.
pub(super) fn partitions<M>(metrics: &PipelineMetrics, engine: &Pipeline<M>, now: Now) {
    let mut in_flight = 0;
    metrics.partitions(|table| {
        for (partition, status) in engine.status() {
            in_flight += status.unsettled as u64;
            table.update(to_broker(partition), |row| {
                row.committed_offset = status.committed.or(row.committed_offset);
                row.received_offset = Some(status.next);
                row.end_offset = Some(status.end);
                row.unsettled = status.unsettled as u64;
                let since = wall_ms() - i64::try_from(now.steady_ms.saturating_sub(status.point_since_ms)).unwrap_or(0);
                row.oldest_unsettled_ms = (status.unsettled > 0).then_some(since).and_then(|ms| u64::try_from(ms).ok());
                row.commit_metadata_bytes = u64::from(status.map_bytes);
                let reason = if status.blocked.is_some() { PauseReason::Blocked } else { PauseReason::Metadata };
                // The budget's pause is written by the consumer thread.
                if status.paused {
                    row.paused = Some(reason);
                } else if row.paused != Some(PauseReason::Budget) {
                    row.paused = None;
                }
            });
        }
    });
    metrics.in_flight.set(in_flight);
}

/// What became of a message by a command from outside.
pub(super) const fn deed(fate: &Fate) -> &'static str {
    match fate {
        Fate::Discarded(_) => "a parked message is dropped",
        _ => "a message may run again",
    }
}

/// A partition waits, and says why.
pub(super) fn blocked(metrics: &PipelineMetrics, names: &Names, partition: Partition, letter: bool, why: &str) {
    let topic = names.inputs.get(partition.topic as usize).map_or("?", String::as_str);
    tracing::warn!(
        pipeline = names.pipeline,
        topic,
        partition = partition.number,
        why,
        "the partition waits; nothing is lost, and it goes on by itself"
    );
    let reason = if letter { BlockReason::DeadLetter } else { BlockReason::Output };
    metrics.partitions(|table| table.update(to_broker(partition), |row| row.blocked = Some(reason)));
}

/// A message settled that the ledger does not know: a fault of Keyrail. It would stay in flight for ever, so all that is
/// not committed is read again.
pub(super) fn stray(names: &Names, partition: Partition, offset: i64) -> Trouble {
    let topic = names.inputs.get(partition.topic as usize).map_or("?", String::as_str);
    let number = partition.number;
    tracing::error!(
        pipeline = names.pipeline,
        topic,
        partition = number,
        offset,
        "a message settled twice, or before the ledger had heard of it; this is a bug of Keyrail, please report it"
    );
    Trouble::Again(format!(
        "{topic}/{number}: offset {offset} settled and is not in flight; what is not committed is read again"
    ))
}

/// It goes on.
pub(super) fn unblocked(metrics: &PipelineMetrics, names: &Names, partition: Partition) {
    let topic = names.inputs.get(partition.topic as usize).map_or("?", String::as_str);
    tracing::info!(pipeline = names.pipeline, topic, partition = partition.number, "the partition goes on");
    metrics.partitions(|table| table.update(to_broker(partition), |row| row.blocked = None));
}

/// A transaction came to nothing.
pub(super) fn given_up(metrics: &PipelineMetrics, names: &Names, why: &str) {
    metrics.transactions_given_up.add(1);
    tracing::warn!(
        pipeline = names.pipeline,
        why,
        "a transaction is given up; nothing of it is visible unless all of it is, and what is not committed runs again"
    );
}

/// A commit was not taken. `last`: of partitions that are given up.
pub(super) fn commit_failed(names: &Names, error: &BrokerError, last: bool) {
    let (pipeline, (expected, told)) = (&names.pipeline, commit_words(error.kind, last));
    if expected {
        tracing::info!(pipeline, %error, "{told}");
    } else {
        tracing::warn!(pipeline, %error, "{told}");
    }
}

/// Whether it happens in a healthy group, and the words.
const fn commit_words(kind: BrokerErrorKind, last: bool) -> (bool, &'static str) {
    match (kind, last) {
        (BrokerErrorKind::Superseded, false) => {
            (true, "no commit while the group rebalances; its offsets are in a later one")
        }
        (BrokerErrorKind::Superseded, true) => (
            true,
            "the group rebalanced before the last commit: what it held runs again with whoever has the partitions",
        ),
        (_, false) => (false, "a commit failed; its offsets are in the next one"),
        (_, true) => (false, "the last commit failed: what it held runs again with whoever gets the partitions"),
    }
}

/// A key as text where it is text, else in hexadecimal digits; cut where it is long.
pub(super) fn readable(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return String::new() };
    let text = match std::str::from_utf8(key) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => key.iter().take(KEY_CHARS).fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}")),
    };
    let short: String = text.chars().take(KEY_CHARS).collect();
    if short.len() < text.len() { short + "..." } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BrokerErrorKind::{Fatal, Operator, Retry, Superseded};

    #[test]
    fn a_commit_that_a_rebalance_hinders_is_no_warning() {
        for last in [false, true] {
            let (expected, told) = commit_words(Superseded, last);
            assert!(expected && told.contains("rebalance"), "{told}");
            for kind in [Retry, Operator, Fatal] {
                let (expected, told) = commit_words(kind, last);
                assert!(!expected && told.contains("commit failed"), "{told}");
            }
        }
        // After the last commit there is no next one.
        assert!(commit_words(Retry, false).1.contains("next") && !commit_words(Retry, true).1.contains("next"));
    }

    #[test]
    fn keys_are_shown_as_text_or_digits_and_cut() {
        assert_eq!(readable(Some(b"customer-7")), "customer-7");
        assert_eq!(readable(None), "");
        assert_eq!(readable(Some(&[0xff, 0x00, 0x1b])), "0xff001b");
        assert_eq!(readable(Some(b"two\nlines")), "0x74776f0a6c696e6573");
        assert_eq!(readable(Some("\u{e9}".repeat(61).as_bytes())), "\u{e9}".repeat(60) + "...");
        let long = readable(Some(&[0xff; 1_000]));
        assert!(long.len() == KEY_CHARS + 3 && long.ends_with("ff..."), "{long}");
    }
}
