//! The topics that pipelines need, and what may be wrong with them.

pub use crate::nearest::nearest;

/// What a pipeline uses a topic for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRole {
    /// Read.
    Input,
    /// Written by the handler.
    Output,
    /// Dead letters of the input named; made with as many partitions as that has.
    DeadLetter {
        /// The input topic.
        input: String,
    },
}

/// A topic that a pipeline needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededTopic {
    /// Its name.
    pub name: String,
    /// What for.
    pub role: TopicRole,
}

/// What is wrong with a topic, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProblem {
    /// The topic.
    pub topic: String,
    /// What is wrong with it and what to do.
    pub message: String,
    /// The command that puts it right, where there is one.
    pub command: Option<String>,
}

/// Room for the headers that a dead letter gets, beside the record itself.
const DEAD_LETTER_HEADERS_BYTES: i64 = 64 * 1024;

/// The settings of a topic for dead letters, by Kafka's names. `limit` is the input's `max.message.bytes`, where known:
/// what fits the input must fit with its new headers. Retention stays the broker's.
#[must_use]
pub fn dead_letter_settings(limit: Option<i64>) -> Vec<(String, String)> {
    let mut settings = vec![("cleanup.policy".to_owned(), "delete".to_owned())];
    if let Some(limit) = limit {
        let with_headers = limit.saturating_add(DEAD_LETTER_HEADERS_BYTES).min(i64::from(i32::MAX));
        settings.push(("max.message.bytes".to_owned(), with_headers.to_string()));
    }
    settings
}
