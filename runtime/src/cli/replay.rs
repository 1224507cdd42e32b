//! `keyrail replay`: runs dead letters again as they ran when they failed, and shows what another handler does with them.

pub(super) mod bench;
pub(super) mod fixture;
mod once;
pub(super) mod show;

use super::dlq::{self, Filters, Letter, Source, Wanted};
use super::terminal::{self, counted, say};
use super::{Config, Exit, WrongUse, broker, meant};
use anyhow::Context as _;
use bench::Bench;
use clap::{Args, ValueHint};
use keyrail::broker::client::Topic;
use keyrail::record::Record;
use once::Once;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const SCHEME: &str = "dlq:";

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// dlq:TOPIC/PARTITION@OFFSET, one letter as `keyrail dlq list --each` names it; dlq:NAME, those of a pipeline or a topic
    #[arg(value_name = "dlq:LETTER", value_parser = target)]
    what: Target,
    #[command(flatten)]
    filters: Filters,
    /// Those that were sent back, too
    #[arg(long)]
    all: bool,
    /// Run this handler instead of the one that failed, and show what it does otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    with: Option<PathBuf>,
    /// Run letters that keep no record, too: without state, at the time when they became dead letters
    #[arg(long)]
    without_record: bool,
    /// Write the letter as a fixture for `keyrail test`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    fixture: Option<PathBuf>,
    /// Show each letter of several, and not only those that are worth a look
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs, a line for each letter
    #[arg(long)]
    json: bool,
}

/// What is to be run again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// A pipeline or a topic.
    name: String,
    /// Partition and offset of the only letter that is meant.
    spot: Option<(i32, i64)>,
}

fn target(written: &str) -> Result<Target, String> {
    const CURE: &str =
        "write dlq:TOPIC/PARTITION@OFFSET, as `keyrail dlq list --each` names a letter, or dlq:PIPELINE for all";
    let rest = written.strip_prefix(SCHEME).filter(|rest| !rest.is_empty()).ok_or(CURE)?;
    let Some((name, spot)) = rest.split_once('/') else {
        return Ok(Target { name: rest.to_owned(), spot: None });
    };
    let numbers =
        spot.split_once('@').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    let numbers = numbers.filter(|(partition, offset): &(i32, i64)| *partition >= 0 && *offset >= 0).ok_or(CURE)?;
    Ok(Target { name: name.to_owned(), spot: Some(numbers) })
}

/// What came of all letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    letters: u64,
    /// As recorded.
    identical: u64,
    /// Done or skipped.
    handled: u64,
    /// Some of what it read is not in the record.
    inexact: u64,
    /// Not run.
    problems: u64,
}

impl Sum {
    fn add(&mut self, once: &Once) {
        self.letters += 1;
        let Some(now) = once.now() else {
            self.problems += 1;
            return;
        };
        self.identical += u64::from(once.is_identical());
        self.handled += u64::from(now.verdict.kind.stands());
        self.inexact += u64::from(!now.missing.is_empty());
    }

    /// What was asked for holds: verdicts are what they were; or, with another handler, all messages are handled.
    fn is_well(&self, with: bool) -> bool {
        let good = if with { self.handled } else { self.identical };
        self.letters > 0 && good == self.letters
    }

    fn told(&self, with: bool) -> String {
        let mut parts = Vec::new();
        let mut add = |number: u64, what: &str| {
            if number > 0 {
                parts.push(format!("{} {what}", terminal::grouped(i64::try_from(number).unwrap_or(i64::MAX))));
            }
        };
        let ran = self.letters - self.problems;
        if with {
            add(self.handled, "handled");
            add(self.identical, "end as they did");
            add(ran - self.handled - self.identical.min(ran - self.handled), "fail otherwise");
        } else {
            add(self.identical, "identical");
            add(ran - self.identical, "different");
        }
        add(self.inexact, "inexact");
        add(self.problems, "not run");
        format!("{}: {}", counted(self.letters, "letter"), parts.join(", "))
    }
}

pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let one = args.what.spot.is_some();
    if args.fixture.is_some() && !one {
        return Err(WrongUse("--fixture is of one letter: name it as dlq:TOPIC/PARTITION@OFFSET".to_owned()).into());
    }
    let wanted = args.filters.wanted(None)?;
    if one && wanted != Wanted::default() {
        return Err(WrongUse("one letter is named: nothing else may choose".to_owned()).into());
    }
    let place = dlq::Place { pipeline: None, topic: Vec::new(), config: args.config.clone(), json: args.json };
    let mut source = Source::open(&place)?;
    let topics = topics(&source, &args.what)?;
    let mut bench = Bench::new(&broker::host(&args.config)?, source.known.clone(), args.with.as_deref(), false)?;
    let mut sum = Sum::default();
    for topic in topics {
        let mut each = |record: &Record, letter: &Letter| {
            let once = Once::of(&mut bench, &topic.name, record, letter, args.without_record)?;
            sum.add(&once);
            if let Some(file) = &args.fixture {
                write_fixture(file, &once)?;
            }
            let as_hoped = match (once.now(), &args.with) {
                (Some(now), Some(_)) => now.verdict.kind.stands(),
                (Some(_), None) => once.is_identical(),
                (None, _) => false,
            };
            if one || args.each || args.json || !as_hoped {
                return terminal::print(&once.shown(args.json, one || args.each), "the letters");
            }
            Ok(true)
        };
        match args.what.spot {
            Some(spot) => dlq::at(&mut source, &topic, spot, &mut each)?,
            None => dlq::scan(&mut source, &topic, &wanted, args.all, &mut each)?,
        }
    }
    if sum.letters == 0 {
        say("keyrail: there is no such dead letter");
        return Ok(Exit::of(!one));
    }
    if !one {
        say(&format!("keyrail: {}", sum.told(args.with.is_some())));
    }
    Ok(Exit::of(sum.is_well(args.with.is_some())))
}

/// The topics of letters that are meant: those of a pipeline, or the one of that name.
fn topics(source: &Source, target: &Target) -> anyhow::Result<Vec<Topic>> {
    let find = |name: &str| source.all.iter().find(|topic| topic.name == name).cloned();
    let pipeline = source.known.iter().find(|pipeline| pipeline.name == target.name && target.spot.is_none());
    if let Some(pipeline) = pipeline {
        let mut topics: Vec<Topic> = pipeline.dead_letter.topics.iter().filter_map(|name| find(name)).collect();
        topics.sort();
        topics.dedup();
        return Ok(topics);
    }
    let pipelines = source.known.iter().filter(|_| target.spot.is_none()).map(|pipeline| pipeline.name.as_str());
    let names = pipelines.chain(source.all.iter().map(|topic| topic.name.as_str()));
    let missing = || {
        let cure = meant(&target.name, names).unwrap_or_else(|| "there is none at all".to_owned());
        let what = if target.spot.is_some() { "topic" } else { "pipeline or topic" };
        WrongUse(format!("there is no {what} {:?}; {cure}", target.name))
    };
    Ok(vec![find(&target.name).ok_or_else(missing)?])
}

/// Writes it where nothing is, or where somebody says that it may go.
fn write_fixture(file: &Path, once: &Once) -> anyhow::Result<()> {
    let Some(text) = once.fixture()? else {
        let why = once.problem.as_deref().unwrap_or("it did not run");
        anyhow::bail!("no fixture of {}: {why}", once.id);
    };
    let open = |new: bool| {
        let mut options = std::fs::OpenOptions::new();
        if new { options.write(true).create_new(true) } else { options.write(true).truncate(true) }.open(file)
    };
    let opened = match open(true) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let name = file.display();
            if terminal::can_ask(false).is_err()
                || !terminal::confirmed(&format!("{name} is there: overwrite it? [y/N] "))?
            {
                return Err(WrongUse(format!("{name} is there already, and was not overwritten")).into());
            }
            open(false)
        }
        other => other,
    };
    let written = opened.and_then(|mut out| out.write_all(text.as_bytes()));
    written.with_context(|| format!("can't write {}", file.display()))?;
    say(&format!("keyrail: wrote {}: run it with `keyrail test {}`", file.display(), file.display()));
    Ok(())
}

#[cfg(test)]
mod tests;
