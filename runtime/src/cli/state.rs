//! `keyrail state`: what handlers keep, from the topics of state alone.

pub(super) mod found;
pub(super) mod kept;
mod show;

use super::terminal::{self, grouped, say};
use super::{Config, Exit, WrongUse, line};
use clap::{Args, Subcommand};
use found::{Found, Wanted, Whose};
use kept::Kept;
use keyrail::config::Pipeline;
use keyrail_engine::policy::OrderBy;
use keyrail_engine::state::Kind;

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what is kept under a key: the value of one name, or all names and values
    ///
    /// With NAME the value as it stands, and nothing else: bytes are not changed, and no line's end is added unless a
    /// terminal shows it. Exits 1 where nothing is kept there.
    Get(GetArgs),
    /// List what is kept, by key and name
    ///
    /// All of the topics is read; what is held in memory is bounded.
    List(ListArgs),
}

/// Where state is looked for.
#[derive(Debug, Args)]
struct Place {
    /// Only the state of this input topic's messages; may be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Keys are given as base64
    #[arg(long)]
    base64: bool,
    /// Show also what has ended by its time and was not deleted yet
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct GetArgs {
    /// The pipeline
    pipeline: String,
    /// The order key: the messages' key, or their header that order.by names
    #[arg(required_unless_present = "whole_partition")]
    key: Option<String>,
    /// Only the value under this name
    name: Option<String>,
    /// Instead of a key: what belongs to whole partitions, as with order.by = "partition". What follows PIPELINE is NAME
    /// then
    #[arg(long)]
    whole_partition: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The pipeline
    pipeline: String,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// Only names that begin so
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    name_prefix: String,
    /// So many values at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    place: Place,
}

pub(super) fn state(args: &StateArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Get(args) => get(args),
        Command::List(args) => list(args),
    }
}

fn get(args: &GetArgs) -> anyhow::Result<Exit> {
    let (whose, name) = match (&args.key, args.whole_partition) {
        (Some(key), false) => (Whose::Key(line::argument(key, args.place.base64)?), args.name.as_ref()),
        (name, true) if args.name.is_none() => (Whose::Partition, name.as_ref()),
        _ => return Err(WrongUse("what belongs to whole partitions has no key: leave KEY out".to_owned()).into()),
    };
    let mut kept = Kept::open(&args.place.config, &args.pipeline, &args.place.topic)?;
    check_key(&kept.pipeline, &whose, "--whole-partition instead of KEY")?;
    let (name_prefix, kind) = (String::new(), Kind::State);
    let wanted = Wanted { whose, name: name.cloned(), name_prefix, kind };
    let mut found = Found::new(wanted.clone(), super::place::now_ms(), args.place.ended);
    match &wanted.whose {
        Whose::Key(key) if args.place.partition.is_empty() && kept.pipeline.policy.order.by == OrderBy::Key => {
            // Where who writes the messages puts keys as Java clients do. Otherwise it may be anywhere.
            let (there, elsewhere) = kept.partitions_of(key);
            kept.read(&there, &mut found)?;
            if found.is_empty() {
                kept.read(&elsewhere, &mut found)?;
            }
        }
        _ => kept.read(&kept.partitions(&args.place.partition)?, &mut found)?,
    }
    let (all, more) = found.first(usize::MAX);
    if all.is_empty() && !more {
        let whose = match &wanted.whose {
            Whose::Key(key) => format!("for the key {:?}", line::told(key)),
            Whose::Partition | Whose::Any(_) => "for a whole partition".to_owned(),
        };
        let name = name.map_or_else(String::new, |name| format!(" under {name:?}"));
        kept.tell_strangers(&found);
        say(&format!("keyrail: {} keeps nothing {whose}{name}", args.pipeline));
        return Ok(Exit::Failed);
    }
    let sound = kept.tell_unreadable(&all);
    let shown = show::Shown { pipeline: &args.pipeline, kept: &kept, found: &found, all: &all, more };
    let text = match (name, args.place.json) {
        (None, true) => shown.json(),
        (None, false) => shown.table_of_one(),
        (Some(name), json) => {
            let [(id, last)] = all.as_slice() else {
                let places: Vec<String> = all.iter().map(|(id, _)| kept.at(id.at)).collect();
                let cure = "say which with --topic and --partition";
                return Err(
                    WrongUse(format!("{name:?} is kept in several places, {}: {cure}", places.join(", "))).into()
                );
            };
            match &last.entry {
                Err(_) => Vec::new(),
                Ok(_) if json => shown.line_of(id, last),
                Ok(entry) => show::bare(&entry.value),
            }
        }
    };
    terminal::print(&text, "the state")?;
    kept.tell_strangers(&found);
    tell_more(more, "more is kept than is held in memory here: give a NAME");
    Ok(Exit::of(sound))
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let prefix = args.key_prefix.as_ref().map(|prefix| line::argument(prefix, args.place.base64)).transpose()?;
    let whose = Whose::Any(prefix.unwrap_or_default());
    let mut kept = Kept::open(&args.place.config, &args.pipeline, &args.place.topic)?;
    if args.key_prefix.is_some() {
        check_key(&kept.pipeline, &whose, "--name-prefix")?;
    }
    let (name_prefix, kind) = (args.name_prefix.clone(), Kind::State);
    let wanted = Wanted { whose, name: None, name_prefix, kind };
    let mut found = Found::new(wanted, super::place::now_ms(), args.place.ended);
    kept.read(&kept.partitions(&args.place.partition)?, &mut found)?;
    let (all, more) = found.first(args.limit);
    let sound = kept.tell_unreadable(&all);
    let shown = show::Shown { pipeline: &args.pipeline, kept: &kept, found: &found, all: &all, more };
    let text = if args.place.json { shown.json() } else { shown.table() };
    terminal::print(&text, "the state")?;
    kept.tell_strangers(&found);
    if found.is_empty() {
        say(&format!("keyrail: {} keeps nothing of that kind", args.pipeline));
    }
    let shown = grouped(i64::try_from(all.len()).unwrap_or(i64::MAX));
    tell_more(
        more,
        &format!("there are more than these {shown}: --limit shows more, --key-prefix and --name-prefix choose"),
    );
    Ok(Exit::of(sound))
}

fn tell_more(more: bool, what: &str) {
    if more {
        say(&format!("keyrail: {what}"));
    }
}

/// Where state belongs to whole partitions alone, no key has any.
fn check_key(pipeline: &Pipeline, whose: &Whose, cure: &str) -> Result<(), WrongUse> {
    if pipeline.policy.order.by == OrderBy::Partition && *whose != Whose::Partition {
        let name = &pipeline.name;
        return Err(WrongUse(format!(
            "the state of {name} belongs to whole partitions and not to keys (order.by = \"partition\"): use {cure}"
        )));
    }
    Ok(())
}
