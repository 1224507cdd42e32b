//! How long it takes from a rebuilt handler's taking its place to its first message.

use crate::running::Running;
use anyhow::{Context as _, Result, bail, ensure};
use keyrail::admin::metrics::{Metrics, Rollout};
use keyrail::broker::Produce;
use keyrail::broker::client::Client;
use keyrail::broker::embedded;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const SWAPS: u8 = 10;
/// Under load.
const PAUSES: u8 = 50;
const LIMIT: Duration = Duration::from_secs(30);

/// Swaps versions of a handler, each sent a message once it serves, and prints the times.
pub(super) fn bench(dir: &str, guest: &Path) -> Result<()> {
    let dir = Path::new(dir);
    fs::create_dir_all(dir.join("plugins"))?;
    let handler = dir.join("plugins/copy.wasm");
    let base = fs::read(guest).context("the handler")?;
    fs::write(&handler, &base)?;
    let file = dir.join("keyrail.toml");
    fs::write(&file, "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\n")?;
    let manifest = "handler = \"copy.wasm\"\ninput = [\"in\"]\noutput = { out = \"out\", totals = \"out\" }\ncommit.interval = \"5ms\"\n";
    fs::write(dir.join("plugins/copy.toml"), manifest)?;
    let running = Running::start(&file, &[("in", 1), ("out", 1)])?;
    let (options, metrics) = (running.options.clone(), running.metrics.clone());
    let times = measure(&options, &handler, &base, &metrics);
    let pauses = times.is_ok().then(|| pauses(&options, &handler, &base, &metrics));
    running.end()?;
    for (mut times, what) in times?.into_iter().zip(["new versions", "versions that are compiled already"]) {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        let bytes = base.len();
        println!(
            "{SWAPS} {what}, {bytes} bytes, from the rename to the first message: median {median:?}, most {most:?}"
        );
    }
    if let Some((usual, mut pauses)) = pauses.transpose()? {
        pauses.sort();
        let at = |share: usize| pauses[(pauses.len() * share / 100).min(pauses.len() - 1)];
        println!(
            "{} swaps under load, a message at a time, which take {usual:?} in the middle: the slowest beside a swap takes {:?} longer \
             in the middle, {:?} at p99",
            pauses.len(),
            at(50),
            at(99)
        );
    }
    Ok(())
}

/// What a message takes in the middle, and by how much more the slowest beside each swap takes.
fn pauses(
    options: &embedded::Options,
    handler: &Path,
    base: &[u8],
    metrics: &Metrics,
) -> Result<(Duration, Vec<Duration>)> {
    const BESIDE: Duration = Duration::from_millis(150);
    let mut client = embedded::client(options)?;
    let before = metrics.pipeline("copy").rollouts.get(Rollout::Swapped);
    let (times, swaps) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| -> Result<Vec<Instant>> {
            let mut swaps = Vec::new();
            for number in 0..PAUSES {
                std::thread::sleep(2 * BESIDE);
                // The last two versions in turns: what a compiler takes from the others is another matter.
                let bytes = [base, &[0, 3, 1, b'v', SWAPS - 1 + number % 2]].concat();
                fs::write(handler.with_extension("part"), bytes)?;
                fs::rename(handler.with_extension("part"), handler)?;
                let renamed = Instant::now();
                while metrics.pipeline("copy").rollouts.get(Rollout::Swapped) <= before + u64::from(number) {
                    ensure!(renamed.elapsed() < LIMIT, "swap {number} did not come");
                    std::thread::sleep(Duration::from_millis(1));
                }
                swaps.push(Instant::now());
            }
            Ok(swaps)
        });
        let mut times = Vec::new();
        while !swapping.is_finished() {
            let sent = Instant::now();
            pass(client.as_mut())?;
            times.push((sent, sent.elapsed()));
        }
        let swaps = swapping.join().map_err(|_| anyhow::anyhow!("the swaps failed"))??;
        Ok::<_, anyhow::Error>((times, swaps))
    })?;
    let mut all: Vec<Duration> = times.iter().map(|(_, took)| *took).collect();
    all.sort();
    let usual = *all.get(all.len() / 2).context("no message came through")?;
    let longest = |swap: &Instant| {
        let beside = times.iter().filter(|(sent, took)| *sent < *swap + BESIDE && *sent + *took + BESIDE > *swap);
        beside.map(|(_, took)| took.saturating_sub(usual)).max().unwrap_or_default()
    };
    Ok((usual, swaps.iter().map(longest).collect()))
}

/// Of new versions, and of known ones.
fn measure(options: &embedded::Options, handler: &Path, base: &[u8], metrics: &Metrics) -> Result<[Vec<Duration>; 2]> {
    let began = Instant::now();
    let serves = format!("{} serves\n", std::process::id());
    while fs::read_to_string(options.dir.join("keyrail.lock")).unwrap_or_default() != serves {
        ensure!(began.elapsed() < LIMIT, "the pipelines did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = embedded::client(options)?;
    pass(client.as_mut())?;
    let mut times = [Vec::new(), Vec::new()];
    for number in 1..=2 * SWAPS {
        // New files with the same code, and then the last two of them in turns: those are compiled already.
        let mark = if number <= SWAPS { number } else { SWAPS - number % 2 };
        let bytes = [base, &[0, 3, 1, b'v', mark]].concat();
        fs::write(handler.with_extension("part"), bytes)?;
        let renamed = Instant::now();
        fs::rename(handler.with_extension("part"), handler)?;
        while metrics.pipeline("copy").rollouts.get(Rollout::Swapped) < u64::from(number) {
            ensure!(renamed.elapsed() < LIMIT, "swap {number} did not come");
            std::thread::sleep(Duration::from_millis(1));
        }
        pass(client.as_mut())?;
        times[usize::from(number > SWAPS)].push(renamed.elapsed());
    }
    Ok(times)
}

/// Sends a message and waits until it is through.
fn pass(client: &mut dyn Client) -> Result<()> {
    let end = |client: &mut dyn Client| -> Result<i64> { Ok(client.bounds("out", &[0])?[0].end) };
    let (before, began) = (end(client)?, Instant::now());
    let (topic, key, value) = ("in", Some(b"k".as_slice()), Some(b"1".as_slice()));
    let record = Produce { topic, partition: None, key, value, headers: &[], timestamp_ms: None };
    ensure!(client.produce(&[record])?.iter().all(Result::is_ok), "the message was refused");
    while end(client)? == before {
        if began.elapsed() > LIMIT {
            bail!("the message did not come through");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
