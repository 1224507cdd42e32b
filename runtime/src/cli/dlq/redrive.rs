//! `keyrail dlq redrive`: dead letters back to where they came from, or to another topic.
//!
//! What is sent back and that it was are one transaction, under a transactional id that belongs to the letters' topic. So
//! nothing is sent back twice, whatever ends the command, and of two commands the one that began last goes on.

mod carry;
mod pace;
mod plan;
mod target;

use super::position::{Last, Position};
use super::source::{Place, Source, Span};
use super::wanted::{Filters, Wanted};
use super::{position_of, spans};
use crate::cli::hands::{Hands, who};
use crate::cli::terminal::{self, counted, say};
use crate::cli::{Exit, WrongUse, place, signals};
use anyhow::Context as _;
use carry::{Carrier, End};
use clap::Args;
use keyrail::broker::client::Topic;
use keyrail::config::Pipeline;
use pace::Carried;
use plan::Plan;
use serde::Serialize;
use target::{Targets, To};

#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filters: Filters,
    /// To this topic, by key [default: to the input that each letter died in, or was first read from]
    #[arg(long, value_name = "TOPIC", conflicts_with = "lane")]
    to: Option<String>,
    /// To the lane of each letter's key, behind what is parked of it, for this pipeline alone: it runs again as the same message,
    /// with its attempts anew. Whoever owns its partition takes it in
    #[arg(long, conflicts_with = "by_key")]
    lane: bool,
    /// To the partition that the key belongs to now, instead of the one that the message was read from
    #[arg(long)]
    by_key: bool,
    /// So many letters a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Letters that were sent back so often stay
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    max_redrives: u32,
    /// Also letters older than a week where it is not known whether they were sent back: Kafka forgets it by then, if nothing is
    /// sent back for so long
    #[arg(long)]
    anew: bool,
    /// Show what would be sent where, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
}

/// What was done, for programs and as the line that is kept of it.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    action: &'static str,
    by: &'a str,
    at: String,
    from: Vec<&'a str>,
    filters: &'a Wanted,
    #[serde(flatten)]
    plan: &'a Plan,
    redriven: u64,
    /// How long the sending took.
    seconds: f64,
    /// All that was counted was sent back.
    ok: bool,
}

pub(super) fn redrive(args: &RedriveArgs) -> anyhow::Result<Exit> {
    let asks = !args.yes && !args.dry_run;
    if asks {
        terminal::can_ask(args.place.json)?;
    }
    let wanted = args.filters.wanted(Some(args.max_redrives))?;
    let mut source = Source::open(&args.place)?;
    let to = match &args.to {
        Some(topic) => To::Topic(topic.clone()),
        None if args.lane => To::Lane(Box::new(lanes(&mut source, args.dry_run)?)),
        None => To::Origin,
    };
    let mut targets = Targets::new(&source, to, args.by_key)?;
    let mut plan = Plan::default();
    let mut parts = Vec::new();
    for topic in source.topics.clone() {
        parts.push(count(&mut source, topic, &wanted, &mut targets, &mut plan)?);
    }
    targets.check(&plan)?;
    if plan.doubtful > 0 && !args.anew && !args.dry_run {
        anyhow::bail!(
            "it is not known of {} whether they were sent back: they are older than a week, nothing was sent back since, and \
             Kafka forgets by then (offsets.retention.minutes). --since 6d leaves them out, --anew sends them",
            counted(plan.doubtful, "letter")
        );
    }
    let text =
        if args.place.json { String::new() } else { plan.table().render(terminal::width(), terminal::colours()) };
    terminal::print(text.as_bytes(), "what was counted")?;
    let question = format!("Send {} back? [y/N] ", counted(plan.letters, "letter"));
    if args.dry_run || plan.letters == 0 || (asks && !terminal::confirmed(&question)?) {
        return tell(args, &wanted, &source, &plan, None);
    }
    let stop = signals::interrupted()?;
    let by = who();
    let mut carried = Carried::new(plan.letters, args.rate);
    for part in &parts {
        let carrier = Carrier { source: &mut source, part, wanted: &wanted, targets: &targets, by: &by, stop: &stop };
        if let End::Fenced(why) = carry(carrier, &mut carried)? {
            say(&format!(
                "keyrail: {} sent back; somebody else goes on with them, or this command stood still for too long: {why}",
                counted(carried.done(), "letter")
            ));
            return Ok(Exit::Fenced);
        }
    }
    let interrupted = stop.requested();
    if interrupted {
        say("keyrail: interrupted before the end; the same command goes on behind what was sent back");
    }
    tell(args, &wanted, &source, &plan, Some((&carried, interrupted)))
}

/// The pipeline to whose lanes letters go back; its inboxes are there.
fn lanes(source: &mut Source, dry_run: bool) -> anyhow::Result<Pipeline> {
    let none = || WrongUse("--lane is of a pipeline: name it".to_owned());
    let pipeline = source.pipeline.clone().ok_or_else(none)?;
    let inputs = pipeline.input.iter().map(String::as_str).collect();
    let mut hands = Hands::of(source.client.as_mut(), source.comes_back, &pipeline)?;
    if !dry_run {
        hands.make_inboxes(&inputs, &source.all)?;
    }
    Ok(pipeline)
}

fn carry(mut carrier: Carrier<'_>, carried: &mut Carried) -> anyhow::Result<End> {
    carrier.run(carried).with_context(|| {
        let done = counted(carried.done(), "letter");
        format!("{done} sent back before; the same command goes on behind them")
    })
}

/// A topic of dead letters, and what of it is to be sent back: no letter that comes after it was counted is.
struct Part {
    topic: Topic,
    /// The input whose letters alone are here.
    input: Option<String>,
    ends: Vec<Span>,
}

fn count(
    source: &mut Source,
    topic: Topic,
    wanted: &Wanted,
    targets: &mut Targets,
    plan: &mut Plan,
) -> anyhow::Result<Part> {
    let bounds = source.bounds(&topic)?;
    let positions = source.positions(&topic, &bounds)?;
    let mut ends = spans(source, &topic, &positions, &bounds, &Wanted::default(), false)?;
    ends.retain(|span| wanted.partitions.is_empty() || wanted.partitions.contains(&span.partition));
    room(&topic, &positions, &ends, wanted)?;
    let input = source.input_of(&topic.name).map(str::to_owned);
    // The embedded broker forgets nothing.
    let (forgets, now_ms) = (source.comes_back, place::now_ms());
    source.scan(&topic, &ends, &mut |record, letter| {
        let done = position_of(&positions, record).is_some_and(|position| position.is_done(record, letter));
        if !done && wanted.chooses(record, letter) {
            let target = targets.of(letter, input.as_deref());
            if wanted.allows(letter) {
                let position = position_of(&positions, record).filter(|_| forgets);
                plan.doubtful += u64::from(position.is_some_and(|position| position.is_doubtful(record, now_ms)));
                targets.look(record, letter, target.as_deref(), &topic.name);
                plan.take(&topic.name, letter, target);
            } else {
                plan.too_often += 1;
            }
        }
        Ok(true)
    })?;
    Ok(Part { topic, input, ends })
}

/// Whether it can be remembered what was sent back.
fn room(topic: &Topic, positions: &[Position], spans: &[Span], wanted: &Wanted) -> anyhow::Result<()> {
    let last = Last { by: who(), at_ms: i64::MAX };
    for span in spans {
        let Some(position) = usize::try_from(span.partition).ok().and_then(|n| positions.get(n)) else { continue };
        let longest = position.after(i64::MAX, Some(position.offset), wanted, last.clone());
        if longest.metadata().is_none() {
            anyhow::bail!(
                "there is no room to remember more choices of {}/{}, and letters could be sent back twice: choose with fewer \
                 words, or send back what earlier choices have left",
                topic.name,
                span.partition
            );
        }
    }
    Ok(())
}

/// `carried`: it was not only counted; and whether that was interrupted.
fn tell(
    args: &RedriveArgs,
    wanted: &Wanted,
    source: &Source,
    plan: &Plan,
    carried: Option<(&Carried, bool)>,
) -> anyhow::Result<Exit> {
    let interrupted = carried.is_some_and(|(_, interrupted)| interrupted);
    let carried = carried.map(|(carried, _)| carried);
    let redriven = carried.map_or(0, Carried::done);
    let acted = carried.is_some();
    let seconds = carried.map_or(0.0, Carried::seconds);
    // What another redrive has sent back since the count need not be.
    let ok = plan.too_often == 0 && !interrupted;
    let by = who();
    let from = source.topics.iter().map(|topic| topic.name.as_str()).collect();
    let at = place::utc(place::now_ms());
    let action = if acted { "redrive" } else { "count" };
    let summary = Summary { action, by: &by, at, from, filters: wanted, plan, redriven, seconds, ok };
    let json = serde_json::to_string(&summary)?;
    if args.place.json {
        terminal::print((json.clone() + "\n").as_bytes(), "the summary")?;
    }
    if plan.too_often > 0 {
        say(&format!(
            "keyrail: {} stay: sent back {} times or more already; --max-redrives N sends them once more",
            counted(plan.too_often, "letter"),
            args.max_redrives
        ));
    }
    let told = match (acted, args.dry_run) {
        (true, _) if args.lane => {
            let told = "who owns their partitions parks them behind their keys, or refuses them, and logs it";
            format!("sent {} back to their lanes: {told}", counted(redriven, "letter"))
        }
        (true, _) => format!("sent {} back", counted(redriven, "letter")),
        (false, true) => "nothing was sent back: --dry-run".to_owned(),
        (false, false) if plan.letters == 0 => "there is no such letter to send back".to_owned(),
        (false, false) => "nothing was sent back".to_owned(),
    };
    say(&format!("keyrail: {told}"));
    if acted {
        say(&format!("keyrail: audit: {json}"));
    }
    Ok(Exit::of(ok))
}
