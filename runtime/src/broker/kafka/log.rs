//! librdkafka's log lines, into tracing.

use super::native::Event;

/// Writes a log event's line. Levels are syslog's.
pub(super) fn forward(event: &Event<'_>) {
    let Some((level, facility, line)) = event.log() else { return };
    let (facility, line) = (facility.trim(), line.trim());
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
