//! The topics that pipelines need, and what may be wrong with them.

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

/// The name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    all.map(|other| (distance(name, other), other)).filter(|(d, _)| *d <= 1 + name.len() / 4).min().map(|(_, n)| n)
}

/// How many letters must be put in, taken out or changed to turn one name into the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let all = ["payments", "orders", "receipts"];
        assert_eq!(nearest("paymnets", all.into_iter()), Some("payments"));
        assert_eq!(nearest("order", all.into_iter()), Some("orders"));
        assert_eq!(nearest("shipping", all.into_iter()), None);
        assert_eq!(nearest("", all.into_iter()), None);
    }
}
