//! How a dropped consumer leaves its group.

use super::consumer::Shared;
use super::log;
use super::native::EventKind;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long a dropped consumer may take to leave its group before it is abandoned to its own thread.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// `unanswered`: a rebalance waits for its answer.
pub(super) fn leave(shared: Arc<Shared>, unanswered: bool) {
    let (done, closed) = mpsc::sync_channel::<()>(1);
    // Leaving talks to the broker and may take its time; librdkafka's own close would wait without limit.
    let spawned = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
        close(&shared, unanswered);
        drop(shared);
        drop(done);
    });
    match spawned {
        // Nothing is ever sent: the channel closes when the thread is done.
        Ok(_) => {
            if closed.recv_timeout(CLOSE_WAIT + Duration::from_millis(500)) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!("the Kafka consumer did not stop in time and is abandoned");
            }
        }
        Err(e) => tracing::warn!("the Kafka consumer leaves its group by timeout: no thread to close it: {e}"),
    }
}

fn close(shared: &Shared, unanswered: bool) {
    let until = Instant::now() + CLOSE_WAIT;
    if let Err(failure) = shared.client.close(&shared.events) {
        tracing::warn!("{}", shared.place.explain("leaving the group", &failure));
        return;
    }
    let give_up_all = || {
        // While closing, librdkafka takes any assign call for giving up all.
        if let Err(failure) = shared.client.assign(None) {
            tracing::debug!("{}", shared.place.explain("giving up partitions", &failure));
        }
    };
    if unanswered {
        give_up_all();
    }
    while !shared.client.is_closed() {
        if Instant::now() >= until {
            tracing::warn!(
                "the consumer could not leave its group within {CLOSE_WAIT:?}: the group notices by timeout"
            );
            return;
        }
        match shared.events.poll(Duration::from_millis(50)) {
            Some(event) if event.kind() == EventKind::Rebalance => give_up_all(),
            Some(event) if event.kind() == EventKind::Log => drop(log::forward(&event)),
            _ => {}
        }
    }
}
