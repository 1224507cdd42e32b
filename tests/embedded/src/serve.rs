//! Pipelines on the embedded broker, as `keyrail run` runs them, and how fast.

use anyhow::{Context as _, Result, bail, ensure};
use keyrail::admin::health::Health;
use keyrail::admin::logging::{self, LogFormat};
use keyrail::admin::metrics::Metrics;
use keyrail::admin::stop::Stop;
use keyrail::alerts::Alerts;
use keyrail::broker::Produce;
use keyrail::broker::client::NewTopic;
use keyrail::broker::embedded;
use keyrail::config;
use keyrail::pipeline::{self, Ended, Surroundings};
use keyrail::rollout::Board;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs what a keyrail.toml says until standard input ends.
pub(super) fn run(file: &Path) -> Result<()> {
    let level = std::env::var("KEYRAIL_RIG_LOG").unwrap_or_else(|_| "warn".to_owned());
    logging::init(&level.parse()?, LogFormat::Text)?;
    keyrail::fail::arm().map_err(anyhow::Error::msg)?;
    let stop = Stop::new();
    let asked = stop.clone();
    std::thread::spawn(move || {
        // An error is an end as well.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        asked.request();
    });
    println!("started");
    std::io::stdout().flush()?;
    pipelines(file, stop)
}

fn pipelines(file: &Path, stop: Stop) -> Result<()> {
    let (host, pipelines) = config::load(file, &[], &|_| None).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
    let alerts = Alerts::default();
    let surroundings = Surroundings {
        health,
        metrics,
        stop,
        variables: |_| None,
        witness: None,
        alerts,
        claim: None,
        board: Board::default(),
    };
    let ended = pipeline::run(&host, pipelines, surroundings)?;
    ensure!(ended == Ended::Stopped, "a pipeline could not go on");
    Ok(())
}

/// Copies `records` records of 100 bytes through a handler, and tells how fast.
pub(super) fn bench(dir: &str, guest: &Path, records: u64) -> Result<()> {
    let dir = Path::new(dir);
    fs::create_dir_all(dir.join("plugins"))?;
    fs::copy(guest, dir.join("plugins/identity.wasm")).context("the handler")?;
    let file = dir.join("keyrail.toml");
    fs::write(&file, "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\n")?;
    let manifest = "handler = \"identity.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n";
    fs::write(dir.join("plugins/identity.toml"), manifest)?;
    let host = config::load_host(&file, &[], &|_| None).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let options = pipeline::embedded_options(&host);
    let broker = embedded::Embedded::open(&options)?;
    let mut client = broker.client()?;
    for name in ["in", "out"] {
        client.create_topic(&NewTopic { name: name.to_owned(), partitions: Some(8), settings: Vec::new() })?;
    }
    let keys: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let mut sent = 0;
    while sent < records {
        let some = keys.iter().cycle().skip(sent as usize % keys.len()).take((records - sent).min(10_000) as usize);
        let record = |key| Produce {
            topic: "in",
            partition: None,
            key: Some(key),
            value: Some(&[b'x'; 100]),
            headers: &[],
            timestamp_ms: None,
        };
        let some: Vec<_> = some.map(|key| record(key.as_bytes())).collect();
        ensure!(client.produce(&some)?.iter().all(Result::is_ok), "a record was refused");
        sent += some.len() as u64;
    }
    drop(client);
    drop(broker);
    let stop = Stop::new();
    let asked = stop.clone();
    let running = std::thread::spawn(move || pipelines(&file, asked));
    let rate = watch(&options, records);
    stop.request();
    match running.join() {
        Ok(ended) => ended?,
        Err(_) => bail!("the pipelines panicked"),
    }
    println!("{records} records of 100 bytes through the handler, 8 partitions: {:.0} a second", rate?);
    Ok(())
}

/// Records a second between a fifth and all of the output.
fn watch(options: &embedded::Options, records: u64) -> Result<f64> {
    let began = Instant::now();
    let serves = format!("{} serves\n", std::process::id());
    while fs::read_to_string(options.dir.join("keyrail.lock")).unwrap_or_default() != serves {
        ensure!(began.elapsed() < Duration::from_secs(60), "the pipelines did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = embedded::client(options)?;
    let partitions: Vec<i32> = (0..8).collect();
    let mut first = None;
    loop {
        let ends = client.bounds("out", &partitions)?;
        let done: u64 = ends.iter().map(|b| b.end.unsigned_abs()).sum();
        if done >= records / 5 && first.is_none() {
            first = Some((Instant::now(), done));
        }
        if done >= records {
            let (since, before) = first.unwrap_or((began, 0));
            return Ok((done - before) as f64 / since.elapsed().as_secs_f64());
        }
        ensure!(began.elapsed() < Duration::from_secs(300), "{done} of {records} records came out");
        std::thread::sleep(Duration::from_millis(5));
    }
}
