//! A scenario as two files: what a handler is given, and what is to come of it, see [`keyrail::scenario::file`].

use crate::cli::replay::bench::Bench;
use keyrail::config::PROBE;
use keyrail::scenario::file::{Scenario, against, kept};
use std::path::Path;

pub(super) use keyrail::scenario::file::{ENDING, EXPECTED, expected};

/// Plays a scenario.
///
/// # Errors
/// What is wrong, in lines: the file, the handler, or what came.
pub(super) fn run(bench: &mut Bench, file: &Path, update: bool) -> Result<bool, Vec<String>> {
    let one = |why: String| vec![why];
    let text = std::fs::read_to_string(file).map_err(|why| one(format!("can't be read: {why}")))?;
    let came = play(bench, file, &text).map_err(one)?;
    let beside = expected(file);
    let before = match std::fs::read_to_string(&beside) {
        Ok(before) => Some(before),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
        Err(why) => return Err(one(format!("{} can't be read: {why}", beside.display()))),
    };
    if update {
        let kept = kept(before.as_deref().unwrap_or_default(), &came);
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        if before.as_ref() == Some(&text) {
            return Ok(false);
        }
        return match std::fs::write(&beside, text) {
            Ok(()) => Ok(true),
            Err(why) => Err(one(format!("{} can't be written: {why}", beside.display()))),
        };
    }
    let Some(before) = before else {
        return Err(one(format!("there is no {}: run with --update, and read what it wrote", beside.display())));
    };
    let wrong = against(&before, &came);
    if wrong.is_empty() { Ok(false) } else { Err(wrong) }
}

/// What came, a line each.
fn play(bench: &mut Bench, file: &Path, text: &str) -> Result<Vec<String>, String> {
    let scenario = Scenario::read(file, text)?;
    let pipeline = which(bench, file, scenario.pipeline())?;
    let version = bench.chosen(&pipeline)?;
    version.play(&scenario)
}

fn which(bench: &Bench, file: &Path, named: Option<&str>) -> Result<String, String> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    // A probe says it by its own name.
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if let Some(of) = name.strip_suffix(PROBE).filter(|of| bench.pipelines().any(|here| here == *of)) {
        return Ok(of.to_owned());
    }
    let all: Vec<&str> = bench.pipelines().collect();
    match &*all {
        [only] => Ok((*only).to_owned()),
        [] => Err("there is no pipeline here".to_owned()),
        several => Err(format!(
            "there are several pipelines here ({}): the first line says which, as {{\"pipeline\":{:?}}}",
            several.join(", "),
            several[0]
        )),
    }
}
