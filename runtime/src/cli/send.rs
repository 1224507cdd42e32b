//! `keyrail send`: lines in, records out. Nothing is counted as sent before the broker has acknowledged it.

mod lines;
mod outbox;

use super::terminal::{Progress, counted, say};
use super::{Config, Exit, WrongUse, broker, format, signals};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use keyrail::admin::stop::Stop;
use keyrail::broker::client::{Client, NewTopic};
use keyrail::config::nearest_file;
use lines::{Item, Shape, Source};
use outbox::{Outbox, Told};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Lines that are read ahead.
const AHEAD: usize = 1024;
/// What is sent at once, at most, in records and in bytes of content.
const BATCH: usize = 5_000;
const BATCH_BYTES: usize = 4 << 20;
/// A line waits this long for others to go along with.
const LINGER: Duration = Duration::from_millis(5);
/// How often an idle command looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The topic
    topic: String,
    /// Files of lines; none, or -, is standard input
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: Config,
    /// What follows a line with an error: `stop`, or `skip` it and go on. Either way the command exits 1
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_error: OnError,
    /// Make the topic if it is not there
    #[arg(long)]
    create: bool,
    /// Partitions of a topic that is made; the broker's default otherwise
    #[arg(long, value_name = "N", requires = "create", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Each line is a value as it stands, without JSON
    #[arg(long)]
    raw: bool,
    /// With --raw: what stands between key and value in each line; \t and \xNN are understood
    #[arg(long, value_name = "TEXT", requires = "raw", value_parser = format::separator)]
    key_separator: Option<format::Separator>,
    /// Write to this partition, whatever a line says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Let the key decide, also where a line names a partition
    #[arg(long, conflicts_with = "partition")]
    by_key: bool,
    /// Print the summary as JSON, to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// End the command
    Stop,
    /// Go on with the next line
    Skip,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Summary {
    topic: String,
    /// Acknowledged.
    sent: u64,
    /// Lines with an error, not sent.
    skipped: u64,
    /// Refused by the broker.
    refused: u64,
    /// Sent, and neither acknowledged nor refused.
    unknown: u64,
    /// Every line was sent.
    ok: bool,
}

pub(super) fn send(args: &SendArgs) -> anyhow::Result<Exit> {
    let host = broker::host(&args.config)?;
    for file in args.files.iter().filter(|file| !lines::is_stdin(file)) {
        std::fs::File::open(file).map_err(|error| unreadable(file, error))?;
    }
    let mut client = broker::open(&host, args.create)?;
    let partitions = topic(args, client.as_mut())?;
    if let Some(partition) = args.partition.filter(|partition| *partition >= partitions) {
        return Err(broker::no_partition(partition, &args.topic, partitions).into());
    }
    let stop = signals::interrupted()?;
    let (to, lines) = sync_channel(AHEAD);
    let shape = if args.raw { Shape::Raw(args.key_separator.clone()) } else { Shape::Json };
    let source = Source { files: args.files.clone(), shape };
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || source.run(&to)).context("no thread to read")?;
    let mut sending = Sending {
        args,
        partitions,
        outbox: Outbox::new(client, &args.topic),
        summary: Summary { topic: args.topic.clone(), ok: true, ..Summary::default() },
        progress: Progress::new(),
    };
    let ended = sending.run(&lines, &stop);
    sending.finish(ended)
}

/// A file that is not there was named wrongly; one that is there and can't be read is another matter.
fn unreadable(file: &Path, error: std::io::Error) -> anyhow::Error {
    let told = format!("can't read {}", file.display());
    if error.kind() != std::io::ErrorKind::NotFound {
        return anyhow::Error::new(error).context(told);
    }
    let near = nearest_file(file, Path::is_file).map(|near| format!("; did you mean {}?", near.display()));
    WrongUse(format!("{told}: it is not there{}", near.unwrap_or_default())).into()
}

/// How many partitions the topic has, which is made if that is asked for.
fn topic(args: &SendArgs, client: &mut dyn Client) -> anyhow::Result<i32> {
    let names = [args.topic.clone()];
    if args.create {
        let new = NewTopic { name: args.topic.clone(), partitions: args.partitions, settings: Vec::new() };
        if !client.topics()?.iter().any(|topic| topic.name == args.topic) && client.create_topic(&new)? {
            say(&format!("keyrail: made the topic {:?}", args.topic));
        }
    }
    let found = broker::topics(client, &names, Some("--create makes it"))?;
    Ok(found.first().map_or(1, |topic| topic.partitions))
}

struct Sending<'a> {
    args: &'a SendArgs,
    partitions: i32,
    outbox: Outbox<'a>,
    summary: Summary,
    progress: Progress,
}

/// Why no more lines are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    AllRead,
    Wrong,
    Interrupted,
}

impl Sending<'_> {
    fn run(&mut self, lines: &Receiver<Item>, stop: &Stop) -> anyhow::Result<Over> {
        loop {
            let over = self.collect(lines, stop);
            let told = self.outbox.deliver(stop);
            let unfit = self.account(told)?;
            let sent = self.summary.sent;
            self.progress.show(|| format!("{} sent", counted(sent, "record")));
            match over {
                Some(over) => return Ok(over),
                None if unfit && self.args.on_error == OnError::Stop => return Ok(Over::Wrong),
                None => {}
            }
        }
    }

    /// Fills the outbox with what is there, and waits for the first line.
    fn collect(&mut self, lines: &Receiver<Item>, stop: &Stop) -> Option<Over> {
        while self.outbox.len() < BATCH && self.outbox.bytes() < BATCH_BYTES {
            if stop.requested() {
                return Some(Over::Interrupted);
            }
            let wait = if self.outbox.len() == 0 { LOOK } else { LINGER };
            let problem = match lines.recv_timeout(wait) {
                Ok(Item::Record(at, mut line)) => {
                    let named = if self.args.by_key { None } else { line.partition };
                    line.partition = self.args.partition.or(named);
                    match line.partition.filter(|partition| *partition >= self.partitions) {
                        None => {
                            self.outbox.push(at, line);
                            continue;
                        }
                        Some(number) => {
                            let (name, count) = (&self.args.topic, self.partitions);
                            format!("{at}: no partition {number}: the topic {name:?} has {count}, from 0")
                        }
                    }
                }
                Ok(Item::Wrong(at, why)) => format!("{at}: {why}"),
                Err(RecvTimeoutError::Timeout) if self.outbox.len() > 0 => return None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Some(Over::AllRead),
            };
            self.tell(&problem);
            self.summary.skipped += 1;
            if self.args.on_error == OnError::Stop {
                return Some(Over::Wrong);
            }
        }
        None
    }

    /// Counts what became of a batch. `true`: some record was refused for good.
    fn account(&mut self, told: Told) -> anyhow::Result<bool> {
        self.summary.sent += told.sent;
        self.summary.refused += told.refused.len() as u64;
        self.summary.unknown += told.unknown;
        for refused in &told.refused {
            self.tell(refused);
        }
        match told.failed {
            Some(why) => Err(anyhow::anyhow!(why)),
            None => Ok(!told.refused.is_empty()),
        }
    }

    fn tell(&mut self, problem: &str) {
        self.progress.clear();
        say(problem);
    }

    fn finish(mut self, ended: anyhow::Result<Over>) -> anyhow::Result<Exit> {
        self.progress.clear();
        let Summary { sent, skipped, refused, unknown, .. } = self.summary;
        let clean = skipped + refused + unknown == 0;
        self.summary.ok = clean && matches!(ended, Ok(Over::AllRead));
        let mut parts = vec![format!("sent {} to {}", counted(sent, "record"), self.args.topic)];
        let more = [(skipped, "with an error"), (refused, "refused"), (unknown, "of which it is not known")];
        parts.extend(more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", counted(*n, "line"))));
        match ended {
            Ok(Over::Wrong) => parts.push("stopped there; --on-error skip goes on".to_owned()),
            Ok(Over::Interrupted) => parts.push("interrupted before the end".to_owned()),
            Ok(Over::AllRead) | Err(_) => {}
        }
        if self.args.json {
            let json = serde_json::to_string(&self.summary)? + "\n";
            super::terminal::print(json.as_bytes(), "the summary")?;
        } else {
            say(&parts.join("; "));
        }
        ended.map(|_| Exit::of(self.summary.ok))
    }
}
