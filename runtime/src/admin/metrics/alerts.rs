//! What becomes of alerts, by receiver.

use super::catalog::Id;
use super::page::Page;
use super::value::{Counter, Gauge};
use std::sync::Arc;

/// Of both receivers, whether they are configured or not.
#[derive(Debug, Default)]
pub struct AlertMetrics {
    /// `[alerts.webhook]`.
    pub webhook: Arc<ReceiverMetrics>,
    /// `[alerts.mail]`.
    pub mail: Arc<ReceiverMetrics>,
}

/// Of one receiver; its thread owns them, but for `dropped`.
#[derive(Debug, Default)]
pub struct ReceiverMetrics {
    /// Messages that it took.
    pub delivered: Counter,
    /// Attempts that came to nothing.
    pub failed: Counter,
    /// Groups of alerts that have something that is not told yet.
    pub pending: Gauge,
    /// Events that found no room.
    pub dropped: Counter,
}

impl AlertMetrics {
    pub(super) fn render(&self, page: &mut Page) {
        for (name, of) in [("webhook", &self.webhook), ("mail", &self.mail)] {
            page.put(Id::AlertMessages, &[("receiver", name), ("result", "delivered")], of.delivered.get());
            page.put(Id::AlertMessages, &[("receiver", name), ("result", "failed")], of.failed.get());
            page.put(Id::AlertsPending, &[("receiver", name)], of.pending.get());
            page.put(Id::AlertEventsDropped, &[("receiver", name)], of.dropped.get());
        }
    }
}
