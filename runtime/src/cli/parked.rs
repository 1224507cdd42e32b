//! `keyrail parked`: what waits in the retry topics, and hands to help it on.

mod act;
mod lanes;
mod live;
mod look;
mod show;

use super::Exit;
use clap::{Args, Subcommand};
pub(super) use live::{Found as Standing, Live};
pub(super) use look::retry_topics;

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
    /// Each must be the first of its key that waits: what is behind it follows in order. Instead of messages, options choose keys;
    /// then it counts first, and asks. The process that owns a partition carries it out, in a transaction, and answers. Exits 1 if
    /// any is refused or nobody answers.
    Retry(act::ActArgs),
    /// Drop parked messages: they never run, and what is behind them of their key goes on
    ///
    /// As with retry the owner carries it out. What is dropped is logged, counted as discarded, and marked as seen.
    Drop(act::DropArgs),
}

pub(super) fn parked(args: &ParkedArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) => look::list(args),
        Command::Show(args) => look::show(args),
        Command::Retry(args) => act::retry(args),
        Command::Drop(args) => act::give_up(args),
    }
}
