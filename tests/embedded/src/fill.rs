//! What the embedded broker does on a disk that is full.

use super::open;
use super::transact::Writer;
use anyhow::{Result, bail, ensure};
use keyrail::broker::client::{Client, NewTopic};
use keyrail::broker::{BrokerErrorKind, Produce, Refusal};
use keyrail::record::TopicPartition;
use std::path::Path;
use std::time::Duration;

/// Half of the disk: what is written lies in the log first, and is copied into the database from there.
const BALLAST_BYTES: usize = 3 << 20;

pub(super) fn run(dir: &str) -> Result<()> {
    let ballast = Path::new(dir).join("ballast");
    std::fs::write(&ballast, vec![0; BALLAST_BYTES])?;
    let broker = open(dir)?;
    let mut client = broker.client()?;
    client.create_topic(&NewTopic { name: "t".to_owned(), partitions: Some(1), settings: Vec::new() })?;
    let mut acknowledged = 0;
    loop {
        match write(client.as_mut(), acknowledged)? {
            Ok(()) => acknowledged += 1,
            Err(Refusal::Blocked(why)) => {
                println!("refused: {why}");
                break;
            }
            Err(other) => bail!("{other:?}"),
        }
        ensure!(acknowledged < 10_000, "the disk does not fill up");
    }
    for _ in 0..10 {
        // Full it stays, and it stays the same.
        ensure!(matches!(write(client.as_mut(), acknowledged)?, Err(Refusal::Blocked(_))), "a full disk took a record");
    }
    let mut writer = Writer::new(&broker)?;
    match writer.write(&value(acknowledged))? {
        Err(error) if error.kind == BrokerErrorKind::Retry => println!("refused, a transaction: {error}"),
        other => bail!("a transaction on a full disk: {other:?}"),
    }
    ensure!(writer.committed()?.is_none(), "offsets of a refused transaction are committed");
    std::fs::remove_file(&ballast)?;
    for _ in 0..5 {
        if let Err(refusal) = write(client.as_mut(), acknowledged)? {
            bail!("there is room again, and still: {refusal:?}");
        }
        acknowledged += 1;
    }
    writer.write(&value(acknowledged))??;
    acknowledged += 1;
    ensure!(writer.committed()? == Some(7), "a transaction without its offsets");
    drop(writer);
    check(client.as_mut(), acknowledged)?;
    drop(client);
    drop(broker);
    check(open(dir)?.client()?.as_mut(), acknowledged)?;
    println!("went on, all that was acknowledged is there: {acknowledged} records");
    Ok(())
}

fn value(number: u64) -> String {
    format!("{number:0>30000}")
}

fn record(value: &str) -> Produce<'_> {
    let (key, value) = (Some(&b"k"[..]), Some(value.as_bytes()));
    Produce { topic: "t", partition: None, key, value, headers: &[], timestamp_ms: None }
}

fn write(client: &mut dyn Client, number: u64) -> Result<Result<(), Refusal>> {
    client.produce(&[record(&value(number))])?.pop().ok_or_else(|| anyhow::anyhow!("no result"))
}

/// Every acknowledged record is there once, in order, and nothing else is.
fn check(client: &mut dyn Client, acknowledged: u64) -> Result<()> {
    let start = (TopicPartition { topic: 0, partition: 0 }, 0);
    let mut reader = client.read(&["t".to_owned()], &[start])?;
    let mut records = Vec::new();
    while (records.len() as u64) < acknowledged {
        let before = records.len();
        reader.next(Duration::from_secs(1), &mut records)?;
        ensure!(records.len() > before, "{before} of {acknowledged} acknowledged records are there");
    }
    for (number, record) in records.iter().enumerate() {
        ensure!(record.value() == Some(value(number as u64).as_bytes()), "record {number} is another");
    }
    ensure!(records.len() as u64 == acknowledged, "a refused record was written");
    Ok(())
}
