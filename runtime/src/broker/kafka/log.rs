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
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
    None
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
