//! What a fleet shows of itself.

use super::{Entry, Fleet};
use crate::admin::health::State;
use crate::pipeline::{TrialStanding, wall_ms};
use crate::rollout::board::{Found, Runs, Stands, Trial};
use crate::rollout::pauses::By;
use std::collections::BTreeMap;

impl Fleet {
    /// Tells the board how everything stands, and whoever probes the process what is paused.
    pub(super) fn show(&self) {
        let mut all: BTreeMap<String, Found> =
            self.entries.iter().map(|(name, entry)| (name.clone(), found(entry))).collect();
        for (name, why) in self.refused.iter().filter(|(name, _)| !name.is_empty()) {
            let stands = if self.waiting.contains(name) { Stands::Waits } else { Stands::Rejected };
            let manifest = Some(self.setup.dir.join(format!("{name}.toml")));
            all.entry(name.clone()).or_insert(Found { manifest, ..bare(stands) }).refused = Some(why.clone());
        }
        for (name, aside) in &self.aside {
            let found = all.entry(name.clone()).or_insert_with(|| Found {
                manifest: Some(aside.manifest.clone()),
                handler: aside.handler.clone(),
                digest: aside.digest.clone(),
                refused: aside.fault.clone(),
                ..bare(Stands::Waits)
            });
            found.pause = self.setup.pauses.of(name).cloned();
        }
        for (name, pause) in self.setup.pauses.iter() {
            let found = all.entry(name.clone()).or_insert_with(|| bare(Stands::Rests));
            found.pause = Some(pause.clone());
            if !self.entries.contains_key(name) {
                found.stands = Stands::Rests;
            }
        }
        self.tell_paused();
        self.setup.board.show(all);
    }

    /// Those that rest.
    fn tell_paused(&self) {
        let shared = &self.setup.shared;
        for name in self.aside.keys().filter(|name| !self.entries.contains_key(*name)) {
            let Some(pause) = self.setup.pauses.of(name) else { continue };
            let (number, state) = match (pause.by, &pause.why) {
                (By::Hand, _) => (1, State::Paused),
                (By::Policy, why) => {
                    let why = why.as_deref().unwrap_or_default();
                    (2, State::NotReady(format!("paused: it broke again and again: {why}")))
                }
            };
            shared.metrics.pipeline(name).paused.set(number);
            shared.health.pipeline(name).set(state);
        }
    }
}

fn found(entry: &Entry) -> Found {
    let stands = match entry {
        _ if entry.runs() && (entry.leaving || entry.next.is_some()) => Stands::Drains,
        _ if entry.runs() => Stands::Runs,
        _ if entry.failed => Stands::Failed,
        _ => Stands::Waits,
    };
    let serves = || entry.serving.present().digest().to_owned();
    let trial = entry.serving.standing().filter(|_| entry.runs());
    Found {
        manifest: Some(entry.manifest.manifest.clone()),
        handler: Some(entry.manifest.handler.clone()),
        digest: Some(if entry.runs() { serves() } else { entry.digest.clone() }),
        runs: Some(Runs {
            start: entry.serving.clone(),
            number: entry.serving.number(),
            metrics: entry.metrics.clone(),
        }),
        trial: trial.map(|standing| trial_of(&standing)),
        rolled_back: entry.rolled_back.clone(),
        ..bare(stands)
    }
}

fn trial_of(standing: &TrialStanding) -> Trial {
    let TrialStanding { digest, share, elapsed, account, .. } = standing;
    let since_ms = wall_ms().saturating_sub_unsigned(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    Trial {
        digest: digest.clone(),
        share: *share,
        since_ms,
        messages: account.tried(),
        overruled: account.overruled(),
        upheld: account.upheld(),
        shown: account.to_string(),
    }
}

fn bare(stands: Stands) -> Found {
    let (manifest, handler, digest, runs, refused, pause, trial, rolled_back) = Default::default();
    Found { stands, manifest, handler, digest, runs, refused, pause, trial, rolled_back }
}
