//! `keyrail test`: runs fixtures and scenarios.

mod scenario;

use super::replay::bench::Bench;
use super::replay::fixture::Fixture;
use super::terminal::{self, Clean, counted, say};
use super::{Config, Exit, WrongUse, broker};
use anyhow::Context as _;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks whether something has changed.
const LOOK: Duration = Duration::from_millis(200);
/// How the names of fixtures in a folder end; for scenarios see [`scenario::ENDING`].
const ENDING: &str = ".json";

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Scenarios (NAME.jsonl) and fixtures (NAME.json), or folders of them [default: the folder `fixtures` beside keyrail.toml]
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Run this handler instead of those that the manifests name
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    with: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
    /// Write down what comes of each scenario, as what is to come of it
    #[arg(long)]
    update: bool,
    /// Run them again whenever a handler, a manifest or one of them changes, until Ctrl-C
    #[arg(long, conflicts_with = "update")]
    watch: bool,
    /// Print JSON for programs, a line for each fixture
    #[arg(long)]
    json: bool,
}

/// What came of a fixture.
struct Tried {
    file: PathBuf,
    /// What is wrong, in lines.
    wrong: Vec<String>,
    /// What it reads that the fixture does not hold.
    missing: Vec<String>,
    /// What is to come of it was written.
    written: bool,
}

impl Tried {
    fn shown(&self, as_json: bool) -> String {
        let Self { file, wrong, missing, written } = self;
        let file = file.display().to_string();
        if as_json {
            let ok = wrong.is_empty();
            let told = json!({ "fixture": file, "ok": ok, "wrong": wrong, "missing": missing, "updated": written });
            return told.to_string() + "\n";
        }
        let mut out = match (wrong.is_empty(), written) {
            (true, false) => format!("ok      {file}\n"),
            (true, true) => format!("ok      {file}, and what is to come of it is written anew\n"),
            (false, _) => format!("FAILED  {file}\n"),
        };
        let missing = missing
            .iter()
            .map(|what| format!("note: it reads {what}, which the fixture does not hold: nothing is there"));
        for line in wrong.iter().cloned().chain(missing) {
            out += &format!("        {}\n", line.replace('\n', "\\n"));
        }
        Clean(&out).to_string()
    }
}

pub(super) fn test(args: &TestArgs) -> anyhow::Result<Exit> {
    if !args.watch {
        return once(args);
    }
    loop {
        let before = watched(args);
        // What can't be run now can be when it is mended.
        if let Err(error) = once(args) {
            say(&format!("keyrail: {error:#}"));
        }
        while watched(args) == before {
            std::thread::sleep(LOOK);
        }
        say("keyrail: something has changed");
    }
}

/// What a file was at a look: when it was written, and its length.
type Look = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// All that a run follows from: keyrail.toml, the folder of pipelines, the handler that was given, and the fixtures.
fn watched(args: &TestArgs) -> Look {
    let (plugins, handlers) = match broker::manifests(&args.config) {
        Ok((host, found)) => (Some(host.plugins_dir), found.fit.into_iter().map(|manifest| manifest.handler).collect()),
        Err(_) => (broker::host(&args.config).map(|host| host.plugins_dir).ok(), Vec::new()),
    };
    let own = [Some(args.config.file().to_owned()), plugins, args.with.clone()];
    let named = fixtures(args);
    let expected = named.iter().filter(|file| is_scenario(file)).map(|file| scenario::expected(file));
    let roots = own.into_iter().flatten().chain(handlers).chain(expected).chain(named.iter().cloned());
    let mut look = Look::new();
    for root in roots {
        // What can't be read is told where it is run.
        let inside = std::fs::read_dir(&root).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        for path in std::iter::once(root.clone()).chain(inside) {
            let found = std::fs::metadata(&path).ok();
            let length = found.as_ref().map_or(0, std::fs::Metadata::len);
            look.push((path, found.and_then(|found| found.modified().ok()), length));
        }
    }
    look.sort();
    look
}

fn once(args: &TestArgs) -> anyhow::Result<Exit> {
    let (host, found) = broker::manifests(&args.config)?;
    let files = files(args)?;
    // Who tests a handler tests it again, and one in Python takes seconds to compile.
    let mut bench = Bench::new(&host, found.fit, args.with.as_deref(), true)?;
    broker::tell_unfit(&found.unfit, false);
    let mut failed = 0;
    for file in &files {
        let tried = if is_scenario(file) { play(&mut bench, file, args.update) } else { run(&mut bench, file) };
        failed += u64::from(!tried.wrong.is_empty());
        terminal::print(tried.shown(args.json).as_bytes(), "the report")?;
    }
    let ran = counted(files.len() as u64, "fixture");
    say(&if failed == 0 {
        format!("keyrail: {ran}, all as expected")
    } else {
        format!("keyrail: {ran}, {failed} failed")
    });
    Ok(Exit::of(failed == 0))
}

fn run(bench: &mut Bench, file: &Path) -> Tried {
    let result = std::fs::read_to_string(file).map_err(|why| format!("can't be read: {why}")).and_then(|text| {
        let fixture = Fixture::parse(&text)?;
        let played = bench.chosen(&fixture.pipeline)?.run(&fixture.case()).map_err(|why| format!("{why:#}"))?;
        Ok((fixture.expect.against(&played), played.missing))
    });
    let (wrong, missing) = result.unwrap_or_else(|why| (vec![why], Vec::new()));
    Tried { file: file.to_owned(), wrong, missing, written: false }
}

fn play(bench: &mut Bench, file: &Path, update: bool) -> Tried {
    let (wrong, written) = match scenario::run(bench, file, update) {
        Ok(written) => (Vec::new(), written),
        Err(wrong) => (wrong, false),
    };
    Tried { file: file.to_owned(), wrong, missing: Vec::new(), written }
}

fn is_scenario(file: &Path) -> bool {
    file.to_string_lossy().ends_with(scenario::ENDING)
}

/// Whether a file of a folder is one to run.
fn is_meant(file: &Path) -> bool {
    let name = file.to_string_lossy();
    name.ends_with(ENDING) || name.ends_with(scenario::ENDING) && !name.ends_with(scenario::EXPECTED)
}

/// The files and folders that are named, or the usual one.
fn fixtures(args: &TestArgs) -> Vec<PathBuf> {
    if args.paths.is_empty() { vec![args.config.file().with_file_name("fixtures")] } else { args.paths.clone() }
}

/// The fixtures that are meant, those of a folder by name.
fn files(args: &TestArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in &fixtures(args) {
        if !path.is_dir() {
            if !path.exists() {
                return Err(WrongUse(format!("there is no fixture and no folder {}", path.display())).into());
            }
            // Of `fixtures/*.jsonl` a shell makes all of them.
            if !path.to_string_lossy().ends_with(scenario::EXPECTED) {
                all.push(path.clone());
            }
            continue;
        }
        let unread = || format!("can't read the folder {}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).with_context(unread)? {
            let file = entry.with_context(unread)?.path();
            if file.is_file() && is_meant(&file) {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(WrongUse(format!(
                "there is no fixture in {}: no NAME{ENDING} and no NAME{}",
                path.display(),
                scenario::ENDING
            ))
            .into());
        }
        found.sort();
        all.append(&mut found);
    }
    Ok(all)
}
