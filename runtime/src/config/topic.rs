//! Names of topics and what Kafka allows in them.

use super::units::Refused;

/// Kafka's own limit.
pub(super) const LONGEST: usize = 249;

/// The ends of the names of topics that Keyrail makes for itself, after `GROUP.TOPIC`.
pub(super) const INTERNAL: [&str; 4] = ["retry", "state", "seen", "inbox"];

/// Whether every character may stand in a topic's name; the same holds for groups and pipelines, since topics are
/// named after them.
pub(super) fn legal(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Refuses what Kafka would refuse as the name of a topic.
pub(super) fn check(name: &str) -> Result<(), Refused> {
    if name == "." || name == ".." || !legal(name) {
        return Err((format!("{name:?} can't be a topic"), "letters, digits and . _ - are allowed".to_owned()));
    }
    if name.len() > LONGEST {
        let problem = format!("a topic's name of {} characters", name.len());
        return Err((problem, format!("at most {LONGEST} are allowed")));
    }
    Ok(())
}

/// The default dead-letter topic.
pub(super) fn dead_letters(group: &str, input: &str) -> String {
    format!("{group}.{input}.dlq")
}

/// The topic of handlers' state.
pub(super) fn state(group: &str, input: &str) -> String {
    format!("{group}.{input}.state")
}

/// The topic of messages that are parked.
pub(super) fn retry(group: &str, input: &str) -> String {
    format!("{group}.{input}.retry")
}

/// The topic of commands to whoever owns a partition.
pub(super) fn inbox(group: &str, input: &str) -> String {
    format!("{group}.{input}.inbox")
}

/// The topic of the ids that were seen.
pub(super) fn seen(group: &str, input: &str) -> String {
    format!("{group}.{input}.seen")
}
