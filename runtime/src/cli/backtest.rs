//! `keyrail backtest`: a version of a handler over what the input topics still hold, side by side with the present one.

mod begin;
mod feed;
mod follow;
mod show;
mod tally;

use super::broker::{self, One};
use super::place::{self, Place};
use super::replay::bench::{Bench, Found, Version, short};
use super::terminal::{self, Progress, counted, grouped, say};
use super::{Config, Exit, WrongUse, signals};
use anyhow::Context as _;
use begin::Origin;
use clap::{Args, ValueHint};
use feed::{Feed, Span};
use keyrail::admin::stop::Stop;
use keyrail::backtest::{Broken, Pair, Seen, Terms};
use keyrail::record::Record;
use keyrail::scenario::Took;
use keyrail_engine::message::Partition;
use show::{Example, Report};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tally::Tally;

/// State, timers and seen ids of a version may take so much memory, for the messages of one partition.
const MOST_BYTES: u64 = 512 << 20;

#[derive(Debug, Args)]
pub(super) struct BacktestArgs {
    /// The version to try: the file of a handler
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    new: PathBuf,
    /// The pipeline whose manifest both run by, and whose inputs they read [default: the only one that there is]
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Compare with this handler, and not with the one that the manifest names
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    against: Option<PathBuf>,
    /// Where to start: how long ago as 15m, a time as 2026-01-31T12:00:00Z, earliest, an offset, or -N (the last N of each
    /// partition) [default: 24h; with --follow the end]
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = place::parse)]
    since: Option<Place>,
    /// Where to end, before that time or offset; the same words as --since. Never beyond the end of the moment
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = place::parse)]
    until: Option<Place>,
    /// Go on with what comes, in the shadow of the pipeline that runs, and tell the first keys that differ at once; until
    /// Ctrl-C
    #[arg(long, conflicts_with = "until")]
    follow: bool,
    /// With --follow: until so much time has passed, as 10m
    #[arg(long = "for", value_name = "TIME", requires = "follow", value_parser = place::lasts)]
    lasts: Option<Duration>,
    /// Only messages with this key
    #[arg(long)]
    key: Option<String>,
    /// So many messages at most, the first ones of each partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Show so many of the keys that differ
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit_keys: usize,
    /// Begin with the state that the pipeline keeps now, and not without any
    #[arg(long)]
    state: bool,
    /// Compare what they change of state, too
    #[arg(long)]
    compare_state: bool,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn backtest(args: &BacktestArgs) -> anyhow::Result<Exit> {
    let now_ms = place::now_ms();
    check(args, now_ms)?;
    let name = pipeline(args)?;
    let mut one = One::open(&args.config, &name, |_| Ok(()))?;
    let spans = spans(&mut one, args)?;
    let bench = Bench::new(&one.host, vec![one.pipeline.clone()], None, false)?;
    let versions = versions(bench, &name, args)?;
    let manifests = [versions.old.parts().1, versions.new.parts().1];
    let origin = if args.state { Some(Origin::of(&one, manifests)?) } else { None };
    let run = Run { args, now_ms, stop: signals::interrupted()?, versions, origin };
    let mut came = Came::new(args.limit_keys);
    if !args.follow {
        run.all(&mut one, &spans, &mut came)?;
        return run.report(&one, &came);
    }
    // What hours have shown is told, whatever ended them.
    let ended = run.follow(&mut one, &spans, &mut came);
    came.interrupted = ended.is_err();
    let exit = run.report(&one, &came)?;
    ended.map(|()| exit)
}

fn since(args: &BacktestArgs) -> Place {
    const DAY_MS: i64 = 24 * 3_600_000;
    let absent = || if args.follow { Place::Latest } else { Place::Time((place::now_ms() - DAY_MS).max(0)) };
    args.since.unwrap_or_else(absent)
}

/// What is wrong with the arguments by themselves.
fn check(args: &BacktestArgs, now_ms: i64) -> Result<(), WrongUse> {
    for file in [Some(&args.new), args.against.as_ref()].into_iter().flatten() {
        if !file.is_file() {
            let what = if file.is_dir() { "is a folder, and no handler" } else { "is not there" };
            return Err(WrongUse(format!("{} {what}: name the file of a handler, as NEW.wasm", file.display())));
        }
    }
    match (since(args), args.until) {
        (Place::Time(ms), _) if ms > now_ms => {
            Err(WrongUse(format!("--since {} is still to come: no topic holds messages of then", place::utc(ms))))
        }
        (Place::Latest, _) if !args.follow => {
            Err(WrongUse("--since latest leaves nothing to run: say how far back".to_owned()))
        }
        (Place::Time(since), Some(Place::Time(until))) if until <= since => {
            Err(WrongUse(format!("--until {} is not later than --since {}", place::utc(until), place::utc(since))))
        }
        _ => Ok(()),
    }
}

/// The pipeline that is named, or the only one.
fn pipeline(args: &BacktestArgs) -> anyhow::Result<String> {
    if let Some(name) = &args.pipeline {
        return Ok(name.clone());
    }
    let (_, found) = broker::manifests(&args.config)?;
    let mut names: Vec<&str> = found.fit.iter().map(|pipeline| pipeline.name.as_str()).collect();
    names.extend(found.unfit.keys().map(String::as_str));
    match &*names {
        [only] => Ok((*only).to_owned()),
        [] => Err(WrongUse("there is no pipeline here: a back-test runs by a pipeline's manifest".to_owned()).into()),
        several => Err(WrongUse(format!(
            "there are several pipelines here ({}): say which, as --pipeline {}",
            several.join(", "),
            several[0]
        ))
        .into()),
    }
}

/// What of the inputs is to be run.
fn spans(one: &mut One, args: &BacktestArgs) -> anyhow::Result<Vec<Span>> {
    let place = one.client.place();
    let inputs = &one.pipeline.input;
    if inputs.is_empty() {
        return Err(WrongUse(format!("no topic at {place} matches the inputs of {}", one.pipeline.name)).into());
    }
    let mut all = Vec::new();
    for (index, name) in (0_u32..).zip(inputs) {
        let topic = one.all.iter().find(|topic| topic.name == *name);
        let topic = topic.with_context(|| broker::missing(name, &place, &one.all))?;
        all.extend(feed::spans(one.client.as_mut(), (index, topic), since(args), args.until)?);
    }
    // What comes may come to any.
    all.retain(|span| args.follow || span.from < span.to);
    Ok(all)
}

/// The old one and the new one.
struct Versions {
    old: Rc<Version>,
    new: Rc<Version>,
    old_file: PathBuf,
}

fn versions(mut bench: Bench, name: &str, args: &BacktestArgs) -> anyhow::Result<Versions> {
    let loaded = |found: Found, cure: &str| found.map_err(|why| anyhow::anyhow!("{why}{cure}"));
    let new = loaded(bench.file(name, &args.new), "")?;
    let old = match &args.against {
        Some(file) => loaded(bench.file(name, file), "")?,
        None => loaded(bench.present(name), "\n  --against FILE compares with another handler than the manifest's")?,
    };
    let old_file = args.against.clone().unwrap_or_else(|| old.parts().1.handler.clone());
    Ok(Versions { old, new, old_file })
}

/// What came of the messages so far.
struct Came {
    tally: Tally<Example>,
    /// Of old and new version.
    took: (Took, Took),
    /// The oldest and the newest message.
    times: Option<(i64, i64)>,
    /// It was ended before all was through.
    interrupted: bool,
    /// As many keys differ as are told one by one.
    many: bool,
}

impl Came {
    fn new(most_keys: usize) -> Self {
        Self { tally: Tally::new(most_keys), took: Default::default(), times: None, interrupted: false, many: false }
    }

    fn note_time(&mut self, ms: i64) {
        let (first, last) = self.times.unwrap_or((ms, ms));
        self.times = Some((first.min(ms), last.max(ms)));
    }
}

struct Run<'a> {
    args: &'a BacktestArgs,
    now_ms: i64,
    stop: Stop,
    versions: Versions,
    /// `None`: state begins empty.
    origin: Option<Origin>,
}

impl Run<'_> {
    fn all(&self, one: &mut One, spans: &[Span], came: &mut Came) -> anyhow::Result<()> {
        let tasks = feed::tasks(&one.pipeline.policy.order, spans);
        let about: u64 = spans.iter().map(Span::len).sum();
        let about = about.min(self.args.limit.unwrap_or(u64::MAX));
        let mut progress = Progress::new();
        let mut left = self.args.limit.unwrap_or(u64::MAX);
        for (n, spans) in tasks.iter().enumerate() {
            // What a partition does not have the others may run.
            let quota = left.div_ceil((tasks.len() - n) as u64);
            left -= self.task(one, spans, quota, &mut |came| progress.show(|| shown(came, about)), came)?;
            if self.stop.requested() {
                came.interrupted = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The messages of one task; how many.
    fn task(
        &self,
        one: &mut One,
        spans: &[Span],
        quota: u64,
        progress: &mut dyn FnMut(&Came),
        came: &mut Came,
    ) -> anyhow::Result<u64> {
        let topics = one.pipeline.input.clone();
        let mut feed = Feed::open(one, spans)?;
        let mut pair: Option<Pair> = None;
        let mut count = 0;
        while count < quota
            && let Some(record) = feed.next(&self.stop)?
        {
            if self.args.key.as_ref().is_some_and(|key| record.key() != Some(key.as_bytes())) {
                continue;
            }
            if pair.is_none() {
                pair = self.pair(one, &record)?;
            }
            let Some(pair) = &mut pair else { break };
            let tally = &mut came.tally;
            let mut each = |seen: &Seen<'_>| tally.add(seen, || Example::of(seen, &topics, self.args.json));
            let ran = pair.run(&record, &|| self.stop.requested(), &mut each).map_err(|why| told(&why));
            if !ran.with_context(|| show::place(&record, &topics))? {
                break;
            }
            count += 1;
            came.note_time(record.timestamp_ms);
            progress(came);
        }
        if let Some((old, new)) = pair.map(|pair| pair.took()) {
            came.took.0.and(old);
            came.took.1.and(new);
        }
        Ok(count)
    }

    /// Both begin where the first message stands. `None`: it was told to stop.
    fn pair(&self, one: &mut One, first: &Record) -> anyhow::Result<Option<Pair>> {
        self.pair_of(one, first, MOST_BYTES)
    }

    /// The same within so much memory.
    fn pair_of(&self, one: &mut One, first: &Record, most_bytes: u64) -> anyhow::Result<Option<Pair>> {
        let start_ms = if first.timestamp_ms > 0 { first.timestamp_ms } else { self.now_ms };
        let terms = Terms { now_ms: self.now_ms, most_bytes, state: self.args.compare_state };
        let mut pair = Pair::new(self.versions.old.parts(), self.versions.new.parts(), start_ms, terms);
        if let Some(origin) = &self.origin {
            let partition = Partition { topic: first.at.topic, number: first.at.partition };
            let task = one.pipeline.policy.order.task(partition);
            if !origin.give(one, task, &mut pair, &self.stop)? {
                return Ok(None);
            }
        }
        Ok(Some(pair))
    }

    fn report(&self, one: &One, came: &Came) -> anyhow::Result<Exit> {
        let tally = &came.tally;
        if tally.messages.all == 0 && !came.interrupted {
            let inputs = one.pipeline.input.join(", ");
            let key = self.args.key.as_ref().map_or_else(String::new, |key| format!(" with the key {key:?}"));
            say(&format!("keyrail: {inputs}: there is no message{key} in that time, so nothing was compared"));
        }
        let Versions { old, new, old_file } = &self.versions;
        let report = Report {
            pipeline: &one.pipeline.name,
            old: (old.digest(), old_file),
            new: (new.digest(), &self.args.new),
            came,
            begins_empty: self.origin.is_none(),
            with_state: self.args.compare_state,
        };
        let text = if self.args.json { report.json() } else { report.text() };
        terminal::print(text.as_bytes(), "the report")?;
        say(&self.summary(came));
        Ok(Exit::of(!came.interrupted && tally.compared() > 0 && tally.differing() == 0))
    }

    fn summary(&self, came: &Came) -> String {
        let tally = &came.tally;
        let ran = counted(tally.messages.all, "message");
        let what = match (tally.differing(), tally.compared()) {
            (_, 0) => "nothing was compared".to_owned(),
            (0, _) => "nothing differs".to_owned(),
            (number, _) if tally.timers.differing > 0 => format!("{} differ", counted(number, "run")),
            (number, _) => format!("{} differ", grouped(i64::try_from(number).unwrap_or(i64::MAX))),
        };
        let ended = if came.interrupted { ", and it was ended before all was through" } else { "" };
        let same = self.versions.old.digest() == self.versions.new.digest();
        let note = if same {
            format!("; both are the same file, {}", short(self.versions.new.digest()))
        } else {
            String::new()
        };
        format!("keyrail: {ran}: {what}{ended}{note}")
    }
}

/// While it runs.
fn shown(came: &Came, about: u64) -> String {
    let number = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
    let tally = &came.tally;
    format!("{} of about {} messages, {} differ", number(tally.messages.all), number(about), number(tally.differing()))
}

/// With what can be done.
fn told(why: &Broken) -> anyhow::Error {
    let cure = match why {
        Broken::Full(..) => ": run less at once, by --limit, --since or --key",
        Broken::Halted(..) => "",
    };
    anyhow::anyhow!("{why}{cure}")
}
