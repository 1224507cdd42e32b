//! Where `[rollout]` asks for it: a new version is tried on a part of the keys, and then promoted or rolled back.

use super::Fleet;

use super::audit::{Decider, Entry, Event};
use super::board::RolledBack;
use super::proven::{Known, Proven};
use super::trial::{Terms, Verdict};
use crate::admin::metrics::Rollout;
use crate::alerts::{Example, Kind, What};
use crate::config;
use crate::pipeline::{Code, Serving, TrialEnd, short, wall_ms};
use crate::wasm::{Handler, sha256_hex};
use keyrail_engine::state::schema::FIRST;
use std::path::Path;

/// A part of the keys as its gauge holds it.
const MILLIONTHS: f64 = 1e6;

/// The versions that a pipeline begins with.
pub(super) struct Beginning {
    pub(super) serving: Handler,
    pub(super) trial: Option<(Handler, Terms)>,
    /// The folder's version, where that was.
    pub(super) rolled_back: Option<RolledBack>,
}

impl Fleet {
    /// What a pipeline begins with whose folder holds this handler: where another one has served before, the new one is tried first.
    pub(super) fn line_up(&self, manifest: &config::Pipeline, handler: Handler) -> Beginning {
        let alone = |serving| Beginning { serving, trial: None, rolled_back: None };
        let (pipeline, digest) = (manifest.name.as_str(), handler.digest().to_owned());
        let proven = self.proven(pipeline);
        let Some(terms) = &manifest.rollout else {
            // Versions come and go now of which nothing is noted: one of before must not come back one day.
            if let Err(why) = proven.forget() {
                tracing::warn!(
                    pipeline,
                    why,
                    "what served before is still remembered: delete it before [rollout] comes again"
                );
            }
            return alone(handler);
        };
        let mut known = proven.read().unwrap_or_else(|why| {
            tracing::warn!(pipeline, why, "which version served before can't be told: the folder's serves at once");
            None
        });
        match &known {
            Some(known) if known.serving == digest => return alone(handler),
            Some(known) if !known.serving.is_empty() => match self.served_before(&proven, known, manifest, &handler) {
                Ok(serving) => {
                    if let Some(rejected) = known.rejected(&digest) {
                        tell_rejected(pipeline, &digest, &rejected.why);
                        return Beginning { rolled_back: Some(rejected.shown()), ..alone(serving) };
                    }
                    return Beginning { trial: Some((handler, terms.clone())), ..alone(serving) };
                }
                Err(why) => {
                    tracing::warn!(pipeline, why, "the version that served before can't: the folder's serves at once");
                }
            },
            _ => {}
        }
        // From now on there is one to go back to.
        let known = known.get_or_insert_default();
        known.serve(&digest, manifest.schemas.own());
        let kept = code_of(&manifest.handler, &digest).and_then(|code| proven.write(known, Some(&code)));
        if let Err(why) = kept {
            warn_unkept(pipeline, &why);
        }
        alone(handler)
    }

    /// The version that served last, under the manifest as it is now.
    fn served_before(
        &self,
        proven: &Proven,
        known: &Known,
        manifest: &config::Pipeline,
        beside: &Handler,
    ) -> Result<Handler, String> {
        let (then, now) = (known.schema, manifest.schemas.own());
        if then != now {
            return Err(format!("its state is of schema {then}, and the manifest's is {now}"));
        }
        let code = Code::kept(proven.bytes(&known.serving)?, known.serving.clone());
        let handler = code.load(&self.setup.engine, manifest).map_err(|e| e.to_string())?;
        // What the engine does for state and timers depends on whether the handler asks for them.
        let (own, other) = (handler.facts(), beside.facts());
        if (own.uses_state(), own.uses_timers()) != (other.uses_state(), other.uses_timers()) {
            return Err("one of the two versions keeps state or timers, and the other does not".to_owned());
        }
        Ok(handler)
    }

    /// A new version is tried beside the one that serves, in place of one that was on trial before; unless it serves already, or was
    /// rolled back before.
    pub(super) fn try_out(&mut self, name: &str, terms: &Terms, handler: Handler) {
        let digest = handler.digest().to_owned();
        let proven = self.proven(name);
        // A trial that its evidence has ended a moment ago is told and noted first.
        self.take_end(name);
        let Some(entry) = self.entries.get(name) else { return };
        let before = entry.serving.roll_back("another version is in the folder");
        if before.is_none() {
            // Its evidence has ended it this moment.
            self.take_end(name);
        }
        if let Some(before) = &before {
            let (digest, shown) = (short(&before.digest), before.account.to_string());
            tracing::info!(pipeline = name, digest, shown, "the trial ends: another version is in the folder");
        }
        if let Some(TrialEnd { digest, why, account }) = before {
            let event = (Event::RolledBack, Decider::Folder);
            self.audit_end(name, event, &digest, (Some(&why), account.to_string()));
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.rolled_back = None;
        if entry.serving.present().digest() == digest {
            tracing::info!(pipeline = name, digest = short(&digest), "the folder holds the version that serves again");
            return self.show_trial(name, None);
        }
        let known = proven.read().unwrap_or_else(|why| {
            tracing::warn!(pipeline = name, why, "which versions were rolled back can't be told");
            None
        });
        if let Some(rejected) = known.as_ref().and_then(|known| known.rejected(&digest)) {
            tell_rejected(name, &digest, &rejected.why);
            entry.rolled_back = Some(rejected.shown());
            self.setup.shared.metrics.pipeline(name).rollouts.add(Rollout::Refused, 1);
            return self.show_trial(name, None);
        }
        let (serving, manifest) = (entry.serving.clone(), entry.manifest.clone());
        self.begin_trial(&manifest, &serving, (handler, terms));
    }

    /// From each shard's next batch on.
    pub(super) fn begin_trial(
        &mut self,
        manifest: &config::Pipeline,
        serving: &Serving,
        (handler, terms): (Handler, &Terms),
    ) {
        let (name, file) = (manifest.name.as_str(), &manifest.handler);
        let (wake, digest) = (self.wake.clone(), handler.digest().to_owned());
        // It may serve one day, when its file is another.
        let kept = code_of(file, &digest).and_then(|code| self.proven(name).keep(&digest, &code));
        if let Err(why) = kept {
            warn_unkept(name, &why);
        }
        // Where the queue is full, the fleet is about to look anyway.
        serving.try_out(handler, terms.clone(), move || drop(wake.try_send(super::entry::Event::Look)));
        let from = serving.present().digest().to_owned();
        tracing::info!(
            pipeline = name,
            serves = short(&from),
            digest = short(&digest),
            share = terms.share,
            "a version is on trial for {} s: what fails on it runs on the one that serves",
            terms.lasts.as_secs()
        );
        self.setup.shared.metrics.pipeline(name).rollouts.add(Rollout::Tried, 1);
        self.show_trial(name, Some(terms.share));
        let own = (name, manifest.group.as_str());
        let entry = Entry::new(Event::Tried, Decider::Folder, own, &digest, &from);
        self.tell_audit(manifest.audit.as_deref(), Entry { share: Some(terms.share), ..entry });
    }

    fn tell_audit(&mut self, topic: Option<&str>, entry: Entry) {
        if let Some(topic) = topic {
            self.audit.tell(topic, &entry);
        }
    }

    /// Writes down what became of a version on trial.
    fn audit_end(
        &mut self,
        name: &str,
        (event, by): (Event, Decider),
        version: &str,
        (why, shown): (Option<&str>, String),
    ) {
        let Some(entry) = self.entries.get(name) else { return };
        let own = (name, entry.manifest.group.as_str());
        let told = Entry::new(event, by, own, version, entry.serving.present().digest());
        let (topic, why) = (entry.manifest.audit.clone(), why.map(str::to_owned));
        self.tell_audit(topic.as_deref(), Entry { why, shown: Some(shown), ..told });
    }

    fn show_trial(&self, name: &str, share: Option<f64>) {
        let millionths = share.map_or(0, |share| (share * MILLIONTHS).round() as u64);
        self.setup.shared.metrics.pipeline(name).trial_share_millionths.set(millionths);
    }

    /// Ends the trials that are through: those that their own evidence has ended, and those whose time is over.
    pub(super) fn judge_trials(&mut self) {
        let tried = |entry: &super::entry::Entry| entry.runs() && entry.manifest.rollout.is_some();
        let names: Vec<String> =
            self.entries.iter().filter(|(_, entry)| tried(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.take_end(&name);
            let Some(entry) = self.entries.get(&name) else { continue };
            if entry.serving.standing().is_some_and(|standing| standing.verdict == Verdict::Promote) {
                // Whatever it has shown since then speaks for it or has ended it.
                drop(self.promote(&name, Decider::Evidence));
            }
        }
    }

    /// Tells and notes the end of a trial that its own evidence has ended.
    fn take_end(&mut self, name: &str) {
        if let Some(end) = self.entries.get(name).and_then(|entry| entry.serving.ended()) {
            self.rolled_back(name, &end, Decider::Evidence);
        }
    }

    /// The version on trial serves all keys from now on; by its verdict, or because somebody asks for it.
    ///
    /// # Errors
    /// None is on trial.
    pub(super) fn promote(&mut self, name: &str, by: Decider) -> Result<(), String> {
        let Some(entry) = self.entries.get(name) else { return Err(format!("{name} does not run")) };
        let account = entry.serving.standing().map(|standing| standing.account.to_string());
        let Some(digest) = entry.serving.promote() else {
            return Err(format!("no version of {name} is on trial: what serves is all that there is"));
        };
        let metrics = self.setup.shared.metrics.pipeline(name);
        metrics.set_handler(entry.serving.present().metrics().clone());
        metrics.rollouts.add(Rollout::Promoted, 1);
        self.show_trial(name, None);
        let shown = account.unwrap_or_default();
        tracing::info!(pipeline = name, digest = short(&digest), shown, "the version on trial serves all keys now");
        let schema = self.entries.get(name).map_or(FIRST, |entry| entry.manifest.schemas.own());
        self.note(name, |known| known.serve(&digest, schema));
        self.audit_end(name, (Event::Promoted, by), &digest, (None, shown));
        Ok(())
    }

    /// The version on trial runs no more, because somebody asks for it.
    ///
    /// # Errors
    /// None is on trial.
    pub(super) fn roll_back(&mut self, name: &str) -> Result<(), String> {
        let Some(entry) = self.entries.get(name) else { return Err(format!("{name} does not run")) };
        let Some(end) = entry.serving.roll_back("somebody rolled it back") else {
            return Err(format!("no version of {name} is on trial: what serves is all that there is"));
        };
        self.rolled_back(name, &end, Decider::Hand);
        Ok(())
    }

    fn rolled_back(&mut self, name: &str, end: &TrialEnd, by: Decider) {
        let TrialEnd { digest, why, account } = end;
        tracing::error!(
            pipeline = name,
            digest = short(digest),
            why,
            shown = account.to_string(),
            "the version on trial is rolled back: the one before serves all keys"
        );
        self.setup.shared.metrics.pipeline(name).rollouts.add(Rollout::RolledBack, 1);
        self.show_trial(name, None);
        let detail = Some(format!("version {}: {why}", short(digest)));
        let example = Example { detail, ..Example::default() };
        self.setup.shared.alerts.tell(name, Kind::RolledBack, What::Happened { count: 1, places: Vec::new(), example });
        let at_ms = wall_ms();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.rolled_back = Some(RolledBack { digest: digest.clone(), at_ms, why: why.clone() });
        }
        self.note(name, |known| known.reject(digest, why, at_ms));
        self.audit_end(name, (Event::RolledBack, by), digest, (Some(why), account.to_string()));
    }

    /// Remembers what became of a version, for the next start.
    fn note(&self, name: &str, change: impl FnOnce(&mut Known)) {
        let proven = self.proven(name);
        let noted = proven.read().and_then(|known| {
            let mut known = known.unwrap_or_default();
            change(&mut known);
            proven.write(&known, None)
        });
        if let Err(why) = noted {
            warn_unkept(name, &why);
        }
    }

    fn proven(&self, pipeline: &str) -> Proven {
        Proven::new(&self.setup.store_dir, pipeline)
    }
}

/// The bytes of a handler's file, if it is still the one that was loaded.
fn code_of(file: &Path, digest: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if sha256_hex(&bytes) == digest { Ok(bytes) } else { Err(format!("{} is another by now", file.display())) }
}

fn tell_rejected(pipeline: &str, digest: &str, why: &str) {
    tracing::warn!(
        pipeline,
        digest = short(digest),
        why,
        "the folder's version was rolled back before, and the one before it serves: put a mended one there"
    );
}

fn warn_unkept(pipeline: &str, why: &str) {
    tracing::warn!(pipeline, why, "what serves is not kept: a restart would begin with the folder's version at once");
}
