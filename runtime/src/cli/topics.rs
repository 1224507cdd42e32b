//! `keyrail topics`: what the pipelines need, and what of it is there.

mod commands;
mod needs;

use super::table::{Column, Table, Tone};
use super::{Config, Exit, broker, terminal};
use anyhow::Context as _;
use clap::Args;
use commands::Commands;
use keyrail::broker::client::{Client, NewTopic};
use keyrail::config::{BrokerKind, Found};
pub(super) use needs::largest;
use needs::{Make, Need, State};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    config: Config,
    /// Print the commands that make what is missing and mend what differs, and run none
    #[arg(long, conflicts_with_all = ["create", "json"])]
    print: bool,
    /// Make what is missing
    #[arg(long)]
    create: bool,
    /// Partitions of inputs and outputs that are missing; the broker's default otherwise. Dead letters, seen ids,
    /// state and parked messages get as many as their input
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Retry topics that are not there too: otherwise each is made when the first message is parked
    #[arg(long)]
    all: bool,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    topics: &'a [Need],
    /// What is wrong with the manifests of pipelines whose topics are not among these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unfit: BTreeMap<&'a str, Vec<String>>,
}

pub(super) fn topics(args: &TopicsArgs) -> anyhow::Result<Exit> {
    let (host, Found { fit: pipelines, unfit }) = broker::manifests(&args.config)?;
    let mut client = broker::open(&host, args.create)?;
    let place = client.place();
    let ask = || format!("can't ask {place} for its topics");
    let pipelines = if pipelines.iter().any(|pipeline| !pipeline.patterns.is_empty()) {
        broker::with_topics(pipelines, &client.topics().with_context(ask)?)
    } else {
        pipelines
    };
    // State is what only the handlers' files show; a file that can't be read is `check`'s to tell.
    let pipelines: Vec<_> = pipelines.into_iter().map(keyrail::pipeline::completed).collect();
    let mut needs = needs::collect(&pipelines);
    let make = Make { partitions: args.partitions, segments: host.broker == BrokerKind::Kafka };
    needs::examine(client.as_mut(), &mut needs, make).with_context(ask)?;
    needs.retain(|need| args.all || need.state != State::Unused);
    if args.create {
        create(client.as_mut(), &mut needs, make).with_context(ask)?;
    }
    let text = if args.print {
        Commands::of(&host)?.print(&needs, args.partitions)
    } else if args.json {
        serde_json::to_string(&Page { topics: &needs, unfit: broker::unfit_lines(&unfit) })? + "\n"
    } else if pipelines.is_empty() {
        // What is told below is all there is.
        String::new()
    } else {
        let width = terminal::width();
        let hint = hint(&needs, args.create).map(|hint| terminal::broken(hint, width.unwrap_or(usize::MAX)));
        let hint = hint.map(|lines| lines.join("\n") + "\n").unwrap_or_default();
        table(&needs).render(width, terminal::colours()) + &hint
    };
    terminal::print(text.as_bytes(), "the topics")?;
    broker::tell_unfit(&unfit, pipelines.is_empty());
    Ok(Exit::of(
        unfit.is_empty()
            && (args.print || !needs.iter().any(|need| matches!(need.state, State::Missing | State::Differs))),
    ))
}

/// Makes what is missing. Inputs come first, since dead letters and seen ids are made after them.
fn create(client: &mut dyn Client, needs: &mut [Need], make: Make) -> anyhow::Result<()> {
    for n in 0..needs.len() {
        if !matches!(needs[n].state, State::Missing | State::Unused) {
            continue;
        }
        // The inputs of before are there now, and their settings with them.
        needs::examine(client, needs, make)?;
        let need = &needs[n];
        let new =
            NewTopic { name: need.topic.clone(), partitions: need.make_partitions, settings: need.make_settings() };
        client.create_topic(&new).with_context(|| format!("can't make the topic {:?}", need.topic))?;
        needs[n].made = true;
    }
    needs::examine(client, needs, make)?;
    Ok(())
}

fn table(needs: &[Need]) -> Table {
    let mut table = Table::new(&[
        Column("topic", false),
        Column("state", false),
        Column("partitions", true),
        Column("needed as", false),
        Column("settings", false),
    ]);
    let plain = |text: String| (text, Tone::Plain);
    for need in needs {
        let tone = match need.state {
            State::Exists | State::Created => Tone::Good,
            State::Missing => Tone::Bad,
            State::Unused => Tone::Plain,
            State::Differs => Tone::Warning,
        };
        table.row([
            plain(need.topic.clone()),
            (need.state.text().to_owned(), tone),
            plain(need.partitions.map_or_else(|| "-".to_owned(), |n| n.to_string())),
            plain(need.uses()),
            plain(need.settings_told()),
        ]);
    }
    table
}

/// What to do about what is not as it should be.
fn hint(needs: &[Need], created: bool) -> Option<&'static str> {
    let any = |state: State| needs.iter().any(|need| need.state == state);
    match (any(State::Missing), any(State::Differs)) {
        (true, _) if !created => Some("`keyrail topics --create` makes what is missing, --print shows how"),
        (_, true) => Some("`keyrail topics --print` shows how to mend what differs"),
        _ => None,
    }
}
