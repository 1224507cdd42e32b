//! Keyrail against a raw copy loop and Kafka Streams, on a real Kafka. `cargo xtask bench` builds and runs it; README.md has results.

mod counts;
mod figures;
mod http;
mod languages;
mod parked;
mod process;
#[allow(unsafe_code, reason = "the loop to compare with is written on librdkafka's C interface")]
mod raw;
mod report;
mod rig;
mod state;
mod timers;
mod topics;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use figures::Amount;
use report::Report;
use rig::Rig;
use std::process::ExitCode;

/// Keyrail against a raw copy loop and Kafka Streams, on a real Kafka
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Measure only these; all when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Messages of a throughput run
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    messages: u64,
    /// Runs of each of the two, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Keys of the stateful count
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=50_000_000))]
    keys: u64,
    /// Messages for each of them, on average
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    per_key: u64,
    /// Timers that are set, and as many delayed sends
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=50_000_000))]
    timers: u64,
    /// A rough look: half the messages, keys and timers, two pairs
    #[arg(long)]
    quick: bool,
    /// A librdkafka property of both, as `-X linger.ms=5`
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", global = true, value_parser = property)]
    properties: Vec<(String, String)>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Exit 1 when a target is missed
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The copy loop by itself, until it is killed
    Raw { bootstrap: String, group: String, from: String, to: String },
}

/// The figures by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Throughput, CPU a message and peak memory of both
    Throughput,
    /// Exactly-once against at-least-once
    Guarantees,
    /// From append to output at 20,000 messages a second
    Latency,
    /// From start to the first message, and idle memory
    Start,
    /// Memory when the record budget is full
    Budget,
    /// Throughput beside 1,000 failing keys
    Failing,
    /// Healthy keys beside 1 % that are parked
    Beside,
    /// The followers of one parked key
    Release,
    /// A start with a million parked keys
    Parked,
    /// A count per key and its restore, against Kafka Streams
    State,
    /// How late timers are
    Timers,
    /// How late delayed sends are
    Delays,
    /// Handlers that wait for a server
    Http,
    /// What a message costs in each language; needs no Kafka
    Languages,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

type Measure = fn(&Rig, Amount, &mut Report) -> Result<()>;

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    if let Some(Part::Raw { bootstrap, group, from, to }) = &args.part {
        raw::run(bootstrap, &args.properties, group, from, to)?;
        return Ok(ExitCode::SUCCESS);
    }
    let amount = Amount {
        messages: if args.quick { args.messages / 2 } else { args.messages },
        pairs: if args.quick { args.pairs.min(2) } else { args.pairs },
        seconds: if args.quick { 5 } else { 15 },
        keys: if args.quick { args.keys / 2 } else { args.keys },
        per_key: args.per_key,
        timers: if args.quick { args.timers / 2 } else { args.timers },
    };
    let wanted = |what| args.only.is_empty() || args.only.contains(&what);
    let mut report = Report::new();
    let mut failed = false;
    let mut ended = |what: What, result: Result<()>, report: &mut Report| {
        // The other figures stand by themselves.
        if let Err(error) = result {
            report.doing(&format!("{what:?} failed: {error:#}"));
            failed = true;
        }
    };
    if wanted(What::Languages) {
        let result = languages::languages(amount, &mut report);
        ended(What::Languages, result, &mut report);
    }
    let all: [(What, Measure); 13] = [
        (What::Start, figures::start),
        (What::Http, http::http),
        (What::Throughput, figures::throughput),
        (What::Guarantees, figures::guarantees),
        (What::Latency, figures::latency),
        (What::Budget, figures::budget),
        (What::Failing, figures::failing),
        (What::Beside, parked::beside),
        (What::Release, parked::release),
        (What::Parked, parked::restore),
        (What::State, state::state),
        (What::Timers, timers::timers),
        (What::Delays, timers::delays),
    ];
    let wanted: Vec<_> = all.into_iter().filter(|(what, _)| wanted(*what)).collect();
    if !wanted.is_empty() {
        report.doing("starting Kafka");
        let rig = Rig::new(&args.properties)?;
        for (what, measure) in wanted {
            let result = measure(&rig, amount, &mut report);
            ended(what, result, &mut report);
        }
    }
    if args.json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.table());
    }
    Ok(if failed || args.strict && report.missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
