//! Which topics there are, asked for while a manifest has patterns of them.

use super::folder::Content;
use crate::broker::Broker;
use crate::config;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One question to the broker.
pub(super) const ASK: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub(super) struct Topics {
    /// `None`: nobody has told yet.
    there: Option<BTreeSet<String>>,
    wanted: bool,
    every: Duration,
    next: Instant,
}

impl Topics {
    pub(super) fn new(every: Duration) -> Self {
        Self { there: None, wanted: false, every, next: Instant::now() }
    }

    /// Whether other topics are there than when this was asked last; asks the broker when it is time to.
    pub(super) fn changed(&mut self, broker: &dyn Broker) -> bool {
        self.wanted && Instant::now() >= self.next && self.ask(broker).unwrap_or_default()
    }

    /// Gives pipelines with patterns the topics that these stand for now. What has no input yet is taken out of what is
    /// fit, and told with the reason. `running`: a pipeline with patterns runs, whatever its file says now.
    pub(super) fn expand(
        &mut self,
        content: &mut Content,
        broker: &dyn Broker,
        running: bool,
    ) -> BTreeMap<String, String> {
        let mut waiting = BTreeMap::new();
        let has_patterns = |manifest: &config::Pipeline| !manifest.patterns.is_empty();
        self.wanted = running || content.fit.values().any(|candidate| has_patterns(&candidate.manifest));
        if !self.wanted {
            self.there = None;
            return waiting;
        }
        let asked = if self.there.is_none() || Instant::now() >= self.next { self.ask(broker) } else { Ok(false) };
        for (name, candidate) in content.fit.iter_mut().filter(|(_, candidate)| has_patterns(&candidate.manifest)) {
            let why = match (&self.there, &asked) {
                (Some(there), _) => match candidate.manifest.with_topics(there) {
                    Some(manifest) => {
                        candidate.manifest = manifest;
                        continue;
                    }
                    None => {
                        let texts: Vec<_> = candidate.manifest.patterns.iter().map(config::Pattern::text).collect();
                        format!("no topic matches {}; it starts when there is one", texts.join(" or "))
                    }
                },
                // Nothing is known: a part of the inputs would be taken for all of them.
                (None, Err(why)) => format!("which topics there are can't be told: {why}"),
                (None, Ok(_)) => continue,
            };
            waiting.insert(name.clone(), why);
        }
        content.fit.retain(|name, _| !waiting.contains_key(name));
        waiting
    }

    /// `true`: they are others than before. While the broker does not answer, those of before are.
    fn ask(&mut self, broker: &dyn Broker) -> Result<bool, String> {
        self.next = Instant::now() + self.every;
        match broker.topic_names(ASK) {
            Ok(found) => {
                let changed = self.there.as_ref() != Some(&found);
                self.there = Some(found);
                Ok(changed)
            }
            Err(error) => {
                if self.there.is_some() {
                    tracing::warn!(%error, "the topics can't be told, so patterns stand for those of before");
                }
                Err(error.message)
            }
        }
    }
}
