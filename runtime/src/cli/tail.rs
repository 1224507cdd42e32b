//! `keyrail tail`: records out, as JSON lines or in a format of one's own.

use super::format::{self, Format, Separator};
use super::place::{self, Place};
use super::quiet::Quiet;
use super::terminal::{self, say};
use super::{Config, Exit, broker, line, signals};
use clap::Args;
use keyrail::admin::stop::Stop;
use keyrail::broker::client::{Client, Reader, Topic};
use keyrail::config::BrokerKind;
use keyrail::record::{Record, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often an idle command looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);
/// Written at once, about.
const BUFFER: usize = 1 << 17;
/// How often a command that follows looks for new partitions.
const NEW_PARTITIONS: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    config: Config,
    /// Where to start: earliest, latest, an offset, -N (the last N of each partition), a time as 2026-01-31T12:00:00Z,
    /// or how long ago as 15m
    #[arg(long, value_name = "PLACE", default_value = "latest", allow_hyphen_values = true, value_parser = place::parse)]
    from: Place,
    /// Where to end, before that offset or time; the same words as --from. Never beyond the end of the moment
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = place::parse)]
    until: Option<Place>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on with what comes; the default with --from latest
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Only records with this key
    #[arg(long)]
    key: Option<String>,
    /// Print values as they stand, one a line
    #[arg(long)]
    raw: bool,
    /// With --raw: print the key before the value, with this in between; \t and \xNN are understood
    #[arg(long, value_name = "TEXT", requires = "raw", value_parser = format::separator)]
    key_separator: Option<Separator>,
    /// Print by a format: %t topic, %p partition, %o offset, %T timestamp, %k key, %s value, %h headers, \n
    #[arg(long, conflicts_with = "raw", value_parser = format::format)]
    format: Option<Format>,
    /// Print JSON lines, which is the default
    #[arg(long, conflicts_with_all = ["raw", "format"])]
    json: bool,
}

/// One partition's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    at: TopicPartition,
    /// The first offset that is wanted; it may be still to come.
    from: i64,
    /// Where reading starts.
    start: i64,
    /// `None`: no end.
    end: Option<i64>,
}

pub(super) fn tail(args: &TailArgs) -> anyhow::Result<Exit> {
    let host = broker::host(&args.config)?;
    let mut client = broker::open(&host, false)?;
    let topics = broker::topics(client.as_mut(), &args.topics, None)?;
    let mut spans = Vec::new();
    for (index, topic) in topics.iter().enumerate() {
        spans.extend(spans_of(args, client.as_mut(), index, topic)?);
    }
    spans.retain(|span| span.end.is_none_or(|end| span.start < end));
    let stop = signals::interrupted()?;
    if spans.is_empty() || args.count == Some(0) {
        return Ok(Exit::Done);
    }
    let starts: Vec<_> = spans.iter().map(|span| (span.at, span.start)).collect();
    let reader = client.read(&args.topics, &starts)?;
    let mut tail = Tail {
        args,
        format: args.raw.then(|| Format::raw(args.key_separator.as_ref())).or_else(|| args.format.clone()),
        spans: spans.iter().map(|span| (span.at, *span)).collect(),
        // Of the embedded broker the process has ended then, and to take its folder would keep it from starting again.
        comes_back: host.broker == BrokerKind::Kafka,
        left: args.count.unwrap_or(u64::MAX),
        out: Vec::with_capacity(2 * BUFFER),
    };
    match tail.run(reader, client.as_mut(), &topics, &stop) {
        Ok(()) => Ok(Exit::Done),
        Err(Ended::Closed) => Ok(Exit::Done),
        Err(Ended::Failed(error)) => Err(error),
    }
}

fn follows(args: &TailArgs) -> bool {
    args.follow || (args.from == Place::Latest && args.until.is_none())
}

fn spans_of(args: &TailArgs, client: &mut dyn Client, index: usize, topic: &Topic) -> anyhow::Result<Vec<Span>> {
    let wanted: BTreeSet<i32> = args.partition.iter().copied().collect();
    if let Some(number) = wanted.iter().find(|number| **number >= topic.partitions) {
        return Err(broker::no_partition(*number, &topic.name, topic.partitions).into());
    }
    let partitions: Vec<i32> = (0..topic.partitions).filter(|n| wanted.is_empty() || wanted.contains(n)).collect();
    let bounds = client.bounds(&topic.name, &partitions)?;
    let mut offsets = |place: Place| place::offsets(place, client, &topic.name, &partitions, &bounds);
    let from = offsets(args.from)?;
    let until = args.until.map(offsets).transpose()?;
    let topic = u32::try_from(index)?;
    let span = |n: usize| {
        let (bounds, from) = (bounds[n], from[n]);
        let until = until.as_ref().map_or(bounds.end, |until| until[n].min(bounds.end));
        Span {
            at: TopicPartition { topic, partition: partitions[n] },
            from,
            start: from.clamp(bounds.start, bounds.end.max(bounds.start)),
            end: (!follows(args)).then_some(until),
        }
    };
    Ok((0..partitions.len()).map(span).collect())
}

/// Why it ended before all was printed.
enum Ended {
    /// Nobody reads what is printed any more, as after `| head`.
    Closed,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

struct Tail<'a> {
    args: &'a TailArgs,
    /// `None`: JSON.
    format: Option<Format>,
    spans: BTreeMap<TopicPartition, Span>,
    /// After an outage the reader goes on by itself.
    comes_back: bool,
    /// So many more records.
    left: u64,
    out: Vec<u8>,
}

impl Tail<'_> {
    fn run(
        &mut self,
        mut reader: Box<dyn Reader>,
        client: &mut dyn Client,
        topics: &[Topic],
        stop: &Stop,
    ) -> Result<(), Ended> {
        let mut records = Vec::new();
        let mut known: Vec<Topic> = topics.to_vec();
        let mut quiet = Quiet::new(follows(self.args), self.comes_back);
        let mut look_at = Instant::now() + NEW_PARTITIONS;
        while !stop.requested() {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty())?;
            for record in &records {
                if self.wants(record) {
                    self.print(record);
                    self.left -= 1;
                }
                if self.out.len() >= BUFFER {
                    self.write()?;
                }
                if self.left == 0 {
                    return self.write();
                }
            }
            self.write()?;
            let all = |(at, span): (&TopicPartition, &Span)| span.end.is_some_and(|end| reader.has_passed(*at, end));
            if self.spans.iter().all(all) {
                return Ok(());
            }
            if follows(self.args) && Instant::now() >= look_at {
                look_at = Instant::now() + NEW_PARTITIONS;
                new_partitions(client, &mut known);
            }
        }
        Ok(())
    }

    fn wants(&self, record: &Record) -> bool {
        let inside = self
            .spans
            .get(&record.at)
            .is_some_and(|span| record.offset >= span.from && span.end.is_none_or(|end| record.offset < end));
        inside && self.args.key.as_ref().is_none_or(|key| record.key() == Some(key.as_bytes()))
    }

    fn print(&mut self, record: &Record) {
        let topic = self.args.topics.get(record.at.topic as usize).map_or("", String::as_str);
        match &self.format {
            Some(format) => format.print(topic, record, &mut self.out),
            None => line::print(topic, record, &mut self.out),
        }
    }

    fn write(&mut self) -> Result<(), Ended> {
        let read = terminal::print(&self.out, "the records");
        self.out.clear();
        if read? { Ok(()) } else { Err(Ended::Closed) }
    }
}

/// A partition that is added is not read: better said than missed in silence.
fn new_partitions(client: &mut dyn Client, known: &mut [Topic]) {
    // An outage is told by the reader.
    let Ok(all) = client.topics() else { return };
    for topic in known {
        let now = all.iter().find(|other| other.name == topic.name).map_or(topic.partitions, |other| other.partitions);
        if now > topic.partitions {
            let (name, had) = (&topic.name, topic.partitions);
            say(&format!("keyrail: {name:?} has {now} partitions now, and {had} are read: start again to see all"));
            topic.partitions = now;
        }
    }
}
