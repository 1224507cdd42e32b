//! A handler takes another one's place while its pipeline runs, at once or after a trial.

use super::{Candidate, Fleet};
use crate::admin::health::State;
use crate::admin::metrics::Rollout;
use crate::config;
use crate::pipeline::{complete, short, unreadable};
use crate::rollout::Ready;
use crate::wasm::Handler;
use keyrail_engine::state::schema::Unread;
use std::time::Instant;

impl Fleet {
    pub(super) fn swap(&mut self, name: &str, candidate: Candidate) {
        let began = Instant::now();
        let Some(Ready { manifest, handler, probed, .. }) = self.load(name, candidate) else { return };
        let waits = self.entries.get(name).is_some_and(|entry| entry.next.is_some());
        if let Some(terms) = manifest.rollout.clone().filter(|_| !waits) {
            let digest = handler.digest().to_owned();
            self.try_out(name, &terms, handler);
            return self.accept(name, manifest, digest, probed);
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        let digest = handler.digest().to_owned();
        if let Some(next) = &mut entry.next {
            (next.handler, next.probed) = (handler, probed.clone());
        } else {
            let metrics = self.setup.shared.metrics.pipeline(name);
            metrics.set_handler(handler.metrics().clone());
            metrics.rollouts.add(Rollout::Swapped, 1);
            entry.serving.swap(handler);
        }
        let (from, to, took_ms) = (&entry.digest, &digest, began.elapsed().as_millis() as u64);
        tracing::info!(pipeline = name, from = short(from), to = short(to), took_ms, "the handler is swapped");
        self.accept(name, manifest, digest, probed);
    }

    /// Whether a version can go on with the state of what runs under its name: else that would be drained for nothing.
    pub(super) fn reads_state(&self, name: &str, Ready { manifest, handler, .. }: &Ready) -> Result<(), String> {
        let Some(entry) = self.entries.get(name).filter(|entry| entry.runs()) else { return Ok(()) };
        // By the topics of both: what keeps none, or another one's, has nothing to read there.
        let topics = |manifest: &config::Pipeline, handler: &Handler| {
            let state = complete(manifest.clone(), handler).ok().and_then(|manifest| manifest.state);
            state.map_or_else(Vec::new, |state| state.topics)
        };
        let (new, old) = (topics(manifest, handler), topics(&entry.manifest, &entry.serving.present()));
        if !new.iter().any(|topic| old.contains(topic)) {
            return Ok(());
        }
        let found = entry.serving.schemas().all();
        manifest
            .schemas
            .check(&found)
            .map_err(|Unread(unread)| unreadable("what runs has", &unread, &manifest.schemas))?;
        let health = self.setup.shared.health.state(name);
        let known = matches!(health, Some(State::Ready)) || manifest.schemas.own() == entry.manifest.schemas.own();
        if known {
            Ok(())
        } else {
            Err("what runs is not ready, so which schemas its state is of is not known yet: it waits".to_owned())
        }
    }

    /// A pipeline runs by these files from now on.
    fn accept(&mut self, name: &str, manifest: config::Pipeline, digest: String, probed: Option<String>) {
        if let Some(entry) = self.entries.get_mut(name) {
            (entry.digest, entry.manifest) = (digest, manifest);
            entry.probed = probed.map(|identity| (identity, Ok(())));
        }
        self.refused.remove(name);
    }
}
