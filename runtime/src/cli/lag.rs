//! `keyrail lag`: how far each pipeline is behind, from the brokers alone.

mod waiting;

use super::table::{Column, Table, Tone};
use super::terminal::{self, counted, grouped, say};
use super::{Config, Exit, WrongUse, broker, meant, place};
use anyhow::Context as _;
use clap::Args;
use keyrail::broker::client::{ANSWER_WAIT, Client, Topic};
use keyrail::broker::{BrokerError, BrokerErrorKind, Committed, LogBounds};
use keyrail::config::{Faults, Found, From, Pipeline};
use keyrail::record::TopicPartition;
use keyrail_engine::metadata::Metadata;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one look for records takes at most.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct LagArgs {
    /// Only this pipeline
    pipeline: Option<String>,
    #[command(flatten)]
    config: Config,
    /// Count what is parked also where much is to be read for that
    #[arg(long)]
    parked: bool,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    pipelines: &'a [PipelineLag],
    /// What is wrong with the manifests of the others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unfit: BTreeMap<&'a str, Vec<String>>,
}

/// How one pipeline stands.
#[derive(Debug, Serialize)]
struct PipelineLag {
    pipeline: String,
    group: String,
    /// Of all partitions whose lag is known.
    lag: i64,
    /// The largest of the partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_seconds: Option<f64>,
    /// How many messages are parked. `None`: that was not counted.
    parked: Option<u64>,
    /// How long the oldest of them has waited. `None`: there is none, or it was not counted.
    parked_seconds: Option<f64>,
    /// Partitions whose owner's breaker was open when it committed last.
    breaker_open: usize,
    partitions: Vec<PartitionLag>,
    /// Input topics that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct PartitionLag {
    topic: String,
    partition: i32,
    /// `None`: the group never committed this partition.
    committed: Option<i64>,
    start: i64,
    end: i64,
    /// `None`: nothing is waiting for a group that starts at the end and never ran.
    lag: Option<i64>,
    /// How long ago the first record that waits was written; 0 where none waits, `None` where it is not known.
    lag_seconds: Option<f64>,
    /// See [`PipelineLag::parked`].
    parked: Option<u64>,
    parked_seconds: Option<f64>,
    /// Its owner's breaker was open when it committed last.
    breaker_open: bool,
}

pub(super) fn lag(args: &LagArgs) -> anyhow::Result<Exit> {
    let (host, Found { fit: pipelines, mut unfit }) = broker::manifests(&args.config)?;
    if let Some(name) = &args.pipeline {
        // Wrong use is told before anybody is asked.
        if let Some(faults) = unfit.get(name) {
            anyhow::bail!("the manifest of {name} has faults\n{faults}");
        }
        choose(&pipelines, Some(name), &unfit)?;
        unfit.clear();
    }
    let mut client = broker::open(&host, false)?;
    let place = client.place();
    let all = client.topics().with_context(|| format!("can't ask {place} for its topics"))?;
    let pipelines = broker::with_topics(pipelines, &all);
    let chosen = choose(&pipelines, args.pipeline.as_deref(), &unfit)?;
    let mut lags = Vec::new();
    for pipeline in chosen {
        let mut lag = lag_of(client.as_mut(), pipeline, &all)?;
        waiting::count(&mut lag, client.as_mut(), pipeline, &all, &host, args.parked)?;
        lags.push(lag);
    }
    let text = if args.json {
        serde_json::to_string(&Page { pipelines: &lags, unfit: broker::unfit_lines(&unfit) })? + "\n"
    } else if lags.is_empty() {
        // What is told below is all there is.
        String::new()
    } else {
        table(&lags).render(terminal::width(), terminal::colours())
    };
    terminal::print(text.as_bytes(), "the lag")?;
    for lag in &lags {
        if lag.breaker_open > 0 {
            say(&format!(
                "keyrail: {}: the breaker is open for {} of {}: most order keys fail, as if a service were down, and messages wait; \
                 the log says with what",
                lag.pipeline,
                lag.breaker_open,
                counted(lag.partitions.len() as u64, "partition")
            ));
        }
        for name in &lag.missing {
            say(&format!("keyrail: {}: {}", lag.pipeline, broker::missing(name, &place, &all)));
        }
    }
    broker::tell_unfit(&unfit, lags.is_empty());
    Ok(Exit::of(unfit.is_empty() && lags.iter().all(|lag| lag.missing.is_empty())))
}

/// The pipelines that an argument means. `unfit`: those that are there too, and can't be meant while they have faults.
pub(super) fn choose<'a>(
    pipelines: &'a [Pipeline],
    name: Option<&str>,
    unfit: &BTreeMap<String, Faults>,
) -> Result<Vec<&'a Pipeline>, WrongUse> {
    let Some(name) = name else { return Ok(pipelines.iter().collect()) };
    if let Some(found) = pipelines.iter().find(|pipeline| pipeline.name == name) {
        return Ok(vec![found]);
    }
    let names = pipelines.iter().map(|pipeline| &pipeline.name).chain(unfit.keys()).map(String::as_str);
    let cure = meant(name, names).unwrap_or_else(|| "there is none at all".to_owned());
    Err(WrongUse(format!("there is no pipeline {name:?}; {cure}")))
}

fn lag_of(client: &mut dyn Client, pipeline: &Pipeline, all: &[Topic]) -> Result<PipelineLag, BrokerError> {
    let mut lag = PipelineLag {
        pipeline: pipeline.name.clone(),
        group: pipeline.group.clone(),
        lag: 0,
        lag_seconds: None,
        parked: None,
        parked_seconds: None,
        breaker_open: 0,
        partitions: Vec::new(),
        missing: Vec::new(),
    };
    let mut waiting = Vec::new();
    for (index, name) in (0_u32..).zip(&pipeline.input) {
        let Some(topic) = all.iter().find(|topic| topic.name == *name) else {
            lag.missing.push(name.clone());
            continue;
        };
        let partitions: Vec<i32> = (0..topic.partitions).collect();
        let places: Vec<_> =
            partitions.iter().map(|partition| TopicPartition { topic: index, partition: *partition }).collect();
        // IMPORTANT: what is committed before the ends, so that nothing is ahead of its end.
        let committed = client.committed(&pipeline.group, &pipeline.input, &places)?;
        let bounds = client.bounds(name, &partitions)?;
        let ever = committed.iter().any(|committed| committed.offset.is_some());
        for ((at, committed), bounds) in places.into_iter().zip(committed).zip(bounds) {
            let said = |offset| Metadata::decode(&committed.metadata, offset, i64::MAX).ok();
            let breaker_open = committed.offset.and_then(said).is_some_and(|said| said.kept.breaker);
            lag.breaker_open += usize::from(breaker_open);
            let first = first_waiting(&committed, bounds, ever || pipeline.from == From::Earliest);
            if let Some(first) = first.filter(|first| *first < bounds.end) {
                waiting.push((lag.partitions.len(), at, first, bounds.end));
            }
            lag.partitions.push(PartitionLag {
                topic: name.clone(),
                partition: at.partition,
                committed: committed.offset,
                start: bounds.start,
                end: bounds.end,
                lag: first.map(|first| bounds.end - first),
                lag_seconds: first.map(|_| 0.0),
                parked: None,
                parked_seconds: None,
                breaker_open,
            });
        }
    }
    let times = times(client, &pipeline.input, &waiting)?;
    let now = place::now_ms();
    for (row, at, ..) in waiting {
        lag.partitions[row].lag_seconds = match times.get(&at) {
            Some(Some(time)) => Some(now.saturating_sub(*time).max(0) as f64 / 1000.0),
            // Only markers of transactions are left.
            Some(None) => Some(0.0),
            None => None,
        };
    }
    lag.lag = lag.partitions.iter().filter_map(|p| p.lag).sum();
    lag.lag_seconds = lag.partitions.iter().filter_map(|p| p.lag_seconds).reduce(f64::max);
    Ok(lag)
}

/// The first offset that waits: what was committed, or where the group would start. `None`: it would start at the end.
fn first_waiting(committed: &Committed, bounds: LogBounds, from_start: bool) -> Option<i64> {
    match committed.offset {
        Some(offset) => Some(offset.clamp(bounds.start, bounds.end.max(bounds.start))),
        None => from_start.then_some(bounds.start),
    }
}

/// When the first waiting record of each partition was written. `Some(None)`: none waits that can be read. Not in it: the
/// broker did not tell in time, or the record has no time.
fn times(
    client: &mut dyn Client,
    topics: &[String],
    waiting: &[(usize, TopicPartition, i64, i64)],
) -> Result<BTreeMap<TopicPartition, Option<i64>>, BrokerError> {
    let mut found = BTreeMap::new();
    if waiting.is_empty() {
        return Ok(found);
    }
    let starts: Vec<_> = waiting.iter().map(|(_, at, first, _)| (*at, *first)).collect();
    let mut reader = client.read(topics, &starts)?;
    let mut timeless = Vec::new();
    let mut records = Vec::new();
    let until = Instant::now() + ANSWER_WAIT;
    while found.len() + timeless.len() < waiting.len() && Instant::now() < until {
        records.clear();
        match reader.next(LOOK, &mut records) {
            Err(error) if error.kind != BrokerErrorKind::Retry => return Err(error),
            _ => {}
        }
        for record in &records {
            if found.contains_key(&record.at) || timeless.contains(&record.at) {
                continue;
            }
            if record.timestamp_ms < 0 {
                timeless.push(record.at);
            } else {
                found.insert(record.at, Some(record.timestamp_ms));
            }
        }
        for (_, at, _, end) in waiting {
            if !found.contains_key(at) && !timeless.contains(at) && reader.has_passed(*at, *end) {
                found.insert(*at, None);
            }
        }
    }
    Ok(found)
}

fn table(lags: &[PipelineLag]) -> Table {
    let mut table = Table::new(&[
        Column("pipeline", false),
        Column("topic", false),
        Column("partition", true),
        Column("committed", true),
        Column("end", true),
        Column("lag", true),
        Column("behind", true),
        Column("parked", true),
        Column("oldest", true),
    ]);
    let plain = |text: String| (text, Tone::Plain);
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), grouped);
    for lag in lags {
        for row in &lag.partitions {
            table.row([
                plain(lag.pipeline.clone()),
                plain(row.topic.clone()),
                plain(row.partition.to_string()),
                plain(number(row.committed)),
                plain(grouped(row.end)),
                (number(row.lag), tone(row.lag)),
                plain(behind(row.lag_seconds)),
                parked(row.parked),
                plain(behind(row.parked_seconds)),
            ]);
        }
        for topic in &lag.missing {
            let nothing = || plain("-".to_owned());
            let missing = ("missing".to_owned(), Tone::Bad);
            table.row([
                plain(lag.pipeline.clone()),
                plain(topic.clone()),
                nothing(),
                nothing(),
                nothing(),
                missing,
                nothing(),
                nothing(),
                nothing(),
            ]);
        }
        let empty = || plain(String::new());
        table.row([
            plain(lag.pipeline.clone()),
            plain("total".to_owned()),
            empty(),
            empty(),
            empty(),
            (grouped(lag.lag), tone(Some(lag.lag))),
            plain(behind(lag.lag_seconds)),
            parked(lag.parked),
            plain(behind(lag.parked_seconds)),
        ]);
    }
    table
}

fn parked(count: Option<u64>) -> (String, Tone) {
    let told = count.map_or_else(|| "-".to_owned(), |n| grouped(i64::try_from(n).unwrap_or(i64::MAX)));
    (told, if count.unwrap_or(0) > 0 { Tone::Warning } else { Tone::Plain })
}

fn tone(lag: Option<i64>) -> Tone {
    match lag {
        Some(0) => Tone::Good,
        Some(_) => Tone::Warning,
        None => Tone::Plain,
    }
}

/// Seconds for people.
fn behind(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let whole = seconds as u64;
    match whole {
        0 if seconds > 0.0 => "<1s".to_owned(),
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: Option<i64>) -> Committed {
        Committed { offset, metadata: String::new() }
    }

    #[test]
    fn what_waits_depends_on_what_was_committed_and_where_a_group_starts() {
        let bounds = LogBounds { start: 10, end: 20 };
        assert_eq!(first_waiting(&committed(Some(15)), bounds, false), Some(15));
        // Retention took what was committed, or the topic was made anew.
        assert_eq!(first_waiting(&committed(Some(3)), bounds, false), Some(10));
        assert_eq!(first_waiting(&committed(Some(99)), bounds, false), Some(20));
        assert_eq!(first_waiting(&committed(None), bounds, true), Some(10));
        assert_eq!(first_waiting(&committed(None), bounds, false), None);
    }

    #[test]
    fn the_table_fits_a_terminal_of_40_columns() {
        let row = PartitionLag {
            topic: "orders".to_owned(),
            partition: 3,
            committed: None,
            start: 0,
            end: 1_234_567,
            lag: Some(1_234_567),
            lag_seconds: Some(90_061.5),
            parked: Some(12),
            parked_seconds: Some(200.0),
            breaker_open: false,
        };
        let lag = PipelineLag {
            pipeline: "payments".to_owned(),
            group: "payments".to_owned(),
            lag: 1_234_567,
            lag_seconds: Some(90_061.5),
            parked: None,
            parked_seconds: None,
            breaker_open: 0,
            partitions: vec![row],
            missing: vec!["ordres".to_owned()],
        };
        let narrow = table(std::slice::from_ref(&lag)).render(Some(40), false);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(
            narrow.contains("\n  lag       1,234,567\n  behind    1d 01h\n  parked    12\n  oldest    3m 20s\n"),
            "{narrow}"
        );
        let wide = table(&[lag]).render(Some(100), false);
        assert!(
            wide.contains("payments  orders          3          -  1,234,567  1,234,567  1d 01h      12  3m 20s\n"),
            "{wide}"
        );
        assert!(wide.contains("missing"), "{wide}");
    }

    #[test]
    fn seconds_for_people() {
        let told = |seconds: f64| behind(Some(seconds));
        assert_eq!([told(0.0), told(0.2), told(59.9), told(200.0)], ["0s", "<1s", "59s", "3m 20s"]);
        assert_eq!([told(7_500.0), told(90_000.0), behind(None)], ["2h 05m", "1d 01h", "-".to_owned().as_str()]);
    }
}
