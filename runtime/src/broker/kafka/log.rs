//! librdkafka's log lines, into tracing.

use super::native::{Code, Event, EventKind, Failure};

/// What the client itself tells beside answers and records: its errors, and its log, whose lines are written here.
pub(super) fn failure(event: &Event<'_>) -> Option<Failure> {
    match event.kind() {
        EventKind::Log => forward(event),
        EventKind::Error => event.result().err(),
        _ => None,
    }
}

/// Writes a log event's line; levels are syslog's. Gives the error that librdkafka told here and nowhere else.
pub(super) fn forward(event: &Event<'_>) -> Option<Failure> {
    let (level, facility, line) = event.log()?;
    let (facility, line) = (facility.trim(), line.trim());
    if facility == "FAIL" {
        if level <= 3 {
            // Comes as an error event as well, which is told with its cure.
            return None;
        }
        if broke_early(line) {
            return Some(Failure::new(Code::BrokerTransportFailure, line));
        }
    }
    let level = if comes_with_its_call(facility, line) { 7 } else { level };
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
    None
}

/// Why the transaction under way can't be committed any more. Only the log tells before the commit does.
pub(super) fn transaction_failed(event: &Event<'_>) -> Option<String> {
    let (_, facility, line) = event.log()?;
    let (_, why) = line.split_once("Current transaction failed in state ")?.1.split_once(": ")?;
    (facility.trim() == "TXNERR").then(|| why.trim().to_owned())
}

/// The error whose name ends what [`transaction_failed`] gives, of those for which there is a cure.
pub(super) fn code_in(why: &str) -> Option<Code> {
    let (_, name) = why.strip_suffix(')')?.rsplit_once('(')?;
    match name {
        "TOPIC_AUTHORIZATION_FAILED" => Some(Code::TopicAuthorizationFailed),
        "UNKNOWN_TOPIC_OR_PART" => Some(Code::UnknownTopicOrPartition),
        _ => None,
    }
}

/// What comes as an error as well, of its own or of a transaction's call, or what such a call does by itself: taking an id
/// over ends what was left open, and until that is done the broker asks to wait.
fn comes_with_its_call(facility: &str, line: &str) -> bool {
    matches!(facility, "FATAL" | "TXNERR" | "ADDOFFSETS" | "ADDPARTS")
        || (facility == "GETPID" && line.contains("transactional PID"))
}

/// Whether a connection broke so early that the listener probably speaks another protocol: at the first request where
/// it wants TLS, at the second where it wants a login.
///
/// librdkafka 2.12.1 has words for this and never says them, since it looks for "Disconnected" in the wrong string.
pub(super) fn broke_early(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("Disconnected").and_then(|(_, l)| l.rsplit_once("(after ")) else {
        return false;
    };
    let quick = rest.split_once("ms").and_then(|(ms, _)| ms.parse::<u32>().ok()).is_some_and(|ms| ms < 2000);
    rest.contains("in state APIVERSION_QUERY") || (quick && rest.contains("in state UP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_transactions_cause_is_read_from_its_line() {
        let line = "Failed to add partition(s) to transaction: Broker: Topic authorization failed (after 4 ms)";
        let named = format!("{line} (TOPIC_AUTHORIZATION_FAILED)");
        assert_eq!(code_in(&named), Some(Code::TopicAuthorizationFailed));
        assert_eq!(code_in(line), None);
    }

    #[test]
    fn an_early_end_is_told_from_a_late_one() {
        let line = |state| format!("b:1/1: Disconnected: connection closed by peer: receive 0 after POLLIN ({state})");
        assert!(broke_early(&line("after 60ms in state APIVERSION_QUERY, 1 identical error(s) suppressed")));
        assert!(broke_early(&line("after 3ms in state UP")));
        assert!(!broke_early(&line("after 61233ms in state UP")));
        assert!(!broke_early(
            "b:1/1: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT)"
        ));
    }
}
