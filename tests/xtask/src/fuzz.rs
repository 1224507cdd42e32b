//! `cargo xtask fuzz`: libFuzzer on what reads bytes from outside.
//!
//! Coverage is counted by a pass of the compiler that the stable one has too. It must not go into what runs inside the
//! compiler (macros and all that they use), and would only slow down what is not looked at; so Cargo starts rustc through
//! this very program, which adds the pass to our own crates. They have the feature `fuzz` here and nowhere else, so Cargo
//! keeps them apart from those of other builds, and all that they stand on is what the tests have built.

use crate::jobs::hand_over;
use crate::place::{Place, make};
use crate::run::{End, From, Tail, cargo_status, stream};
use crate::say::say;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Each target and the crate of tests/fuzz that has it, the quickly built first.
const TARGETS: [(&str, &str); 13] = [
    ("gap-map", "keyrail-fuzz-engine"),
    ("gap-map-write", "keyrail-fuzz-engine"),
    ("seen", "keyrail-fuzz-engine"),
    ("seen-write", "keyrail-fuzz-engine"),
    ("state", "keyrail-fuzz-engine"),
    ("state-write", "keyrail-fuzz-engine"),
    ("host", "keyrail-fuzz-runtime"),
    ("manifest", "keyrail-fuzz-runtime"),
    ("line", "keyrail-fuzz-runtime"),
    ("line-write", "keyrail-fuzz-runtime"),
    ("block", "keyrail-fuzz-runtime"),
    ("block-write", "keyrail-fuzz-runtime"),
    ("module", "keyrail-fuzz-runtime"),
];
const SECONDS: u64 = 60;
const BUILD_LIMIT: Duration = Duration::from_secs(2700);
/// libFuzzer ends by itself; this is for when it does not.
const GRACE: Duration = Duration::from_secs(120);
/// An input that takes longer is a find.
const ONE_INPUT_SECONDS: u64 = 10;
const MEMORY_MIB: u64 = 2048;
/// Largest input that is made up, in bytes.
const LONGEST: usize = 16 << 10;

/// Set where this program stands in for rustc.
const WRAPS: &str = "KEYRAIL_FUZZ_RUSTC";
/// As cargo-fuzz has them.
const COUNTING: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// Each of these for so many seconds.
    Run(Vec<(&'a str, &'a str)>, u64),
    /// One input again.
    Replay((&'a str, &'a str), &'a Path),
}

/// What was asked of rustc, if this program stands in for it.
pub(crate) fn rustc() -> Option<Result<ExitCode, String>> {
    std::env::var_os(WRAPS)?;
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (rustc, args) = args.split_first()?;
    let mut command = Command::new(rustc);
    command.args(args);
    if counts(&args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>()) {
        command.args(COUNTING);
    }
    Some(hand_over(&mut command))
}

/// Whether coverage is counted in what rustc is to compile with these arguments.
fn counts<S: AsRef<str>>(args: &[S]) -> bool {
    let ours = |prefix: &str| {
        args.windows(2).any(|pair| pair[0].as_ref() == "--crate-name" && pair[1].as_ref().starts_with(prefix))
    };
    // IMPORTANT: what has not the feature is the same file as in other builds.
    ours("keyrail_fuzz") || (ours("keyrail") && args.iter().any(|arg| arg.as_ref() == "feature=\"fuzz\""))
}

/// Runs the command.
pub(crate) fn command(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let asked = parse(args)?;
    match asked {
        Asked::Replay((name, package), file) => {
            let file = std::path::absolute(file).map_err(|e| format!("{}: {e}", file.display()))?;
            if !file.is_file() {
                return Err(format!("there is no file {}", file.display()));
            }
            build(place, package)?;
            hand_over(program(place, name, package).env("RUST_BACKTRACE", "1").arg(file))
        }
        Asked::Run(targets, seconds) => {
            let mut packages: Vec<&str> = targets.iter().map(|target| target.1).collect();
            packages.dedup();
            let mut found = 0;
            for package in packages {
                build(place, package)?;
                for (name, _) in targets.iter().filter(|target| target.1 == package) {
                    found += usize::from(!fuzz(place, name, package, seconds)?);
                }
            }
            say(&format!("{} targets, {found} with something found", targets.len()));
            Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn parse(args: &[String]) -> Result<Asked<'_>, String> {
    let known = || TARGETS.map(|target| target.0).join(", ");
    let (mut seconds, mut words) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().and_then(|n| n.parse().ok()).filter(|n| (1..=1_000_000).contains(n));
                seconds = Some(number.ok_or("fuzz: --seconds takes a number from 1 to 1000000")?);
            }
            other if other.starts_with('-') => return Err(format!("fuzz: unknown option {other}; known: --seconds N")),
            word => words.push(word),
        }
    }
    let find = |name: &str| {
        let target = TARGETS.into_iter().find(|target| target.0 == name);
        target.ok_or_else(|| format!("fuzz: there is no target {name}; there are {}", known()))
    };
    match (&words[..], seconds) {
        ([], _) => Ok(Asked::Run(TARGETS.to_vec(), seconds.unwrap_or(SECONDS))),
        ([name], _) => Ok(Asked::Run(vec![find(name)?], seconds.unwrap_or(SECONDS))),
        ([name, file], None) => Ok(Asked::Replay(find(name)?, Path::new(*file))),
        _ => Err("fuzz: it takes [TARGET] [--seconds N], or TARGET FILE".to_owned()),
    }
}

fn build(place: &Place, package: &str) -> Result<(), String> {
    say(&format!("building {package} (takes minutes where the tests were not built before)"));
    let own = std::env::current_exe().map_err(|e| format!("cannot find the path of this program: {e}"))?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--manifest-path", "tests/fuzz/Cargo.toml", "--package", package]);
    cargo.current_dir(&place.root).env("CARGO_TARGET_DIR", &place.target).env("RUSTC_WRAPPER", own).env(WRAPS, "1");
    let end = stream("build", &mut cargo, BUILD_LIMIT, |_, line| {
        let status = cargo_status(line);
        if status.is_none() {
            eprintln!("{line}");
        }
        status
    })?;
    match end {
        End::Exited(status) if status.success() => Ok(()),
        End::Exited(status) => Err(format!("{package} does not build ({status}), see above")),
        End::TimedOut => Err(format!("the build took more than {} s", BUILD_LIMIT.as_secs())),
    }
}

fn program(place: &Place, name: &str, package: &str) -> Command {
    let mut program = Command::new(place.target.join("debug").join(package));
    program.env("KEYRAIL_FUZZ_TARGET", name);
    program.args([
        format!("-timeout={ONE_INPUT_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        format!("-max_len={LONGEST}"),
    ]);
    program
}

/// Whether nothing was found. What was learnt stays in the folder `corpus`, so that the next run goes on from there.
fn fuzz(place: &Place, name: &str, package: &str, seconds: u64) -> Result<bool, String> {
    let folder = place.target.join("fuzz");
    let (corpus, found) = (folder.join("corpus").join(name), folder.join("found").join(name));
    make(&corpus)?;
    make(&found)?;
    say(&format!("fuzzing {name} for {seconds} s"));
    let mut command = program(place, name, package);
    // What failed must be among the last lines.
    command.env("KEYRAIL_FUZZ_SEEDS", &corpus).env("RUST_BACKTRACE", "0");
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", found.display())).arg(&corpus);
    let (mut tail, mut tally) = (Tail::default(), Tally::default());
    let end = stream(name, &mut command, Duration::from_secs(seconds) + GRACE, |_: From, line| {
        let progress = tally.hear(line);
        if progress.is_none() {
            tail.push(line);
        }
        progress
    })?;
    say(&format!("  {name}: {} inputs run, {} kept, coverage {}", tally.run, tally.kept, tally.coverage));
    match end {
        End::Exited(status) if status.success() => return Ok(true),
        End::Exited(_) => {}
        End::TimedOut => return Err(format!("{name}: libFuzzer did not end in time\n{}", tail.text())),
    }
    match tally.found {
        Some(file) => println!("{}\n{name}: FOUND; again: cargo xtask fuzz {name} {}", tail.text(), file.display()),
        None => println!("{}\n{name}: ended without an input that is to blame", tail.text()),
    }
    Ok(false)
}

/// What libFuzzer tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    run: u64,
    kept: u64,
    coverage: u64,
    found: Option<PathBuf>,
}

impl Tally {
    /// Hears a line; what is dull comes back as progress.
    fn hear(&mut self, line: &str) -> Option<String> {
        if let Some(path) = line.split_once("Test unit written to ").map(|(_, path)| path) {
            self.found = Some(PathBuf::from(path.trim()));
            return None;
        }
        if let Some((_, number)) = line.split_once("stat::number_of_executed_units:") {
            self.run = number.trim().parse().unwrap_or(self.run);
            return Some(line.to_owned());
        }
        // `#4096 pulse  cov: 321 ft: 845 corp: 80/1234b ...`
        let mut words = line.strip_prefix('#')?.split_whitespace();
        self.run = words.next()?.trim_end_matches(':').parse().ok()?;
        while let Some(word) = words.next() {
            match word {
                "cov:" => self.coverage = words.next()?.parse().ok()?,
                "corp:" => self.kept = words.next()?.split('/').next()?.parse().ok()?,
                _ => {}
            }
        }
        Some(format!("{} inputs run, coverage {}", self.run, self.coverage))
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Tally, counts, parse};
    use std::path::{Path, PathBuf};

    #[test]
    fn what_is_asked_is_looked_at_before_anything_is_built() {
        let asked = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match parse(&words) {
                Ok(Asked::Run(targets, seconds)) => Ok((targets.len(), seconds)),
                Ok(Asked::Replay((name, _), file)) if file == Path::new("f") => Ok((name.len(), 0)),
                Ok(Asked::Replay(..)) => Ok((0, 0)),
                Err(why) => Err(why),
            }
        };
        assert_eq!(asked("").map(|(targets, seconds)| (targets > 4, seconds)), Ok((true, 60)));
        assert_eq!(asked("seen --seconds 5"), Ok((1, 5)));
        assert_eq!(asked("seen f"), Ok((4, 0)));
        for (line, why) in [
            ("sene", "there are gap-map"),
            ("--seconds", "a number"),
            ("--seconds 0", "a number"),
            ("-x", "unknown option"),
            ("seen f g", "TARGET FILE"),
            ("seen f --seconds 3", "TARGET FILE"),
        ] {
            assert!(asked(line).is_err_and(|told| told.contains(why)), "{line}");
        }
    }

    #[test]
    fn coverage_is_counted_in_our_own_crates() {
        let words = |line: &str| counts(&line.split(' ').collect::<Vec<_>>());
        assert!(words("--crate-name keyrail_engine --edition=2024 -C opt-level=3 --cfg feature=\"fuzz\""));
        assert!(!words("--crate-name keyrail_engine --edition=2024 -C opt-level=3"));
        assert!(words("--crate-name keyrail_fuzz_runtime"));
        assert!(!words("--crate-name serde_json -C opt-level=2"));
        assert!(!words("--crate-name build_script_build"));
        assert!(!words("-vV"));
    }

    #[test]
    fn what_libfuzzer_tells_is_counted() {
        let mut tally = Tally::default();
        assert!(tally.hear("#8192\tpulse  cov: 321 ft: 845 corp: 80/12Kb lim: 43 exec/s: 4096 rss: 40Mb").is_some());
        assert!(tally.hear("stat::number_of_executed_units: 9000").is_some());
        assert_eq!(tally.hear("thread panicked"), None);
        assert_eq!(tally.hear("artifact_prefix='x/'; Test unit written to x/crash-1"), None);
        let found = Some(PathBuf::from("x/crash-1"));
        assert_eq!(tally, Tally { run: 9_000, kept: 80, coverage: 321, found });
    }
}
