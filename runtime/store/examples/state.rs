//! What the store of state costs. `cargo run --release -p keyrail-store --example state -- [KEYS] [VALUE-BYTES] [FOLDER] [BUDGET-MIB]`
//!
//! Writes each key once, then reads, changes and writes keys at random, looks up known ones, and opens the folder again. A
//! message is a look-up of a key and the change of it; a hundred messages are applied at once.

use keyrail_store::{Change, Entry, StateIdentity, StateIndex, StateOptions, StateStore};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AT_ONCE: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let keys: u64 = args.next().map_or(Ok(1_000_000), |a| a.parse())?;
    let bytes: usize = args.next().map_or(Ok(8), |a| a.parse())?;
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("keyrail-state-bench"), PathBuf::from);
    let budget_mib: usize = args.next().map_or(Ok(64), |a| a.parse())?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let identity = StateIdentity { group: "g".into(), topic: "t".into(), partition: 0, log: 1 };
    let options = StateOptions { budget_bytes: budget_mib << 20, ..StateOptions::default() };
    let rss_before = status("VmRSS:")?;
    let store = StateStore::start(options.clone(), &folder)?;
    let index = store.open(&identity, 0)?.index;
    println!("{keys} keys, values of {bytes} bytes, budget {budget_mib} MiB, in {}", folder.display());
    let mut position = 0;
    pass("new", &index, keys, bytes, &mut position, &|n| n)?;
    pass("read, change, write", &index, keys * 3, bytes, &mut position, &|n| mix(n ^ 0x5eed) % keys)?;
    let (started, cpu) = (Instant::now(), cpu_ms()?);
    index.flush()?;
    println!("flush: {} ms, {} ms of CPU", started.elapsed().as_millis(), cpu_ms()? - cpu);
    look_up(&index, keys)?;
    let (stats, rss) = (index.stats(), status("VmRSS:")?.saturating_sub(rss_before));
    println!(
        "{} keys on disk, {:.1} bytes each; memory {:.1} MiB by own count, {:.1} by the system's; longest wait {:.1} ms, \
         longest flush {:.0} ms",
        stats.entries,
        stats.disk_bytes as f64 / stats.entries.max(1) as f64,
        stats.memory_bytes as f64 / f64::from(1 << 20),
        rss as f64 / f64::from(1 << 20),
        stats.longest_wait_us as f64 / 1e3,
        stats.longest_flush_us as f64 / 1e3,
    );
    drop((index, store));
    let started = Instant::now();
    let store = StateStore::start(options, &folder)?;
    let opened = store.open(&identity, 0)?;
    if opened.rebuilt.is_some() || opened.position() != Some(position) {
        return Err(format!("not as it was left: {:?}", opened.rebuilt).into());
    }
    println!("reopen: {} ms", started.elapsed().as_millis());
    look_up(&opened.index, keys)?;
    drop((opened, store));
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn pass(
    name: &str,
    index: &dyn StateIndex,
    messages: u64,
    bytes: usize,
    position: &mut i64,
    of: &dyn Fn(u64) -> u64,
) -> Result<(), Box<dyn Error>> {
    let (started, cpu, from_disk) = (Instant::now(), cpu_ms()?, index.stats().read_from_disk);
    let (mut read, mut write) = (Duration::ZERO, Duration::ZERO);
    for first in (0..messages).step_by(AT_ONCE as usize) {
        let mut changes = Vec::with_capacity(AT_ONCE as usize);
        for n in first..(first + AT_ONCE).min(messages) {
            let key = key(of(n));
            let at = Instant::now();
            let old = index.get(&key)?;
            read = read.max(at.elapsed());
            let number = old.and_then(|e| e.value.first_chunk::<8>().copied()).map_or(0, u64::from_le_bytes);
            let mut value = vec![7; bytes.max(8)];
            value.splice(..8, (number + 1).to_le_bytes());
            let entry = Entry { value: value.into(), expires_ms: None };
            changes.push(Change { key: key.as_slice().into(), entry: Some(entry) });
        }
        *position += changes.len() as i64;
        let at = Instant::now();
        index.apply(&changes, Some(*position))?;
        write = write.max(at.elapsed());
    }
    let (cpu, wall) = ((cpu_ms()? - cpu) as f64 * 1e3, started.elapsed().as_micros() as f64);
    println!(
        "{name}: CPU {:.2} us a message, wall {:.2} us; longest read {:.1} ms, longest apply {:.1} ms; {:.1} % read from disk",
        cpu / messages as f64,
        wall / messages as f64,
        read.as_secs_f64() * 1e3,
        write.as_secs_f64() * 1e3,
        (index.stats().read_from_disk - from_disk) as f64 * 100.0 / messages as f64,
    );
    Ok(())
}

fn look_up(index: &dyn StateIndex, keys: u64) -> Result<(), Box<dyn Error>> {
    const COUNT: u64 = 500_000;
    let (started, cpu, mut most) = (Instant::now(), cpu_ms()?, Duration::ZERO);
    for n in 0..COUNT {
        let at = Instant::now();
        if index.get(&key(mix(n ^ 0xfeed) % keys))?.is_none() {
            return Err("a known key is not there".into());
        }
        most = most.max(at.elapsed());
    }
    let (wall, cpu) = (started.elapsed().as_micros() as f64, (cpu_ms()? - cpu) as f64 * 1e3);
    let (wall, cpu) = (wall / COUNT as f64, cpu / COUNT as f64);
    println!("known keys: {wall:.2} us each, {cpu:.2} us of CPU, longest {:.1} ms", most.as_secs_f64() * 1e3);
    Ok(())
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(n).to_le_bytes());
    key[8..].copy_from_slice(&mix(n ^ (1 << 63)).to_le_bytes());
    key
}

fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// CPU time of the process in ms, from Linux, to 10 ms.
fn cpu_ms() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks * 10)
}

/// A size of the process in bytes, from Linux.
fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
