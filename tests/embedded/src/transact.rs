//! A process that reads, writes and commits in transactions: each record of `in` becomes two of `out`.

use super::open;
use anyhow::{Context as _, Result, bail, ensure};
use keyrail::broker::client::{Client, NewTopic};
use keyrail::broker::embedded::Embedded;
use keyrail::broker::{Broker as _, BrokerError, Consumer, Finished, OffsetCommit, Polled, Produce, Transactions};
use keyrail::record::{Record, TopicPartition};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const AT_ONCE: usize = 40;
const INPUT: usize = 400;

pub(super) fn run(dir: &str) -> Result<()> {
    let broker = open(dir)?;
    let mut client = broker.client()?;
    for name in ["in", "out"] {
        client.create_topic(&NewTopic { name: name.to_owned(), partitions: Some(4), settings: Vec::new() })?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    keyrail::fail::arm().map_err(anyhow::Error::msg)?;
    let mut consumer = broker.consumer("g", &["in".to_owned()])?;
    join(consumer.as_mut())?;
    let mut transactions = consumer.transactions("g-0", &["out"])?;
    transactions.renew();
    end(transactions.as_mut())??;
    loop {
        let records = take(consumer.as_mut())?;
        if records.is_empty() {
            feed(client.as_mut())?;
            continue;
        }
        copy(transactions.as_mut(), &records)?;
        let ends: BTreeMap<TopicPartition, i64> = records.iter().map(|r| (r.at, r.offset + 1)).collect();
        let offset = |(at, offset)| OffsetCommit { at, offset, metadata: format!("m{offset}") };
        transactions.commit(ends.into_iter().map(offset).collect());
        end(transactions.as_mut())??;
    }
}

fn feed(client: &mut dyn Client) -> Result<()> {
    let keys: Vec<String> = (0..INPUT).map(|n| n.to_string()).collect();
    let records: Vec<_> =
        keys.iter().map(|key| Produce { topic: "in", key: Some(key.as_bytes()), ..blank() }).collect();
    ensure!(client.produce(&records)?.iter().all(Result::is_ok), "a record was refused");
    Ok(())
}

fn blank<'a>() -> Produce<'a> {
    Produce { topic: "out", partition: None, key: None, value: None, headers: &[], timestamp_ms: None }
}

/// Takes what the group gives, each partition from what is committed.
fn join(consumer: &mut dyn Consumer) -> Result<()> {
    let Polled::Assigned(given) = consumer.poll(LIMIT) else { bail!("no assignment") };
    let committed = consumer.committed(&given, LIMIT)?;
    let starts: Vec<_> = given.iter().zip(committed).map(|(at, c)| (*at, c.offset.unwrap_or(0))).collect();
    Ok(consumer.assign(&starts)?)
}

fn take(consumer: &mut dyn Consumer) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while records.len() < AT_ONCE {
        match consumer.poll(Duration::ZERO) {
            Polled::Record(record) => records.push(record),
            Polled::Idle => break,
            other => bail!("{other:?}"),
        }
    }
    Ok(records)
}

/// Two records for each, in two partitions as a rule.
fn copy(transactions: &mut dyn Transactions, records: &[Record]) -> Result<()> {
    for (token, record) in (0..).zip(records) {
        for copy in ["a", "b"] {
            let key = format!("{copy}-{}-{}", record.at.partition, record.offset);
            let record = Produce { key: Some(key.as_bytes()), ..blank() };
            let taken = transactions.send(&record, token).map_err(|r| anyhow::anyhow!("{r:?}"))?;
            ensure!(taken, "it has no room");
        }
    }
    let mut reports = Vec::new();
    transactions.poll(Duration::ZERO, &mut reports);
    ensure!(reports.len() == 2 * records.len() && reports.iter().all(|(_, result)| result.is_ok()), "{reports:?}");
    Ok(())
}

/// The end of what was begun last.
fn end(transactions: &mut dyn Transactions) -> Result<Result<Finished, BrokerError>> {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        transactions.poll(Duration::from_millis(10), &mut Vec::new());
        if let Some(result) = transactions.finished() {
            return Ok(result);
        }
    }
    bail!("a transaction does not end")
}

/// A member of a group of its own, which writes to `t`.
pub(super) struct Writer {
    consumer: Box<dyn Consumer>,
    transactions: Box<dyn Transactions>,
}

const AT: TopicPartition = TopicPartition { topic: 0, partition: 0 };

impl Writer {
    pub(super) fn new(broker: &Embedded) -> Result<Self> {
        let mut consumer = broker.consumer("writer", &["t".to_owned()])?;
        join(consumer.as_mut())?;
        let transactions = consumer.transactions("writer-0", &["t"])?;
        Ok(Self { consumer, transactions })
    }

    /// A record and offset 7, in one transaction.
    pub(super) fn write(&mut self, value: &str) -> Result<Result<Finished, BrokerError>> {
        self.transactions.renew();
        end(self.transactions.as_mut())??;
        let record = Produce { topic: "t", key: Some(b"k"), value: Some(value.as_bytes()), ..blank() };
        let taken = self.transactions.send(&record, 0).map_err(|r| anyhow::anyhow!("{r:?}"))?;
        ensure!(taken, "it has no room");
        self.transactions.commit(vec![OffsetCommit { at: AT, offset: 7, metadata: String::new() }]);
        end(self.transactions.as_mut())
    }

    pub(super) fn committed(&mut self) -> Result<Option<i64>> {
        Ok(self.consumer.committed(&[AT], LIMIT)?.pop().context("no answer")?.offset)
    }
}
