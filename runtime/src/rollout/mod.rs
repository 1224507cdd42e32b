//! The folder of pipelines is the deployment: what is in it runs. This module decides what a change of the folder means;
//! [`folder`](self) looks at it, [`fleet`](self) does it.
//!
//! A change of the handler alone is swapped in while the pipeline runs, between batches. A change of the manifest drains
//! the pipeline and starts it anew, since topics, group and order may be others. Whatever is not fit to run changes
//! nothing: what ran before goes on.

mod audit;
pub mod board;
mod canary;
mod entry;
mod fleet;
mod folder;
mod pauses;
mod proven;
mod setup;
mod topics;
pub mod trial;
mod watch;

pub use board::Board;
pub use entry::Ready;
pub use fleet::Fleet;
pub use pauses::Pauses;
pub use setup::Setup;

use crate::config::Pipeline;
use std::collections::{BTreeMap, BTreeSet};

/// A pipeline as it was found: its manifest and its handler's digest.
#[derive(Debug, Clone, Copy)]
struct Version<'a> {
    manifest: &'a Pipeline,
    digest: &'a str,
}

/// What is to be done with a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is new, or could not go on before it was changed.
    Start,
    /// Its handler is another.
    Swap,
    /// Its manifest is another.
    Restart,
    /// It was removed.
    Drain,
}

/// What a name of the folder stands for.
#[derive(Debug)]
enum Present<'a> {
    Fit(Version<'a>),
    /// Its files have faults: what runs goes on.
    Unfit,
}

/// How a known pipeline stands.
#[derive(Debug)]
struct Known<'a> {
    version: Version<'a>,
    /// It could not go on, and a person must act.
    failed: bool,
}

/// Compares what runs with what is there. Names come out in their order, those to drain first, since others may wait for
/// them.
fn steps<'a>(known: &BTreeMap<&'a str, Known<'a>>, present: &BTreeMap<&'a str, Present<'a>>) -> Vec<(&'a str, Step)> {
    let gone = known.keys().filter(|name| !present.contains_key(*name)).map(|name| (*name, Step::Drain));
    let stay = present.iter().filter_map(|(name, present)| {
        let Present::Fit(found) = present else { return None };
        let Some(known) = known.get(name) else { return Some((*name, Step::Start)) };
        let same_manifest = runs_alike(known.version.manifest, found.manifest);
        let same_code = known.version.digest == found.digest;
        let step = match (same_manifest, same_code) {
            (true, true) => return None,
            _ if known.failed => Step::Start,
            (true, false) => Step::Swap,
            (false, _) => Step::Restart,
        };
        Some((*name, step))
    });
    gone.chain(stay).collect()
}

/// Whether two manifests differ in nothing but the digest that they demand: that goes with the handler.
fn runs_alike(one: &Pipeline, other: &Pipeline) -> bool {
    let bare = |manifest: &Pipeline| Pipeline { sha256: None, ..manifest.clone() };
    bare(one) == bare(other)
}

/// A pipeline whose threads run.
#[derive(Debug)]
struct Runner<'a> {
    manifest: &'a Pipeline,
    /// It was removed, and drains.
    leaving: bool,
    /// What its file says now; `None` where that is not fit.
    file: Option<&'a Pipeline>,
}

/// A running pipeline that reads one of these inputs with this group, and goes on doing so or has not ended yet: two of
/// them would each get a part of its partitions. Two manifests of one folder are compared when they are read; this holds
/// a new one against what runs while the file that it runs by is at fault, or gone. `true`: it is about to end.
fn rival<'a>(name: &str, found: &Pipeline, running: &BTreeMap<&'a str, Runner<'a>>) -> Option<(&'a str, bool)> {
    let inputs: BTreeSet<&String> = found.input.iter().collect();
    let same = |other: &Pipeline| other.group == found.group && other.input.iter().any(|i| inputs.contains(i));
    let stays = |runner: &Runner<'_>| runner.leaving || runner.file.is_none_or(same);
    let mut rivals = running.iter().filter(|(other, runner)| **other != name && same(runner.manifest) && stays(runner));
    rivals.next().map(|(other, runner)| (*other, runner.leaving))
}

#[cfg(test)]
mod tests;
