//! What the index of seen ids costs. `cargo run --release -p keyrail-store --example bench -- [IDS] [FOLDER] [BUDGET-MIB]`
//!
//! Fills a window with random ids, goes on for a quarter of the window (so that as many expire as come), looks up known ones
//! and opens the folder again. A message is a look-up of its id, which is new, and its insertion, 1,000 to a record.

use keyrail_store::{Id, Identity, Options, SeenIndex, Store};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORD: u64 = 1_000;
const WINDOW_MS: u64 = 86_400_000;
/// Look-ups that are timed together: a clock costs as much as a look-up.
const TIMED: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let ids: u64 = args.next().map_or(Ok(50_000_000), |a| a.parse())?;
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("keyrail-seen-bench"), PathBuf::from);
    let budget_mib: usize = args.next().map_or(Ok(16), |a| a.parse())?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let identity = Identity { group: "g".into(), topic: "t".into(), partition: 0, log: 1, window_ms: WINDOW_MS };
    let store = Store::start(Options { budget_bytes: budget_mib << 20, ..Options::default() })?;
    let rss_before = status("VmRSS:")?;
    let index = store.open(&folder, &identity, 0)?.index;
    println!("{ids} ids in the window, budget {budget_mib} MiB, in {}", folder.display());

    let mut run = Run { index: &index, live: ids, record: 0 };
    run.pass("fill", ids, rss_before)?;
    run.pass("steady", ids / 4, rss_before)?;
    settle(&index);
    report(&index, "settled", rss_before)?;

    let (first, last) = (run.record * RECORD - ids * 9 / 10, run.record * RECORD);
    let looked = known(&index, first, last, 1_000_000)?;
    println!("known ids: {looked}");
    let record = run.record;
    println!("new ids: {}", look_up(&index, u64::MAX / 2, u64::MAX, 1_000_000, false)?);
    let before = cpu_ms()?;
    let started = Instant::now();
    index.flush()?;
    drop(index);
    println!("flush and close: {} ms, {} ms of CPU", started.elapsed().as_millis(), cpu_ms()? - before);
    let before = cpu_ms()?;
    let started = Instant::now();
    let opened = store.open(&folder, &identity, now_ms(record, ids))?;
    println!("reopen: {} ms, {} ms of CPU", started.elapsed().as_millis(), cpu_ms()? - before);
    if opened.rebuilt.is_some() || opened.index.position() != Some(record as i64) {
        return Err(format!("not as it was left: {:?}", opened.rebuilt).into());
    }
    println!("known ids, reopened: {}", known(&opened.index, first, last, 1_000_000)?);
    report(&opened.index, "reopened", rss_before)?;
    drop(opened);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

struct Run<'a> {
    index: &'a dyn SeenIndex,
    live: u64,
    record: u64,
}

impl Run<'_> {
    fn pass(&mut self, name: &str, ids: u64, rss_before: u64) -> Result<(), Box<dyn Error>> {
        let (started, cpu, mut rss_most) = (Instant::now(), cpu_ms()?, 0);
        let (mut look, mut insert) = (Pauses::default(), Pauses::default());
        let mut parts = Vec::new();
        let mut part_cpu = cpu;
        let mut batch: Vec<Id> = Vec::with_capacity(RECORD as usize);
        for _ in 0..ids / RECORD {
            batch.clear();
            batch.extend((self.record * RECORD..).take(RECORD as usize).map(id));
            let time_ms = now_ms(self.record, self.live);
            let oldest_ms = time_ms - WINDOW_MS as i64;
            for some in batch.chunks(TIMED) {
                let at = Instant::now();
                for id in some {
                    if self.index.contains(id, oldest_ms)? {
                        return Err("a new id was seen".into());
                    }
                }
                look.add(at)?;
            }
            let at = Instant::now();
            self.record += 1;
            self.index.insert(&batch, time_ms, self.record as i64)?;
            insert.add(at)?;
            if self.record.is_multiple_of(1_000) {
                rss_most = rss_most.max(status("VmRSS:")?);
                let now = cpu_ms()?;
                parts.push(now - part_cpu);
                part_cpu = now;
            }
        }
        let (cpu, wall) = (cpu_ms()? - cpu, started.elapsed());
        parts.sort_unstable();
        let of_parts = |n: usize| parts.get(n).map_or(0.0, |ms| *ms as f64 / 1e3);
        println!(
            "{name}: CPU {:.3} us a message in all (of each million: least {:.2}, median {:.2}), wall {:.3} us, of it looking up \
             {:.3} us; most memory {:.2} bytes for each in the window",
            cpu as f64 * 1e3 / ids as f64,
            of_parts(0),
            of_parts(parts.len() / 2),
            wall.as_micros() as f64 / ids as f64,
            look.sum.as_micros() as f64 / ids as f64,
            rss_most.saturating_sub(rss_before) as f64 / self.live as f64,
        );
        println!("  pauses: {TIMED} look-ups {look}; inserting {RECORD} ids {insert}");
        report(self.index, name, rss_before)
    }
}

/// Durations, and what is left of the longest without the time that the thread was ready and got no core.
#[derive(Default)]
struct Pauses {
    sum: Duration,
    most: Duration,
    own: Duration,
    /// Time without a core until now.
    waited: Duration,
}

impl Pauses {
    fn add(&mut self, from: Instant) -> Result<(), Box<dyn Error>> {
        let took = from.elapsed();
        self.sum += took;
        self.most = self.most.max(took);
        if took > Duration::from_millis(1) {
            let before = std::mem::replace(&mut self.waited, waited()?);
            self.own = self.own.max(took.saturating_sub(self.waited.saturating_sub(before)));
        }
        Ok(())
    }
}

impl std::fmt::Display for Pauses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        write!(f, "at most {:.1} ms, {:.1} ms without waiting for a core", ms(self.most), ms(self.own))
    }
}

/// How long this thread was ready to run and did not, from Linux.
fn waited() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split_whitespace().nth(1).ok_or("no such field")?.parse()?))
}

fn report(index: &dyn SeenIndex, name: &str, rss_before: u64) -> Result<(), Box<dyn Error>> {
    let stats = index.stats();
    let rss = status("VmRSS:")?.saturating_sub(rss_before);
    println!(
        "  {name}: {} ids held in {} segments; memory {:.2} bytes for each held by own count, {:.2} by the system's; \
         disk {:.1}; {} of {} look-ups asked the disk in vain ({:.4} %)",
        stats.ids,
        stats.segments,
        stats.memory_bytes as f64 / stats.ids as f64,
        rss as f64 / stats.ids as f64,
        stats.disk_bytes as f64 / stats.ids as f64,
        stats.false_positives,
        stats.lookups,
        stats.false_positives as f64 * 100.0 / stats.lookups.max(1) as f64,
    );
    Ok(())
}

/// Waits until nothing is merged any more.
fn settle(index: &dyn SeenIndex) {
    let mut before = 0;
    while before != index.stats().segments {
        before = index.stats().segments;
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn known(index: &dyn SeenIndex, first: u64, last: u64, count: u64) -> Result<String, Box<dyn Error>> {
    look_up(index, first, last, count, true)
}

fn look_up(index: &dyn SeenIndex, first: u64, last: u64, count: u64, known: bool) -> Result<String, Box<dyn Error>> {
    let (started, cpu, mut most) = (Instant::now(), cpu_ms()?, Duration::ZERO);
    for n in 0..count {
        let of = first + mix(n ^ 0x5eed) % (last - first);
        let at = Instant::now();
        if index.contains(&id(of), i64::MIN)? != known {
            return Err("a wrong answer".into());
        }
        most = most.max(at.elapsed());
    }
    let (wall, cpu) = (started.elapsed().as_micros() as f64, (cpu_ms()? - cpu) as f64 * 1e3);
    let (each, cpu) = (wall / count as f64, cpu / count as f64);
    Ok(format!("{each:.2} us each, {cpu:.2} us of CPU, longest {:.2} ms", most.as_secs_f64() * 1e3))
}

/// The window holds `live` ids, evenly.
fn now_ms(record: u64, live: u64) -> i64 {
    (u128::from(record) * u128::from(RECORD) * u128::from(WINDOW_MS) / u128::from(live)) as i64
}

fn id(n: u64) -> Id {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(n).to_le_bytes());
    id[8..].copy_from_slice(&mix(n ^ (1 << 63)).to_le_bytes());
    id
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
