//! Reads the files of a configuration: the only part that looks at the disk.

use super::document::Variables;
use super::fault::{Fault, Faults, Place};
use super::host::Resolved;
use super::manifest::{Manifest, Source};
use super::{Host, Pipeline, host, manifest, together};
use crate::nearest::nearest_file;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No configuration needs more; what is larger is something else.
const LARGEST: u64 = 1 << 20;
/// How the name of a pipeline's probe ends, behind that of the pipeline.
pub const PROBE: &str = ".fixtures.jsonl";
/// And that of what is to come of it.
const PROBE_EXPECTED: &str = ".fixtures.expected.jsonl";
/// The host's file, which may lie in the folder of the pipelines.
const HOST_FILE: &str = "keyrail.toml";

/// Reads keyrail.toml, with `--set` arguments (`KEY=VALUE`) laid over it.
///
/// A relative `plugins.dir` starts at the file's folder; one given by `--set` at the current one.
///
/// # Errors
/// Every fault of the file and the arguments at once.
pub fn load_host(path: &Path, sets: &[String], variables: &dyn Fn(&str) -> Option<String>) -> Result<Host, Faults> {
    host(path, sets, variables).result()
}

/// Reads keyrail.toml and the pipelines of its folder: [`load_host`] and [`load_pipelines`] in one.
///
/// # Errors
/// Every fault of every file at once. Where the folder itself is in doubt, those of the pipelines come out only once
/// keyrail.toml is mended.
pub fn load(
    path: &Path,
    sets: &[String],
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<(Host, Vec<Pipeline>), Faults> {
    let mut resolved = host(path, sets, variables);
    let doubtful = resolved.faults.iter().any(|fault| fault.key.starts_with("plugin"));
    let pipelines = match &resolved.host {
        Some(host) if !doubtful => load_pipelines(&host.plugins_dir, variables),
        _ => Ok(Vec::new()),
    };
    if let (Some(place), Ok(pipelines)) = (&resolved.static_member, &pipelines) {
        resolved.faults.extend(together::static_member(place, pipelines));
    }
    if let (Some(place), Some(host), Ok(pipelines)) = (&resolved.against_range, &resolved.host, &pipelines) {
        resolved.faults.extend(together::shared_keys(place, host, pipelines));
    }
    match (resolved.result(), pipelines) {
        (Ok(host), Ok(pipelines)) => Ok((host, pipelines)),
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
        (Err(faults), Err(more)) => Err(faults.and(more)),
    }
}

fn host(path: &Path, sets: &[String], variables: Variables<'_>) -> Resolved {
    let file = path.display().to_string();
    let mut faults = Vec::new();
    let near = nearest_file(path, |other| other.extension().is_some_and(|e| e == "toml") && other.is_file());
    let cure = match near.filter(|_| !path.exists()) {
        Some(near) => format!("did you mean {}?", near.display()),
        None => "name another one with -c FILE, or let `keyrail dev` make one".to_owned(),
    };
    match read(path, &cure, &mut faults) {
        Some(text) => host::resolve(&file, &text, path.parent().unwrap_or(Path::new("")), sets, variables),
        None => Resolved { host: None, faults, static_member: None, against_range: None },
    }
}

/// Reads every NAME.toml of a folder but keyrail.toml and hidden files, in the order of their names. There is at least
/// one.
///
/// # Errors
/// Every fault of every file at once.
pub fn load_pipelines(dir: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Pipeline>, Faults> {
    let (files, pipelines, mut faults) = read_folder(dir, &|path| path.is_file(), variables)?;
    if has_no_manifest(&files) {
        faults.push(no_pipeline(dir));
    }
    Faults::unless(pipelines, faults)
}

fn has_no_manifest(files: &[(String, String)]) -> bool {
    files.iter().all(|(_, name)| is_probe(name))
}

fn no_pipeline(dir: &Path) -> Fault {
    let cure = "put NAME.toml and its handler there, or set plugins.dir";
    Place::whole(&dir.display().to_string()).fault("", "no pipeline in it", cure)
}

/// What a folder of pipelines holds at one moment: those that are fit, beside those that are not.
#[derive(Debug, Default)]
pub struct Found {
    /// Pipelines without a fault, in the order of their names.
    pub fit: Vec<Pipeline>,
    /// Faults of the others, by the pipeline's name.
    pub unfit: BTreeMap<String, Faults>,
}

/// As [`load_pipelines`], but a fault of one file does not touch the others, and there need not be any.
///
/// # Errors
/// The folder itself can't be read.
pub fn find_pipelines(dir: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Found, Faults> {
    read_folder(dir, &|path| path.is_file(), variables).map(sorted)
}

/// As [`find_pipelines`], but the handlers need not be there, and at least one manifest must be: for questions about topics
/// and groups.
///
/// # Errors
/// The folder itself can't be read, or holds no manifest.
pub fn find_manifests(dir: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Found, Faults> {
    let folder = read_folder(dir, &|_| true, variables)?;
    if has_no_manifest(&folder.0) { Err(Faults::of(vec![no_pipeline(dir)])) } else { Ok(sorted(folder)) }
}

fn sorted((files, pipelines, faults): Folder) -> Found {
    let mut by_file: BTreeMap<String, Vec<Fault>> = BTreeMap::new();
    for fault in faults {
        by_file.entry(fault.file.clone()).or_default().push(fault);
    }
    let fit = pipelines.into_iter().filter(|p| !by_file.contains_key(&p.manifest.display().to_string())).collect();
    let unfit = files.into_iter().filter_map(|(file, name)| Some((name, Faults::of(by_file.remove(&file)?)))).collect();
    Found { fit, unfit }
}

/// Files and names of all manifests, read or not; those that make a pipeline; and what is wrong.
type Folder = (Vec<(String, String)>, Vec<Pipeline>, Vec<Fault>);

fn read_folder(dir: &Path, is_file: &dyn Fn(&Path) -> bool, variables: Variables<'_>) -> Result<Folder, Faults> {
    let names = list(dir).map_err(|error| {
        let cure = "make it, or set plugins.dir in keyrail.toml";
        Faults::of(vec![Place::whole(&dir.display().to_string()).fault("", reason(&error), cure)])
    })?;
    let mut faults = Vec::new();
    let (mut files, mut texts) = (Vec::new(), Vec::new());
    for file in names.iter().filter(|name| is_manifest(name)) {
        let path = dir.join(file);
        let (shown, name) = (path.display().to_string(), file.trim_end_matches(".toml").to_owned());
        if let Some(text) = read(&path, "mend or remove it", &mut faults) {
            texts.push((shown.clone(), name.clone(), text));
        }
        files.push((shown, name));
    }
    let pipelines = resolve(&texts, dir, &names, is_file, variables, &mut faults);
    for name in names.iter().filter(|name| is_probe(name) && !name.starts_with('.')) {
        let of = name.strip_suffix(PROBE).or_else(|| name.strip_suffix(PROBE_EXPECTED)).unwrap_or(name);
        if !names.contains(&format!("{of}.toml")) {
            let shown = dir.join(name).display().to_string();
            let problem = format!("a probe without a pipeline: there is no {of}.toml beside it");
            faults.push(Place::whole(&shown).fault("", problem, "name it as the manifest is named, or remove it"));
            // By its whole name: it must not be taken for the pipeline, which may have been removed on purpose.
            files.push((shown, name.clone()));
        }
    }
    Ok((files, pipelines, faults))
}

/// Resolves manifests given as file, name and text.
pub(super) fn resolve(
    files: &[(String, String, String)],
    dir: &Path,
    beside: &[String],
    is_file: &dyn Fn(&Path) -> bool,
    variables: Variables<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Pipeline> {
    let manifests: Vec<Manifest> = files
        .iter()
        .map(|(file, name, text)| Source { file, name, text, dir, beside, is_file })
        .filter_map(|source| manifest::resolve(&source, variables, faults))
        .collect();
    together::check(&manifests, faults);
    manifests.into_iter().map(|manifest| manifest.pipeline).collect()
}

/// Whether a file of this name is a pipeline's. Editors and Kubernetes hide what is not meant to be looked at.
pub(super) fn is_manifest(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.') && name != HOST_FILE
}

/// Whether a file of this name belongs to a pipeline's probe.
pub(crate) fn is_probe(name: &str) -> bool {
    name.ends_with(PROBE) || name.ends_with(PROBE_EXPECTED)
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        // A name that is no UTF-8 comes out with marks in it, and is refused as a pipeline's name.
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Why a file is no text to go by.
#[derive(Debug)]
pub(crate) enum NoText {
    Unread(io::Error),
    TooLarge,
    /// Not UTF-8, first in this line, counted from 1.
    Utf8 {
        line: usize,
    },
}

/// Reads a text of at most so many bytes.
pub(crate) fn read_text(path: &Path, largest: u64) -> Result<String, NoText> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(largest + 1).read_to_end(&mut bytes)).map_err(NoText::Unread)?;
    if bytes.len() as u64 > largest {
        return Err(NoText::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        NoText::Utf8 { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

fn read(path: &Path, cure: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let place = Place::whole(&path.display().to_string());
    let fault = match read_text(path, LARGEST) {
        Ok(text) => return Some(text),
        Err(NoText::Unread(error)) => place.fault("", reason(&error), cure),
        Err(NoText::TooLarge) => place.fault("", "larger than 1MiB: no configuration", cure),
        Err(NoText::Utf8 { line }) => place.fault("", format!("not UTF-8 in line {line}"), "save it as UTF-8"),
    };
    faults.push(fault);
    None
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        io::ErrorKind::NotADirectory => "is not a folder".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder, not a file".to_owned(),
        _ => format!("can't be read: {error}"),
    }
}
