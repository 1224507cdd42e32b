//! Timers and delayed sends: how late they are when many are due, and what those cost that are pending.

use crate::figures::{Amount, megabytes};
use crate::process::Process;
use crate::report::{Figure, Report, Target};
use crate::rig::{Rig, Shape};
use crate::topics::{Committed, Watch, chance, fill, read_all};
use anyhow::{Context as _, Result, ensure};
use keyrail_kafka_tests::unique;
use rdkafka::message::Message as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// All are due within this, evenly.
const WINDOW: Duration = Duration::from_secs(60);
/// The first is due so long after the topic is filled, and longer the more there are.
const LEAD: Duration = Duration::from_secs(20);
/// They are set at this rate at least.
const SET_A_SECOND: u64 = 30_000;
/// What came late is waited for so often, a second each time.
const LOOKS: u32 = 60;
const LATE_MS: f64 = 100.0;

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Sleeps until this time by the wall clock.
fn sleep_until(at_ms: i64) -> Result<()> {
    let left_ms = u64::try_from(at_ms - now_ms()?).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(left_ms));
    Ok(())
}

/// Messages that each set one timer of a key of its own, and when these come.
pub(crate) fn timers(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    rig.clear_state()?;
    let count = amount.timers;
    let (from, to) = (rig.topic("set", &[])?, rig.topic("fired", &[("message.timestamp.type", "LogAppendTime")])?);
    let lead = LEAD + Duration::from_secs(count / SET_A_SECOND);
    let begin_ms = now_ms()? + i64::try_from(lead.as_millis())?;
    let window_ms = WINDOW.as_millis() as u64;
    report.doing(&format!("{count} messages that set a timer each, due within {WINDOW:?} from {lead:?} on"));
    fill(&rig.bootstrap, &from, count, |n| {
        let at_ms = begin_ms + (chance(n) % window_ms) as i64;
        (format!("key-{n}"), format!("set t {at_ms} {at_ms}").into_bytes())
    })?;
    let group = unique("bench");
    let (outputs, committed) = (Watch::new(&rig.bootstrap, &to)?, Committed::new(&rig.bootstrap, &group, &from)?);
    let began = Instant::now();
    let shape = Shape { guest: "alarm", exactly_once: true, ..Shape::default() };
    let mut process = rig.start_keyrail(&group, &from, &to, &shape)?;
    let marks = [1, 2, 4].map(|part| count / part);
    for part in marks.into_iter().rev() {
        rig.reach(&mut process, part, || committed.count())?;
        report.doing(&format!("{part} are set, {:.0} MB", megabytes(process.memory("VmRSS")?)));
    }
    let set = count as f64 / began.elapsed().as_secs_f64();
    let pending = process.memory("VmRSS")?;
    ensure!(now_ms()? < begin_ms, "setting them took longer than {lead:?}: {set:.0} a second");
    sleep_until(begin_ms)?;
    let cpu = process.cpu()?;
    sleep_until(begin_ms + i64::try_from(window_ms)?)?;
    let cpu = process.cpu()? - cpu;
    // Each message has an output as well as each timer.
    rig.wait(&mut process, &outputs, 2 * count)?;
    let late_ms = read_late(rig, &to, count)?;
    let peak = process.memory("VmHWM")?;
    process.stop()?;
    let at = |share: f64| late_ms[((late_ms.len() - 1) as f64 * share) as usize];
    report.add(Figure::of(&format!("{count} timers set"), "msgs/s", &[set]));
    report.add(Figure::of("memory with all of them pending", "MB", &[megabytes(pending)]));
    report.add(Figure::of("timers due within a minute, lateness p50", "ms", &[at(0.5)]));
    report.add(Figure::of("timer lateness p99", "ms", &[at(0.99)]).target(Target::AtMost(LATE_MS)));
    report.add(Figure::of("timer lateness, most", "ms", &[at(1.0)]));
    report.add(Figure::of("CPU a timer", "us", &[cpu.as_micros() as f64 / count as f64]));
    report.add(Figure::of("peak memory of that", "MB", &[megabytes(peak)]));
    for topic in [&from, &to, &format!("{group}.{from}.state")] {
        rig.retire(topic)?;
    }
    Ok(())
}

/// How late each timer's output was appended, by the broker's clock, in order. All came, once each, and none too early.
fn read_late(rig: &Rig, to: &str, count: u64) -> Result<Vec<f64>> {
    for _ in 0..LOOKS {
        let mut late_ms = Vec::new();
        read_all(&rig.bootstrap, to, |record| {
            let text = std::str::from_utf8(record.payload().unwrap_or_default())?;
            ensure!(!text.starts_with("early"), "a timer came too early");
            if let Some(due) = text.strip_prefix("timer t ").and_then(|rest| rest.split(' ').nth(1)) {
                let due_ms: i64 = due.parse().with_context(|| format!("no time in {text:?}"))?;
                late_ms.push((record.timestamp().to_millis().context("no time")? - due_ms) as f64);
            }
            Ok(())
        })?;
        ensure!(late_ms.len() as u64 <= count, "{} came of {count} timers", late_ms.len());
        if late_ms.len() as u64 == count {
            late_ms.sort_by(f64::total_cmp);
            return Ok(late_ms);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    anyhow::bail!("not all of {count} timers came")
}

/// Messages that each send a record with a delay.
pub(crate) fn delays(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    rig.clear_state()?;
    let count = amount.timers;
    let (from, to) = (rig.topic("delaying", &[])?, rig.topic("delayed", &[])?);
    let lead = LEAD + Duration::from_secs(count / SET_A_SECOND);
    let window_ms = WINDOW.as_millis() as u64;
    report.doing(&format!("{count} messages that send with a delay of {lead:?} to {:?}", lead + WINDOW));
    fill(&rig.bootstrap, &from, count, |n| {
        let wait_ms = lead.as_millis() as u64 + chance(n) % window_ms;
        (format!("key-{n}"), format!("in {wait_ms} {n}").into_bytes())
    })?;
    let group = unique("bench");
    let (outputs, committed) = (Watch::new(&rig.bootstrap, &to)?, Committed::new(&rig.bootstrap, &group, &from)?);
    let shape = Shape { guest: "later", manifest: "limits.delay = \"1h\"", exactly_once: true, ..Shape::default() };
    let (mut process, began) = (rig.start_keyrail(&group, &from, &to, &shape)?, Instant::now());
    rig.reach(&mut process, count, || committed.count())?;
    let (set, pending) = (count as f64 / began.elapsed().as_secs_f64(), process.memory("VmRSS")?);
    std::thread::sleep((lead + Duration::from_secs(1)).saturating_sub(began.elapsed()));
    let cpu = process.cpu()?;
    // The broker's marks of transactions count as well: the last ones may still be due.
    rig.wait(&mut process, &outputs, count)?;
    let mut buckets = buckets(&process)?;
    for _ in 0..LOOKS {
        if buckets.last().is_some_and(|(_, sent)| *sent >= count) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        buckets = self::buckets(&process)?;
    }
    let (cpu, peak) = (process.cpu()? - cpu, process.memory("VmHWM")?);
    process.stop()?;
    let mut sent = 0;
    read_all(&rig.bootstrap, &to, |_| {
        sent += 1;
        Ok(())
    })?;
    ensure!(sent == count, "{sent} came of {count} delayed sends");
    report.add(Figure::of(&format!("{count} delayed sends kept"), "msgs/s", &[set]));
    report.add(Figure::of("memory with all of them pending", "MB", &[megabytes(pending)]));
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = Figure::of(&format!("delayed sends, lateness {name} at most"), "ms", &[least(&buckets, share)?]);
        report.add(if share > 0.9 { figure.target(Target::AtMost(LATE_MS)) } else { figure });
    }
    report.add(Figure::of("CPU a delayed send", "us", &[cpu.as_micros() as f64 / count as f64]));
    report.add(Figure::of("peak memory of that", "MB", &[megabytes(peak)]));
    for topic in [&from, &to, &format!("{group}.{from}.state")] {
        rig.retire(topic)?;
    }
    Ok(())
}

/// The least bound of a histogram, in milliseconds, that so many hold.
fn least(buckets: &[(f64, u64)], share: f64) -> Result<f64> {
    let (_, all) = buckets.last().context("nothing was sent")?;
    let wanted = (*all as f64 * share).ceil();
    let found = buckets.iter().find(|(_, count)| *count as f64 >= wanted);
    found.map(|(bound, _)| bound * 1e3).context("an empty histogram")
}

/// How late delayed sends were by the process's own account: upper bounds in seconds, and how many are within them.
fn buckets(process: &Process) -> Result<Vec<(f64, u64)>> {
    let address = process.word_behind("address=").context("it has no address")?;
    let mut stream = TcpStream::connect(&address).with_context(|| format!("asking {address}"))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    read_buckets(&page, "keyrail_delayed_lateness_seconds_bucket")
}

fn read_buckets(page: &str, name: &str) -> Result<Vec<(f64, u64)>> {
    let mut found = Vec::new();
    for line in page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))) {
        let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        let (bound, count) = bound.zip(count).with_context(|| format!("no bucket: {line}"))?;
        found.push((bound.replace("+Inf", "inf").parse()?, count));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::float_cmp,
        clippy::unwrap_used,
        reason = "these numbers have few digits; a test fails by panicking"
    )]
    use super::*;

    #[test]
    fn the_bound_that_holds_a_share_is_read_from_the_page() {
        let page = "x_bucket{pipeline=\"p\",le=\"0.005\"} 10\nx_bucket{pipeline=\"p\",le=\"0.1\"} 99\n\
                    x_bucket{pipeline=\"p\",le=\"+Inf\"} 100\nx_buckets{le=\"1\"} 7\nx_sum 5\n";
        let found = read_buckets(page, "x_bucket").unwrap();
        assert_eq!(found, [(0.005, 10), (0.1, 99), (f64::INFINITY, 100)]);
        assert_eq!(
            [0.1, 0.5, 0.99, 1.0].map(|share| least(&found, share).unwrap()),
            [5.0, 100.0, 100.0, f64::INFINITY]
        );
        assert!(least(&[], 0.5).is_err());
    }
}
