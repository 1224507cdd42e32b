//! `keyrail dlq`: dead letters, of Keyrail and of others.

mod causes;
pub(super) mod letter;
mod position;
mod redrive;
mod show;
pub(super) mod source;
pub(super) mod wanted;

use super::decode::Decode;
use super::terminal::{self, counted, say};
use super::{Exit, place};
use causes::Causes;
use clap::{Args, Subcommand};
use keyrail::broker::LogBounds;
use keyrail::broker::client::Topic;
use keyrail::record::Record;
pub(super) use letter::Letter;
use position::Position;
pub(super) use source::{Place, Source, Span};
pub(super) use wanted::{Filters, Wanted};

#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters by what they died of: how many, since when, until when
    ///
    /// Letters that were sent back are left out. With --each every letter has a line. Headers of Keyrail, Spring, Kafka
    /// Streams, Kafka Connect and share groups are understood.
    List(ListArgs),
    /// Show dead letters: where they come from, why they are there, key, headers and value
    Show(ShowArgs),
    /// Send dead letters back: to the input they died in, or to another topic
    ///
    /// Counts first, and asks. Key, value and headers go back byte for byte, with the place where the message was first read;
    /// what told of the failure stays behind. Nothing is sent back twice: which letters were is committed with them, in the
    /// group TOPIC.redrive, so a command that was killed is simply given again. Letters that are left out now can be sent back
    /// later. Exits 1 if some stay, 3 if another redrive has taken over.
    Redrive(redrive::RedriveArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filters: Filters,
    /// A line for each letter
    #[arg(long)]
    each: bool,
    /// With --each: so many letters at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Those that were sent back, too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filters: Filters,
    /// How keys and values are shown
    #[arg(long, value_name = "HOW", default_value = "auto")]
    decode: Decode,
    /// So many letters at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Those that were sent back, too
    #[arg(long)]
    all: bool,
}

pub(super) fn dlq(args: &DlqArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) if args.each => {
            let shown = show::Shown { decode: Decode::Auto, lines: true, json: args.place.json, limit: args.limit };
            each(&args.place, &args.filters.wanted(None)?, args.all, shown)
        }
        Command::List(args) => list(args),
        Command::Redrive(args) => redrive::redrive(args),
        Command::Show(args) => {
            let shown = show::Shown { decode: args.decode, lines: false, json: args.place.json, limit: args.limit };
            each(&args.place, &args.filters.wanted(None)?, args.all, shown)
        }
    }
}

/// Reads the letters of a topic that are meant; `each` says whether it goes on. `all`: also those that were sent back.
pub(super) fn scan(
    source: &mut Source,
    topic: &Topic,
    wanted: &Wanted,
    all: bool,
    each: &mut dyn FnMut(&Record, &Letter) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let bounds = source.bounds(topic)?;
    let positions = source.known_positions(topic, &bounds)?;
    let spans = spans(source, topic, &positions, &bounds, wanted, all)?;
    source.scan(topic, &spans, &mut |record, letter| {
        let done = || position_of(&positions, record).is_some_and(|position| position.is_done(record, letter));
        if wanted.takes(record, letter) && (all || !done()) { each(record, letter) } else { Ok(true) }
    })
}

/// Reads the letter at this place, if there is one.
pub(super) fn at(
    source: &mut Source,
    topic: &Topic,
    (partition, offset): (i32, i64),
    each: &mut dyn FnMut(&Record, &Letter) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let bounds = source.bounds(topic)?;
    let own = usize::try_from(partition).ok().and_then(|n| bounds.get(n));
    if !own.is_some_and(|own| (own.start..own.end).contains(&offset)) {
        return Ok(());
    }
    source.scan(topic, &[Span { partition, from: offset, to: offset + 1 }], each)
}

/// The parts of a topic that are to be read: from what was not sent back, or from the start.
fn spans(
    source: &mut Source,
    topic: &Topic,
    positions: &[Position],
    bounds: &[LogBounds],
    wanted: &Wanted,
    all: bool,
) -> anyhow::Result<Vec<Span>> {
    let numbers: Vec<i32> = (0..topic.partitions).collect();
    // What comes behind the first letter of that time may be of any; what comes before it is earlier.
    let since = match wanted.since {
        Some(since) => source.client.offsets_at(&topic.name, &numbers, since)?,
        None => bounds.iter().map(|bounds| bounds.start).collect(),
    };
    let span = |partition: i32| {
        let n = usize::try_from(partition).ok()?;
        let from = if all { bounds.get(n)?.start } else { positions.get(n)?.offset };
        let meant = wanted.partitions.is_empty() || wanted.partitions.contains(&partition);
        meant.then_some(Span { partition, from: from.max(*since.get(n)?), to: bounds.get(n)?.end })
    };
    Ok(numbers.iter().filter_map(|partition| span(*partition)).collect())
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let wanted = args.filters.wanted(None)?;
    let mut source = Source::open(&args.place)?;
    let mut causes = Causes::default();
    for topic in source.topics.clone() {
        let bounds = source.bounds(&topic)?;
        let positions = source.known_positions(&topic, &bounds)?;
        let spans = spans(&mut source, &topic, &positions, &bounds, &wanted, args.all)?;
        source.scan(&topic, &spans, &mut |record, letter| {
            if wanted.takes(record, letter) {
                let done = position_of(&positions, record).is_some_and(|position| position.is_done(record, letter));
                if args.all || !done {
                    causes.take(&topic.name, record, letter, done);
                }
            }
            Ok(true)
        })?;
    }
    let text =
        if args.place.json { causes.json()? } else { causes.table().render(terminal::width(), terminal::colours()) };
    terminal::print(text.as_bytes(), "the dead letters")?;
    if !args.place.json {
        say(&format!("keyrail: {}", causes.told()));
    }
    Ok(Exit::Done)
}

fn position_of<'a>(positions: &'a [Position], record: &Record) -> Option<&'a Position> {
    positions.get(usize::try_from(record.at.partition).ok()?)
}

/// Shows letters as they are read, so that nothing is held.
fn each(place: &Place, wanted: &Wanted, all: bool, shown: show::Shown) -> anyhow::Result<Exit> {
    let mut source = Source::open(place)?;
    let (mut count, mut more) = (0, false);
    for topic in source.topics.clone() {
        let bounds = source.bounds(&topic)?;
        let positions = source.known_positions(&topic, &bounds)?;
        let spans = spans(&mut source, &topic, &positions, &bounds, wanted, all)?;
        source.scan(&topic, &spans, &mut |record, letter| {
            if !wanted.takes(record, letter) {
                return Ok(true);
            }
            let done = position_of(&positions, record).is_some_and(|position| position.is_done(record, letter));
            if done && !all {
                return Ok(true);
            }
            more = count >= shown.limit;
            if more {
                return Ok(false);
            }
            count += 1;
            terminal::print(&shown.letter(&topic.name, record, letter, done), "the dead letters")
        })?;
        if more {
            break;
        }
    }
    if more {
        say(&format!("keyrail: there are more than these {}: --limit shows more", counted(count as u64, "letter")));
    } else if count == 0 {
        say("keyrail: there is no such dead letter");
    }
    Ok(Exit::Done)
}

/// A time in a table; `-` where there is none.
fn told_time(ms: i64) -> String {
    if ms < 0 { "-".to_owned() } else { place::utc(ms) }
}
