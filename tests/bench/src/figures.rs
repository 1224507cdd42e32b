//! The figures, one function each.

use crate::report::{Figure, Report, Target};
use crate::rig::{Rig, Shape, Who};
use crate::topics::{Watch, chance, fill, key, producer, send, timestamps, value};
use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::Producer as _;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Messages of a throughput run.
    pub(crate) messages: u64,
    /// Runs of each of the two.
    pub(crate) pairs: u32,
    /// Seconds of the latency run.
    pub(crate) seconds: u64,
    /// Keys of the stateful count.
    pub(crate) keys: u64,
    /// And messages for each, on average.
    pub(crate) per_key: u64,
    /// Timers, and delayed sends.
    pub(crate) timers: u64,
}

/// One throughput run.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    cpu_us: f64,
    peak: u64,
}

/// What of a run is looked at.
type Aspect = fn(&Run) -> f64;

pub(crate) const RATE: u64 = 20_000;
const BUDGET: &str = "64MiB";
const BUDGET_BYTES: u64 = 64 << 20;
const BESIDE_BUDGET: f64 = 100.0;
/// Keys that fail for ever in [`failing`].
const FAILING: u64 = 1000;

/// Measured between a fifth and 95 % of the output, so that neither start nor end counts.
fn throughput_run(rig: &Rig, who: Who, from: &str, messages: u64, shape: &Shape<'_>) -> Result<Run> {
    let to = rig.topic("out", &[])?;
    let watch = Watch::new(&rig.bootstrap, &to)?;
    let mut process = rig.start(who, from, &to, shape)?;
    let first = rig.wait(&mut process, &watch, messages / 5)?;
    let (began, cpu) = (Instant::now(), process.cpu()?);
    let last = rig.wait(&mut process, &watch, messages / 20 * 19)?;
    let (took, cpu) = (began.elapsed(), process.cpu()? - cpu);
    ensure!(last > first, "the run was over between two looks: measure more messages");
    let count = (last - first) as f64;
    rig.wait(&mut process, &watch, messages)?;
    let peak = process.memory("VmHWM")?;
    if who == Who::Keyrail {
        process.stop()?;
    }
    rig.retire(&to)?;
    Ok(Run { per_second: count / took.as_secs_f64(), cpu_us: cpu.as_micros() as f64 / count, peak })
}

/// CPU, throughput and memory of both in turns.
pub(crate) fn throughput(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let from = rig.topic("in", &[])?;
    report.doing(&format!("writing {} messages", amount.messages));
    fill(&rig.bootstrap, &from, amount.messages, |n| (key(n), value(n)))?;
    let sides = [("raw loop", Who::Raw, Shape::default()), ("Keyrail", Who::Keyrail, Shape::default())];
    let [raws, ours] = pairs(rig, &from, amount, &sides, report)?;
    let of = |runs: &[Run], what: Aspect| runs.iter().map(what).collect::<Vec<_>>();
    let ratios = |what: Aspect| raws.iter().zip(&ours).map(|(r, o)| what(o) / what(r)).collect::<Vec<_>>();
    let speed: Aspect = |r| r.per_second;
    let cpu: Aspect = |r| r.cpu_us;
    let peak: Aspect = |r| megabytes(r.peak);
    report.add(Figure::of("throughput, raw loop", "msgs/s", &of(&raws, speed)));
    report.add(Figure::of("throughput, Keyrail", "msgs/s", &of(&ours, speed)));
    report.add(Figure::of("throughput ratio", "x", &ratios(speed)).target(Target::AtLeast(0.7)));
    report.add(Figure::of("CPU a message, raw loop", "us", &of(&raws, cpu)));
    report.add(Figure::of("CPU a message, Keyrail", "us", &of(&ours, cpu)));
    report.add(Figure::of("CPU ratio", "x", &ratios(cpu)).target(Target::AtMost(2.0)));
    report.add(Figure::of("peak memory, raw loop", "MB", &of(&raws, peak)));
    report
        .add(Figure::of("peak memory, Keyrail", "MB", &of(&ours, peak)).target(Target::AtMost(256.0 + BESIDE_BUDGET)));
    rig.retire(&from)
}

/// Both guarantees of Keyrail, in turns.
pub(crate) fn guarantees(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let from = rig.topic("in", &[])?;
    report.doing(&format!("writing {} messages", amount.messages));
    fill(&rig.bootstrap, &from, amount.messages, |n| (key(n), value(n)))?;
    let exactly = Shape { exactly_once: true, ..Shape::default() };
    let sides = [("at-least-once", Who::Keyrail, Shape::default()), ("exactly-once", Who::Keyrail, exactly)];
    let [least, exactly] = pairs(rig, &from, amount, &sides, report)?;
    let ratios = |what: Aspect| least.iter().zip(&exactly).map(|(l, e)| what(e) / what(l)).collect::<Vec<_>>();
    report.add(Figure::of("exactly-once, throughput", "x", &ratios(|r| r.per_second)).target(Target::AtLeast(0.9)));
    report.add(Figure::of("exactly-once, CPU", "x", &ratios(|r| r.cpu_us)).target(Target::AtMost(1.25)));
    rig.retire(&from)
}

/// Runs of two sides over the same topic, in turns; who goes first takes turns too.
fn pairs(
    rig: &Rig,
    from: &str,
    amount: Amount,
    sides: &[(&str, Who, Shape); 2],
    report: &mut Report,
) -> Result<[Vec<Run>; 2]> {
    let mut runs = [Vec::new(), Vec::new()];
    for pair in 1..=amount.pairs {
        for side in if pair % 2 == 1 { [0, 1] } else { [1, 0] } {
            let (name, who, shape) = &sides[side];
            let run = throughput_run(rig, *who, from, amount.messages, shape)?;
            report.doing(&format!(
                "pair {pair}, {name}: {:.0} msgs/s, {:.2} us CPU, peak {:.0} MB",
                run.per_second,
                run.cpu_us,
                megabytes(run.peak)
            ));
            runs[side].push(run);
        }
    }
    Ok(runs)
}

/// From a record's append to its output's, both by the broker's clock, at [`RATE`].
pub(crate) fn latency(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    for who in [Who::Raw, Who::Keyrail] {
        let broker_time = [("message.timestamp.type", "LogAppendTime")];
        let (from, to) = (rig.topic("paced", &broker_time)?, rig.topic("paced-out", &broker_time)?);
        let watch = Watch::new(&rig.bootstrap, &to)?;
        let mut process = rig.start(who, &from, &to, &Shape::default())?;
        // Two seconds more at the start are not counted.
        let count = RATE * (amount.seconds + 2);
        report.doing(&format!("{who:?}: {RATE} messages a second for {} s", amount.seconds + 2));
        pace(&rig.bootstrap, &from, count, |n| (key(n), value(n)))?;
        rig.wait(&mut process, &watch, count)?;
        if who == Who::Keyrail {
            process.stop()?;
        }
        let read = |topic: &str| timestamps(&rig.bootstrap, topic, usize::try_from(count)?);
        let appended: HashMap<u64, i64> = read(&from)?.into_iter().collect();
        let mut waits = Vec::new();
        for (number, at) in read(&to)? {
            let from = appended.get(&number).context("an output without input")?;
            if number >= RATE * 2 {
                waits.push((at - from) as f64);
            }
        }
        waits.sort_by(f64::total_cmp);
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        let name = if who == Who::Raw { "raw loop" } else { "Keyrail" };
        report.add(Figure::of(&format!("latency p50 at {RATE}/s, {name}"), "ms", &[at(0.5)]));
        let p99 = Figure::of(&format!("latency p99 at {RATE}/s, {name}"), "ms", &[at(0.99)]);
        report.add(if who == Who::Keyrail { p99.target(Target::AtMost(15.0)) } else { p99 });
        rig.retire(&from)?;
        rig.retire(&to)?;
    }
    Ok(())
}

/// Sends at [`RATE`], a few each millisecond, in batches: 20,000 requests a second of one record each would measure the
/// broker. What is measured begins at the broker, so the time in which a batch fills does not count.
pub(crate) fn pace(bootstrap: &str, topic: &str, count: u64, record: impl Fn(u64) -> (String, Vec<u8>)) -> Result<()> {
    let producer = producer(bootstrap, "5")?;
    let start = Instant::now();
    let mut sent = 0;
    while sent < count {
        let due = (start.elapsed().as_micros() as u64 * RATE / 1_000_000).min(count);
        while sent < due {
            let (key, value) = record(sent);
            send(&producer, topic, &key, &value)?;
            sent += 1;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(30)).context("pacing")
}

/// From start to the first output, with and without compiled code; and memory while nothing comes.
pub(crate) fn start(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let from = rig.topic("first", &[])?;
    fill(&rig.bootstrap, &from, 1, |n| (key(n), value(n)))?;
    rig.clear_code()?;
    let (mut cold, mut cached, mut raw, mut idle, mut anon) = (vec![], vec![], vec![], vec![], vec![]);
    let runs = amount.pairs.max(3);
    report.doing(&format!("starting {} times", runs * 2 + 1));
    for run in 0..=runs {
        for who in [Who::Raw, Who::Keyrail] {
            let to = rig.topic("first-out", &[("message.timestamp.type", "LogAppendTime")])?;
            let watch = Watch::new(&rig.bootstrap, &to)?;
            let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
            let mut process = rig.start(who, &from, &to, &Shape::default())?;
            rig.wait(&mut process, &watch, 1)?;
            let first = timestamps(&rig.bootstrap, &to, 1)?;
            let took = first.first().map_or(0, |(_, at)| at - began) as f64 / 1000.0;
            match (who, run) {
                // The first one also makes the broker's topic of offsets.
                (Who::Raw, 0) => {}
                (Who::Raw, _) => raw.push(took),
                (Who::Keyrail, 0) => cold.push(took),
                (Who::Keyrail, _) => cached.push(took),
            }
            if who == Who::Keyrail {
                std::thread::sleep(Duration::from_secs(1));
                idle.push(megabytes(process.memory("VmRSS")?));
                anon.push(megabytes(process.memory("RssAnon")?));
                process.stop()?;
            }
            rig.retire(&to)?;
        }
    }
    let code = megabytes(rig.code_bytes()?);
    report.add(Figure::of("start to first message, raw loop", "s", &raw));
    report.add(Figure::of("start to first message, nothing cached", "s", &cold));
    report.add(Figure::of("start to first message, code cached", "s", &cached).target(Target::AtMost(1.0)));
    report.add(Figure::of("idle memory, of it not shared with files", "MB", &anon));
    report.add(Figure::of("compiled handler", "MB", &[code]));
    let beside: Vec<f64> = idle.iter().map(|rss| rss - code).collect();
    report.add(Figure::of("idle memory beside the compiled handler", "MB", &beside).target(Target::AtMost(60.0)));
    rig.retire(&from)
}

/// Memory when every message fails and waits, so that the record budget fills.
pub(crate) fn budget(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let from = rig.topic("waits", &[])?;
    let count = 600_000;
    report.doing(&format!("{count} messages that fail and wait, in a budget of {BUDGET}"));
    fill(&rig.bootstrap, &from, count, |n| (key(n), script("retry", n)))?;
    let to = rig.topic("waits-out", &[])?;
    let manifest = "[retry]\nattempts = 100000\nbackoff = { first = \"1s\", factor = 1.0, max = \"1s\" }";
    let shape = Shape { guest: "scripted", manifest, records: BUDGET, ..Shape::default() };
    let mut process = rig.start(Who::Keyrail, &from, &to, &shape)?;
    std::thread::sleep(Duration::from_secs(amount.seconds.max(10)));
    process.check()?;
    let peak = process.memory("VmHWM")?;
    process.stop()?;
    let beside = megabytes(peak.saturating_sub(BUDGET_BYTES));
    report.add(Figure::of("memory beside a full record budget", "MB", &[beside]).target(Target::AtMost(BESIDE_BUDGET)));
    rig.retire(&from)?;
    rig.retire(&to)
}

/// 1,000 keys that fail again and again in place, against none.
pub(crate) fn failing(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let messages = amount.messages.max(1_000_000) / 2;
    let (healthy, sick) = (rig.topic("healthy", &[])?, rig.topic("sick", &[])?);
    report.doing(&format!("twice {messages} messages, {FAILING} keys of one half failing for ever"));
    fill(&rig.bootstrap, &healthy, messages, |n| (key(n), script("done", n)))?;
    fill(&rig.bootstrap, &sick, messages + FAILING, |n| match n.checked_sub(FAILING) {
        None => (format!("sick-{n}"), script("retry", n)),
        Some(n) => (key(n), script("done", n)),
    })?;
    let manifest = "[retry]\nattempts = 100000\nbackoff = { first = \"200ms\", factor = 1.0, max = \"200ms\" }";
    let shape = Shape { guest: "scripted", manifest, ..Shape::default() };
    let mut ratios = Vec::new();
    for _ in 0..amount.pairs.min(3) {
        let well = throughput_run(rig, Who::Keyrail, &healthy, messages, &shape)?;
        let ill = throughput_run(rig, Who::Keyrail, &sick, messages, &shape)?;
        report.doing(&format!("none failing: {:.0} msgs/s, {FAILING}: {:.0}", well.per_second, ill.per_second));
        ratios.push(ill.per_second / well.per_second);
    }
    let name = format!("throughput beside {FAILING} failing keys");
    report.add(Figure::of(&name, "x", &ratios).target(Target::AtLeast(0.9)));
    rig.retire(&healthy)?;
    rig.retire(&sick)
}

pub(crate) fn script(command: &str, number: u64) -> Vec<u8> {
    // Padded to the usual size.
    let mut text = format!("{{\"do\":\"{command}\",\"id\":\"{number}-{:016x}\"", chance(number));
    text.extend(std::iter::repeat_n(' ', crate::topics::VALUE_BYTES.saturating_sub(text.len() + 1)));
    text.push('}');
    text.into_bytes()
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
