//! `keyrail dev`: pipelines on the embedded broker, their folder watched, and a line for what becomes of each message.

mod folder;

use super::table::painted;
use super::terminal::{self, Clean, colours, counted, say, still_read};
use super::{Exit, faulty, run, setting, signals, variable};
use anyhow::Context as _;
use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use keyrail::admin::deployment::Deployment;
use keyrail::admin::health::Health;
use keyrail::admin::http::{AdminServer, Sources, check_address};
use keyrail::admin::logging::{self, LogFormat, TimeOfDay};
use keyrail::admin::metrics::Metrics;
use keyrail::admin::stop::Stop;
use keyrail::alerts::Alerts;
use keyrail::config::{BrokerKind, Host, find_pipelines, load_host};
use keyrail::pipeline::witness::{Event, Told, Witness};
use keyrail::pipeline::{self, Surroundings};
use keyrail::rollout::Board;
use keyrail_engine::message::Epitaph;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Lines that wait to be printed at most. More messages than a terminal can show are counted instead.
const WAITING: usize = 8192;
/// Longest part of a key that is shown, in characters.
const KEY_CHARS: usize = 40;
/// Longest part of a failure's words that is shown, in characters.
const DETAIL_CHARS: usize = 160;
/// Between two looks whether lines were left out.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// The folder: its keyrail.toml, which is made if it is not there, and its pipelines
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Override a key of keyrail.toml, as in --set plugins.dir=handlers; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<String>,
}

pub(super) fn dev(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let mut sets = args.set.clone();
    // Last, so that it counts: this never touches a Kafka, whatever the file says.
    sets.push("broker=embedded".to_owned());
    let file = folder::host_file(&args.dir, &sets)?;
    let mut host = load_host(&file, &sets, &variable)
        .map_err(|faults| faulty("the configuration has faults, and nothing was started", &faults))?;
    // What becomes of messages stands on the screen already.
    let level = format!(
        "warn,keyrail::pipeline::shard=error,keyrail::pipeline::letters=error,keyrail::rollout={0},keyrail::handler={0}",
        host.logging.level.as_str()
    );
    logging::init(&level.parse()?, LogFormat::Brief)?;
    keyrail::fail::arm().map_err(anyhow::Error::msg)?;
    // IMPORTANT: before anything is said or bound: where another process runs here, that is all there is to say.
    let claim = run::claim(&host)?;
    std::fs::create_dir_all(&host.plugins_dir)
        .with_context(|| format!("can't make the folder of the pipelines, {}", host.plugins_dir.display()))?;
    if let Err(error) = check_address(host.admin_listen) {
        say(&format!("{error}. A free port of 127.0.0.1 is used"));
        host.admin_listen = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    }
    let (stop, health, metrics) = (Stop::new(), Arc::new(Health::new()), Arc::new(Metrics::new()));
    metrics.budget_limit_bytes.set(host.records_bytes);
    let (board, token) = (Board::default(), run::token(&host)?);
    let sources = Sources { health: health.clone(), metrics: metrics.clone(), board: board.clone(), token };
    let admin = AdminServer::start(host.admin_listen, sources, &Deployment::of(&file))?;
    signals::listen(stop.clone(), health.clone(), host.shutdown_grace)?;
    // The commands beside it would go where the file sends them.
    let elsewhere = load_host(&file, &args.set, &variable).is_ok_and(|host| host.broker != BrokerKind::Embedded);
    let mut config = String::new();
    if file != Path::new("./keyrail.toml") {
        config += &format!(" -c {}", quoted(&file.display().to_string()));
    }
    let where_it_is = args.set.iter().map(String::as_str).filter(|set| set.trim_start().starts_with("embedded"));
    for set in where_it_is.chain(elsewhere.then_some("broker=embedded")) {
        config += &format!(" --set {}", quoted(set));
    }
    welcome(&host, &config, &admin)?;
    let (screen, printer) = Screen::new()?;
    // Whoever tries something out has it before his eyes: nobody else is to be woken by it.
    let alerts = Alerts::default();
    let surroundings =
        Surroundings { health, metrics, stop, variables: variable, witness: Some(screen), alerts, claim, board };
    let ended = pipeline::run(&host, Vec::new(), surroundings);
    drop(admin);
    // The screen went with the pipelines, so the printer has an end.
    let printed = printer.join().map_err(|_| anyhow::anyhow!("the thread that prints panicked"))?;
    let ended = ended?;
    printed.context("can't print")?;
    say(run::told(ended));
    Ok(Exit::from(ended).into())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// `config`: what the other commands need to find the same broker.
fn welcome(host: &Host, config: &str, admin: &AdminServer) -> anyhow::Result<()> {
    let (dir, data) = (host.plugins_dir.display(), host.embedded.dir.display());
    let mut out = Vec::new();
    writeln!(out, "pipelines  {dir}, watched: save a handler or a manifest, and it runs")?;
    writeln!(out, "broker     embedded, in {data}")?;
    writeln!(out, "admin      http://{}/metrics", admin.address())?;
    writeln!(out, "send       keyrail send TOPIC lines.json{config}")?;
    writeln!(out, "read       keyrail tail TOPIC --from earliest{config}")?;
    writeln!(out, "end        Ctrl-C")?;
    let none = find_pipelines(&host.plugins_dir, &variable).is_ok_and(|f| f.fit.is_empty() && f.unfit.is_empty());
    if none {
        writeln!(out, "There is no pipeline yet: put NAME.toml and its handler into {dir}.")?;
    }
    writeln!(out)?;
    terminal::print(&out, "to standard output").map(drop)
}

/// Takes what becomes of messages as lines, and never waits.
#[derive(Debug)]
struct Screen {
    lines: Sender<String>,
    left_out: Arc<AtomicU64>,
    colours: bool,
}

type Printer = std::thread::JoinHandle<std::io::Result<()>>;

impl Screen {
    fn new() -> anyhow::Result<(Arc<Self>, Printer)> {
        let (lines, printed) = bounded(WAITING);
        let left_out: Arc<AtomicU64> = Arc::default();
        let counted = left_out.clone();
        let printer = std::thread::Builder::new().name("printer".to_owned()).spawn(move || print(&printed, &counted));
        let screen = Self { lines, left_out, colours: colours() };
        Ok((Arc::new(screen), printer.context("no thread that prints")?))
    }
}

impl Witness for Screen {
    fn tell(&self, told: &Told<'_>) {
        if self.lines.is_full() || self.lines.try_send(line(told, TimeOfDay::now(), self.colours)).is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
    }
}

/// Prints until nobody tells anything any more, or nobody reads: messages are handled still.
fn print(lines: &Receiver<String>, left_out: &AtomicU64) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    loop {
        let text = match lines.recv_timeout(PAUSE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => String::new(),
            Err(RecvTimeoutError::Disconnected) => return still_read(out.flush()).map(drop),
        };
        let more = left_out.swap(0, Relaxed);
        let more = if more > 0 { format!("... and {} more\n", counted(more, "message")) } else { String::new() };
        let written = write!(out, "{text}{more}").and_then(|()| if lines.is_empty() { out.flush() } else { Ok(()) });
        if written.is_err() {
            return still_read(written).map(drop);
        }
    }
}

/// `18:03:12.412  payments  orders/3@17  cust-42  done -> receipts`
fn line(told: &Told<'_>, time: TimeOfDay, colours: bool) -> String {
    let key = match told.key {
        None => "(no key)".to_owned(),
        Some(key) => cut(&String::from_utf8_lossy(key), KEY_CHARS),
    };
    let (word, code, rest) = fate(&told.event);
    let place = format!("{}/{}@{}", told.topic, told.partition, told.offset);
    let plain = format!("{time}  {}  {place}  {key}  ", told.pipeline);
    // Words of handlers, brokers and records must neither forge a line nor reach the terminal.
    let clean = |text: &str| Clean(text).to_string().replace('\n', "\\n");
    format!("{}{}{}\n", clean(&plain), painted(word, code, colours), clean(&rest))
}

fn fate(event: &Event<'_>) -> (&'static str, &'static str, String) {
    const GREEN: &str = "\x1b[32m";
    const YELLOW: &str = "\x1b[33m";
    const RED: &str = "\x1b[31m";
    const DIM: &str = "\x1b[2m";
    match event {
        Event::Done(sent) => ("done", GREEN, arrow(sent)),
        Event::SentLater(topic) => ("sent later", GREEN, format!(" -> {topic}")),
        Event::Skipped(sent) => ("skipped", DIM, arrow(sent)),
        Event::Duplicate(Some(of)) => ("duplicate", DIM, format!(" of offset {of}: not run")),
        Event::Duplicate(None) => ("duplicate", DIM, " of an earlier message: not run".to_owned()),
        Event::Retry { code, detail, failures, in_ms } => {
            ("retry", YELLOW, format!(" in {}, after {}: {}", span(*in_ms), failed(*failures), words(code, detail)))
        }
        Event::Parked { code, detail, failures, due_ms } => {
            let until = due_ms.map_or_else(
                || " until somebody acts (`keyrail parked`)".to_owned(),
                |due_ms| {
                    format!(
                        " until {}",
                        TimeOfDay::since_1970(Duration::from_millis(u64::try_from(due_ms).unwrap_or(0)))
                    )
                },
            );
            ("parked", YELLOW, format!("{until}, after {}: {}", failed(*failures), words(code, detail)))
        }
        Event::ParkedBehind => ("parked", DIM, " behind an earlier message of its key".to_owned()),
        Event::LetRun => ("parked", DIM, ", and may run again: by hand".to_owned()),
        Event::GivenUp => ("given up", RED, " with what waits behind it of its key".to_owned()),
        Event::Buried => ("given up", DIM, ": all that waited behind it is a dead letter".to_owned()),
        Event::ParkedBefore => ("parked", DIM, " before: not run".to_owned()),
        Event::DeadLetter { epitaph, topic } => ("dead letter", RED, format!(" -> {topic}, {}", reason(epitaph))),
        Event::Discarded(epitaph) => ("discarded", RED, format!(", {}", reason(epitaph))),
    }
}

fn failed(times: u32) -> String {
    if times == 1 { "1 failure".to_owned() } else { format!("{times} failures") }
}

/// Why a message is given up. Where the failure is the reason it is told once, as in `trap: panic: ...`.
fn reason(epitaph: &Epitaph) -> String {
    let (reason, code) = (epitaph.reason.as_str(), epitaph.failure.code.as_str());
    let why = words(code, &epitaph.failure.detail);
    if reason == code { why } else { format!("{reason}: {why}") }
}

/// Where records went: a topic once, with their number where there are several.
fn arrow(sent: &[&str]) -> String {
    let mut topics: Vec<(&str, usize)> = Vec::new();
    for topic in sent {
        match topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, count)) => *count += 1,
            None => topics.push((topic, 1)),
        }
    }
    let shown = topics.iter().map(|(topic, n)| if *n == 1 { (*topic).to_owned() } else { format!("{topic} x{n}") });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { String::new() } else { format!(" -> {}", shown.join(", ")) }
}

/// What a failure says of itself, as far as one line has room; the dead letter has it all.
fn words(code: &str, detail: &str) -> String {
    let said = detail.strip_prefix(code).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(detail);
    let short = cut(said, DETAIL_CHARS);
    if short.is_empty() { code.to_owned() } else { format!("{code}: {short}") }
}

/// So many characters of a text at most.
fn cut(text: &str, chars: usize) -> String {
    let short: String = text.chars().take(chars).collect();
    if short.len() < text.len() { short + "..." } else { short }
}

fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_engine::message::{Company, Failure, Reason};

    fn shown(event: Event<'_>, key: Option<&[u8]>, colours: bool) -> String {
        let told = Told { pipeline: "pay", topic: "orders", partition: 3, offset: 17, key, event };
        line(&told, TimeOfDay::since_1970(Duration::from_millis(65_001_234)), colours)
    }

    #[test]
    fn each_fate_is_one_line() {
        let start = "18:03:21.234  pay  orders/3@17  k1  ";
        let epitaph = Epitaph {
            reason: Reason::Rejected,
            failure: Failure { code: "bad-amount".into(), detail: "-3 is below 0".into() },
            attempts: 1,
            first_failed_ms: 0,
            version: None,
            company: Company::Alone,
        };
        let failure = Failure { code: "trap".into(), detail: "panic: no such cup, in barista::serve".into() };
        let trap = Epitaph { reason: Reason::Trap, failure, ..epitaph.clone() };
        let retry = |failures, in_ms| Event::Retry { code: "busy", detail: "the bank is down", failures, in_ms };
        let cases = [
            (Event::Done(vec!["receipts"]), "done -> receipts"),
            (Event::Done(vec!["a", "b", "a", "a"]), "done -> a x3, b"),
            (Event::Done(vec![]), "done"),
            (Event::SentLater("reminders"), "sent later -> reminders"),
            (Event::Skipped(vec![]), "skipped"),
            (Event::Duplicate(Some(12)), "duplicate of offset 12: not run"),
            (Event::Duplicate(None), "duplicate of an earlier message: not run"),
            (
                Event::Parked { code: "busy", detail: "the bank is down", failures: 2, due_ms: Some(65_004_000) },
                "parked until 18:03:24.000, after 2 failures: busy: the bank is down",
            ),
            (
                Event::Parked { code: "busy", detail: "the bank is down", failures: 2, due_ms: None },
                "parked until somebody acts (`keyrail parked`), after 2 failures: busy: the bank is down",
            ),
            (Event::LetRun, "parked, and may run again: by hand"),
            (Event::ParkedBehind, "parked behind an earlier message of its key"),
            (Event::ParkedBefore, "parked before: not run"),
            (retry(1, 990), "retry in 990 ms, after 1 failure: busy: the bank is down"),
            (retry(2, 1_618), "retry in 1.6 s, after 2 failures: busy: the bank is down"),
            (retry(9, 600_000), "retry in 10 min, after 9 failures: busy: the bank is down"),
            (
                Event::DeadLetter { epitaph: &epitaph, topic: "pay.orders.dlq" },
                "dead letter -> pay.orders.dlq, rejected: bad-amount: -3 is below 0",
            ),
            (Event::Discarded(&epitaph), "discarded, rejected: bad-amount: -3 is below 0"),
            (
                Event::DeadLetter { epitaph: &trap, topic: "pay.orders.dlq" },
                "dead letter -> pay.orders.dlq, trap: panic: no such cup, in barista::serve",
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(shown(event, Some(b"k1"), false), format!("{start}{expected}\n"));
        }
    }

    #[test]
    fn nothing_from_outside_forges_a_line_or_reaches_the_terminal() {
        let forged = Event::Retry { code: "x\n18:00:00.000", detail: "\x1b[2J", failures: 1, in_ms: 0 };
        let line = shown(forged, Some(b"a\nb\x07\xff"), true);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.contains("a\\nb\\u{7}\u{fffd}") && line.contains("\\u{1b}[2J"), "{line:?}");
        assert!(line.contains("\x1b[33mretry\x1b[0m"), "{line:?}");
        let long = "k".repeat(100);
        let trap = Event::Retry { code: "trap", detail: &format!("trap: {}", "x".repeat(300)), failures: 1, in_ms: 0 };
        let line = shown(trap, None, false);
        assert!(line.ends_with(&format!("failure: trap: {}...\n", "x".repeat(DETAIL_CHARS))), "{line}");
        let line = shown(Event::Done(vec![]), Some(long.as_bytes()), false);
        assert!(line.contains(&format!("  {}...  ", "k".repeat(KEY_CHARS))), "{line}");
        assert!(shown(Event::Done(vec![]), None, false).contains("(no key)"));
    }
}
