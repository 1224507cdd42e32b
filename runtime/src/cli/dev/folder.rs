//! Which keyrail.toml a folder runs by: its own, that of the folder above whose pipelines it holds, or one made for it.

use crate::cli::terminal::say;
use crate::cli::{WrongUse, faulty, variable};
use anyhow::Context as _;
use keyrail::config::{load_host, nearest_file};
use std::path::{Path, PathBuf};

const HOST_FILE: &str = "keyrail.toml";

/// The folder's keyrail.toml, made if there is none: the other commands read it too.
pub(super) fn host_file(dir: &Path, sets: &[String]) -> anyhow::Result<PathBuf> {
    let shown = dir.display();
    if dir.is_file() {
        let send = if dir.extension().is_some_and(|e| e == "json" || e == "jsonl" || e == "ndjson") {
            format!(", and `keyrail send TOPIC {shown}` sends what is in it")
        } else {
            String::new()
        };
        let why = format!("{shown} is a file, and `keyrail dev` takes a folder of pipelines: name that{send}");
        return Err(WrongUse(why).into());
    }
    if !dir.is_dir() {
        let near = nearest_file(dir, Path::is_dir).map(|near| format!("; did you mean {}?", near.display()));
        let why = format!("there is no folder {shown}: make it, or name another{}", near.unwrap_or_default());
        return Err(WrongUse(why).into());
    }
    let file = dir.join(HOST_FILE);
    if file.exists() {
        return Ok(file);
    }
    let dir = dir.canonicalize().with_context(|| format!("can't read the folder {shown}"))?;
    let mut others = String::new();
    for above in above(&dir) {
        let host = load_host(&above, sets, &variable).map_err(|faults| {
            let above = above.display();
            let why = format!(
                "{shown} has no keyrail.toml, and {above}, which may be meant, has faults: mend them, or put an empty \
                 keyrail.toml into {shown}"
            );
            faulty(&why, &faults)
        })?;
        if host.plugins_dir.canonicalize().is_ok_and(|plugins| plugins == dir) {
            say(&format!("{shown} holds the pipelines of {}: that says the rest", above.display()));
            return Ok(above);
        }
        others += &format!(", a deployment of its own: {} runs {}", above.display(), host.plugins_dir.display());
    }
    // Handlers that lie here are meant to be run here.
    let entries = std::fs::read_dir(&dir).with_context(|| format!("can't read the folder {shown}"))?;
    let here = entries.filter_map(Result::ok).any(|entry| entry.path().extension().is_some_and(|e| e == "wasm"));
    let plugins = if here { "." } else { "./plugins" };
    let text = format!(
        "# Made by `keyrail dev`, and read by every command. `keyrail check --resolved` prints every key with its value,\n\
         # `keyrail schema host` what each means.\nbroker = \"embedded\"\n\n[plugins]\ndir = \"{plugins}\"\n"
    );
    std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    say(&format!("made {}{others}", file.display()));
    Ok(file)
}

/// Files that may be the folder's: where the command was given, since all other commands take that one, and one folder up.
fn above(dir: &Path) -> Vec<PathBuf> {
    let here = PathBuf::from(".").join(HOST_FILE);
    let up = dir
        .parent()
        .map(|parent| parent.join(HOST_FILE))
        .filter(|up| up.canonicalize().ok() != here.canonicalize().ok());
    [Some(here), up].into_iter().flatten().filter(|file| file.is_file()).collect()
}
