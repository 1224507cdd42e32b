//! `keyrail rewind`: moves a pipeline's group to another place in its input.

use super::broker::{self, One};
use super::place::{self, Place};
use super::table::{Column, Table, Tone};
use super::terminal::{self, grouped};
use super::{Config, Exit, WrongUse};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use keyrail::broker::client::{Client, Topic};
use keyrail::broker::standing::{Ask, standing};
use keyrail::broker::{BrokerError, Committed, LogBounds, OffsetCommit, Produce};
use keyrail::config::{From, Pipeline, retry_topics};
use keyrail::record::TopicPartition;
use keyrail_engine::identity::order_mark;
use keyrail_engine::metadata::{Kept as Said, Metadata};
use keyrail_engine::seen;
use keyrail_engine::state::schema::is_mark;
use serde::Serialize;
use std::time::Duration;

/// One look for records.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct RewindArgs {
    /// The pipeline
    pipeline: String,
    /// Where to: earliest, latest, an offset, -N (the last N of each partition), a time as 2026-01-31T12:00:00Z, how long
    /// ago as 15m, or here: where the group is, whoever put it there
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = to)]
    to: To,
    /// With [dedup]: keep the ids that were seen, so that what was done is not done again, or forget them all
    #[arg(long, value_name = "WHAT")]
    seen: Option<Kept>,
    /// Where the handler has state: keep it, so that messages that run again change it once more, or forget all of it
    #[arg(long, value_name = "WHAT")]
    state: Option<Kept>,
    /// Only this input topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// What becomes of seen ids, or of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    Keep,
    Forget,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// Where the group is; where it has no offset, where it would start.
    Here,
    Place(Place),
}

fn to(written: &str) -> Result<To, String> {
    if written == "here" {
        return Ok(To::Here);
    }
    place::parse(written).map(To::Place).map_err(|told| told.replacen("write ", "write here, ", 1))
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    pipeline: &'a str,
    group: &'a str,
    moved: bool,
    forgot: bool,
    forgot_state: bool,
    partitions: &'a [Move],
}

/// One partition's way.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    /// `None`: the group never committed it.
    from: Option<i64>,
    to: i64,
    #[serde(skip)]
    at: TopicPartition,
    #[serde(skip)]
    metadata: String,
    /// What was committed said.
    #[serde(skip)]
    before: Before,
}

pub(super) fn rewind(args: &RewindArgs) -> anyhow::Result<Exit> {
    let One { pipeline, mut client, all, .. } = One::open(&args.config, &args.pipeline, |_| Ok(()))?;
    let pipeline = &pipeline;
    check_ids(args, pipeline)?;
    check_whole(args, pipeline)?;
    let state = state_topics(pipeline, &all);
    check_state(args, pipeline, !state.is_empty())?;
    let moves = moves(client.as_mut(), args, pipeline, &all)?;
    check_parked(client.as_mut(), pipeline, &moves, &all)?;
    let forgets = Forgets {
        ids: (args.seen == Some(Kept::Forget)).then_some(&all),
        state: if args.state == Some(Kept::Forget) { &state } else { &[] },
    };
    if !args.dry_run {
        carry_out(client.as_mut(), pipeline, &moves, &forgets)?;
    }
    let moved = !args.dry_run;
    let (forgot, forgot_state) = (moved && forgets.ids.is_some(), moved && !forgets.state.is_empty());
    let text = if args.json {
        let (pipeline, group) = (&pipeline.name, &pipeline.group);
        let page = Page { pipeline, group, moved, forgot, forgot_state, partitions: &moves };
        serde_json::to_string(&page)? + "\n"
    } else {
        let how = if args.to == To::Here { "taken as it is" } else { "moved" };
        let forgotten = match (forgot, forgot_state) {
            (false, false) => "",
            (true, false) => ", and its seen ids are forgotten",
            (false, true) => ", and its state is forgotten",
            (true, true) => ", its seen ids and its state are forgotten",
        };
        let verdict = match moved {
            false => "nothing was moved: --dry-run".to_owned(),
            true => format!("{how}{forgotten}; it goes on from there at its next start"),
        };
        table(&moves).render(terminal::width(), terminal::colours()) + &verdict + "\n"
    };
    terminal::print(text.as_bytes(), "what was moved")?;
    Ok(Exit::Done)
}

/// Whoever goes back must say what is to become of the ids: kept, they make of each message that was done a duplicate.
fn check_ids(args: &RewindArgs, pipeline: &Pipeline) -> Result<(), WrongUse> {
    match (args.seen, &pipeline.seen) {
        (None, Some(_)) => Err(WrongUse(format!(
            "{} keeps the ids of what it has seen: say --seen keep, and what was done within the window is not done again, or \
             --seen forget, and it is",
            pipeline.name
        ))),
        (Some(_), None) => Err(WrongUse(format!("{} keeps no ids: leave --seen out", pipeline.name))),
        _ => Ok(()),
    }
}

/// The topics of its state by their input, those that are there, whether or not its handler's file can be read now.
fn state_topics(pipeline: &Pipeline, all: &[Topic]) -> Vec<(u32, String)> {
    let topics = pipeline.clone().with_state().ok().and_then(|with| with.state).map(|state| state.topics);
    (0..).zip(topics.unwrap_or_default()).filter(|(_, name)| there(all, name)).collect()
}

/// Ids and state that belong to all inputs are not forgotten for the sake of one.
fn check_whole(args: &RewindArgs, pipeline: &Pipeline) -> Result<(), WrongUse> {
    let shared = pipeline.owners().len() < pipeline.input.len();
    let some = pipeline.input.iter().any(|input| !args.topic.contains(input)) && !args.topic.is_empty();
    let what = match (args.seen, args.state) {
        (Some(Kept::Forget), _) => "seen ids",
        (_, Some(Kept::Forget)) => "state",
        _ => return Ok(()),
    };
    if !shared || !some {
        return Ok(());
    }
    Err(WrongUse(format!(
        "the {what} of {} belong to all its inputs (order.scope = \"inputs\"), and what others brought would be forgotten with \
         it and not come again: leave --topic out, or keep them",
        pipeline.name
    )))
}

/// The same of state: kept, each message that runs again changes it once more.
fn check_state(args: &RewindArgs, pipeline: &Pipeline, has_some: bool) -> Result<(), WrongUse> {
    match (args.state, has_some) {
        (None, true) => Err(WrongUse(format!(
            "{} has state: say --state keep, and what runs again changes it once more, or --state forget, and each key begins \
             with none",
            pipeline.name
        ))),
        (Some(_), false) => Err(WrongUse(format!("{} has no state: leave --state out", pipeline.name))),
        _ => Ok(()),
    }
}

fn moves(client: &mut dyn Client, args: &RewindArgs, pipeline: &Pipeline, all: &[Topic]) -> anyhow::Result<Vec<Move>> {
    broker::check_inputs(pipeline, &args.topic)?;
    let mut moves = Vec::new();
    for (index, name) in (0_u32..).zip(&pipeline.input) {
        if !args.topic.is_empty() && !args.topic.contains(name) {
            continue;
        }
        let found = all.iter().find(|topic| topic.name == *name);
        let topic = found.ok_or_else(|| anyhow::anyhow!(broker::missing(name, &client.place(), all)))?;
        let partitions: Vec<i32> = (0..topic.partitions).collect();
        let places: Vec<TopicPartition> =
            partitions.iter().map(|partition| TopicPartition { topic: index, partition: *partition }).collect();
        let committed = client.committed(&pipeline.group, &pipeline.input, &places)?;
        let targets = targets(client, args.to, topic, &committed, pipeline.from)?;
        let parks = pipeline.policy.parks() && there(all, &retry_topics(pipeline)[index as usize]);
        for ((at, committed), (to, end)) in places.into_iter().zip(committed).zip(targets) {
            let before = committed.offset.and_then(|at| Metadata::decode(&committed.metadata, at, i64::MAX).ok());
            let before = before.unwrap_or_default();
            let fits = before.settled.iter().last().is_none_or(|(_, above)| above <= end);
            let stays = args.to == To::Here && committed.offset == Some(to) && fits;
            let metadata = Metadata {
                sequence: before.sequence.saturating_add(1),
                // What may have brought a process down still may.
                held: before.held,
                // Whoever says where to go on knows which topics there are: the next start takes them as they are.
                kept: Said {
                    parked: before.kept.parked && parks,
                    seen: 0,
                    state: 0,
                    retry: 0,
                    order: 0,
                    ..before.kept
                },
                ..if stays {
                    before.clone()
                } else {
                    // What was settled above the old place is of no concern any more, nor whether the topic is still the one that was
                    // read then: it is this one that the person means.
                    Metadata { partitions: topic.partitions.unsigned_abs(), ..Metadata::default() }
                }
            };
            let (partition, metadata) = (at.partition, metadata.encode(to));
            let before = Before { parked: before.kept.parked, order: before.kept.order };
            let (topic, from) = (name.clone(), committed.offset);
            moves.push(Move { topic, partition, from, to, at, metadata, before });
        }
    }
    Ok(moves)
}

/// Where each partition goes to, and where its log ends.
fn targets(
    client: &mut dyn Client,
    to: To,
    topic: &Topic,
    committed: &[Committed],
    from: From,
) -> Result<Vec<(i64, i64)>, BrokerError> {
    let partitions: Vec<i32> = (0..topic.partitions).collect();
    let bounds = client.bounds(&topic.name, &partitions)?;
    let found = match to {
        To::Here => {
            let first = |b: &LogBounds| if from == From::Latest { b.end } else { b.start };
            committed.iter().zip(&bounds).map(|(committed, b)| committed.offset.unwrap_or(first(b))).collect()
        }
        To::Place(Place::Time(ms)) => client.offsets_at(&topic.name, &partitions, ms)?,
        To::Place(Place::Earliest) => bounds.iter().map(|b| b.start).collect(),
        To::Place(Place::Latest) => bounds.iter().map(|b| b.end).collect(),
        To::Place(Place::Offset(offset)) => vec![offset; partitions.len()],
        To::Place(Place::BeforeEnd(count)) => bounds.iter().map(|b| b.end.saturating_sub(count)).collect(),
    };
    Ok(found.into_iter().zip(bounds).map(|(to, b)| (to.clamp(b.start, b.end.max(b.start)), b.end)).collect())
}

/// What a commit said of parked messages.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Before {
    /// Some were, if not all of them are resolved.
    parked: bool,
    /// The mark of the order in which they stand.
    order: u32,
}

fn there(all: &[Topic], name: &str) -> bool {
    all.iter().any(|topic| topic.name == name)
}

/// Messages that wait in an order that the manifest does not say any more would lose their places, and those that nobody reads
/// any more would be overtaken.
fn check_parked(client: &mut dyn Client, pipeline: &Pipeline, moves: &[Move], all: &[Topic]) -> anyhow::Result<()> {
    let names: Vec<&str> = pipeline.input.iter().map(String::as_str).collect();
    let order = order_mark(&pipeline.policy.order, &names);
    for (index, topic) in (0_u32..).zip(retry_topics(pipeline)) {
        let another = |before: Before| before.order != 0 && before.order != order || !pipeline.policy.parks();
        let own = moves.iter().filter(|m| m.at.topic == index && m.before.parked && another(m.before));
        let own: Vec<i32> = own.map(|m| m.partition).collect();
        if own.is_empty() || !there(all, &topic) {
            continue;
        }
        let count: usize = standing(client, &topic, &own, Ask::Keys, &mut || true)?.into_values().sum();
        if count > 0 {
            anyhow::bail!(
                "{count} messages wait in {topic} that were parked under another guarantee or [order]: put that back until none \
                 waits, or delete {topic} to drop them"
            );
        }
    }
    Ok(())
}

/// What is to be forgotten.
struct Forgets<'a> {
    /// Seen ids; with all topics that are there.
    ids: Option<&'a [Topic]>,
    /// State: these topics, by input.
    state: &'a [(u32, String)],
}

/// IMPORTANT: ids and state first, since what is moved before they are forgotten would be passed over as seen, or counted
/// twice. Before that it is found out that nobody runs the pipeline.
fn carry_out(
    client: &mut dyn Client,
    pipeline: &Pipeline,
    moves: &[Move],
    forgets: &Forgets<'_>,
) -> anyhow::Result<()> {
    let commit = |m: &Move| OffsetCommit { at: m.at, offset: m.to, metadata: m.metadata.clone() };
    let offsets: Vec<OffsetCommit> = moves.iter().map(commit).collect();
    let forgets_some = forgets.ids.is_some() || !forgets.state.is_empty();
    if forgets_some {
        // What stands is put down once more, as it is now: the broker takes it of a group without members only.
        let places: Vec<TopicPartition> = moves.iter().map(|m| m.at).collect();
        let committed = client.committed(&pipeline.group, &pipeline.input, &places)?;
        let stands = |(at, committed): (TopicPartition, Committed)| {
            Some(OffsetCommit { at, offset: committed.offset?, metadata: committed.metadata })
        };
        let standing: Vec<OffsetCommit> = places.into_iter().zip(committed).filter_map(stands).collect();
        client.commit(&pipeline.group, &pipeline.input, &standing)?;
        if let Some(all) = forgets.ids {
            forget(client, pipeline, moves, all)?;
        }
        for m in moves {
            if let Some((_, topic)) = forgets.state.iter().find(|(input, _)| *input == m.at.topic) {
                let told =
                    || format!("the state in {topic}/{} is not all forgotten, and nothing was moved", m.partition);
                forget_state(client, topic, m.partition).with_context(told)?;
            }
        }
    }
    let told = "the offsets are not all moved, and what was to be forgotten is: stop what runs it, and do it again";
    let moved = client.commit(&pipeline.group, &pipeline.input, &offsets);
    if forgets_some { moved.context(told) } else { Ok(moved?) }
}

/// Deletes each key's state by a tombstone. What is in the topic may be large, so it is done as it is read; a key that is in it more
/// than once gets as many. Marks of schemas go last: without them what is left would be taken for what it is not.
fn forget_state(client: &mut dyn Client, topic: &str, partition: i32) -> anyhow::Result<()> {
    let names = [topic.to_owned()];
    let at = TopicPartition { topic: 0, partition };
    let Some(bounds) = client.bounds(topic, &[partition])?.first().copied() else { return Ok(()) };
    let mut reader = client.read(&names, &[(at, bounds.start)])?;
    let (mut records, mut marks) = (Vec::new(), Vec::new());
    while reader.position(at).unwrap_or(bounds.start) < bounds.end {
        records.clear();
        reader.next(LOOK, &mut records)?;
        let living = records.iter().filter(|record| record.offset < bounds.end && record.value().is_some());
        let keys = living.filter_map(|record| record.key());
        let (own, others): (Vec<&[u8]>, Vec<&[u8]>) = keys.partition(|key| is_mark(key));
        marks.extend(own.into_iter().map(<[u8]>::to_vec));
        bury(client, topic, partition, others)?;
    }
    bury(client, topic, partition, marks.iter().map(Vec::as_slice))
}

fn bury<'a>(
    client: &mut dyn Client,
    topic: &'a str,
    partition: i32,
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> anyhow::Result<()> {
    let tombstone = |key| Produce {
        topic,
        partition: Some(partition),
        key: Some(key),
        value: None,
        headers: &[],
        timestamp_ms: None,
    };
    let tombstones: Vec<Produce<'_>> = keys.into_iter().map(tombstone).collect();
    for result in client.produce(&tombstones)? {
        result.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    }
    Ok(())
}

/// A pipeline that never ran has no topic of ids, and nothing to forget.
fn forget(client: &mut dyn Client, pipeline: &Pipeline, moves: &[Move], all: &[Topic]) -> anyhow::Result<()> {
    let Some(kept) = &pipeline.seen else { return Ok(()) };
    let value = seen::forget(place::now_ms());
    let record = |m: &Move| {
        let topic = kept.topics.get(m.at.topic as usize).filter(|name| all.iter().any(|topic| topic.name == **name));
        topic.map(|topic| Produce {
            topic,
            partition: Some(m.partition),
            key: None,
            value: Some(&value),
            headers: &[],
            timestamp_ms: None,
        })
    };
    let records: Vec<Produce<'_>> = moves.iter().filter_map(record).collect();
    for (result, record) in client.produce(&records)?.into_iter().zip(&records) {
        result.map_err(|refusal| {
            anyhow::anyhow!("its seen ids are not all forgotten, and nothing was moved: {}: {refusal:?}", record.topic)
        })?;
    }
    Ok(())
}

fn table(moves: &[Move]) -> Table {
    let mut table = Table::new(&[
        Column("topic", false),
        Column("partition", true),
        Column("from", true),
        Column("to", true),
        Column("again", true),
        Column("skips", true),
    ]);
    let plain = |text: String| (text, Tone::Plain);
    for m in moves {
        let back = m.from.map(|from| from.saturating_sub(m.to));
        table.row([
            plain(m.topic.clone()),
            plain(m.partition.to_string()),
            plain(m.from.map_or_else(|| "-".to_owned(), grouped)),
            plain(grouped(m.to)),
            plain(back.map_or_else(|| "-".to_owned(), |back| grouped(back.max(0)))),
            plain(back.map_or_else(|| "-".to_owned(), |back| grouped(back.min(0).saturating_neg()))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_runs_again_and_what_is_skipped() {
        let at = TopicPartition { topic: 0, partition: 0 };
        let row = |from, to| Move {
            topic: "in".to_owned(),
            partition: 0,
            from,
            to,
            at,
            metadata: String::new(),
            before: Before::default(),
        };
        let text = table(&[row(Some(1_500), 0), row(Some(5), 17), row(Some(5), 5), row(None, 3)]).render(None, false);
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().skip(2).collect()).collect();
        let expected =
            [["1,500", "0", "1,500", "0"], ["5", "17", "0", "12"], ["5", "5", "0", "0"], ["-", "3", "-", "-"]];
        assert_eq!(rows, expected, "{text}");
    }
}
