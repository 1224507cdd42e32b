//! `keyrail parked`: what waits in the retry topics, and hands to help it on.

mod lanes;
mod live;
mod look;
mod show;

use super::broker::One;
use super::hands::{self, Answered, Hands, MessageAt};
use super::table::{Column, Table, Tone};
use super::terminal::{self, say};
use super::{Config, Exit};
use clap::{Args, Subcommand};
use keyrail::record::Record;
use keyrail_engine::inbox::{Answer, Deed};
use keyrail_engine::message::Failure;
pub(super) use live::{Found as Standing, Live};
pub(super) use look::retry_topics;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct ParkedArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits, by key: when its first message is due, how often and with what it failed, how many wait with it
    ///
    /// From the brokers alone, workers or not: what is committed, as of the moment the command starts. All of the retry topics
    /// is read; what is held in memory is bounded.
    List(look::ListArgs),
    /// Show the messages that wait under a key, in the order in which they will run
    Show(look::ShowArgs),
    /// Let parked messages run now, with all their attempts anew; also what is held (retry.then = "hold")
    ///
    /// Each must be the first of its key that waits: what is behind it follows in order. The process that owns its partition
    /// carries it out, in a transaction, and answers. Exits 1 if any is refused or nobody answers.
    Retry(ActArgs),
    /// Drop parked messages: they never run, and what is behind them of their key goes on
    ///
    /// As with retry the owner carries it out. What is dropped is logged, counted as discarded, and marked as seen.
    Drop(ActArgs),
}

#[derive(Debug, Args)]
struct ActArgs {
    /// The pipeline
    pipeline: String,
    /// Where each message was first read: TOPIC:PARTITION:OFFSET; the topic may be left out where there is one input
    #[arg(required = true)]
    message: Vec<String>,
    /// How long to wait for the answers, in seconds. A command that nobody answers stays in the inbox for a week, and is
    /// obeyed when a process owns its partition
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn parked(args: &ParkedArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) => look::list(args),
        Command::Show(args) => look::show(args),
        Command::Retry(args) => act(args, &Deed::Retry),
        Command::Drop(args) => act(args, &Deed::Drop),
    }
}

fn act(args: &ActArgs, deed: &Deed<(&Failure, &Record)>) -> anyhow::Result<Exit> {
    let mut one = One::open(&args.config, &args.pipeline, |_| Ok(()))?;
    let comes_back = one.comes_back();
    let One { pipeline, client, all, .. } = &mut one;
    let messages: Result<Vec<MessageAt>, _> =
        args.message.iter().map(|written| hands::message_at(written, pipeline)).collect();
    let mut messages = messages?;
    messages.sort();
    messages.dedup();
    let mut hands = Hands::of(client.as_mut(), comes_back, pipeline)?;
    let answered = hands.order(deed, &messages, all, Duration::from_secs(args.wait))?;
    let done = answered.iter().filter(|(_, answer)| *answer == Some(Answer::Obeyed)).count();
    let silent = answered.iter().filter(|(_, answer)| answer.is_none()).count();
    terminal::print(&told(&answered, args.json)?, "the answers")?;
    if silent > 0 {
        say(&format!(
            "keyrail: {} not answered within {} s: is {} running? The commands stay in its inbox, and are obeyed when it does",
            if silent == 1 { "1 command is".to_owned() } else { format!("{silent} commands are") },
            args.wait,
            pipeline.name
        ));
    }
    Ok(Exit::of(done == answered.len()))
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// `done`, `refused` or `unanswered`.
    answer: &'a str,
    why: Option<&'a str>,
}

fn told(answered: &[Answered], json: bool) -> anyhow::Result<Vec<u8>> {
    let lines = answered.iter().map(|(at, answer)| {
        let (answer, why) = match answer {
            Some(Answer::Obeyed) => ("done", None),
            Some(Answer::Refused(why)) => ("refused", Some(why.as_str())),
            None => ("unanswered", None),
        };
        Line { topic: &at.topic, partition: at.partition, offset: at.offset, answer, why }
    });
    if json {
        let mut text = serde_json::to_vec(&lines.collect::<Vec<_>>())?;
        text.push(b'\n');
        return Ok(text);
    }
    let mut table = Table::new(&[Column("message", false), Column("answer", false)]);
    for line in lines {
        let tone = if line.answer == "done" { Tone::Good } else { Tone::Bad };
        let why = line.why.map_or_else(|| line.answer.to_owned(), |why| format!("{}: {why}", line.answer));
        table.row([(format!("{}:{}:{}", line.topic, line.partition, line.offset), Tone::Plain), (why, tone)]);
    }
    Ok(table.render(terminal::width(), terminal::colours()).into_bytes())
}
