//! What the head-of-line guard tells, in log and metrics.

use super::Ledger;
use crate::pipeline::link::to_broker;
use crate::pipeline::show::readable;
use keyrail_engine::guard::{Guard, Point, Told};
use keyrail_engine::message::Now;

/// Looks for messages that hold their partitions up.
pub(super) fn look(guard: &mut Guard, ledger: &Ledger, now: Now) {
    let unsettled = ledger.engine.status().filter(|(_, status)| status.unsettled > 0 && status.blocked.is_none());
    let points: Vec<Point> = unsettled
        .map(|(partition, status)| Point { partition, offset: status.point, since_ms: status.point_since_ms })
        .collect();
    for told in guard.look(&points, |point| key_of(ledger, point).is_some(), now) {
        match told {
            Told::Holds(point, age_ms) => begins(ledger, &point, age_ms),
            Told::Held(point, age_ms) => ends(ledger, &point, age_ms),
        }
    }
}

/// The key of a message that a call runs for the first time, as it is shown.
fn key_of(ledger: &Ledger, point: &Point) -> Option<String> {
    let at = to_broker(point.partition);
    ledger.long.iter().find_map(|call| {
        call.find(|delivery| {
            let record = &delivery.record;
            let is_it = record.at == at && record.offset == point.offset && delivery.attempt == 1;
            is_it.then(|| readable(record.key()))
        })
    })
}

fn begins(ledger: &Ledger, point: &Point, age_ms: u64) {
    let names = &ledger.names;
    let topic = names.inputs.get(point.partition.topic as usize).map_or("?", String::as_str);
    // Its call may have ended just now.
    let key = key_of(ledger, point).unwrap_or_default();
    let age_s = age_ms as f64 / 1e3;
    tracing::warn!(
        pipeline = names.pipeline,
        topic,
        partition = point.partition.number,
        offset = point.offset,
        key,
        age_s,
        "a slow message holds up what its partition commits; others go on, and it is told when this is over"
    );
    ledger
        .metrics
        .partitions(|table| table.update(to_broker(point.partition), |row| row.slow = Some((point.offset, key))));
}

fn ends(ledger: &Ledger, point: &Point, age_ms: u64) {
    let names = &ledger.names;
    let topic = names.inputs.get(point.partition.topic as usize).map_or("?", String::as_str);
    let (partition, offset, held_s) = (point.partition.number, point.offset, age_ms as f64 / 1e3);
    tracing::info!(
        pipeline = names.pipeline,
        topic,
        partition,
        offset,
        held_s,
        "the slow message does not hold its partition up any more"
    );
    ledger.metrics.partitions(|table| table.update(to_broker(point.partition), |row| row.slow = None));
}
