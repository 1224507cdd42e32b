//! `keyrail test`: runs fixtures.

use super::replay::bench::Bench;
use super::replay::fixture::Fixture;
use super::terminal::{self, Clean, counted, say};
use super::{Config, Exit, WrongUse, broker};
use anyhow::Context as _;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::{Path, PathBuf};

/// How the names of fixtures in a folder end.
const ENDING: &str = ".json";

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Fixtures, or folders of them: each NAME.json [default: the folder `fixtures` beside keyrail.toml]
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Run this handler instead of those that the manifests name
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    with: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
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
}

impl Tried {
    fn shown(&self, as_json: bool) -> String {
        let Self { file, wrong, missing } = self;
        let file = file.display().to_string();
        if as_json {
            return json!({ "fixture": file, "ok": wrong.is_empty(), "wrong": wrong, "missing": missing }).to_string()
                + "\n";
        }
        let mut out = format!("{}  {file}\n", if wrong.is_empty() { "ok    " } else { "FAILED" });
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
    let (host, found) = broker::manifests(&args.config)?;
    let files = files(args)?;
    let mut bench = Bench::new(&host, found.fit, args.with.as_deref())?;
    broker::tell_unfit(&found.unfit, false);
    let mut failed = 0;
    for file in &files {
        let tried = run(&mut bench, file);
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
        let version = if bench.has_other() { bench.other(&fixture.pipeline) } else { bench.present(&fixture.pipeline) };
        let played = version?.run(&fixture.case()).map_err(|why| format!("{why:#}"))?;
        Ok((fixture.expect.against(&played), played.missing))
    });
    let (wrong, missing) = result.unwrap_or_else(|why| (vec![why], Vec::new()));
    Tried { file: file.to_owned(), wrong, missing }
}

/// The fixtures that are meant, those of a folder by name.
fn files(args: &TestArgs) -> anyhow::Result<Vec<PathBuf>> {
    let beside = args.config.file().with_file_name("fixtures");
    let paths = if args.paths.is_empty() { std::slice::from_ref(&beside) } else { &args.paths };
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            if !path.exists() {
                return Err(WrongUse(format!("there is no fixture and no folder {}", path.display())).into());
            }
            all.push(path.clone());
            continue;
        }
        let unread = || format!("can't read the folder {}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).with_context(unread)? {
            let file = entry.with_context(unread)?.path();
            if file.is_file() && file.to_string_lossy().ends_with(ENDING) {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(WrongUse(format!("there is no fixture in {}: no NAME{ENDING}", path.display())).into());
        }
        found.sort();
        all.append(&mut found);
    }
    Ok(all)
}
