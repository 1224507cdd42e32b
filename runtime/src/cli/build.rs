//! `keyrail build`: from a project's sources to a handler in the folder of pipelines, by the language's own tools.

mod assemblyscript;
mod c;
mod cpp;
mod go;
mod python;
mod rust;
mod typescript;
mod zig;

use super::terminal::say;
use super::{Config, Exit, WrongUse, broker};
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueHint};
use keyrail::config::Pipeline;
use keyrail::pipeline;
use keyrail::wasm::{Host, HostOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project: a folder as `keyrail new` makes it
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
    /// Put the handler there, instead of where a manifest of the folder of pipelines looks for it
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
}

/// A file that a compiler made.
struct Built {
    file: PathBuf,
    /// What the source is called; `None`: nothing.
    name: Option<String>,
}

/// How it is built.
enum Kind {
    Rust,
    Go,
    Zig,
    /// Of these sources, and these in C.
    Cpp(Vec<PathBuf>, Vec<PathBuf>),
    /// Of these sources.
    C(Vec<PathBuf>),
    Python,
    AssemblyScript,
    TypeScript,
}

fn kind(dir: &Path) -> anyhow::Result<Kind> {
    if !dir.is_dir() {
        return Err(WrongUse(format!("there is no folder {}", dir.display())).into());
    }
    let has = |name: &str| dir.join(name).is_file();
    if has("Cargo.toml") {
        return Ok(Kind::Rust);
    }
    if has("go.mod") {
        return Ok(Kind::Go);
    }
    if has("handler.zig") {
        return Ok(Kind::Zig);
    }
    let (in_c, in_cpp) = (c::sources(dir, "c")?, c::sources(dir, "cpp")?);
    if !in_cpp.is_empty() {
        return Ok(Kind::Cpp(in_cpp, in_c));
    }
    if !in_c.is_empty() {
        return Ok(Kind::C(in_c));
    }
    if has("handler.py") || has("pyproject.toml") {
        return Ok(Kind::Python);
    }
    if has("package.json") {
        let package = dir.join("package.json");
        let text = std::fs::read_to_string(&package).with_context(|| format!("can't read {}", package.display()))?;
        let is_it = text.contains(assemblyscript::PACKAGE);
        return Ok(if is_it { Kind::AssemblyScript } else { Kind::TypeScript });
    }
    let why = "has no handler: no Cargo.toml, go.mod, handler.zig, *.cpp, *.c, handler.py or package.json. `keyrail new` makes a \
        project";
    Err(WrongUse(format!("{} {why}", dir.display())).into())
}

pub(super) fn build(args: &BuildArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let dir = &args.dir;
    let kind = kind(dir)?;
    // That of the project, unless another is named.
    let mut config = args.config.clone();
    config.config.get_or_insert_with(|| dir.join("keyrail.toml"));
    // What it is for is known before it is built.
    let wanted = if args.output.is_some() { Vec::new() } else { wanted(&config)? };
    let built = match kind {
        Kind::Rust => rust::build(dir)?,
        Kind::Go => go::build(dir)?,
        Kind::Zig => zig::build(dir)?,
        Kind::Cpp(sources, in_c) => cpp::build(dir, &sources, &in_c)?,
        Kind::C(sources) => c::build(dir, &sources)?,
        Kind::Python => python::build(dir)?,
        Kind::AssemblyScript => assemblyscript::build(dir)?,
        Kind::TypeScript => typescript::build(dir)?,
    };
    let to = match &args.output {
        Some(output) => output.clone(),
        None => meant(&wanted, built.name.as_deref())?,
    };
    put(&built.file, &to)?;
    let size = std::fs::metadata(&to).map_or(0, |found| found.len().div_ceil(1000));
    let took = began.elapsed().as_secs_f64();
    say(&format!("keyrail: built {}, {size} KB, in {took:.1} s", to.display()));
    Ok(Exit::of(fits(&config, &to)?))
}

/// Whether each pipeline takes what was built; says what it lacks.
fn fits(config: &Config, to: &Path) -> anyhow::Result<bool> {
    if !config.file().is_file() {
        return Ok(true);
    }
    let (host, found) = broker::manifests(config)?;
    let same = |one: &Path| one.canonicalize().ok() == to.canonicalize().ok();
    let mine: Vec<Pipeline> = found.fit.into_iter().filter(|manifest| same(&manifest.handler)).collect();
    if mine.is_empty() {
        return Ok(true);
    }
    // What runs it next finds it compiled.
    let options = HostOptions { cache_dir: Some(host.store_dir.join("code")) };
    let engine = Host::new(options).context("can't run handlers")?;
    let mut all = true;
    for manifest in mine {
        let name = manifest.name.clone();
        if let Err(unfit) = pipeline::load(&engine, manifest, &host.trust) {
            say(&format!("keyrail: {name} can't run it: {unfit}"));
            all = false;
        }
    }
    Ok(all)
}

/// The handlers that manifests name, there or not, each once.
fn wanted(config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let (_, found) = broker::manifests(config)?;
    broker::tell_unfit(&found.unfit, false);
    let mut all: Vec<PathBuf> = found.fit.into_iter().map(|manifest| manifest.handler).collect();
    all.sort();
    all.dedup();
    if all.is_empty() {
        bail!("no manifest says where the handler is to lie: mend one, or say --output FILE");
    }
    Ok(all)
}

/// Where what was built is looked for.
fn meant(wanted: &[PathBuf], name: Option<&str>) -> anyhow::Result<PathBuf> {
    let plain = |name: &str| name.replace('-', "_");
    let is_it = |file: &&PathBuf| {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        stem.zip(name).is_some_and(|(stem, name)| plain(stem) == plain(name))
    };
    match (wanted.iter().find(is_it), wanted) {
        (Some(file), _) => Ok(file.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|file| file.display().to_string()).collect();
            bail!("manifests name several handlers ({}): say which by --output FILE", names.join(", "))
        }
    }
}

/// Renamed into place: who reads it meanwhile sees the old file or the new one.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let done = std::fs::copy(from, &part).and_then(|_| std::fs::rename(&part, to));
    done.with_context(|| format!("can't put {} to {}", from.display(), to.display()))
}

/// The folder for what compilers make.
fn own(dir: &Path) -> anyhow::Result<PathBuf> {
    let own = dir.join("target");
    std::fs::create_dir_all(&own).with_context(|| format!("can't make the folder {}", own.display()))?;
    Ok(own)
}

/// What a tool says of itself. `cure` is said where it is not there.
fn asked(command: &mut Command, cure: &str) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let done = done.map_err(|error| not_run(command, error, cure))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a tool, whose own words and colours go to the terminal. `cure` is said where it is not there.
fn ran(command: &mut Command, cure: &str) -> anyhow::Result<bool> {
    let status = command.status().map_err(|error| not_run(command, error, cure))?;
    Ok(status.success())
}

fn not_run(command: &Command, error: io::Error, cure: &str) -> anyhow::Error {
    let tool = command.get_program().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => anyhow!("{tool} is not here: {cure}"),
        _ => anyhow::Error::new(error).context(format!("{tool} can't be run")),
    }
}

/// Of `1.26.8` or `3.11` the first two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, read) in [("1.26.8", Some((1, 26))), ("3.9\n", Some((3, 9))), ("1.24rc1", Some((1, 24)))] {
            assert_eq!(version(text), read, "{text}");
        }
        for text in ["", "1", "devel go1.25", "1.x"] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
