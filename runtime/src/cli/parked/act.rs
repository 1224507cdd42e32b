//! `keyrail parked retry` and `drop`: messages that are named, or those of the keys that options choose.

use super::lanes::{Key, Lane};
use super::look::{Choice, Kept, Place};
use super::show::Odd;
use crate::cli::broker::One;
use crate::cli::hands::{self, Answered, Hands, MessageAt};
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::{self, Progress, counted, grouped, say};
use crate::cli::{Exit, place, signals};
use clap::Args;
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::inbox::{Answer, Deed, Refused};
use keyrail_engine::message::Failure;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Commands that are written at once, and answered before more are.
const AT_ONCE: usize = 500;
/// More messages than these are not held in memory: the same command goes on with the rest.
const MOST: usize = 2_000_000;
/// Refused messages that are told one by one.
const TOLD: usize = 100;

#[derive(Debug, Args)]
pub(super) struct ActArgs {
    /// The pipeline
    pipeline: String,
    /// Where each message was first read: TOPIC:PARTITION:OFFSET; the topic may be left out where there is one input. Without
    /// any, options choose keys, and it is the first message of each
    #[arg(required_unless_present_any = ["key", "code", "older", "held", "every"],
          conflicts_with_all = ["key", "code", "older", "held", "every", "topic", "partition", "base64", "rate", "dry_run", "yes"])]
    message: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// Every key that has anything parked
    #[arg(id = "every", long = "all")]
    every: bool,
    /// So many messages a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// How long to wait for the answers, in seconds. A command that nobody answers stays in the inbox for a week, and is
    /// obeyed when a process owns its partition
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Also all that waits behind the first message of each key that is chosen
    #[arg(long, conflicts_with = "message")]
    followers: bool,
}

type Order<'a> = Deed<(&'a Failure, &'a Record)>;

pub(super) fn retry(args: &ActArgs) -> anyhow::Result<Exit> {
    act(args, &Deed::Retry, false)
}

pub(super) fn give_up(args: &DropArgs) -> anyhow::Result<Exit> {
    act(&args.act, &Deed::Drop, args.followers)
}

fn act(args: &ActArgs, deed: &Order<'_>, followers: bool) -> anyhow::Result<Exit> {
    if args.message.is_empty() { chosen(args, deed, followers) } else { named(args, deed) }
}

fn named(args: &ActArgs, deed: &Order<'_>) -> anyhow::Result<Exit> {
    let mut one = One::open(&args.place.config, &args.pipeline, |_| Ok(()))?;
    let comes_back = one.comes_back();
    let One { pipeline, client, all, .. } = &mut one;
    let messages: Result<Vec<MessageAt>, _> =
        args.message.iter().map(|written| hands::message_at(written, pipeline)).collect();
    let mut messages = messages?;
    messages.sort();
    messages.dedup();
    let mut hands = Hands::of(client.as_mut(), comes_back, pipeline)?;
    hands.make_inboxes(&messages.iter().map(|at| at.topic.as_str()).collect(), all)?;
    let answered = hands.order(deed, &messages, Duration::from_secs(args.wait))?;
    let done = answered.iter().filter(|(_, answer)| *answer == Some(Answer::Obeyed)).count();
    let silent = answered.iter().filter(|(_, answer)| answer.is_none()).count();
    let lines: Vec<_> = answered.iter().map(Line::of).collect();
    terminal::print(&told(&lines, args.place.json)?, "the answers")?;
    if silent > 0 {
        say_silent(silent as u64, args);
    }
    Ok(Exit::of(done == answered.len()))
}

fn say_silent(silent: u64, args: &ActArgs) {
    say(&format!(
        "keyrail: {} not answered within {} s: is {} running? The commands stay in its inbox, and are obeyed when it does",
        if silent == 1 { "1 command is".to_owned() } else { format!("{silent} commands are") },
        args.wait,
        args.pipeline
    ));
}

#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    /// `done`, `refused` or `unanswered`.
    answer: &'static str,
    why: Option<String>,
}

impl Line {
    fn of((at, answer): &Answered) -> Self {
        let (answer, why) = match answer {
            Some(Answer::Obeyed) => ("done", None),
            Some(Answer::Refused(why)) => ("refused", Some(why.clone())),
            None => ("unanswered", None),
        };
        Self { topic: at.topic.clone(), partition: at.partition, offset: at.offset, answer, why }
    }
}

fn told(lines: &[Line], json: bool) -> anyhow::Result<Vec<u8>> {
    if json {
        let mut text = serde_json::to_vec(lines)?;
        text.push(b'\n');
        return Ok(text);
    }
    let mut table = Table::new(&[Column("message", false), Column("answer", false)]);
    for line in lines {
        let tone = if line.answer == "done" { Tone::Good } else { Tone::Bad };
        let why = line.why.as_ref().map_or_else(|| line.answer.to_owned(), |why| format!("{}: {why}", line.answer));
        table.row([(format!("{}:{}:{}", line.topic, line.partition, line.offset), Tone::Plain), (why, tone)]);
    }
    Ok(table.render(terminal::width(), terminal::colours()).into_bytes())
}

/// What was done, for programs and as the line that is kept of it.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    action: &'static str,
    by: String,
    at: String,
    pipeline: &'a str,
    choice: &'a Choice,
    topics: &'a [String],
    partitions: &'a [i32],
    followers: bool,
    /// That are chosen, and what waits under them.
    keys: u64,
    waiting: u64,
    /// That commands were to be given for.
    messages: u64,
    done: u64,
    /// They ran, or were given up, before the command came.
    gone: u64,
    unanswered: u64,
    refused: u64,
    /// Of those that were refused the first.
    refusals: Vec<Line>,
    seconds: f64,
    ok: bool,
}

/// By code: keys, and messages that wait under them.
type Counts = BTreeMap<String, (u64, u64)>;

/// What is chosen, in the order in which it is to be done.
struct Chosen {
    messages: Vec<(TopicPartition, i64)>,
    counts: Counts,
    /// There is more than this.
    cut: bool,
}

fn chosen(args: &ActArgs, deed: &Order<'_>, followers: bool) -> anyhow::Result<Exit> {
    if !args.dry_run && !args.yes {
        terminal::can_ask(args.place.json)?;
    }
    let action = if *deed == Deed::Retry { "retry" } else { "drop" };
    let mut kept = Kept::open(&args.pipeline, &args.place)?;
    Hands::of(kept.client.as_mut(), kept.comes_back, &kept.pipeline)?;
    let Chosen { messages, counts, cut } = choose(&mut kept, args, followers)?;
    let total = messages.len() as u64;
    if !args.place.json {
        terminal::print(&table(&counts), "what is chosen")?;
    }
    if cut {
        say("keyrail: more wait than are held in memory here: the same command goes on with the rest");
    }
    let mut done = Done::default();
    let question =
        format!("{} {}? [y/N] ", if action == "retry" { "Retry" } else { "Drop" }, counted(total, "message"));
    let acts = !args.dry_run && total > 0 && (args.yes || terminal::confirmed(&question)?);
    let began = Instant::now();
    if acts {
        done.carry(args, deed, &mut kept, &messages)?;
    }
    let ok = done.refused == 0 && done.unanswered == 0 && !done.interrupted;
    let summary = Summary {
        action: if acts { action } else { "count" },
        by: hands::who(),
        at: place::utc(place::now_ms()),
        pipeline: &args.pipeline,
        choice: &args.choice,
        topics: &args.place.topic,
        partitions: &args.place.partition,
        followers,
        keys: counts.values().map(|(keys, _)| keys).sum(),
        waiting: counts.values().map(|(_, waiting)| waiting).sum(),
        messages: total,
        done: done.done,
        gone: done.gone,
        unanswered: done.unanswered,
        refused: done.refused,
        refusals: done.refusals,
        seconds: began.elapsed().as_secs_f64(),
        ok,
    };
    tell(args, &summary, acts, done.interrupted)
}

fn tell(args: &ActArgs, summary: &Summary<'_>, acts: bool, interrupted: bool) -> anyhow::Result<Exit> {
    let json = serde_json::to_string(summary)?;
    if args.place.json {
        terminal::print((json.clone() + "\n").as_bytes(), "the summary")?;
    } else if !summary.refusals.is_empty() {
        terminal::print(&told(&summary.refusals, false)?, "the answers")?;
    }
    let verb = if summary.action == "retry" { "run now" } else { "dropped" };
    say(&match (acts, args.dry_run) {
        (true, _) => format!(
            "keyrail: {}: {}, {} gone before, {} refused",
            verb,
            counted(summary.done, "message"),
            summary.gone,
            summary.refused
        ),
        (false, true) => {
            format!("keyrail: nothing was done: --dry-run; it would be {}", counted(summary.messages, "message"))
        }
        (false, false) if summary.messages == 0 => "keyrail: nothing that waits is chosen".to_owned(),
        (false, false) => "keyrail: nothing was done".to_owned(),
    });
    if summary.unanswered > 0 {
        say_silent(summary.unanswered, args);
    }
    if interrupted {
        say("keyrail: interrupted before the end; the same command goes on with the rest");
    }
    if acts {
        say(&format!("keyrail: audit: {json}"));
    }
    Ok(Exit::of(summary.ok))
}

fn table(counts: &Counts) -> Vec<u8> {
    let mut table = Table::new(&[Column("code", false), Column("keys", true), Column("waiting", true)]);
    for (code, (keys, waiting)) in counts {
        let number = |n: u64| (grouped(i64::try_from(n).unwrap_or(i64::MAX)), Tone::Plain);
        table.row([(code.clone(), Tone::Plain), number(*keys), number(*waiting)]);
    }
    table.render(terminal::width(), terminal::colours()).into_bytes()
}

fn choose(kept: &mut Kept, args: &ActArgs, followers: bool) -> anyhow::Result<Chosen> {
    let mut odd = Odd::default();
    let lanes = kept.lanes(&args.choice, &args.place, &mut odd)?;
    odd.tell();
    let all = lanes.by_due(&|lane| args.choice.wants(lane));
    let mut counts = Counts::new();
    for (_, _, lane) in &all {
        let (keys, waiting) = counts.entry(lane.code.clone()).or_default();
        (*keys, *waiting) = (*keys + 1, *waiting + lane.waiting);
    }
    let mut cut = lanes.is_cut();
    let messages = if followers {
        let whose: BTreeMap<(&Key, TopicPartition), usize> =
            (0..).zip(&all).map(|(n, (key, at, _))| ((*key, *at), n)).collect();
        let order = kept.pipeline.policy.order.clone();
        let mut found: Vec<(usize, Reverse<u64>, TopicPartition, i64)> = Vec::new();
        kept.each_message(&args.place.partition, &mut |at, offset, envelope| {
            let key = Key::of(&order, envelope, offset);
            if let Some(lane) = whose.get(&(&key, at)) {
                if found.len() < MOST {
                    found.push((*lane, Reverse(envelope.waiting.number), at, offset));
                } else {
                    cut = true;
                }
            }
        })?;
        // Of a key the last goes first: what is behind the first runs as soon as that is gone.
        found.sort_unstable();
        found.into_iter().map(|(_, _, at, offset)| (at, offset)).collect()
    } else {
        all.iter().map(|(_, at, lane): &(_, _, &Lane)| (*at, lane.offset)).collect()
    };
    Ok(Chosen { messages, counts, cut })
}

#[derive(Default)]
struct Done {
    done: u64,
    gone: u64,
    unanswered: u64,
    refused: u64,
    refusals: Vec<Line>,
    interrupted: bool,
}

impl Done {
    fn carry(
        &mut self,
        args: &ActArgs,
        deed: &Order<'_>,
        kept: &mut Kept,
        messages: &[(TopicPartition, i64)],
    ) -> anyhow::Result<()> {
        let stop = signals::interrupted()?;
        let Kept { pipeline, client, comes_back, all, .. } = kept;
        let mut hands = Hands::of(client.as_mut(), *comes_back, pipeline)?;
        let name = |at: &TopicPartition| pipeline.input.get(at.topic as usize).map_or("?", String::as_str);
        hands.make_inboxes(&messages.iter().map(|(at, _)| name(at)).collect(), all)?;
        let (began, mut sent) = (Instant::now(), 0);
        let mut progress = Progress::new();
        for some in messages.chunks(AT_ONCE.min(args.rate.map_or(AT_ONCE, |rate| rate as usize))) {
            if let Some(rate) = args.rate {
                let due = Duration::from_secs(1) * sent / rate;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
            if stop.requested() {
                self.interrupted = true;
                break;
            }
            let at = |(at, offset): &(TopicPartition, i64)| MessageAt {
                topic: name(at).to_owned(),
                partition: at.partition,
                offset: *offset,
            };
            let some: Vec<MessageAt> = some.iter().map(at).collect();
            let answered = hands.order(deed, &some, Duration::from_secs(args.wait))?;
            let silent = self.unanswered;
            answered.iter().for_each(|answered| self.take(answered, *deed == Deed::Retry));
            sent += some.len() as u32;
            progress.show(|| format!("{sent} of {} done", counted(messages.len() as u64, "message")));
            // Nobody is there: the rest is not written, so that the same command can be given later.
            if self.unanswered - silent == some.len() as u64 {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, answered: &Answered, retry: bool) {
        let is = |why: &str, refused: Refused| why == refused.to_string();
        match &answered.1 {
            Some(Answer::Obeyed) => self.done += 1,
            Some(Answer::Refused(why)) if is(why, Refused::NotParked) || retry && is(why, Refused::Runs) => {
                self.gone += 1
            }
            Some(Answer::Refused(_)) => {
                self.refused += 1;
                if self.refusals.len() < TOLD {
                    self.refusals.push(Line::of(answered));
                }
            }
            None => self.unanswered += 1,
        }
    }
}
