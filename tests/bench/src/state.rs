//! The stateful count: Keyrail's state against Kafka Streams', both exactly-once, committed every 100 ms, and otherwise with
//! their defaults.

use crate::counts::Input;
use crate::figures::{Amount, megabytes};
use crate::process::Process;
use crate::report::{Figure, Report, Target};
use crate::rig::{Rig, Shape};
use crate::topics::{Committed, Watch};
use anyhow::{Context as _, Result, ensure};
use keyrail_kafka_tests::unique;
use std::time::{Duration, Instant};

/// What is written while nobody runs: the first that is counted after a restore, of every partition.
const AFTER_RESTORE: u64 = 1000;
const KEYRAIL: Shape<'static> = Shape { guest: "count", manifest: "", records: "", exactly_once: true };

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Keyrail,
    Streams,
    /// Kafka Streams without its cache of records, so that each message's count is written, as Keyrail does it.
    Uncached,
}

/// Who, by name, and what of a run is looked at.
const SIDES: [(Side, &str); 3] =
    [(Side::Streams, "Kafka Streams"), (Side::Uncached, "Streams uncached"), (Side::Keyrail, "Keyrail")];

/// One of them counts a whole topic, ends, and goes on without what it had on disk.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// From the start of the process to its first output, and its processor time until then.
    start: Used,
    /// Between a fifth and 95 % of the messages.
    steady: Used,
    steady_messages: u64,
    /// From the first output to the last commit.
    whole: Used,
    messages: u64,
    peak: u64,
    /// Of the changelog as it lies on the broker's disk.
    changelog: u64,
    /// From the second start to the commit of all that came meanwhile.
    restore: Used,
    restore_peak: u64,
}

/// What something took.
#[derive(Debug, Clone, Copy)]
struct Used {
    wall: Duration,
    cpu: Duration,
}

/// Since when a process is looked at.
struct Since {
    at: Instant,
    cpu: Duration,
}

impl Since {
    fn now(process: &Process) -> Result<Self> {
        Ok(Self { at: Instant::now(), cpu: process.cpu()? })
    }

    fn until(&self, later: &Self) -> Used {
        Used { wall: later.at - self.at, cpu: later.cpu.saturating_sub(self.cpu) }
    }
}

impl Run {
    fn per_second(&self) -> f64 {
        self.steady_messages as f64 / self.steady.wall.as_secs_f64()
    }

    fn steady_us(&self) -> f64 {
        self.steady.cpu.as_micros() as f64 / self.steady_messages as f64
    }

    fn whole_us(&self) -> f64 {
        self.whole.cpu.as_micros() as f64 / self.messages as f64
    }

    fn with_start_us(&self) -> f64 {
        (self.start.cpu + self.whole.cpu).as_micros() as f64 / self.messages as f64
    }

    fn restore_s(&self) -> f64 {
        self.restore.wall.as_secs_f64()
    }

    fn told(&self) -> String {
        format!(
            "{:.0} msgs/s, {:.2} us CPU, peak {:.0} MB, changelog {:.0} MB; restored in {:.1} s",
            self.per_second(),
            self.steady_us(),
            megabytes(self.peak),
            megabytes(self.changelog),
            self.restore_s()
        )
    }
}

/// Counts per key, and how long it takes until the counts are back when the disk was lost.
pub(crate) fn state(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    rig.streams()?;
    let messages = amount.keys * amount.per_key;
    report.doing(&format!("writing {messages} messages of {} keys", amount.keys));
    let mut input = Input::fill(rig, amount.keys, messages)?;
    let mut runs = SIDES.map(|_| Vec::new());
    for pair in 1..=amount.pairs {
        // Who goes first takes turns.
        for turn in 0..SIDES.len() {
            let index = (turn + pair as usize - 1) % SIDES.len();
            let (side, name) = SIDES[index];
            let run = count(rig, side, &mut input).with_context(|| name.to_owned())?;
            report.doing(&format!("round {pair}, {name}: {}", run.told()));
            runs[index].push(run);
        }
    }
    figures(&runs, report);
    rig.retire(&input.topic)
}

fn figures([streams, uncached, ours]: &[Vec<Run>; 3], report: &mut Report) {
    type Aspect = fn(&Run) -> f64;
    let of = |runs: &[Run], what: Aspect| runs.iter().map(what).collect::<Vec<_>>();
    let aspects: [(&str, &str, Aspect); 10] = [
        ("count, throughput", "msgs/s", Run::per_second),
        ("count, CPU a message", "us", Run::steady_us),
        ("count, CPU with warm-up", "us", Run::whole_us),
        ("start to first output", "s", |run| run.start.wall.as_secs_f64()),
        ("start to first output, CPU", "s", |run| run.start.cpu.as_secs_f64()),
        ("count, peak memory", "MB", |run| megabytes(run.peak)),
        ("count, changelog", "MB", |run| megabytes(run.changelog)),
        ("restore", "s", Run::restore_s),
        ("restore, CPU", "s", |run| run.restore.cpu.as_secs_f64()),
        ("restore, peak memory", "MB", |run| megabytes(run.restore_peak)),
    ];
    for (name, unit, what) in aspects {
        for ((_, who), runs) in SIDES.iter().zip([streams, uncached, ours]) {
            report.add(Figure::of(&format!("{name}, {who}"), unit, &of(runs, what)));
        }
    }
    let ratio =
        |other: &[Run], what: Aspect| other.iter().zip(ours).map(|(o, k)| what(k) / what(o)).collect::<Vec<_>>();
    let half = Target::AtMost(0.5);
    report.add(Figure::of("count, CPU ratio", "x", &ratio(streams, Run::steady_us)).target(half));
    report.add(Figure::of("count, CPU ratio, with warm-up", "x", &ratio(streams, Run::whole_us)));
    report.add(Figure::of("count, CPU ratio, with start and warm-up", "x", &ratio(streams, Run::with_start_us)));
    report.add(Figure::of("count, CPU ratio, Streams uncached", "x", &ratio(uncached, Run::steady_us)));
    report.add(Figure::of("count, throughput ratio", "x", &ratio(streams, Run::per_second)));
    report.add(Figure::of("restore ratio", "x", &ratio(streams, Run::restore_s)).target(half));
}

/// A side by its group: its outputs, and how it is started.
struct Counting<'a> {
    rig: &'a Rig,
    side: Side,
    group: String,
    from: &'a str,
    to: String,
}

impl Counting<'_> {
    fn start(&self) -> Result<Process> {
        match self.side {
            Side::Keyrail => self.rig.start_keyrail(&self.group, self.from, &self.to, &KEYRAIL),
            Side::Streams => self.rig.start_streams(&self.group, self.from, &self.to, "default"),
            Side::Uncached => self.rig.start_streams(&self.group, self.from, &self.to, "0"),
        }
    }

    fn changelog(&self) -> String {
        match self.side {
            Side::Keyrail => format!("{}.{}.state", self.group, self.from),
            Side::Streams | Side::Uncached => format!("{}-counts-changelog", self.group),
        }
    }

    fn number(&self, value: [u8; 8]) -> u64 {
        match self.side {
            Side::Keyrail => u64::from_le_bytes(value),
            Side::Streams | Side::Uncached => u64::from_be_bytes(value),
        }
    }
}

fn count(rig: &Rig, side: Side, input: &mut Input) -> Result<Run> {
    rig.clear_state()?;
    let (to, group) = (rig.topic("counted", &[])?, unique("count"));
    let from = input.topic.clone();
    let counting = Counting { rig, side, group, from: &from, to };
    let messages = input.total();
    let (outputs, committed) =
        (Watch::new(&rig.bootstrap, &counting.to)?, Committed::new(&rig.bootstrap, &counting.group, &from)?);
    let reach = |process: &mut Process, goal| rig.reach(process, goal, || committed.count());

    let started = Instant::now();
    let mut process = counting.start()?;
    rig.reach(&mut process, 1, || outputs.count())?;
    let first = Since::now(&process)?;
    let begin = reach(&mut process, messages / 5)?;
    let began = Since::now(&process)?;
    let end = reach(&mut process, messages / 20 * 19)?;
    let ended = Since::now(&process)?;
    ensure!(end > begin, "the run was over between two looks: measure more keys");
    reach(&mut process, messages)?;
    let last = Since::now(&process)?;
    let peak = process.memory("VmHWM")?;
    process.stop()?;
    let changelog = rig.topic_bytes(&counting.changelog())?;

    rig.clear_state()?;
    input.more(rig, AFTER_RESTORE)?;
    let again = Instant::now();
    let mut process = counting.start()?;
    reach(&mut process, input.total())?;
    let restored = Since::now(&process)?;
    let restore_peak = process.memory("VmHWM")?;
    process.stop()?;

    input.judge(rig, &counting.to, |value| counting.number(value))?;
    rig.retire(&counting.to)?;
    rig.retire(&counting.changelog())?;
    Ok(Run {
        start: Used { wall: first.at - started, cpu: first.cpu },
        steady: began.until(&ended),
        steady_messages: end - begin,
        whole: first.until(&last),
        messages,
        peak,
        changelog,
        restore: Used { wall: restored.at - again, cpu: restored.cpu },
        restore_peak,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers have few digits")]
    use super::*;

    fn used(wall_ms: u64, cpu_ms: u64) -> Used {
        Used { wall: Duration::from_millis(wall_ms), cpu: Duration::from_millis(cpu_ms) }
    }

    #[test]
    fn a_start_counts_apart_from_what_follows() {
        let run = Run {
            start: used(2000, 4000),
            steady: used(500, 750),
            steady_messages: 750_000,
            whole: used(1000, 2000),
            messages: 1_000_000,
            peak: 1 << 20,
            changelog: 0,
            restore: used(5000, 6000),
            restore_peak: 0,
        };
        assert_eq!((run.per_second(), run.steady_us()), (1_500_000.0, 1.0));
        assert_eq!((run.whole_us(), run.with_start_us()), (2.0, 6.0));
        let mut report = Report::new();
        figures(&[vec![run], vec![run], vec![Run { steady: used(500, 375), ..run }]], &mut report);
        let table = report.table();
        let line = |name: &str| table.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
        assert!(line("count, CPU ratio ").contains("0.50"), "{table}");
        assert!(line("count, CPU ratio ").contains("held"), "{table}");
        assert!(line("restore ratio ").contains("MISSED"), "{table}");
    }
}
