//! Programs for the tests and figures of the embedded broker: each is a process that can be killed.
//!
//! ```text
//! embedded-rig produce DIR ACKS FIRST  numbers its records from FIRST on, and notes in ACKS what was acknowledged, until
//!                                      it is killed
//! embedded-rig transact DIR            reads, writes and commits in transactions until it is killed
//! embedded-rig hold DIR                holds the folder until its standard input ends
//! embedded-rig fill DIR                fills the disk that DIR is on, and then makes room
//! embedded-rig run FILE                runs what a keyrail.toml says until its standard input ends
//! embedded-rig copy DIR GUEST [RECORDS]  copies records of 100 bytes over 8 partitions through the handler GUEST
//! embedded-rig swap DIR GUEST          swaps versions of the handler GUEST, and tells how soon each has its first message
//! embedded-rig idle DIR GUEST COUNT    runs so many pipelines that have nothing to do, and tells what they cost
//! embedded-rig neighbours DIR GUESTS    how long messages take beside a pipeline whose handler never behaves
//! embedded-rig bench DIR [RECORDS]     writes and reads records of 100 bytes over 8 partitions
//! ```

mod bench;
mod fill;
mod idle;
mod neighbours;
mod running;
mod serve;
mod swap;
mod transact;

use anyhow::{Context as _, Result, bail};
use keyrail::broker::client::NewTopic;
use keyrail::broker::embedded::{Embedded, Options};
use keyrail::broker::{Broker as _, Produce};
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["produce", dir, acks, first] => produce(dir, Path::new(acks), first.parse()?),
        ["transact", dir] => transact::run(dir),
        ["hold", dir] => hold(dir),
        ["fill", dir] => fill::run(dir),
        ["run", file] => serve::run(Path::new(file)),
        ["copy", dir, guest] => serve::bench(dir, Path::new(guest), 2_000_000),
        ["copy", dir, guest, records] => serve::bench(dir, Path::new(guest), records.parse()?),
        ["swap", dir, guest] => swap::bench(dir, Path::new(guest)),
        ["idle", dir, guest, count] => idle::bench(dir, Path::new(guest), count.parse()?),
        ["neighbours", dir, guests] => neighbours::bench(dir, Path::new(guests)),
        ["bench", dir] => bench::run(dir, 1_000_000),
        ["bench", dir, records] => bench::run(dir, records.parse()?),
        _ => bail!("see the top of src/main.rs for what it does"),
    }
}

fn open(dir: &str) -> Result<Embedded> {
    Ok(Embedded::open(&Options { dir: PathBuf::from(dir), partitions: 4, durable: true })?)
}

fn hold(dir: &str) -> Result<()> {
    let broker = open(dir)?;
    println!("held");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(broker);
    Ok(())
}

fn produce(dir: &str, acks: &Path, mut next: u64) -> Result<()> {
    let broker = open(dir)?;
    broker.client()?.create_topic(&NewTopic { name: "t".to_owned(), partitions: Some(4), settings: Vec::new() })?;
    let mut file = OpenOptions::new().create(true).append(true).open(acks)?;
    let mut producer = broker.producer(&[])?;
    let mut reports = Vec::new();
    file.write_all(b"\n")?;
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        for _ in 0..50 {
            let text = next.to_string();
            let record = Produce {
                topic: "t",
                partition: None,
                key: Some(text.as_bytes()),
                value: Some(text.as_bytes()),
                headers: &[],
                timestamp_ms: None,
            };
            if !producer.send(&record, next).map_err(|r| anyhow::anyhow!("{r:?}"))? {
                break;
            }
            next += 1;
        }
        producer.poll(Duration::from_millis(1), &mut reports);
        let mut noted = String::new();
        for (number, result) in reports.drain(..) {
            result.map_err(|r| anyhow::anyhow!("{r:?}"))?;
            // A kill may cut the writing of a note: only a number with its end counts.
            noted.push_str(&format!("{number};\n"));
        }
        file.write_all(noted.as_bytes()).context("noting what was acknowledged")?;
    }
}
