//! `cargo xtask faults`: every fault that a guarantee must stand, on real brokers and in the simulator, as often as one
//! likes, with a report. Interrupted, it goes on where it was.

mod tally;

use crate::place::{Place, make, read, remove, write};
use crate::run::{End, From, Tail, ask, stream};
use crate::say::say;
use crate::setup;
use crate::suite::{self, Program};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tally::Tally;

/// One round of one row.
const ROUND_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// So many kills, or requests in doubt, are one round: then the report is written.
const ROUND: u64 = 100;
const SEEDS_A_ROUND: u64 = 1_000;

const RUN: &str = "keyrail-kafka-tests run";
const KAFKA: &str = "keyrail-kafka-tests kafka";
const EMBEDDED: &str = "keyrail-embedded-tests embedded";

/// How often a row is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Once,
    /// Until workers died so often.
    Kills,
    /// Until so many requests of transactions were left in doubt.
    Doubts,
    /// Until so many seeds of the simulator held.
    Seeds,
}

/// One kind of fault, and the tests that bring it about.
#[derive(Debug)]
struct Row {
    fault: &'static str,
    program: &'static str,
    filters: &'static [&'static str],
    until: Until,
}

const ROWS: [Row; 20] = [
    row(
        "kill -9 at random: three workers, two, and by the new group protocol",
        RUN,
        &["kills::three", "kills::two"],
        Until::Kills,
    ),
    row("kill -9 at every named point of a message's way", RUN, &["points::"], Until::Kills),
    row(
        "handlers' state: workers killed, frozen, in and out, dying at every named point",
        RUN,
        &["state::"],
        Until::Kills,
    ),
    row(
        "parked messages: workers killed, frozen, in and out, dying at every named point",
        RUN,
        &["parked::"],
        Until::Kills,
    ),
    row(
        "hands from outside while owners are killed; redrives that are killed",
        RUN,
        &["hands::", "letters::"],
        Until::Once,
    ),
    row("keys that are given up while their owners are killed", RUN, &["burial::"], Until::Once),
    row("timers while workers die and partitions move", RUN, &["timers::"], Until::Once),
    row("internal topics deleted, made anew, hidden; groups moved", RUN, &["identity::"], Until::Once),
    row("requests that make and end transactions lost, cut off, late, doubled", KAFKA, &["doubtful::"], Until::Doubts),
    row("a process frozen past its session that wakes (zombie)", RUN, &["kills::a_frozen"], Until::Once),
    row("SIGTERM in the middle of a batch; ends that take too long", RUN, &["kills::a_worker", "stops::"], Until::Once),
    row("members in and out every two seconds: cooperative, eager, KIP-848", RUN, &["storms::"], Until::Once),
    row("brokers killed, all away for a minute, a coordinator moved", RUN, &["outages::"], Until::Once),
    row("slow, half-open and one-way connections", RUN, &["links::"], Until::Once),
    row("topics missing, forbidden, full; records too large", RUN, &["blocked::", "refusals::"], Until::Once),
    row("retention past the commit, topics made anew, partitions added", RUN, &["topics::", "offsets::"], Until::Once),
    row("new code and manifests under load", RUN, &["swap::", "instances::"], Until::Once),
    row("embedded broker: kill -9 at every named point and at random", EMBEDDED, &["points::", "kills::"], Until::Once),
    row("embedded broker: full disk, damaged files, deleted folders", EMBEDDED, &["bad::", "folder::"], Until::Once),
    row("simulator: 30 actions x 39 faults, seeds of virtual time", "sim", &[], Until::Seeds),
];

const fn row(fault: &'static str, program: &'static str, filters: &'static [&'static str], until: Until) -> Row {
    Row { fault, program, filters, until }
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    kills: u64,
    doubts: u64,
    seeds: u64,
    fresh: bool,
}

const HELP: &str = "\
cargo xtask faults [--kills N] [--doubts N] [--seeds N] [--fresh]

  --kills N    workers to kill on a real Kafka, at random, at named points and with state, in all (default 300)
  --doubts N   requests of transactions to leave in doubt (default 100)
  --seeds N    seeds of the simulator (default 1000)
  --fresh      forget what ran before; without it, it goes on where it was interrupted

Every other kind of fault is played once. Reports: target/faults/report.md and report.json.
";

/// Runs the command.
pub(crate) fn command(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let Some(options) = parse(args)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let ready = setup::all(place)?;
    if let Some(missing) = ready.missing.iter().find(|m| ["java", "kafka", "guests"].contains(&m.part)) {
        return Err(format!("faults needs {}: {}", missing.part, missing.reason));
    }
    let programs = suite::build(place)?;
    let folder = place.target.join("faults");
    if options.fresh {
        remove(&folder)?;
    }
    make(&folder)?;
    let commit = ask("git", &["-C", &place.root.to_string_lossy(), "rev-parse", "--short", "HEAD"]);
    let mut book = Book::open(&folder, commit.as_deref().unwrap_or("unknown"))?;
    let env = ready.env(place);
    for (number, row) in ROWS.iter().enumerate() {
        while let Some(due) = due(row, &options, &book.tallies[number]) {
            say(&format!("faults: {}: {due}", row.fault));
            let mut command = command_of(row, due, &options, &book.tallies[number], place, &programs)?;
            command.envs(env.iter().map(|(name, value)| (*name, value)));
            let tally = play(row, &mut command)?;
            book.tallies[number].add(&tally);
            book.keep()?;
        }
    }
    let text = book.page();
    print!("{text}");
    Ok(if book.tallies.iter().all(Tally::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(args: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options { kills: 300, doubts: 100, seeds: 1_000, fresh: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let given = args.next().ok_or_else(|| format!("faults: {arg} needs a number"))?;
            given.parse().map_err(|_| format!("faults: {arg} needs a number, and {given:?} is none"))
        };
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--kills" => options.kills = number()?,
            "--doubts" => options.doubts = number()?,
            "--seeds" => options.seeds = number()?,
            "--fresh" => options.fresh = true,
            other => return Err(format!("faults: unknown option {other}; see cargo xtask faults --help")),
        }
    }
    Ok(Some(options))
}

/// How much of a row the next round is to play; `None`: it is done, or has failed.
fn due(row: &Row, options: &Options, so_far: &Tally) -> Option<u64> {
    let (wanted, have, round) = match row.until {
        Until::Once => (1, so_far.rounds, 1),
        Until::Kills => (share(options.kills), so_far.kills, ROUND),
        Until::Doubts => (options.doubts, so_far.doubts, ROUND),
        Until::Seeds => (options.seeds, so_far.seeds, SEEDS_A_ROUND),
    };
    let left = wanted.saturating_sub(have);
    // A round that brought nothing would be played for ever.
    let stuck = so_far.rounds > 0 && have == 0;
    (left > 0 && so_far.is_good() && !stuck).then_some(left.min(round))
}

/// What each row of kills has of all.
fn share(kills: u64) -> u64 {
    kills.div_ceil(ROWS.iter().filter(|row| row.until == Until::Kills).count() as u64)
}

fn command_of(
    row: &Row,
    due: u64,
    options: &Options,
    so_far: &Tally,
    place: &Place,
    programs: &[Program],
) -> Result<Command, String> {
    if row.until == Until::Seeds {
        let (from, to) = (so_far.seeds, (so_far.seeds + due).min(options.seeds));
        let mut command = Command::new("cargo");
        command.current_dir(&place.root).env("CARGO_TARGET_DIR", &place.target);
        command.args(["run", "--quiet", "--package", "keyrail-sim", "--bin", "sim", "--"]);
        command.args(["--seeds", &format!("{from}..{to}")]);
        return Ok(command);
    }
    let none = || format!("faults: there is no test program {}", row.program);
    let program = programs.iter().find(|p| p.name == row.program).ok_or_else(none)?;
    let mut command = Command::new(&program.path);
    let folder = place.root.join(&program.folder);
    command.current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder).args(row.filters);
    match row.until {
        Until::Kills => command.env("KEYRAIL_KILLS", due.to_string()),
        Until::Doubts => command.env("KEYRAIL_DOUBTS", due.to_string()),
        Until::Once | Until::Seeds => &mut command,
    };
    Ok(command)
}

fn play(row: &Row, command: &mut Command) -> Result<Tally, String> {
    let began = Instant::now();
    let (mut tally, mut tail) = (Tally::default(), Tail::default());
    let end = stream(row.fault, command, ROUND_LIMIT, |from, line| {
        tail.push(line);
        tally.hear(line);
        if from == From::Stderr {
            eprintln!("{line}");
        }
        None
    })?;
    tally.rounds = 1;
    tally.seconds = began.elapsed().as_secs();
    match end {
        End::Exited(status) if status.success() => {}
        End::Exited(status) => tally.fail(&format!("ended with {status}")),
        End::TimedOut => tally.fail("took too long"),
    }
    if tally.failed > 0 {
        eprintln!("{}", tail.text());
    }
    Ok(tally)
}

/// What was played so far, kept in a file.
#[derive(Debug)]
struct Book {
    folder: PathBuf,
    commit: String,
    tallies: Vec<Tally>,
}

impl Book {
    fn open(folder: &Path, commit: &str) -> Result<Self, String> {
        let mut book = Self { folder: folder.to_owned(), commit: commit.to_owned(), tallies: Vec::new() };
        book.tallies.resize_with(ROWS.len(), Tally::default);
        let path = folder.join("played.txt");
        if !path.is_file() {
            return Ok(book);
        }
        let text = read(&path)?;
        let mut lines = text.lines();
        if lines.next() != Some(commit) {
            say("faults: what was played before is of another commit and does not count");
            return Ok(book);
        }
        for line in lines {
            let (fault, numbers) = line.split_once('\t').unwrap_or((line, ""));
            if let Some(number) = ROWS.iter().position(|row| row.fault == fault) {
                book.tallies[number] = Tally::read(numbers)?;
            }
        }
        Ok(book)
    }

    fn keep(&self) -> Result<(), String> {
        let mut text = format!("{}\n", self.commit);
        for (row, tally) in ROWS.iter().zip(&self.tallies) {
            text.push_str(&format!("{}\t{}\n", row.fault, tally.line()));
        }
        write(&self.folder.join("played.txt"), &text)?;
        write(&self.folder.join("report.md"), &self.page())?;
        write(&self.folder.join("report.json"), &self.json())
    }

    fn page(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let mut page = format!("# Faults\n\nCommit {}, {cores} cores; `cargo xtask faults --help`.\n\n", self.commit);
        page.push_str("| fault | runs | tests passed | failed | kills | in doubt | seeds | messages | lost | overtaken | twice | s |\n");
        page.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        for (row, tally) in ROWS.iter().zip(&self.tallies) {
            page.push_str(&format!("| {} | {} |\n", row.fault, tally.cells().join(" | ")));
        }
        let mut all = Tally::default();
        self.tallies.iter().for_each(|tally| all.add(tally));
        page.push_str(&format!("| **in all** | {} |\n", all.cells().join(" | ")));
        page.push_str(
            "\n`messages` are those that a judge has followed by their ids, from input to output or dead letter, as a reader of \
             committed records; `twice` counts runs with exactly-once alone. Tests that judge otherwise show no messages.\n",
        );
        page
    }

    fn json(&self) -> String {
        let rows: Vec<String> = ROWS.iter().zip(&self.tallies).map(|(row, tally)| tally.json(row.fault)).collect();
        format!("{{\"commit\":\"{}\",\"rows\":[\n{}\n]}}\n", self.commit, rows.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::{HELP, Options, ROWS, Tally, Until, due, parse};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_and_bad_ones_refused() {
        let some = Options { kills: 1_000, doubts: 100, seeds: 5, fresh: true };
        assert_eq!(parse(&words("--kills 1000 --seeds 5 --fresh")), Ok(Some(some)));
        assert_eq!(parse(&words("--help")), Ok(None));
        assert!(parse(&words("--kills many")).is_err_and(|e| e.contains("\"many\"")));
        assert!(parse(&words("--kills")).is_err_and(|e| e.contains("needs a number")));
        assert!(parse(&words("--kill 1")).is_err_and(|e| e.contains("--help")));
        assert!(["--kills", "--doubts", "--seeds", "--fresh"].iter().all(|option| HELP.contains(option)));
    }

    #[test]
    fn a_row_is_played_until_it_has_enough_or_has_failed() {
        let rows = ROWS.iter().filter(|row| row.until == Until::Kills).count() as u64;
        let options = Options { kills: 250 * rows, doubts: 1, seeds: 1, fresh: false };
        let row = ROWS.iter().find(|row| row.until == Until::Kills);
        let due = |tally: &Tally| row.and_then(|row| due(row, &options, tally));
        assert_eq!(due(&Tally::default()), Some(100));
        assert_eq!(due(&Tally { rounds: 2, kills: 210, ..Tally::default() }), Some(40));
        assert_eq!(due(&Tally { rounds: 3, kills: 251, ..Tally::default() }), None);
        assert_eq!(due(&Tally { rounds: 1, kills: 100, failed: 1, ..Tally::default() }), None);
        assert_eq!(due(&Tally { rounds: 1, ..Tally::default() }), None, "it brings nothing");
    }

    #[test]
    fn every_kind_of_fault_has_a_name_of_its_own() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.fault).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
