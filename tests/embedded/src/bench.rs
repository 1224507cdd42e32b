//! How fast the embedded broker writes and reads, without a handler.

use super::open;
use anyhow::{Result, bail};
use keyrail::broker::client::NewTopic;
use keyrail::broker::{Broker as _, Consumer, Polled, Produce};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;
const VALUE: [u8; 100] = [b'x'; 100];

pub(super) fn run(dir: &str, records: u64) -> Result<()> {
    let broker = open(dir)?;
    let topic = NewTopic { name: "bench".to_owned(), partitions: Some(PARTITIONS), settings: Vec::new() };
    broker.client()?.create_topic(&topic)?;
    let began = Instant::now();
    let mut producer = broker.producer(&[])?;
    let (mut sent, mut acknowledged) = (0, 0);
    let mut reports = Vec::new();
    while acknowledged < records {
        while sent < records {
            let key = (sent % 100_000).to_string();
            let record = Produce {
                topic: "bench",
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(&VALUE),
                headers: &[],
                timestamp_ms: None,
            };
            match producer.send(&record, sent) {
                Ok(true) => sent += 1,
                Ok(false) => break,
                Err(refusal) => bail!("{refusal:?}"),
            }
        }
        producer.poll(Duration::from_millis(10), &mut reports);
        for (_, result) in reports.drain(..) {
            result.map_err(|r| anyhow::anyhow!("{r:?}"))?;
            acknowledged += 1;
        }
    }
    tell("written", records, began);
    let mut consumer = broker.consumer("bench", &["bench".to_owned()])?;
    let began = Instant::now();
    let read = read(consumer.as_mut(), records)?;
    tell("read", read, began);
    single(&broker)
}

fn read(consumer: &mut dyn Consumer, records: u64) -> Result<u64> {
    let mut read = 0;
    while read < records {
        match consumer.poll(Duration::from_secs(1)) {
            Polled::Record(_) => read += 1,
            Polled::Assigned(all) => {
                consumer.assign(&all.into_iter().map(|at| (at, 0)).collect::<Vec<_>>())?;
            }
            Polled::Idle => bail!("{read} of {records} records came"),
            other => bail!("{other:?}"),
        }
    }
    Ok(read)
}

/// One record at a time: what a sync of this disk costs.
fn single(broker: &keyrail::broker::embedded::Embedded) -> Result<()> {
    let mut client = broker.client()?;
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let record = Produce {
            topic: "bench",
            partition: None,
            key: Some(b"k"),
            value: Some(&VALUE),
            headers: &[],
            timestamp_ms: None,
        };
        let began = Instant::now();
        client.produce(&[record])?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("one record at a time: median {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1]);
    Ok(())
}

fn tell(what: &str, records: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{records} records of 100 bytes {what} in {seconds:.2} s: {:.0} a second", records as f64 / seconds);
}
