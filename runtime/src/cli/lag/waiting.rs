//! How many messages of a pipeline are parked, and for how long.

use super::PipelineLag;
use crate::cli::parked::{Live, Standing, retry_topics};
use crate::cli::place;
use crate::cli::terminal::{counted, say};
use keyrail::broker::client::{Client, Topic};
use keyrail::config::{BrokerKind, Host, Pipeline};

/// So many records are read without being asked for: they are in memory within a second.
const READ: i64 = 200_000;

/// Counts, where little is to be read for it, or where it is asked for.
pub(super) fn count(
    lag: &mut PipelineLag,
    client: &mut dyn Client,
    pipeline: &Pipeline,
    all: &[Topic],
    host: &Host,
    asked: bool,
) -> anyhow::Result<()> {
    let topics = retry_topics(pipeline, all, &[]);
    let mut records = 0;
    for (_, _, topic) in &topics {
        let bounds = client.bounds(&topic.name, &(0..topic.partitions).collect::<Vec<_>>())?;
        records += bounds.iter().map(|bounds| bounds.end - bounds.start).sum::<i64>();
    }
    if records > READ && !asked {
        let count = counted(records.unsigned_abs(), "record");
        say(&format!(
            "keyrail: what {} has parked is not counted, which takes reading {count}: --parked",
            pipeline.name
        ));
        return Ok(());
    }
    // What is not there holds nothing.
    lag.parked = Some(0);
    lag.partitions.iter_mut().for_each(|row| row.parked = Some(0));
    let now = place::now_ms();
    for (_, input, topic) in &topics {
        for partition in 0..topic.partitions {
            let (mut count, mut oldest) = (0_u64, None::<i64>);
            let comes_back = host.broker == BrokerKind::Kafka;
            Live::new(client, &topic.name, input, partition, comes_back).each(&mut |record, found| {
                let Standing::Message(_, envelope) = found else { return };
                let first = envelope.ok().and_then(|envelope| envelope.waiting.history.first_failed_ms);
                let since = first.unwrap_or(record.timestamp_ms);
                count += 1;
                oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
            })?;
            let seconds = oldest.map(|since| now.saturating_sub(since).max(0) as f64 / 1000.0);
            if let Some(row) = lag.partitions.iter_mut().find(|row| row.topic == *input && row.partition == partition) {
                (row.parked, row.parked_seconds) = (Some(count), seconds);
            }
            lag.parked = lag.parked.map(|all| all + count);
            lag.parked_seconds = [lag.parked_seconds, seconds].into_iter().flatten().reduce(f64::max);
        }
    }
    Ok(())
}
