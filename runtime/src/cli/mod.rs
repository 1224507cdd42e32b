//! The command line: parses, dispatches, and turns results into exit codes.

mod alerts;
mod backtest;
mod broker;
mod build;
mod check;
mod decode;
mod dev;
mod dlq;
mod format;
mod hands;
mod lag;
mod line;
mod manual;
mod new;
mod parked;
mod place;
mod plugins;
mod quiet;
mod replay;
mod report;
mod rewind;
mod run;
mod runs;
mod send;
mod signals;
mod state;
mod table;
mod tail;
mod terminal;
mod test;
mod timers;
mod topics;

use clap::{Args, Parser, Subcommand, ValueHint};
use keyrail::broker::topics::nearest;
use keyrail::config::{self, Faults};
use keyrail::pipeline::Ended;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the command did, as programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    WrongUse = 2,
    Fenced = 3,
}

impl Exit {
    fn of(done: bool) -> Self {
        if done { Self::Done } else { Self::Failed }
    }
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped => Self::Done,
            Ended::Failed => Self::Failed,
            Ended::Fenced => Self::Fenced,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong use, 3 fenced by a newer instance.";

/// Runs message handlers, compiled to WebAssembly, over Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "keyrail", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every pipeline of the plugin folder until told to stop
    ///
    /// SIGTERM or SIGINT drains what is in flight, commits and exits 0, within `shutdown-grace`, or exits 1 where that
    /// fails. A second one exits at once; what was not committed runs again. Exits 3 when a newer instance has taken over,
    /// which happens when another machine has a copy of `store.dir`.
    Run(Config),
    /// Run the pipelines of a folder on the embedded broker, and show what becomes of each message
    ///
    /// The folder is watched: a handler or a manifest that is saved runs at once. Needs nothing else, no Kafka and no
    /// keyrail.toml; one is made, so that `keyrail send` and `keyrail tail` find the broker.
    Dev(dev::DevArgs),
    /// Find every fault that `run` would: configuration, manifests, handlers, topics
    ///
    /// Each fault comes with its cure. Exits 1 if there is any. With --durability: replicas, min.insync.replicas, unclean
    /// elections and acks of all topics that are read or written; with the embedded broker, whether it syncs.
    Check(CheckArgs),
    /// Send records to a topic, from JSON lines
    ///
    /// One record a line: {"key":"k1","value":"text","headers":{"h":"v"},"timestamp":1700000000000}. Bytes that are no
    /// UTF-8 are {"base64":"..."}, a tombstone's value is null, a repeated header name has a list, "partition" names one.
    /// Only what the broker has acknowledged counts as sent. What `keyrail tail` prints, this takes.
    Send(send::SendArgs),
    /// Print records of topics as JSON lines
    ///
    /// Prints what comes from now on, until Ctrl-C. With --from it prints what is there and ends, unless --follow is
    /// given. Only committed records are shown. Order holds within a partition.
    Tail(tail::TailArgs),
    /// Show how far each pipeline is behind, in records and in time
    ///
    /// From the brokers alone, workers or not. Markers of transactions count as records, as everywhere in Kafka.
    Lag(lag::LagArgs),
    /// Move a pipeline to another place in its input: back, to run messages again, or ahead, to leave some out
    ///
    /// Only while nobody runs it. What it sent before stays sent. With [dedup] say what is to become of the ids that it has
    /// seen: kept, what was done is not done again.
    Rewind(rewind::RewindArgs),
    /// Let messages that wait in the retry topics run now, or drop them
    ///
    /// While the pipeline runs, from anywhere: who owns the partition carries it out, in a transaction, and answers.
    Parked(parked::ParkedArgs),
    /// Show which topics the pipelines need, and which of them are missing or unfit
    ///
    /// Exits 1 if any is missing or unfit.
    Topics(topics::TopicsArgs),
    /// Show what handlers keep: the state of a key, or of all keys
    ///
    /// From the brokers alone, workers or not: what is committed, as of the moment the command starts.
    State(state::StateArgs),
    /// Show timers that are set, and records that are sent later
    ///
    /// From the brokers alone, workers or not: what is committed, as of the moment the command starts.
    Timers(timers::TimersArgs),
    /// Show what a running `keyrail run` or `dev` runs, and pause and resume pipelines
    ///
    /// By its admin server, where admin.listen of keyrail.toml says. With a token there ([admin] token or token-file) it asks for
    /// that; without one it only shows.
    Plugins(plugins::PluginsArgs),
    /// Look at dead letters, and send them back
    ///
    /// From the brokers alone, workers or not. Also those of Spring, Kafka Streams, Kafka Connect and share groups.
    Dlq(dlq::DlqArgs),
    /// Run dead letters again as they ran when they failed, and see what another handler does with them
    ///
    /// Offline: nothing is sent, and nothing is changed. A letter keeps what its run read where the pipeline's manifest has
    /// [dead-letter] record = true. Exits 0 if all end as they did, or with --with, if all are handled; else 1.
    Replay(replay::ReplayArgs),
    /// Start a project: a handler, its manifest, messages to test it with, and the SDK
    New(new::NewArgs),
    /// Build a project's handler by the language's own tools, and put it where its manifest looks for it
    ///
    /// Says what to install where a tool is not there. A `keyrail dev` or `run` beside it takes the new handler over.
    Build(build::BuildArgs),
    /// Run scenarios and fixtures: messages through a handler, with a clock of their own, and what is to come of them
    ///
    /// NAME.jsonl has messages as `keyrail send` takes them, NAME.expected.jsonl what comes, which --update writes; NAME.json is a
    /// single message with what its run is to read, as `keyrail replay --fixture` writes it. Needs no broker. Exits 1 if
    /// something else comes of one.
    Test(test::TestArgs),
    /// Run a version of a handler over what the input topics still hold, and report what it does otherwise than the present one
    ///
    /// Without effects: nothing is sent, committed or kept. Each message runs once with both, in the order of its partition; state
    /// begins empty. Exits 0 if nothing differs, else 1.
    Backtest(backtest::BacktestArgs),
    /// Send a test alert, and say what the receivers answer
    ///
    /// To the webhook and the mail server of [alerts]. Exits 1 if one does not take it.
    Alerts(alerts::AlertsArgs),
    /// Print a script that completes commands, options and file names in a shell
    ///
    /// Bash: keyrail completions bash > ~/.local/share/bash-completion/completions/keyrail
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each command
    ///
    /// keyrail man --dir ~/.local/share/man/man1, then `man keyrail` and `man keyrail-run`.
    Man(manual::ManArgs),
    /// Print the JSON Schema of keyrail.toml or of a pipeline's NAME.toml, for editors
    Schema(manual::SchemaArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
struct Config {
    /// The host's configuration [default: keyrail.toml]
    #[arg(short, long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Override a key of the file, as in --set kafka."client.id"=x; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<String>,
}

impl Config {
    /// The file that counts.
    fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("keyrail.toml"))
    }

    /// Whether arguments are at fault for these faults: a file was named that is not there, or `--set` alone has them.
    fn is_at_fault(&self, faults: &Faults) -> bool {
        let named = self.config.as_ref().is_some_and(|file| file.try_exists().is_ok_and(|there| !there));
        named || faults.are_of_arguments()
    }

    /// `what`, and the faults below it.
    fn faulty(&self, what: &str, faults: &Faults) -> anyhow::Error {
        told(what, faults, self.is_at_fault(faults))
    }
}

/// Reads an argument of `--set`; what it means is looked at with the file.
fn setting(written: &str) -> Result<String, String> {
    config::check_set(written).map(|()| written.to_owned())
}

/// Wrong use that shows only when the command runs.
#[derive(Debug)]
struct WrongUse(String);

impl std::fmt::Display for WrongUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

/// `what`, and the faults below it. Where only arguments are at fault it is wrong use.
fn faulty(what: &str, faults: &Faults) -> anyhow::Error {
    told(what, faults, faults.are_of_arguments())
}

fn told(what: &str, faults: &Faults, wrong_use: bool) -> anyhow::Error {
    let told = format!("{what}\n{faults}");
    if wrong_use { WrongUse(told).into() } else { anyhow::Error::msg(told) }
}

/// What of `names` was meant where `wrong` is none of them: the nearest, else all, as far as a line has room.
fn meant<'a>(wrong: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    const SHOWN: usize = 8;
    if let Some(near) = nearest(wrong, names.clone()) {
        return Some(format!("did you mean {near:?}?"));
    }
    let shown: Vec<&str> = names.clone().take(SHOWN).collect();
    let more = names.count().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty())
        .then(|| format!("there {} {}{more}", if shown.len() > 1 { "are" } else { "is" }, shown.join(", ")))
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// First print the configuration as it is taken: every default filled in, secrets hidden
    #[arg(long, conflicts_with = "json")]
    resolved: bool,
    /// Also look whether what is acknowledged survives the loss of a power supply, a disk or a broker
    #[arg(long)]
    durability: bool,
}

/// The whole command.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to standard output.
            let wrong = error.use_stderr();
            let printed = terminal::still_read(error.print()).is_ok();
            return if wrong { Exit::WrongUse } else { Exit::of(printed) }.into();
        }
    };
    let result = match cli.command {
        Command::Run(config) => run::run(&config),
        Command::Dev(args) => dev::dev(&args),
        Command::Check(args) => check::check(&args).map(ExitCode::from),
        Command::Send(args) => send::send(&args).map(ExitCode::from),
        Command::Tail(args) => tail::tail(&args).map(ExitCode::from),
        Command::Lag(args) => lag::lag(&args).map(ExitCode::from),
        Command::Rewind(args) => rewind::rewind(&args).map(ExitCode::from),
        Command::Topics(args) => topics::topics(&args).map(ExitCode::from),
        Command::State(args) => state::state(&args).map(ExitCode::from),
        Command::Timers(args) => timers::timers(&args).map(ExitCode::from),
        Command::Parked(args) => parked::parked(&args).map(ExitCode::from),
        Command::Plugins(args) => plugins::plugins(&args).map(ExitCode::from),
        Command::Dlq(args) => dlq::dlq(&args).map(ExitCode::from),
        Command::Replay(args) => replay::replay(&args).map(ExitCode::from),
        Command::New(args) => new::new(&args).map(ExitCode::from),
        Command::Build(args) => build::build(&args).map(ExitCode::from),
        Command::Test(args) => test::test(&args).map(ExitCode::from),
        Command::Backtest(args) => backtest::backtest(&args).map(ExitCode::from),
        Command::Alerts(args) => alerts::alerts(&args).map(ExitCode::from),
        Command::Completions(args) => manual::completions(&args).map(ExitCode::from),
        Command::Man(args) => manual::man(&args).map(ExitCode::from),
        Command::Schema(args) => manual::schema(&args).map(ExitCode::from),
    };
    result.unwrap_or_else(|error| {
        // The log may be JSON for a machine or not be set up yet; whoever started the command reads this. If even that
        // can't be written, the exit code is all that is left to tell.
        drop(writeln!(std::io::stderr(), "keyrail: {error:#}"));
        if error.is::<WrongUse>() { Exit::WrongUse.into() } else { Exit::Failed.into() }
    })
}

/// A variable of the environment. One that is no UTF-8 counts as unset, and the configuration names it then.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests;
