//! librdkafka's log lines, into tracing.

use super::native::{Code, Event, Failure};

/// Writes a log event's line; levels are syslog's. Gives the error that librdkafka told here and nowhere else.
pub(super) fn forward(event: &Event<'_>) -> Option<Failure> {
    let (level, facility, line) = event.log()?;
    let (facility, line) = (facility.trim(), line.trim());
    eprintln!("DBG {level} {facility} {line}");
    if facility == "FAIL" {
        if level <= 3 {
            // Comes as an error event as well, which is told with its cure.
            return None;
        }
        if line.contains("security.protocol") {
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
