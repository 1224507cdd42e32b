//! What is asked of a fleet while it runs: pause and resume, promote and roll back.

use super::{Content, Fleet, Setup};
use crate::admin::health::State;
use crate::pipeline::wall_ms;
use crate::rollout::audit::Decider;
use crate::rollout::board::{Action, Answer, Asked};
use crate::rollout::pauses::{By, Pause};
use std::path::PathBuf;
use std::time::Instant;

/// What the folder holds of a pipeline that is paused: it is not looked at any further.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) manifest: PathBuf,
    /// Where the manifest could be read.
    pub(super) handler: Option<PathBuf>,
    pub(super) digest: Option<String>,
    /// What is wrong with it.
    pub(super) fault: Option<String>,
}

impl Fleet {
    /// A pipeline that is paused before it ran.
    pub fn hold(&mut self, manifest: &crate::config::Pipeline) {
        tracing::info!(pipeline = manifest.name, "the pipeline is paused: `keyrail plugins resume` lets it go on");
        let aside = Aside {
            manifest: manifest.manifest.clone(),
            handler: Some(manifest.handler.clone()),
            digest: None,
            fault: None,
        };
        self.aside.insert(manifest.name.clone(), aside);
    }

    /// Takes what is paused out of what the folder holds.
    pub(super) fn set_aside(&mut self, content: &mut Content) {
        self.aside.clear();
        for (name, _) in self.setup.pauses.iter() {
            let aside = match (content.fit.remove(name), content.unfit.remove(name)) {
                (Some(found), _) => Aside {
                    manifest: found.manifest.manifest.clone(),
                    handler: Some(found.manifest.handler.clone()),
                    digest: Some(found.code.digest().to_owned()),
                    fault: None,
                },
                (None, Some(fault)) => Aside {
                    manifest: self.setup.dir.join(format!("{name}.toml")),
                    handler: None,
                    digest: None,
                    fault: Some(fault),
                },
                (None, None) => continue,
            };
            self.aside.insert(name.clone(), aside);
        }
    }

    /// Does what was asked for meanwhile, and answers.
    pub(super) fn obey(&mut self) {
        while let Some(Asked { pipeline, action, answer }) = self.setup.board.asked() {
            let done = match action {
                _ if self.setup.shared.stop.requested() => Answer::Refused("the process stops".to_owned()),
                Action::Pause => self.pause(&pipeline),
                Action::Resume => self.resume(&pipeline),
                Action::Promote => {
                    self.promote(&pipeline, Decider::Hand).map_or_else(Answer::Refused, |()| Answer::Done)
                }
                Action::Rollback => self.roll_back(&pipeline).map_or_else(Answer::Refused, |()| Answer::Done),
            };
            // IMPORTANT: before the answer, which is told with how it stands then.
            self.show();
            answer(done);
        }
    }

    fn pause(&mut self, name: &str) -> Answer {
        let before = self.setup.pauses.of(name);
        if before.is_none_or(|pause| pause.by == By::Policy) {
            let since_ms = before.map_or_else(wall_ms, |pause| pause.since_ms);
            if let Err(why) = self.setup.pauses.add(name, Pause { by: By::Hand, since_ms, why: None }) {
                return Answer::Failed(why);
            }
            tracing::info!(pipeline = name, "the pipeline is paused by hand");
        }
        // At once: that it drains is no reason to take the process for unready.
        self.setup.shared.health.pipeline(name).set(State::Paused);
        let fault = self.refused.remove(name);
        self.waiting.remove(name);
        if let Some(entry) = self.entries.get(name) {
            let aside = Aside {
                manifest: entry.manifest.manifest.clone(),
                handler: Some(entry.manifest.handler.clone()),
                digest: Some(entry.digest.clone()),
                fault,
            };
            self.aside.insert(name.to_owned(), aside);
            if !entry.leaving {
                self.drain(name, "it is paused");
            }
        } else if !self.aside.contains_key(name) {
            let manifest = self.setup.dir.join(format!("{name}.toml"));
            self.aside.insert(name.to_owned(), Aside { manifest, handler: None, digest: None, fault });
        }
        if self.runs(name) { Answer::Begun } else { Answer::Done }
    }

    fn resume(&mut self, name: &str) -> Answer {
        if !self.setup.pauses.holds(name) {
            let failed = self.entries.get(name).is_some_and(|entry| entry.failed);
            let why =
                "it is not paused, it can't go on: it is tried again when its files change, or when the process starts";
            return if failed { Answer::Refused(why.to_owned()) } else { Answer::Done };
        }
        if let Err(why) = self.setup.pauses.remove(name) {
            return Answer::Failed(why);
        }
        tracing::info!(pipeline = name, "the pipeline is resumed: it starts from what the folder holds");
        let shared = &self.setup.shared;
        if self.aside.contains_key(name) {
            shared.metrics.pipeline(name).paused.set(0);
            shared.health.pipeline(name).resumes();
        } else {
            shared.metrics.remove(name);
            shared.health.remove(name);
            return Answer::Done;
        }
        (self.accepted, self.settling) = (None, None);
        self.next_look = Instant::now();
        Answer::Begun
    }
}

/// A pipeline that broke again and again starts no more before somebody asks for it.
pub(super) fn give_up(setup: &mut Setup, name: &str, why: &str) {
    let told = "the pipeline is paused: it broke again and again. `keyrail plugins resume` lets it try anew";
    tracing::error!(pipeline = name, why, "{told}");
    let pause = Pause::by_policy(wall_ms(), why);
    if let Err(unwritten) = setup.pauses.add(name, pause.clone()) {
        tracing::warn!(pipeline = name, why = unwritten, "the pause ends with the process");
        setup.pauses.keep(name, pause);
    }
}
