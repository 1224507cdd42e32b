//! `cargo xtask test`: all the set-up, then every test, then a summary that hides nothing.

mod crash;
mod programs;
mod report;

use crate::place::{Place, remove_file, write};
use crate::run::{End, From, Tail, cargo_status, stream};
use crate::say::{elapsed, say};
use crate::setup::{self, Ready};
pub(crate) use programs::Program;
use report::{Line, Report};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// One test program. The rig on a real Kafka is the longest by far.
const PROGRAM_LIMIT: Duration = Duration::from_secs(1800);
/// The longest that all of CI may take; the build of what we stand on is most of it.
const BUILD_LIMIT: Duration = Duration::from_secs(2700);
/// Tests that need what set-up could not get, by folder, and the parts that they need.
const NEEDS: [(&str, &[&str]); 3] = [
    ("tests/embedded", &["guests"]),
    ("tests/kafka", &["java", "kafka", "guests"]),
    ("tests/faults", &["java", "kafka", "guests"]),
];

/// Their tests wait for sessions, retries, brokers and files most of the time: so many run at once, even on fewer cores.
const WAITS: [(&str, usize); 2] = [("keyrail-embedded-tests embedded", 4), ("keyrail-kafka-tests run", 3)];
/// The harness's own variable.
const THREADS: &str = "RUST_TEST_THREADS";

/// Switches on the engine's planted bugs.
const PLANTS_BUGS: &str = "tests/sim";
/// Lets tests kill the process at named points; what is shipped never has it.
const FAIL_POINTS: &str = "keyrail/fail-points";
/// All that each test program printed, a file each, below the target folder.
const LOGS: &str = "test-logs";

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// A skip is a failure.
    all: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the command; the last line of stdout is `N passed, N failed, N skipped`.
pub(crate) fn command(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let options = parse(args)?;
    say("test: set-up, then one build, then every test, then a summary");
    let mut report = Report::default();
    if let Err(error) = everything(place, &options, &mut report) {
        report.fail("set-up or build", &error);
    }
    Ok(finish(place, &options, &report))
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    for arg in args {
        match arg.as_str() {
            "--all" => options.all = true,
            other if other.starts_with('-') => return Err(format!("test: unknown option {other}; known: --all")),
            other if options.filter.is_none() => options.filter = Some(other.to_owned()),
            other => return Err(format!("test: one filter at a time, {other} is the second")),
        }
    }
    Ok(options)
}

fn everything(place: &Place, options: &Options, report: &mut Report) -> Result<(), String> {
    let ready = setup::all(place)?;
    if options.all && !ready.missing.is_empty() {
        // No use in 20 minutes of tests: this run fails anyway.
        for missing in &ready.missing {
            report.skip(missing.part, &missing.reason);
        }
        return Ok(());
    }
    let programs = build(place)?;
    for program in &programs {
        match unmet(&program.folder, &ready) {
            Some(reason) => report.skip(&program.name, &reason),
            None => run(place, program, options, &ready, report)?,
        }
    }
    documentation(place, options, &ready, report)
}

/// Several `cargo test -p` would each choose other features of the same libraries and compile the large ones anew, so
/// everything is one build. The simulator alone is apart: it switches on the engine's planted bugs, which what is shipped
/// and tested must not even contain, and Cargo unifies features over all that it builds at once.
fn selections(place: &Place) -> Result<Vec<Vec<String>>, String> {
    let mut all = vec!["--workspace".to_owned(), "--features".to_owned(), FAIL_POINTS.to_owned()];
    let Some(apart) = place.member(PLANTS_BUGS)? else { return Ok(vec![all]) };
    all.extend(["--exclude".to_owned(), apart.name.clone()]);
    Ok(vec![all, vec!["--package".to_owned(), apart.name]])
}

/// Builds every test program.
pub(crate) fn build(place: &Place) -> Result<Vec<Program>, String> {
    say("building every crate with its tests (a first build takes minutes)");
    let mut found = Vec::new();
    for selection in selections(place)? {
        build_selection(place, &selection, &mut found)?;
    }
    found.sort_by_key(Program::rank);
    say(&format!("built; {} test programs", found.len()));
    Ok(found)
}

fn build_selection(place: &Place, selection: &[String], found: &mut Vec<Program>) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.arg("build").args(selection).args(["--all-targets", "--message-format=json-render-diagnostics"]);
    cargo.current_dir(&place.root).env("CARGO_TARGET_DIR", &place.target);
    let members = place.members()?;
    let mut units = 0_u32;
    let end = stream("build", &mut cargo, BUILD_LIMIT, |from, line| {
        if from == From::Stdout {
            units += u32::from(line.contains("\"reason\":\"compiler-artifact\""));
            found.extend(programs::of_message(line, place, &members));
            return Some(format!("{units} units"));
        }
        let status = cargo_status(line);
        if status.is_none() && !line.trim().is_empty() {
            eprintln!("{line}");
        }
        status
    })?;
    match end {
        End::Exited(status) if status.success() => Ok(()),
        End::Exited(_) => Err("the workspace does not build, see above".to_owned()),
        End::TimedOut => Err(format!("the build took more than {} s", BUILD_LIMIT.as_secs())),
    }
}

fn run(place: &Place, program: &Program, options: &Options, ready: &Ready, report: &mut Report) -> Result<(), String> {
    let folder = place.root.join(&program.folder);
    let mut command = crash::leaving_a_core(&program.path);
    command.args(&options.filter).current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let at_once = WAITS.iter().find(|(name, at_once)| program.name == *name && cores < *at_once);
    if let Some((_, at_once)) = at_once.filter(|_| std::env::var_os(THREADS).is_none()) {
        command.env(THREADS, at_once.to_string());
    }
    watch(place, &program.name, command, ready, report, |status| crash::told(status, &program.path, &folder))?;
    crash::clear(&folder)
}

fn documentation(place: &Place, options: &Options, ready: &Ready, report: &mut Report) -> Result<(), String> {
    for selection in selections(place)? {
        let mut command = Command::new("cargo");
        command.arg("test").args(&selection).args(["--doc", "--no-fail-fast", "--"]).args(&options.filter);
        command.current_dir(&place.root).env("CARGO_TARGET_DIR", &place.target);
        watch(place, "examples in the documentation", command, ready, report, |_| String::new())?;
    }
    Ok(())
}

/// Runs one test program, tells how far it is and what fails, keeps all that it prints, and adds it to the report.
fn watch(
    place: &Place,
    name: &str,
    mut command: Command,
    ready: &Ready,
    report: &mut Report,
    crash: impl Fn(ExitStatus) -> String,
) -> Result<(), String> {
    say(&format!("testing {name}"));
    let skips = skips_file(place);
    remove_file(&skips)?;
    command.env("KEYRAIL_SKIPS", &skips).envs(ready.env(place));
    let began = Instant::now();
    let mut tail = Tail::default();
    let mut tally = report::Tally::default();
    let path = place.target.join(LOGS).join(format!("{}.log", name.replace(' ', "-")));
    let mut log = log_file(&path)?;
    let mut unwritten = None;
    let end = stream(name, &mut command, PROGRAM_LIMIT, |_, line| {
        tail.push(line);
        if let Err(e) = writeln!(log, "{line}") {
            unwritten = Some(e);
        }
        let heard = tally.hear(line);
        if heard == Line::Alarm {
            eprintln!("{line}");
        }
        (heard == Line::Progress).then(|| line.trim().to_owned())
    })?;
    if let Some(e) = log.flush().err().or(unwritten) {
        return Err(format!("cannot write {}: {e}", path.display()));
    }
    let trouble = match end {
        End::Exited(status) if status.success() => None,
        // What failed is in the tally; a crash is not.
        End::Exited(_) if tally.failed > 0 => None,
        End::Exited(status) => {
            let crash = crash(status);
            Some(format!("ended with {status} and no failed test; its last lines:\n{}{crash}", tail.text()))
        }
        End::TimedOut => Some(format!("killed after {} s; its last lines:\n{}", PROGRAM_LIMIT.as_secs(), tail.text())),
    };
    let broke = trouble.is_some();
    if let Some(trouble) = trouble {
        report.fail(name, &trouble);
    }
    tally.skipped_by_themselves(&std::fs::read_to_string(&skips).unwrap_or_default());
    say(&format!("  {} passed, {} failed, {:.1} s", tally.passed, tally.failed, began.elapsed().as_secs_f64()));
    if tally.failed > 0 || broke {
        say(&format!("  all that it printed: {}", path.display()));
    }
    report.add(name, tally);
    Ok(())
}

fn log_file(path: &Path) -> Result<BufWriter<File>, String> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| File::create(path))
        .map(BufWriter::new)
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// A test that finds that it cannot run appends `its name: the reason` to this file, which `KEYRAIL_SKIPS` names.
fn skips_file(place: &Place) -> PathBuf {
    place.target.join("skips.txt")
}

fn unmet(folder: &str, ready: &Ready) -> Option<String> {
    let (_, parts) = NEEDS.iter().find(|(of, _)| *of == folder)?;
    let missing = ready.missing.iter().find(|m| parts.contains(&m.part))?;
    Some(format!("{} not set up: {}", missing.part, missing.reason.lines().next().unwrap_or_default()))
}

fn finish(place: &Place, options: &Options, report: &Report) -> ExitCode {
    let text = report.summary(options.all);
    eprintln!();
    say(&format!("done in {:.0} s", elapsed().as_secs_f64()));
    if let Err(e) = write(&place.target.join("test-summary.txt"), &text) {
        say(&e);
    }
    print!("{text}");
    if report.is_success(options.all, options.filter.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{Options, parse};

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parse(&words("--all")), Ok(Options { all: true, filter: None }));
        assert_eq!(parse(&words("lanes")), Ok(Options { all: false, filter: Some("lanes".to_owned()) }));
        assert!(parse(&words("--al")).is_err_and(|e| e.contains("--all")));
        assert!(parse(&words("a b")).is_err_and(|e| e.contains("one filter")));
    }
}
