//! What a message costs in each language: the example `totals` of each SDK in the real host, without a broker.
//!
//! A message has 100 B; its handler reads one value of state, writes it and sends one record. What a handler costs beside that
//! (lanes, batches, commits) is the same in all languages, and not in it.

use crate::figures::Amount;
use crate::report::{Figure, Report, Target};
use anyhow::{Context as _, Result, ensure};
use keyrail::record::{RecordBuilder, TopicPartition};
use keyrail::wasm::{Delivery, Handler, Host, HostOptions, Instance, Limits, Outcome, Setup, State};
use keyrail_engine::message::Partition;
use keyrail_engine::state::{Call, Entry, Kept};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The languages, their handlers, and what a message is to cost at most, in microseconds.
const LANGUAGES: [(&str, &str, f64); 8] = [
    ("Rust", "totals", 1.2),
    ("C", "totals-c", 1.2),
    ("C++", "totals-cpp", 1.2),
    ("Zig", "totals-zig", 1.2),
    ("AssemblyScript", "totals-assemblyscript", 2.5),
    ("Go", "totals-go", 6.0),
    ("Python", "totals-python", 6.0),
    ("TypeScript", "totals-js", 25.0),
];
const BATCH: usize = 100;
/// Batches with keys of their own, played in turns.
const BATCHES: usize = 100;
/// A message's bytes, key and value together.
const BYTES: usize = 100;
const VALUE: &str = "12345";
/// Messages in a language's run, and before it; it is cut into so many parts.
const MESSAGES: u64 = 1_000_000;
const WARM_UP: u64 = 20_000;
const PARTS: u64 = 10;
/// From a start with compiled code to the end of the first call, in milliseconds.
const START_MS: f64 = 50.0;
const DEADLINE: Duration = Duration::from_secs(30);
const NOW_MS: i64 = 1_700_000_000_000;

/// Each key has a total.
#[derive(Debug)]
struct Totals;

impl Kept for Totals {
    fn get(&self, _: Partition, _: &[u8]) -> Option<Entry> {
        Some(Entry { value: Arc::from(VALUE.as_bytes()), expires_ms: None })
    }

    fn scan(&self, _: Partition, _: &[u8], _: &[u8], _: usize, _: i64) -> Vec<(Arc<[u8]>, Entry)> {
        Vec::new()
    }
}

pub(crate) fn languages(amount: Amount, report: &mut Report) -> Result<()> {
    let guests = std::env::var_os("KEYRAIL_GUESTS").map(PathBuf::from).context("KEYRAIL_GUESTS is not set")?;
    let code = tempfile(&guests)?;
    let messages = if amount.pairs <= 2 { MESSAGES / 5 } else { MESSAGES };
    for (language, guest, most_us) in LANGUAGES {
        let file = guests.join(format!("{guest}.wasm"));
        if !file.is_file() {
            report.doing(&format!("{language}: there is no {}", file.display()));
            continue;
        }
        report.doing(&format!("{language}: {messages} messages"));
        one(language, &file, &code, (messages, most_us), report).with_context(|| language.to_owned())?;
    }
    std::fs::remove_dir_all(&code).with_context(|| format!("can't remove {}", code.display()))
}

/// A folder for compiled code, empty.
fn tempfile(guests: &Path) -> Result<PathBuf> {
    let folder = guests.with_file_name("bench-code");
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn one(language: &str, file: &Path, code: &Path, (messages, most_us): (u64, f64), report: &mut Report) -> Result<()> {
    let bytes = std::fs::read(file)?;
    let options = || HostOptions { cache_dir: Some(code.to_owned()) };
    drop(Host::new(options())?.load(language, &bytes)?);
    let began = Instant::now();
    let handler = Host::new(options())?.load(language, &bytes)?;
    let mut run = Run::new(&handler)?;
    run.call()?;
    let start_ms = began.elapsed().as_secs_f64() * 1_000.0;
    run.play(WARM_UP)?;
    let mut parts = Vec::new();
    for _ in 0..PARTS {
        parts.push(run.play(messages / PARTS)?);
    }
    let named = |what: &str| format!("{language}: {what}");
    report.add(Figure::of(&named("a message"), "us", &parts).target(Target::AtMost(most_us)));
    let slower = parts[PARTS as usize - 1] / parts[0];
    report.add(Figure::of(&named("the last part against the first"), "", &[slower]));
    report.add(Figure::of(&named("instances opened"), "", &[f64::from(run.opened)]));
    report.add(Figure::of(&named("start with compiled code"), "ms", &[start_ms]).target(Target::AtMost(START_MS)));
    Ok(())
}

struct Run<'a> {
    handler: &'a Handler,
    setup: Setup,
    limits: Limits,
    instance: Instance,
    batches: Vec<Vec<Delivery>>,
    kept: Arc<Totals>,
    next: usize,
    opened: u32,
}

impl<'a> Run<'a> {
    fn new(handler: &'a Handler) -> Result<Self> {
        let setup = Setup {
            handler: "totals".to_owned(),
            topics: vec!["orders".to_owned()],
            outputs: vec!["totals".to_owned()],
            max_batch: BATCH as u32,
            ..Setup::default()
        };
        // Python and JavaScript need more than the default of 64 MiB lets them grow.
        let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
        let instance = handler.open(&setup, &limits)?;
        let batches = (0..BATCHES).map(batch).collect();
        Ok(Self { handler, setup, limits, instance, batches, kept: Arc::new(Totals), next: 0, opened: 1 })
    }

    /// Microseconds a message.
    fn play(&mut self, messages: u64) -> Result<f64> {
        let calls = messages / BATCH as u64;
        let began = Instant::now();
        for _ in 0..calls {
            self.call()?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / (calls * BATCH as u64) as f64)
    }

    /// A batch, of which each message must have had its effects.
    fn call(&mut self) -> Result<()> {
        let batch = &mut self.batches[self.next];
        self.next = (self.next + 1) % BATCHES;
        let mut state = Some(State { call: Call::alone(), kept: self.kept.clone() });
        let answer = self.instance.process_with(batch, &mut state, NOW_MS, DEADLINE);
        let answer = answer.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let done = answer.outcomes.iter().all(|outcome| *outcome == Outcome::Done);
        let sent = (0..BATCH as u32).all(|slot| answer.effects.count(slot) == 1);
        ensure!(done && sent, "{:?}", answer.outcomes.first());
        if self.instance.worn() {
            self.instance = self.handler.open(&self.setup, &self.limits)?;
            self.opened += 1;
        }
        Ok(())
    }
}

/// Messages of keys that no other batch has.
fn batch(number: usize) -> Vec<Delivery> {
    let at = TopicPartition { topic: 0, partition: 0 };
    let message = |slot: usize| {
        let mut key = format!("{number}-{slot}-");
        key.extend(std::iter::repeat_n('k', BYTES - VALUE.len() - key.len()));
        let record = RecordBuilder::new(Some(key.as_bytes()), Some(VALUE.as_bytes()));
        let offset = (number * BATCH + slot) as i64;
        Delivery { record: record.build(at, offset, NOW_MS), timer: None, attempt: 1, follows_dead_letter: false }
    };
    (0..BATCH).map(message).collect()
}
