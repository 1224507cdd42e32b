//! What a pipeline feels of another one whose handler loops, traps and hoards memory.

use crate::running::Running;
use anyhow::{Context as _, Result, ensure};
use keyrail::broker::Produce;
use keyrail::broker::client::{Client, Reader};
use keyrail::broker::embedded::{self, Options};
use keyrail::record::TopicPartition;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Messages of the good pipeline, one at a time, in each part.
const MESSAGES: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(2);
/// What the bad one's handler does, in turns.
const VICES: [&str; 4] = ["loop", "trap", "oom", "sends:2000"];
/// Enough for longer than a part takes.
const BAD: usize = 4_000;

/// Times from a message's sending to its output, alone and beside a pipeline that never behaves. `guests` has `identity` and `scripted`.
pub(super) fn bench(dir: &str, guests: &Path) -> Result<()> {
    let dir = Path::new(dir);
    let plugins = dir.join("plugins");
    fs::create_dir_all(&plugins)?;
    for (name, guest, input, more) in [
        ("good", "identity", "in", "commit.interval = \"5ms\"\n"),
        (
            "bad",
            "scripted",
            "bad",
            "limits = { timeout = \"100ms\", memory = \"64MiB\" }\nretry.attempts = 2\nbreaker.failures = 0\n",
        ),
    ] {
        fs::copy(guests.join(format!("{guest}.wasm")), plugins.join(format!("{name}.wasm")))?;
        let manifest = format!("handler = \"{name}.wasm\"\ninput = [\"{input}\"]\noutput.out = \"{name}-out\"\n{more}");
        fs::write(plugins.join(format!("{name}.toml")), manifest)?;
    }
    let file = dir.join("keyrail.toml");
    fs::write(&file, "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.sync = \"normal\"\n")?;
    let running = Running::start(&file, &[("in", 1), ("good-out", 1), ("bad", 8), ("bad-out", 8)])?;
    running.wait_ready(&["good", "bad"].map(str::to_owned), LIMIT)?;
    let told = measure(&running.options);
    running.end()?;
    println!("{}", told?);
    Ok(())
}

fn measure(options: &Options) -> Result<String> {
    let mut client = embedded::client(options)?;
    let at = TopicPartition { topic: 0, partition: 0 };
    let mut reader = client.read(&["good-out".to_owned()], &[(at, 0)])?;
    // What is compiled, opened and cached with the first ones.
    part(client.as_mut(), reader.as_mut(), 50)?;
    let mut alone = part(client.as_mut(), reader.as_mut(), MESSAGES)?;
    let values: Vec<(String, String)> = (0..BAD)
        .map(|n| (format!("k{n}"), format!("{{\"do\":\"{}\",\"id\":\"{n}\"}}", VICES[n % VICES.len()])))
        .collect();
    for chunk in values.chunks(1_000) {
        let records: Vec<Produce<'_>> = chunk.iter().map(|(key, value)| record("bad", Some(key), value)).collect();
        ensure!(client.produce(&records)?.iter().all(Result::is_ok), "messages are refused");
    }
    let before = ends(client.as_mut())?;
    let mut beside = part(client.as_mut(), reader.as_mut(), MESSAGES)?;
    let failed = ends(client.as_mut())? - before;
    ensure!(failed > 0, "the bad pipeline did nothing");
    let share = |times: &mut Vec<Duration>, of: usize| {
        times.sort_unstable();
        times[times.len() * of / 100]
    };
    Ok(format!(
        "{MESSAGES} messages, one at a time: median {:?}, p99 {:?}; beside a handler that loops, traps and hoards ({failed} dead letters meanwhile): \
         median {:?}, p99 {:?}",
        share(&mut alone, 50),
        share(&mut alone, 99),
        share(&mut beside, 50),
        share(&mut beside, 99)
    ))
}

/// How many dead letters there are.
fn ends(client: &mut dyn Client) -> Result<i64> {
    let bounds = client.bounds("bad.bad.dlq", &(0..8).collect::<Vec<_>>())?;
    Ok(bounds.iter().map(|bounds| bounds.end).sum())
}

fn record<'a>(topic: &'a str, key: Option<&'a str>, value: &'a str) -> Produce<'a> {
    let (key, value) = (key.map(str::as_bytes), Some(value.as_bytes()));
    Produce { topic, partition: None, key, value, headers: &[], timestamp_ms: None }
}

/// From each one's sending until it has come out.
fn part(client: &mut dyn Client, reader: &mut dyn Reader, count: usize) -> Result<Vec<Duration>> {
    let (mut times, mut records) = (Vec::with_capacity(count), Vec::new());
    for _ in 0..count {
        let sent = Instant::now();
        ensure!(client.produce(&[record("in", None, "x")])?.iter().all(Result::is_ok), "the message was refused");
        records.clear();
        while records.is_empty() {
            ensure!(sent.elapsed() < LIMIT, "the message did not come through");
            reader.next(Duration::from_millis(100), &mut records).context("reading")?;
        }
        times.push(sent.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}
