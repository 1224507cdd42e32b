//! What pipelines cost that have nothing to do.

use crate::running::Running;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Until all of them run: each compiles its handler, or reads it from the cache.
const LIMIT: Duration = Duration::from_secs(300);
/// What happens once, after a start, is over by then.
const SETTLED: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(30);

/// So many pipelines with a handler of their own each: memory and processor time, at the interval of looks that is the default, and at
/// one look at the folder more a second.
pub(super) fn bench(dir: &str, guest: &Path, count: usize) -> Result<()> {
    let dir = Path::new(dir);
    fs::create_dir_all(dir.join("plugins"))?;
    let base = fs::read(guest).context("the handler")?;
    for number in 0..count {
        // Other files with the same code: a custom section, as tools add them.
        let mark = u32::try_from(number)?.to_be_bytes();
        let handler = [&base[..], &[0, 6, 1, b'v'], &mark].concat();
        fs::write(dir.join(format!("plugins/p{number}.wasm")), handler)?;
        let manifest = format!("handler = \"p{number}.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n");
        fs::write(dir.join(format!("plugins/p{number}.toml")), manifest)?;
    }
    for poll in ["5s", "1s"] {
        run(dir, count, poll)?;
    }
    Ok(())
}

fn run(dir: &Path, count: usize, poll: &str) -> Result<()> {
    let file = dir.join("keyrail.toml");
    let text = format!("broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nplugins.poll = \"{poll}\"\n");
    fs::write(&file, text)?;
    let before = resident()?;
    let began = Instant::now();
    let running = Running::start(&file, &[("in", 1), ("out", 1)])?;
    running.wait_ready(&(0..count).map(|number| format!("p{number}")).collect::<Vec<_>>(), LIMIT)?;
    let took = began.elapsed();
    std::thread::sleep(SETTLED);
    let (used, since) = (processor()?, Instant::now());
    std::thread::sleep(MEASURED);
    let core = (processor()? - used).as_secs_f64() / since.elapsed().as_secs_f64() * 100.0;
    println!(
        "{count} idle pipelines, a look every {poll}: {} MB, {} MB before; {core:.2} % of a core; all ready after {took:.1?}",
        resident()? >> 20,
        before >> 20
    );
    running.end()
}

fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// What this process has used so far.
fn processor() -> Result<Duration> {
    /// `USER_HZ`, which is 100 on every Linux that Rust knows.
    const TICKS: u64 = 100;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("/proc/self/stat")?.parse()?) };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1_000 / TICKS))
}
