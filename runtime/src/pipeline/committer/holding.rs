//! What the head-of-line guard tells, in log and metrics.

use super::Ledger;
use crate::pipeline::link::to_broker;
use keyrail_engine::guard::{Guard, Point, Told};
use keyrail_engine::message::Now;

/// So many characters of a key are shown.
const KEY_CHARS: usize = 60;

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

/// A key as text where it is text, else in hexadecimal digits; cut where it is long.
fn readable(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return String::new() };
    let text = match std::str::from_utf8(key) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => key.iter().take(KEY_CHARS).fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}")),
    };
    let short: String = text.chars().take(KEY_CHARS).collect();
    if short.len() < text.len() { short + "..." } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_text_or_digits_and_cut() {
        assert_eq!(readable(Some(b"customer-7")), "customer-7");
        assert_eq!(readable(None), "");
        assert_eq!(readable(Some(&[0xff, 0x00, 0x1b])), "0xff001b");
        assert_eq!(readable(Some(b"two\nlines")), "0x74776f0a6c696e6573");
        assert_eq!(readable(Some("\u{e9}".repeat(61).as_bytes())), "\u{e9}".repeat(60) + "...");
        let long = readable(Some(&[0xff; 1_000]));
        assert!(long.len() == KEY_CHARS + 3 && long.ends_with("ff..."), "{long}");
    }
}
