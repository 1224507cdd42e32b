//! Commands that set up and then hand over to another program.

use crate::place::{Member, Place, make, read};
use crate::run::{End, From, cargo_status, stream};
use crate::say::{elapsed, say};
use crate::setup;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

const DEMO_BUILD_LIMIT: Duration = Duration::from_secs(1800);
const DENY_LIMIT: Duration = Duration::from_secs(300);
const MUTANTS_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// The share of mutants of the engine that its tests must catch.
const CAUGHT_AT_LEAST_PERCENT: usize = 90;
/// `reason: mutant` lines, of mutants that no test can tell from the original or need not.
const SURVIVORS: &str = "runtime/engine/survivors.txt";

/// `cargo xtask sim`: the simulator, with the arguments as they stand.
pub(crate) fn sim(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let member = need(place, "tests/sim")?;
    say("building the simulator");
    let mut cargo = cargo(place, &["run", "--quiet", "--package", &member.name, "--bin", "sim", "--"]);
    hand_over(cargo.args(args))
}

/// `cargo xtask demo`: builds what it needs, which is less than the tests do, and starts it.
pub(crate) fn demo(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let member = need(place, "examples/demo")?;
    let guests = setup::demo(place)?;
    say("building Keyrail without Kafka's client library (a first build takes minutes)");
    let began = elapsed();
    // In the profile of the tests: what it stands on is optimised, and the build takes a third of a release's.
    let mut build =
        cargo(place, &["build", "--package", "keyrail", "--no-default-features", "--package", &member.name, "--bins"]);
    match stream("build", &mut build, DEMO_BUILD_LIMIT, show)? {
        End::Exited(status) if status.success() => {}
        End::Exited(_) => return Ok(ExitCode::FAILURE),
        End::TimedOut => return Err(format!("the build took more than {} s", DEMO_BUILD_LIMIT.as_secs())),
    }
    say(&format!("built in {} s; the demo begins, and counts its own seconds", (elapsed() - began).as_secs()));
    let folder = place.target.join("demo");
    make(&folder)?;
    // A copy: the next build of the tests puts another Keyrail in its place.
    let (built, keyrail) = (place.target.join("debug/keyrail"), folder.join("keyrail"));
    std::fs::copy(&built, &keyrail).map_err(|e| format!("cannot copy {}: {e}", built.display()))?;
    let mut demo = Command::new(place.target.join("debug").join(&member.name));
    demo.args(args).env("KEYRAIL_BIN", keyrail).env("KEYRAIL_GUESTS", guests).env("KEYRAIL_DEMO", folder);
    hand_over(&mut demo)
}

/// `cargo xtask bench`: the bench in release, with Kafka and the guests.
pub(crate) fn bench(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let member = need(place, "tests/bench")?;
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        return hand_over(cargo(place, &["run", "--quiet", "--package", &member.name, "--"]).args(args));
    }
    let mut ready = setup::all(place)?;
    if measures(args, "state") {
        // Without it the other parts can be measured all the same.
        ready.with_streams(place)?;
    }
    let needed = |part: &str| ["java", "kafka", "guests"].contains(&part);
    if let Some(missing) = ready.missing.iter().find(|m| needed(m.part)) {
        return Err(format!("the bench needs {}: {}", missing.part, missing.reason));
    }
    say("building Keyrail and the bench in release (a first build takes many minutes)");
    let built = hand_over(&mut cargo(place, &["build", "--release", "--package", "keyrail", "--bin", "keyrail"]))?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let mut cargo = cargo(place, &["run", "--release", "--package", &member.name, "--"]);
    let binary = place.target.join("release").join("keyrail");
    hand_over(cargo.args(args).envs(ready.env(place)).env("KEYRAIL_BIN", binary))
}

/// Whether the bench is asked for this part: by `--only`, or since nothing is named.
fn measures(args: &[String], part: &str) -> bool {
    let mut named = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let list = if arg == "--only" { args.next() } else { arg.strip_prefix("--only=") };
        named.extend(list.into_iter().flat_map(|list| list.split(',')));
    }
    named.is_empty() || named.contains(&part)
}

/// `cargo xtask deny`: licences, sources and duplicates; known vulnerabilities too if their list can be had.
pub(crate) fn deny(place: &Place) -> Result<ExitCode, String> {
    let program = setup::deny(place)?;
    let deny = |checks: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&place.root).args(["--workspace", "--all-features", "check"]).args(checks);
        command
    };
    say("checking licences, sources and duplicates (cargo-deny)");
    let code = shown("cargo-deny", &mut deny(&["licenses", "bans", "sources"]))?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    say("checking known vulnerabilities (cargo-deny)");
    let mut fetch = Command::new(&program);
    fetch.current_dir(&place.root).args(["--workspace", "fetch", "db"]);
    if shown("cargo-deny fetch", &mut fetch)? != ExitCode::SUCCESS {
        say("NOT CHECKED: the list of known vulnerabilities cannot be reached from here");
        return Ok(ExitCode::SUCCESS);
    }
    shown("cargo-deny", &mut deny(&["--disable-fetch", "advisories"]))
}

/// `cargo xtask mutants`: plants a bug in the engine and runs its tests, hundreds of times.
pub(crate) fn mutants(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let program = setup::mutants(place)?;
    let out = place.target.join("mutants");
    let mut command = Command::new(program);
    command
        .current_dir(&place.root)
        .args(["mutants", "--package", "keyrail-engine", "--colors", "never", "--output"])
        .arg(&out);
    command.args(args);
    if !args.iter().any(|arg| arg == "--") {
        // The unit tests, without the one that takes longest.
        command.args(["--", "--lib", "--", "--skip", "a_million"]);
    }
    say("mutating the engine (hours for all of it; --shard 1/10 or --file NAME for a part)");
    match stream("mutants", &mut command, MUTANTS_LIMIT, show)? {
        // 2: some survived, 3: some timed out. Both are judged below.
        End::Exited(status) if matches!(status.code(), Some(0 | 2 | 3)) => judge(place, &out.join("mutants.out")),
        End::Exited(status) => Err(format!("cargo-mutants itself failed ({status})")),
        End::TimedOut => Err(format!("cargo-mutants took more than {} h", MUTANTS_LIMIT.as_secs() / 3600)),
    }
}

fn judge(place: &Place, out: &Path) -> Result<ExitCode, String> {
    let lines = |name: &str| read(&out.join(name)).map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>());
    let (caught, missed, timed_out) = (lines("caught.txt")?, lines("missed.txt")?, lines("timeout.txt")?);
    let list = place.root.join(SURVIVORS);
    let list = if list.is_file() { read(&list)? } else { String::new() };
    let accepted = survivors(&list)?;
    let unlisted: Vec<_> = missed.iter().filter(|m| !accepted.contains_key(without_place(m))).collect();
    for mutant in &unlisted {
        println!("survived, and not listed in {SURVIVORS}: {mutant}");
    }
    // A mutant that hangs was noticed.
    let (noticed, all) = (caught.len() + timed_out.len(), caught.len() + timed_out.len() + missed.len());
    let percent = (noticed * 100).checked_div(all).unwrap_or(0);
    println!("{noticed} of {all} mutants caught ({percent} %), {} survived without a listed reason", unlisted.len());
    let good = percent >= CAUGHT_AT_LEAST_PERCENT && unlisted.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The listed survivors, without line numbers, which move with every change, and the reason of each.
fn survivors(text: &str) -> Result<BTreeMap<&str, &str>, String> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let (mutant, reason) =
            line.rsplit_once(" | ").ok_or_else(|| format!("{SURVIVORS}: say `MUTANT | REASON`: {line}"))?;
        found.insert(without_place(mutant.trim()), reason.trim());
    }
    Ok(found)
}

/// `src/lanes.rs:10:5: replace x with y` without its numbers is `replace x with y`; the function's name is in it.
fn without_place(mutant: &str) -> &str {
    mutant.split_once(": ").map_or(mutant, |(_, change)| change)
}

fn need(place: &Place, folder: &str) -> Result<Member, String> {
    place.member(folder)?.ok_or_else(|| format!("the workspace has no crate {folder}"))
}

fn cargo(place: &Place, args: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args).current_dir(&place.root).env("CARGO_TARGET_DIR", &place.target);
    cargo
}

/// Runs a program on our own terminal and returns its exit code.
pub(crate) fn hand_over(command: &mut Command) -> Result<ExitCode, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("cannot start {name}: {e}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn shown(name: &str, command: &mut Command) -> Result<ExitCode, String> {
    match stream(name, command, DENY_LIMIT, show)? {
        End::Exited(status) if status.success() => Ok(ExitCode::SUCCESS),
        End::Exited(_) => Ok(ExitCode::FAILURE),
        End::TimedOut => Err(format!("{name} took more than {} s", DENY_LIMIT.as_secs())),
    }
}

fn show(_: From, line: &str) -> Option<String> {
    let status = cargo_status(line);
    if status.is_none() {
        eprintln!("{line}");
    }
    status
}

#[cfg(test)]
mod tests {
    use super::{measures, survivors, without_place};

    #[test]
    fn the_bench_fetches_only_what_its_parts_need() {
        let asked = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            measures(&words, "state")
        };
        for line in ["", "--quick", "--only state", "--only=latency,state --json", "--only start --only state"] {
            assert!(asked(line), "{line}");
        }
        for line in ["--only throughput", "--only=start,latency", "--pairs 2 --only budget --json"] {
            assert!(!asked(line), "{line}");
        }
    }

    #[test]
    fn a_survivor_is_known_wherever_its_line_moves() {
        let listed = survivors("# why\n\nruntime/engine/src/a.rs:1:2: replace f -> u8 with 0 | only a hint\n");
        let known =
            listed.map(|l| l.contains_key(without_place("runtime/engine/src/a.rs:99:7: replace f -> u8 with 0")));
        assert_eq!(known, Ok(true));
        let operator = survivors("a.rs:1:2: replace | with ^ in f | the bits are disjoint");
        assert!(operator.is_ok_and(|l| l.get("replace | with ^ in f") == Some(&"the bits are disjoint")));
        assert!(survivors("no reason given").is_err());
    }
}
