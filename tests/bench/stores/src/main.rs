//! Other engines as the local store, for comparison. In this folder, one engine and one workload at a time:
//! `cargo run --release -- ENGINE WORKLOAD [COUNT] [FOLDER]`
//!
//! Engines: `keyrail` (`seen` and `flush` only), `fjall`, `redb`, `sqlite`. Workloads: `seen` (10 M new ids of 16 bytes, each looked up, then
//! inserted with a time), `state8` (8-byte values of 1 M keys: read, change, write) and `state100` (100-byte values of
//! 10 M keys). 1,000 to a batch, which is atomic and holds a checkpoint; synced to disk every 100 batches; caches of
//! 128 MiB.
//! `flush8` and `flush100`: the store of state's shape, 1 M keys whose changes wait in a map and are written sorted, by a thread of
//! its own (see `flush`).

mod engines;
mod figures;
mod flush;

use engines::{Batch, Engine, Key};
use figures::{Figures, mix};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: u64 = 1_000;
const SYNC_EVERY: u64 = 100;
const READS: u64 = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (engine, workload) = (args.next().ok_or("which engine?")?, args.next().ok_or("which workload?")?);
    let (keys, bytes) = match workload.as_str() {
        "seen" => (10_000_000, 8),
        "state8" => (1_000_000, 8),
        "state100" => (10_000_000, 100),
        "flush8" | "killed8" => (1_000_000, 8),
        "flush100" | "killed100" => (1_000_000, 100),
        _ => return Err("a workload is seen, state8, state100, flush8 or flush100".into()),
    };
    let keys: u64 = args.next().map_or(Ok(keys), |a| a.parse())?;
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("keyrail-stores-bench"), PathBuf::from);
    if workload.starts_with("killed") {
        flush::die(&engine, keys, bytes, &folder).map_err(|e| e.to_string())?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    println!("{engine}, {workload}, {keys} keys, {bytes} bytes each");
    if workload.starts_with("flush") {
        flush::run(&engine, keys, bytes, &folder).map_err(|e| e.to_string())?;
        std::fs::remove_dir_all(&folder)?;
        return Ok(());
    }
    let before = Figures::now()?;
    let mut store = engines::open(&engine, &folder)?;
    let mut checkpoint = 0;

    let all = (0..keys).map(key);
    run("insert new", all, bytes, store.as_mut(), &mut checkpoint)?;
    if workload != "seen" {
        let some = (0..2_000_000).map(|n| key(mix(n ^ 0x5eed) % keys));
        run("read, change, write", some, bytes, store.as_mut(), &mut checkpoint)?;
    }
    reads("look up known", (0..READS).map(|n| key(mix(n ^ 0xfeed) % keys)), true, store.as_mut())?;
    reads("look up new", (0..READS).map(|n| key(keys + n)), false, store.as_mut())?;
    let memory = Figures::now()?.rss.saturating_sub(before.rss);
    let started = Instant::now();
    store.sync()?;
    drop(store);
    println!("  close: {} ms", started.elapsed().as_millis());
    let started = Instant::now();
    let mut store = engines::open(&engine, &folder)?;
    if store.read(&key(0))?.is_none() {
        return Err("not as it was left".into());
    }
    println!(
        "  reopen: {} ms; memory {:.1} bytes a key; disk {:.1} bytes a key",
        started.elapsed().as_millis(),
        memory as f64 / keys as f64,
        figures::disk(&folder)? as f64 / keys as f64
    );
    drop(store);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Reads, changes and writes each of `keys`.
fn run(
    name: &str,
    keys: impl Iterator<Item = Key>,
    bytes: usize,
    store: &mut dyn Engine,
    checkpoint: &mut u64,
) -> Result<(), Box<dyn Error>> {
    let (from, mut longest, mut count) = (Figures::now()?, 0.0f64, 0);
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        let batch: Vec<Key> = keys.by_ref().take(BATCH as usize).collect();
        count += batch.len();
        *checkpoint += 1;
        let started = Instant::now();
        let mut change = |old: Option<&[u8]>| {
            let number = old.and_then(|v| v.first_chunk::<8>()).map_or(0, |v| u64::from_le_bytes(*v)) + 1;
            let mut value = vec![7; bytes];
            value[..8].copy_from_slice(&number.to_le_bytes());
            value
        };
        store.batch(Batch { keys: &batch, change: &mut change, checkpoint: *checkpoint })?;
        if checkpoint.is_multiple_of(SYNC_EVERY) {
            store.sync()?;
        }
        longest = longest.max(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("  {name}: {}; longest batch {longest:.0} ms", from.until_now(count)?);
    Ok(())
}

fn reads(
    name: &str,
    keys: impl Iterator<Item = Key>,
    known: bool,
    store: &mut dyn Engine,
) -> Result<(), Box<dyn Error>> {
    let (from, mut longest, mut count) = (Figures::now()?, 0.0f64, 0);
    for key in keys {
        let started = Instant::now();
        if store.read(&key)?.is_some() != known {
            return Err(format!("{name}: a wrong answer").into());
        }
        longest = longest.max(started.elapsed().as_secs_f64() * 1e3);
        count += 1;
    }
    println!("  {name}: {}; longest {longest:.1} ms", from.until_now(count)?);
    Ok(())
}

fn key(n: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(n).to_le_bytes());
    key[8..].copy_from_slice(&mix(n ^ (1 << 63)).to_le_bytes());
    key
}
