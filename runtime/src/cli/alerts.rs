//! `keyrail alerts`: whether somebody would be told.

use super::table::{Column, Table, Tone};
use super::terminal;
use super::{Config, Exit, variable};
use clap::{Args, Subcommand, ValueEnum};
use keyrail::alerts::{MAIL, Tested, WEBHOOK, test};
use keyrail::config::load_host;
use serde::Serialize;

#[derive(Debug, Args)]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a test alert to each receiver of [alerts], now, and say what it answers
    Test(TestArgs),
}

#[derive(Debug, Args)]
struct TestArgs {
    /// To this receiver alone
    #[arg(long, value_name = "RECEIVER")]
    receiver: Option<Receiver>,
    #[command(flatten)]
    config: Config,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Receiver {
    Webhook,
    Mail,
}

impl Receiver {
    const fn name(self) -> &'static str {
        match self {
            Self::Webhook => WEBHOOK,
            Self::Mail => MAIL,
        }
    }
}

pub(super) fn alerts(args: &AlertsArgs) -> anyhow::Result<Exit> {
    let Command::Test(args) = &args.command;
    let host = load_host(args.config.file(), &args.config.set, &variable)
        .map_err(|faults| args.config.faulty("the configuration has faults, and nothing was sent", &faults))?;
    let only = args.receiver.map(Receiver::name);
    let done = test(&host.alerts, args.config.file(), only).map_err(anyhow::Error::msg)?;
    if done.is_empty() {
        let file = args.config.file().display();
        let missing = match only {
            Some(only) => format!("there is no [alerts.{only}] in {file}"),
            None => format!("nobody is told: write [alerts.webhook] or [alerts.mail] into {file}"),
        };
        anyhow::bail!("{missing}; ALERTS.md says how");
    }
    terminal::print(&told(&done, args.json)?, "what the receivers answer")?;
    Ok(Exit::of(done.iter().all(|tested| tested.result.is_ok())))
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    receiver: &'a str,
    delivered: bool,
    /// What the other side said, or why it did not take it.
    answer: &'a str,
    seconds: f64,
}

fn told(done: &[Tested], json: bool) -> anyhow::Result<Vec<u8>> {
    let lines = done.iter().map(|Tested { receiver, took, result }| {
        let (delivered, answer) = match result {
            Ok(said) => (true, said),
            Err(why) => (false, why),
        };
        Line { receiver, delivered, answer, seconds: took.as_secs_f64() }
    });
    if json {
        let mut text = serde_json::to_vec(&lines.collect::<Vec<_>>())?;
        text.push(b'\n');
        return Ok(text);
    }
    let mut table = Table::new(&[Column("receiver", false), Column("seconds", true), Column("answer", false)]);
    for line in lines {
        let tone = if line.delivered { Tone::Good } else { Tone::Bad };
        let answer = if line.delivered {
            format!("delivered: {}", line.answer)
        } else {
            format!("not delivered: {}", line.answer)
        };
        table.row([
            (line.receiver.to_owned(), Tone::Plain),
            (format!("{:.1}", line.seconds), Tone::Plain),
            (answer, tone),
        ]);
    }
    Ok(table.render(terminal::width(), terminal::colours()).into_bytes())
}
