//! `keyrail new`: a folder with a handler, its manifest, messages to test it with, and the SDK.

mod files;

use super::terminal::say;
use super::{Exit, WrongUse};
use anyhow::Context as _;
use clap::{Args, ValueEnum, ValueHint};
use files::{COMMON, File, Template};
use std::path::{Path, PathBuf};

/// A pipeline, a crate and a file are called by it.
const LONGEST: usize = 60;

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The language of the handler
    #[arg(long, value_name = "LANGUAGE")]
    lang: Language,
    /// The folder to make; its last part is the name of the handler and of its pipeline
    #[arg(value_name = "NAME", value_hint = ValueHint::DirPath)]
    name: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust
    Rust,
    /// C
    C,
    /// Go
    Go,
    /// C++
    Cpp,
    /// Python
    Python,
    /// TypeScript
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    /// Zig
    Zig,
    /// AssemblyScript
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

impl Language {
    const fn template(self) -> Template {
        match self {
            Self::Rust => files::RUST,
            Self::C => files::C,
            Self::Go => files::GO,
            Self::Cpp => files::CPP,
            Self::Python => files::PYTHON,
            Self::TypeScript => files::TYPESCRIPT,
            Self::Zig => files::ZIG,
            Self::AssemblyScript => files::ASSEMBLYSCRIPT,
        }
    }
}

pub(super) fn new(args: &NewArgs) -> anyhow::Result<Exit> {
    let folder = &args.name;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(why) = refusal(name) {
        return Err(WrongUse(format!("{:?} is no name for a handler: {why}", folder.display().to_string())).into());
    }
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken || folder.is_file() {
        let shown = folder.display();
        return Err(WrongUse(format!("{shown} is there already: take another name, or remove it")).into());
    }
    let template = args.lang.template();
    for file in COMMON.iter().chain(template.files) {
        write(folder, file, name, &template)?;
    }
    for (below, files) in template.sdk {
        for (path, text) in *files {
            put(&folder.join(below).join(path), text)?;
        }
    }
    let shown = folder.display().to_string();
    let enter = format!("cd {shown}");
    let steps = [enter.as_str(), template.prepare, "keyrail build", "keyrail test", "keyrail dev"];
    let steps: Vec<_> = steps.iter().filter(|step| !step.is_empty()).map(|step| format!("  {step}")).collect();
    let (language, source, steps) = (template.language, template.source, steps.join("\n"));
    say(&format!("made {shown}: a handler in {language}, which {source} shows. Next:\n\n{steps}"));
    Ok(Exit::Done)
}

/// Why nothing can be called so.
fn refusal(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(fits) || name.ends_with('-') {
        return Some("take lower-case letters, digits and -, a letter first, as in order-totals".to_owned());
    }
    if ["test", "keyrail-sdk", "core", "std"].contains(&name) {
        return Some("it means something else to compilers".to_owned());
    }
    (name.len() > LONGEST).then(|| format!("it has {} characters, and {LONGEST} are the most", name.len()))
}

fn write(folder: &Path, (path, text): &File, name: &str, template: &Template) -> anyhow::Result<()> {
    put(&folder.join(filled(path, name, template)), &filled(text, name, template))
}

/// With what is in braces put in (`{name}`, `{language}`, `{source}`, `{unit}`, `{prepare}`, `{version}`), and what the template
/// changes.
fn filled(text: &str, name: &str, template: &Template) -> String {
    let prepare = match template.prepare {
        "" => String::new(),
        command => format!("{command}    # once: fetches what builds it\n"),
    };
    let values = [
        ("{name}", name),
        ("{language}", template.language),
        ("{source}", template.source),
        ("{unit}", template.unit),
        ("{prepare}", &prepare),
        ("{version}", env!("CARGO_PKG_VERSION")),
    ];
    values.iter().chain(template.changes).fold(text.to_owned(), |text, (what, value)| text.replace(what, value))
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_every_part_can_have() {
        for name in ["totals", "order-totals", "a", "x9"] {
            assert_eq!(refusal(name), None, "{name}");
        }
        let long = "a".repeat(61);
        for name in ["", "Totals", "9x", "-x", "x-", "a_b", "a.b", "ä", "test", "keyrail-sdk", long.as_str()] {
            assert!(refusal(name).is_some(), "{name}");
        }
    }
}
