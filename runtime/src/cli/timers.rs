//! `keyrail timers`: what is to come, timers and delayed sends, from the topics of state alone.

use super::place;
use super::state::found::{Found, Id, Last, Wanted, Whose};
use super::state::kept::Kept;
use super::table::{Column, Table, Tone};
use super::terminal::{self, grouped, say};
use super::{Config, Exit, line};
use clap::{Args, Subcommand};
use keyrail_engine::delays::Delayed;
use keyrail_engine::state::Kind;
use keyrail_engine::timers::Timer;
use std::io::Write as _;

/// So much of a value stands in a table.
const VALUE_CHARACTERS: usize = 60;

#[derive(Debug, Args)]
pub(super) struct TimersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List timers that are set, or records that are sent later, as they are due
    ///
    /// All of the topics is read; what is held in memory is bounded.
    List(ListArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The pipeline
    pipeline: String,
    /// Only timers of this order key: the messages' key, or their header that order.by names
    #[arg(long)]
    key: Option<String>,
    /// Records that are sent later (a send's delay) instead of timers
    #[arg(long, conflicts_with = "key")]
    delayed: bool,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Only what belongs to this input topic's messages; may be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// The key is given as base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn timers(args: &TimersArgs) -> anyhow::Result<Exit> {
    let Command::List(args) = &args.command;
    let key = args.key.as_ref().map(|key| line::argument(key, args.base64)).transpose()?;
    let kind = if args.delayed { Kind::Delayed } else { Kind::Timer };
    let whose = key.map_or(Whose::Any(Vec::new()), Whose::Key);
    let mut kept = Kept::open(&args.config, &args.pipeline, &args.topic)?;
    // Neither ends by itself.
    let mut found = Found::new(Wanted { whose, name: None, name_prefix: String::new(), kind }, 0, true);
    kept.read(&kept.partitions(&args.partition)?, &mut found)?;
    let (all, cut) = found.first(usize::MAX);
    let (mut coming, unread) = read(&all, kind);
    coming.sort_by_key(|coming| coming.due_ms);
    let more = cut || coming.len() > args.limit;
    coming.truncate(args.limit);
    let text = if args.json { json(&args.pipeline, &kept, &coming, more) } else { table(&kept, &coming, kind) };
    terminal::print(&text, "what is to come")?;
    kept.tell_strangers(&found);
    for id in &unread {
        say(&format!("keyrail: at {} stands {:?}, which this version of Keyrail can't read", kept.at(id.at), id.name));
    }
    if found.is_empty() {
        say(&format!("keyrail: {} has none of that kind", args.pipeline));
    }
    if more {
        let shown = grouped(i64::try_from(coming.len()).unwrap_or(i64::MAX));
        let why = if cut {
            "there are more than are held in memory here, and earlier ones may be among them: --key and --partition choose"
        } else {
            "--limit shows more"
        };
        say(&format!("keyrail: there are more than these {shown}: {why}"));
    }
    Ok(Exit::of(unread.is_empty()))
}

/// What is to come.
#[derive(Debug, PartialEq, Eq)]
struct Coming<'a> {
    id: &'a Id,
    due_ms: i64,
    /// Of the message that set it, or that sent it.
    offset: i64,
    /// Its output, if it is sent later.
    output: Option<&'a str>,
    /// Of a timer the order key, of what is sent its own.
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// All that can be read, and what can't.
fn read<'a>(all: &[(&'a Id, &'a Last)], kind: Kind) -> (Vec<Coming<'a>>, Vec<&'a Id>) {
    let (mut coming, mut unread) = (Vec::new(), Vec::new());
    for (id, last) in all {
        let (id, last): (&'a Id, &'a Last) = (id, last);
        let value: Option<&'a [u8]> = last.entry.as_ref().ok().map(|entry| &*entry.value);
        let one = match kind {
            Kind::Delayed => value.and_then(|value| Delayed::decode(value).ok()).map(|delayed| Coming {
                id,
                due_ms: delayed.at_ms,
                offset: delayed.offset,
                output: Some(delayed.output),
                key: delayed.key,
                value: delayed.value,
            }),
            Kind::Timer | Kind::State | Kind::Schema => {
                value.and_then(|value| Timer::decode(value).ok()).map(|timer| Coming {
                    id,
                    due_ms: timer.at_ms,
                    offset: timer.offset,
                    output: None,
                    key: id.owner.as_deref(),
                    value: Some(timer.payload),
                })
            }
        };
        match one {
            Some(one) => coming.push(one),
            None => unread.push(id),
        }
    }
    (coming, unread)
}

fn table(kept: &Kept, all: &[Coming<'_>], kind: Kind) -> Vec<u8> {
    let (what, value) = if kind == Kind::Delayed { ("output", "value") } else { ("name", "payload") };
    let columns = ["due", "key", what, value, "set by"].map(|name| Column(name, false));
    let mut table = Table::new(&columns);
    for coming in all {
        let nobody = if kind == Kind::Delayed { "(no key)" } else { "(the whole partition)" };
        let key = coming.key.map_or_else(|| nobody.to_owned(), word);
        let value = coming.value.map_or_else(|| "(null)".to_owned(), |value| cut(&word(value)));
        let name = coming.output.unwrap_or(&coming.id.name);
        let set_by = format!("{}@{}", kept.at(coming.id.at), coming.offset);
        let cells = [place::utc(coming.due_ms), key, word(name.as_bytes()), value, set_by];
        table.row(cells.map(|text| (text, Tone::Plain)));
    }
    table.render(terminal::width(), terminal::colours()).into_bytes()
}

fn json(pipeline: &str, kept: &Kept, all: &[Coming<'_>], more: bool) -> Vec<u8> {
    let mut out = b"{\"pipeline\":".to_vec();
    line::text(pipeline, &mut out);
    out.extend_from_slice(b",\"timers\":[");
    for (n, coming) in all.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"{\"topic\":" } else { b",{\"topic\":" });
        line::text(kept.input(coming.id.at), &mut out);
        // Writing to memory does not fail.
        drop(write!(out, ",\"partition\":{},\"offset\":{},", coming.id.at.partition, coming.offset));
        drop(write!(out, "\"due_ms\":{},\"key\":", coming.due_ms));
        line::blob(coming.key, &mut out);
        out.extend_from_slice(if coming.output.is_some() { b",\"output\":" } else { b",\"name\":" });
        line::text(coming.output.unwrap_or(&coming.id.name), &mut out);
        out.extend_from_slice(b",\"value\":");
        line::blob(coming.value, &mut out);
        out.push(b'}');
    }
    drop(writeln!(out, "],\"more\":{more}}}"));
    out
}

/// Bytes in a line of a table.
fn word(bytes: &[u8]) -> String {
    line::told(bytes).replace('\n', "\\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARACTERS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
