//! A topic's settings, under the names that Kafka gives them, and names of topics.

use super::errors::operator;
use crate::broker::BrokerError;

/// Kafka's own limit.
const LONGEST_NAME: usize = 249;
/// More would be rows and wake-ups without use on one machine.
pub(crate) const MOST_PARTITIONS: i32 = 1024;
/// No record is larger, whatever the topic allows: a block and a frame of the socket hold one at least.
pub(crate) const LARGEST_MESSAGE: i64 = 32 << 20;
/// A dead letter of the largest message has headers more.
const LETTER_ROOM: i64 = 1 << 20;
const NAMES: &str =
    "cleanup.policy, delete.retention.ms, max.message.bytes, min.cleanable.dirty.ratio, retention.bytes, retention.ms";

/// What a topic keeps and takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `cleanup.policy` has `delete`: retention applies.
    pub(crate) delete: bool,
    /// `cleanup.policy` has `compact`.
    pub(crate) compact: bool,
    /// `None`: for ever.
    pub(crate) retention_ms: Option<i64>,
    /// Of each partition; `None`: without limit.
    pub(crate) retention_bytes: Option<i64>,
    /// How long a tombstone stays after it was compacted first.
    pub(crate) delete_retention_ms: i64,
    /// Key, value and headers of one record.
    pub(crate) max_message_bytes: i64,
    /// The share of a compacted log that is written anew before it is compacted.
    pub(crate) dirty_ratio: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delete: true,
            compact: false,
            retention_ms: Some(7 * 86_400_000),
            retention_bytes: None,
            delete_retention_ms: 86_400_000,
            max_message_bytes: 1_048_588,
            dirty_ratio: 0.5,
        }
    }
}

impl Settings {
    /// The settings as given, the rest by default.
    pub(crate) fn parse(given: &[(String, String)]) -> Result<Self, BrokerError> {
        let mut settings = Self::default();
        for (name, value) in given {
            settings.set(name, value.trim())?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BrokerError> {
        let number = |least: i64, most: i64| {
            let number = value.parse::<i64>().ok().filter(|n| (least..=most).contains(n));
            number
                .ok_or_else(|| operator(format!("{name} = {value:?}: a whole number from {least} to {most} is needed")))
        };
        let limit = |n: i64| (n >= 0).then_some(n);
        match name {
            "cleanup.policy" => {
                (self.delete, self.compact) = match value {
                    "delete" => (true, false),
                    "compact" => (false, true),
                    "compact,delete" | "delete,compact" => (true, true),
                    _ => {
                        let cure = "\"delete\", \"compact\" or \"compact,delete\" is needed";
                        return Err(operator(format!("cleanup.policy = {value:?}: {cure}")));
                    }
                };
            }
            "retention.ms" => self.retention_ms = limit(number(-1, i64::MAX)?),
            "retention.bytes" => self.retention_bytes = limit(number(-1, i64::MAX)?),
            "delete.retention.ms" => self.delete_retention_ms = number(0, i64::MAX)?,
            "max.message.bytes" => self.max_message_bytes = number(0, LARGEST_MESSAGE + LETTER_ROOM)?,
            "min.cleanable.dirty.ratio" => {
                let ratio = value.parse::<f64>().ok().filter(|n| (0.0..=1.0).contains(n));
                self.dirty_ratio = ratio.ok_or_else(|| operator(format!("{name} = {value:?}: 0 to 1 is needed")))?;
            }
            _ => {
                return Err(operator(format!(
                    "{name:?} is no setting of a topic on the embedded broker, which knows {NAMES}"
                )));
            }
        }
        Ok(())
    }

    /// All of them as written, by name in order.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let policy = match (self.delete, self.compact) {
            (true, true) => "compact,delete",
            (false, true) => "compact",
            _ => "delete",
        };
        let limit = |n: Option<i64>| n.unwrap_or(-1).to_string();
        [
            ("cleanup.policy", policy.to_owned()),
            ("delete.retention.ms", self.delete_retention_ms.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("min.cleanable.dirty.ratio", self.dirty_ratio.to_string()),
            ("retention.bytes", limit(self.retention_bytes)),
            ("retention.ms", limit(self.retention_ms)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Refuses what Kafka would refuse as the name of a topic.
pub(crate) fn check_name(name: &str) -> Result<(), BrokerError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name == "." || name == ".." || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
        let cure = format!("1 to {LONGEST_NAME} letters, digits and . _ - are allowed");
        return Err(operator(format!("{name:?} can't be a topic's name: {cure}")));
    }
    Ok(())
}

/// Refuses numbers of partitions that make no sense here.
pub(crate) fn check_partitions(count: i32) -> Result<(), BrokerError> {
    if (1..=MOST_PARTITIONS).contains(&count) {
        return Ok(());
    }
    Err(operator(format!("{count} partitions: the embedded broker takes 1 to {MOST_PARTITIONS}")))
}
