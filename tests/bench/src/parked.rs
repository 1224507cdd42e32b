//! The figures of ordered retry: what parked keys cost the others, how fast followers are released, and how soon what is parked
//! is known again.

use crate::figures::{Amount, RATE, megabytes, pace, script};
use crate::process::Process;
use crate::report::{Figure, Report, Target};
use crate::rig::{Rig, Shape, Who};
use crate::topics::{Committed, KEYS, Watch, chance, fill, key, read_all};
use anyhow::{Context as _, Result, ensure};
use keyrail_kafka_tests::unique;
use rdkafka::message::Message as _;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One key of so many fails.
const SICK: u64 = 100;
/// So long.
const SICK_FOR: Duration = Duration::from_secs(30);
/// Behind the head of one key.
const FOLLOWERS: u64 = 100_000;
/// Keys that are parked for the restore, each with a message.
const PARKED: u64 = 1_000_000;
/// Seconds at the start of a paced run that are not counted: the first message that is parked makes the retry topic.
const WARM: u64 = 4;
/// Messages that show that the restore is over.
const AFTER: u64 = 1000;

/// What fails is parked at once, and tried every 5 s.
const RETRY: &str =
    "[retry]\nattempts = 100000\nbackoff = { first = \"5s\", factor = 1.0, max = \"5s\", jitter = 0.0 }";
/// What fails stays parked.
const FOR_LONG: &str =
    "[breaker]\nfailures = 0\n[retry]\nattempts = 100000\nbackoff = { first = \"12h\", factor = 1.0, max = \"12h\" }";

fn shape(manifest: &'static str) -> Shape<'static> {
    Shape { guest: "scripted", manifest, exactly_once: true, ..Shape::default() }
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Whether a message's key is one of those that fail.
fn is_sick(number: u64) -> bool {
    (chance(number) % KEYS).is_multiple_of(SICK)
}

/// A message's key and value: those of one key of [`SICK`] fail until then.
fn message(number: u64, until_ms: Option<u64>) -> (String, Vec<u8>) {
    let command =
        until_ms.filter(|_| is_sick(number)).map_or_else(|| "done".to_owned(), |ms| format!("retry-until:{ms}"));
    (key(number), script(&command, number))
}

/// The healthy beside 1 % of keys that fail for 30 s, against a run in which none fails.
pub(crate) fn beside(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    let messages = amount.messages.max(1_000_000);
    report.doing(&format!("{messages} messages, and as many with 1 % of the keys failing for {SICK_FOR:?}, in turns"));
    let mut ratios = Vec::new();
    for _ in 0..amount.pairs {
        let (sick, healthy) = (speed(rig, messages, true)?, speed(rig, messages, false)?);
        report.doing(&format!("none failing: {healthy:.0} msgs/s, 1 %: {sick:.0}"));
        ratios.push(sick / healthy);
    }
    report.add(Figure::of("throughput beside 1 % of keys parked", "x", &ratios).target(Target::AtLeast(0.95)));
    let [healthy, beside] = [false, true].map(|sick| lateness(rig, amount, sick, report));
    let (healthy, beside) = (healthy?, beside?);
    report.add(Figure::of("latency p99, exactly-once, none failing", "ms", &[healthy]));
    let ratio = Figure::of("the same of the healthy beside 1 %", "x", &[beside / healthy]);
    report.add(ratio.target(Target::AtMost(1.5)));
    Ok(())
}

/// Outputs a second between a fifth and 90 % of them: then none but healthy ones are left out.
fn speed(rig: &Rig, messages: u64, sick: bool) -> Result<f64> {
    let (from, to) = (rig.topic("beside", &[])?, rig.topic("out", &[])?);
    let group = unique("bench");
    let watch = Watch::new(&rig.bootstrap, &to)?;
    if sick {
        // The first message that is parked makes the retry topic, once in the life of a group.
        let until_ms = now_ms()? + 10_000;
        fill(&rig.bootstrap, &from, 1, |n| ("first".to_owned(), script(&format!("retry-until:{until_ms}"), n)))?;
        let mut process = rig.start_keyrail(&group, &from, &to, &shape(RETRY))?;
        rig.wait(&mut process, &watch, 1)?;
        process.stop()?;
    }
    let until_ms = sick.then_some(now_ms()? + SICK_FOR.as_millis() as u64);
    fill(&rig.bootstrap, &from, messages, |n| message(n, until_ms))?;
    let mut process = rig.start_keyrail(&group, &from, &to, &shape(RETRY))?;
    let first = rig.wait(&mut process, &watch, messages / 5)?;
    let began = Instant::now();
    let last = rig.wait(&mut process, &watch, messages / 10 * 9)?;
    let took = began.elapsed();
    ensure!(last > first, "the run was over between two looks: measure more messages");
    ensure!(until_ms.is_none_or(|until| now_ms().is_ok_and(|now| now < until)), "it took longer than the keys failed");
    rig.wait(&mut process, &watch, messages)?;
    process.stop()?;
    rig.retire(&from)?;
    rig.retire(&to)?;
    Ok((last - first) as f64 / took.as_secs_f64())
}

/// The 99th percentile from a healthy record's append to its output's, both by the broker's clock, in milliseconds.
fn lateness(rig: &Rig, amount: Amount, sick: bool, report: &mut Report) -> Result<f64> {
    let broker_time = [("message.timestamp.type", "LogAppendTime")];
    let (from, to) = (rig.topic("paced", &broker_time)?, rig.topic("paced-out", &broker_time)?);
    let watch = Watch::new(&rig.bootstrap, &to)?;
    let mut process = rig.start(Who::Keyrail, &from, &to, &shape(RETRY))?;
    let count = RATE * (amount.seconds + WARM);
    report.doing(&format!("{RATE} messages a second, {} % of the keys failing", if sick { 100 / SICK } else { 0 }));
    let until_ms = sick.then_some(now_ms()? + SICK_FOR.as_millis() as u64);
    pace(&rig.bootstrap, &from, count, |n| message(n, until_ms))?;
    rig.wait(&mut process, &watch, count)?;
    process.stop()?;
    let mut appended = HashMap::new();
    read_all(&rig.bootstrap, &from, |record| {
        appended.insert(number(record.payload())?, record.timestamp().to_millis().context("no time")?);
        Ok(())
    })?;
    let mut waits = Vec::new();
    read_all(&rig.bootstrap, &to, |record| {
        let number = number(record.payload())?;
        let at = record.timestamp().to_millis().context("no time")?;
        let healthy = !is_sick(number);
        if healthy && number >= RATE * WARM {
            waits.push((at - appended.get(&number).context("an output without input")?) as f64);
        }
        Ok(())
    })?;
    rig.retire(&from)?;
    rig.retire(&to)?;
    waits.sort_by(f64::total_cmp);
    let at = (waits.len().saturating_sub(1) as f64 * 0.99) as usize;
    waits.get(at).copied().context("nothing healthy came out")
}

/// The number of a message, in its script or in what came of it.
fn number(value: Option<&[u8]>) -> Result<u64> {
    let text = std::str::from_utf8(value.unwrap_or_default())?;
    let id = text.split_once("\"id\":\"").map_or(text, |(_, id)| id);
    id.split('-').next().and_then(|digits| digits.parse().ok()).with_context(|| format!("no number in {text:?}"))
}

/// One key with many followers: parked, and released when its head succeeds.
pub(crate) fn release(rig: &Rig, _: Amount, report: &mut Report) -> Result<()> {
    let (from, to) = (rig.topic("one", &[])?, rig.topic("one-out", &[])?);
    report.doing(&format!("one key with {FOLLOWERS} followers"));
    let until_ms = now_ms()? + SICK_FOR.as_millis() as u64;
    fill(&rig.bootstrap, &from, FOLLOWERS + 1, |n| {
        let command = if n == 0 { format!("retry-until:{until_ms}") } else { "done".to_owned() };
        ("one".to_owned(), script(&command, n))
    })?;
    let group = unique("bench");
    let (outputs, committed) = (Watch::new(&rig.bootstrap, &to)?, Committed::new(&rig.bootstrap, &group, &from)?);
    let mut process = rig.start_keyrail(&group, &from, &to, &shape(RETRY))?;
    let began = Instant::now();
    rig.reach(&mut process, FOLLOWERS + 1, || committed.count())?;
    let parked = began.elapsed();
    ensure!(now_ms()? < until_ms, "parking them took longer than the head fails: {parked:?}");
    let first = rig.wait(&mut process, &outputs, FOLLOWERS / 20)?;
    let began = Instant::now();
    let last = rig.wait(&mut process, &outputs, FOLLOWERS / 20 * 19)?;
    let rate = (last - first) as f64 / began.elapsed().as_secs_f64();
    rig.wait(&mut process, &outputs, FOLLOWERS + 1)?;
    let peak = process.memory("VmHWM")?;
    process.stop()?;
    let mut next = 0;
    read_all(&rig.bootstrap, &to, |record| {
        let number = number(record.payload())?;
        ensure!(number == next, "{number} came when {next} was due");
        next += 1;
        Ok(())
    })?;
    ensure!(next == FOLLOWERS + 1, "{next} came out of {}", FOLLOWERS + 1);
    report.add(Figure::of(
        "followers of one key parked, from the start",
        "msgs/s",
        &[FOLLOWERS as f64 / parked.as_secs_f64()],
    ));
    report
        .add(Figure::of("followers of one key released in order", "msgs/s", &[rate]).target(Target::AtLeast(20_000.0)));
    report.add(Figure::of("peak memory of that", "MB", &[megabytes(peak)]));
    rig.retire(&from)?;
    rig.retire(&to)
}

/// Many parked keys, and how long a start takes that reads them from the broker alone.
pub(crate) fn restore(rig: &Rig, _: Amount, report: &mut Report) -> Result<()> {
    rig.clear_state()?;
    let (from, to) = (rig.topic("many", &[])?, rig.topic("many-out", &[])?);
    report.doing(&format!("{PARKED} keys, each with a message that is parked"));
    fill(&rig.bootstrap, &from, PARKED, |n| (format!("key-{n}"), script("retry", n)))?;
    let group = unique("bench");
    let committed = Committed::new(&rig.bootstrap, &group, &from)?;
    let start = || rig.start_keyrail(&group, &from, &to, &shape(FOR_LONG));
    let began = Instant::now();
    let mut process = start()?;
    rig.reach(&mut process, PARKED, || committed.count())?;
    let parked = PARKED as f64 / began.elapsed().as_secs_f64();
    process.stop()?;
    report.add(Figure::of("messages parked, each of its own key", "msgs/s", &[parked]));
    for (name, forget) in [("with its files", false), ("from the broker alone", true)] {
        if forget {
            rig.clear_state()?;
        }
        let before = committed.count()?;
        more(rig, &from, before)?;
        let began = Instant::now();
        let mut process: Process = start()?;
        rig.reach(&mut process, before + AFTER, || committed.count())?;
        let took = began.elapsed();
        let peak = process.memory("VmHWM")?;
        process.stop()?;
        let took = Figure::of(&format!("a start with {PARKED} parked, {name}"), "s", &[took.as_secs_f64()]);
        report.add(took.target(Target::AtMost(10.0)));
        report.add(Figure::of("peak memory of that", "MB", &[megabytes(peak)]).target(Target::AtMost(300.0)));
    }
    rig.retire(&from)?;
    rig.retire(&to)
}

/// Messages of other keys.
fn more(rig: &Rig, topic: &str, before: u64) -> Result<()> {
    let producer = crate::topics::producer(&rig.bootstrap, "5")?;
    for n in before..before + AFTER {
        crate::topics::send(&producer, topic, &format!("later-{n}"), &script("done", n))?;
    }
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(30)).context("filling a topic")
}
