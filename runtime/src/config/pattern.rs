//! Inputs told by a pattern: which topics they stand for changes while the pipeline runs.

use super::units::Refused;
use super::{Pipeline, State, topic};
use keyrail_engine::delays::MAX_DELAY_MS;
use keyrail_engine::policy::{Guarantee, OrderBy, Policy, Scope};
use regex_lite::Regex;
use std::collections::BTreeSet;

/// A pattern of `input`: a regular expression that starts with `^`.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, Refused> {
        let cure = "write a regular expression that matches topics from their first character on, as \"^orders\\\\.\"";
        match Regex::new(text) {
            Ok(regex) => Ok(Self { regex }),
            Err(error) => Err((format!("{text:?} is no pattern: {error}"), cure.to_owned())),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether it stands for this topic. Internal topics never match: those of Kafka, and those that Keyrail makes for
    /// itself, dead letters among them, whatever group they belong to.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        !is_internal(name) && self.regex.is_match(name)
    }
}

/// Whether a topic is one that Kafka or Keyrail made for itself: `__NAME`, or GROUP.TOPIC.END with one of Keyrail's own
/// ends, dead letters among them. Group and topic may hold dots themselves.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    let Some((stem, end)) = name.rsplit_once('.') else { return name.starts_with("__") };
    let ours = end == "dlq" || topic::INTERNAL.contains(&end);
    name.starts_with("__")
        || (ours && stem.split_once('.').is_some_and(|(group, of)| !group.is_empty() && !of.is_empty()))
}

impl Pipeline {
    /// This pipeline with the topics that its patterns stand for now, in the order of their names, behind those that are
    /// named. What it writes itself is left out: its outputs, its audit and its dead letters would come round. `None`: there is no
    /// input yet.
    #[must_use]
    pub fn with_topics(&self, there: &BTreeSet<String>) -> Option<Self> {
        let mut found = self.clone();
        for name in there.iter().filter(|name| self.patterns.iter().any(|pattern| pattern.matches(name))) {
            let dead_letters = self.dead_letter.topic_of(&self.group, name);
            let written = self.outputs.iter().map(|(_, output)| output).chain(&self.audit);
            let own = written.into_iter().any(|own| own == name) || dead_letters == *name;
            let seen = self.seen.as_ref().map(|_| topic::seen(&self.group, name));
            let state = self.state.as_ref().map(|_| topic::state(&self.group, name));
            let parked = self.parked.as_ref().map(|_| topic::retry(&self.group, name));
            // A name so long has no room for those of its own topics.
            let own_topics = std::iter::once(&dead_letters).chain(&seen).chain(&state).chain(&parked);
            let fits = own_topics.into_iter().all(|own| own.len() <= topic::LONGEST);
            if !own && !found.input.contains(name) && fits {
                found.input.push(name.clone());
                found.dead_letter.topics.push(dead_letters);
                if let Some(all) = &mut found.seen {
                    all.topics.extend(seen);
                }
                if let Some(all) = &mut found.state {
                    all.topics.extend(state);
                }
                if let Some(all) = &mut found.parked {
                    all.topics.extend(parked);
                    all.inboxes.push(topic::inbox(&self.group, name));
                }
            }
        }
        (!found.input.is_empty()).then_some(found)
    }

    /// The inputs that topics of seen ids and of state are named by: all, or the first alone where all share their keys.
    #[must_use]
    pub fn owners(&self) -> &[String] {
        &self.input[..self.policy.order.scope.owners(self.input.len())]
    }

    /// This pipeline with a handler that asks for state. Without an order key, or with at-least-once where inputs share their
    /// keys, it gets none: that each call of it says so is the handler's to deal with, since some toolchains ask for everything.
    ///
    /// # Errors
    /// A topic of its state can't have its name.
    pub fn with_state(self) -> Result<Self, String> {
        let Policy { order, guarantee, .. } = &self.policy;
        let kept = *guarantee == Guarantee::ExactlyOnce || order.scope == Scope::Topic;
        if order.by == OrderBy::None || !kept { Ok(self) } else { self.keeping_state() }
    }

    fn keeping_state(mut self) -> Result<Self, String> {
        let topics: Vec<String> = self.owners().iter().map(|input| topic::state(&self.group, input)).collect();
        if let Some(long) = topics.iter().find(|name| name.len() > topic::LONGEST) {
            return Err(format!(
                "the topic of its state, GROUP.TOPIC.state, has {} characters: give the group a shorter name, a topic's has at \
                 most {}",
                long.len(),
                topic::LONGEST
            ));
        }
        self.policy.state = true;
        self.state = Some(State { topics });
        Ok(self)
    }

    /// The same with timers, which lie where state does; without, where there can't be any.
    pub(crate) fn with_timers(self) -> Result<Self, String> {
        if self.policy.order.scope != Scope::Topic || self.policy.guarantee != Guarantee::ExactlyOnce {
            return Ok(self);
        }
        let mut with_state = self.with_state()?;
        with_state.policy.timers = with_state.policy.state;
        Ok(with_state)
    }

    /// The same with delayed sends, which need no order key: where state is kept anyway, or they are asked for, and can be.
    pub(crate) fn with_delays(self) -> Result<Self, String> {
        if self.policy.order.scope != Scope::Topic || self.policy.guarantee != Guarantee::ExactlyOnce {
            return Ok(self);
        }
        let mut kept = if self.limits.delay.is_some() && self.state.is_none() { self.keeping_state()? } else { self };
        kept.policy.delays = kept.policy.state;
        Ok(kept)
    }

    /// The longest delay of a send, in milliseconds; `None`: there are none.
    pub(crate) fn longest_delay_ms(&self) -> Option<u64> {
        let longest_ms =
            self.limits.delay.map_or(u64::MAX, |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self.policy.has_delays().then_some(longest_ms.min(MAX_DELAY_MS))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::for_tests;
    use std::collections::BTreeSet;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_pattern_stands_for_what_it_matches_and_for_nothing_internal() {
        let manifest =
            for_tests("p", "handler = \"h.wasm\"\ninput = [\"first\", \"^eu\\\\.orders\", \"^eu\\\\..*s$\"]\n");
        assert_eq!((manifest.input.as_slice(), manifest.patterns.len()), (["first".to_owned()].as_slice(), 2));
        let there = names(&[
            "eu.orders",
            "eu.orders.de",
            "eu.payments",
            "eu.refund",
            "first",
            "us.eu.orders",
            "__eu.orders",
            "g.eu.orders.dlq",
            "eu.orders.retry",
            "eu.orders.state",
            "eu.inboxes",
            "eu.dlq",
        ]);
        let found = manifest.with_topics(&there).unwrap_or_else(|| manifest.clone());
        assert_eq!(found.input, ["first", "eu.inboxes", "eu.orders", "eu.orders.de", "eu.payments"]);
        assert_eq!(found.dead_letter.topics[2], "p.eu.orders.dlq");
        assert_eq!(found.input.len(), found.dead_letter.topics.len());
        assert_ne!(found, manifest);
        assert_eq!(manifest.with_topics(&names(&[])).as_ref(), Some(&manifest), "what is named is there");
    }

    #[test]
    fn what_a_pipeline_writes_never_comes_round() {
        let text = "handler = \"h.wasm\"\ninput = [\"^a\"]\noutput.out = \"a-out\"\ndead-letter.topic = \"a-bad\"\n";
        let manifest = for_tests("p", text);
        let found = manifest.with_topics(&names(&["a-out", "a-bad", "a-in"]));
        assert_eq!(found.map(|found| found.input), Some(vec!["a-in".to_owned()]));
        assert_eq!(manifest.with_topics(&names(&["a-out", "b"])), None);
        let long = format!("a{}", "x".repeat(245));
        let manifest = for_tests("p", "handler = \"h.wasm\"\ninput = [\"^a\"]\n");
        assert_eq!(manifest.with_topics(&names(&[&long])), None, "its dead letters' name would be too long");
    }

    #[test]
    fn what_a_pattern_brings_has_a_topic_of_seen_ids_too() {
        let text = "handler = \"h.wasm\"\ninput = [\"first\", \"^a\"]\ndedup.id = \"key\"\n";
        let seen = |text: &str, there: &[&str]| {
            let found = for_tests("p", text).with_topics(&names(there));
            found.and_then(|found| found.seen).map(|seen| seen.topics)
        };
        assert_eq!(seen(text, &["b", "ab"]), Some(vec!["p.first.seen".to_owned(), "p.ab.seen".to_owned()]));
        let at_least_once = format!("guarantee = \"at-least-once\"\n{text}");
        assert_eq!(seen(&at_least_once, &["ab"]), Some(vec!["p.first.seen".to_owned(), "p.ab.seen".to_owned()]));
        // Its dead letters' name just fits, the others do not.
        let long = format!("a{}", "x".repeat(242));
        assert_eq!(seen(text, &[&long]), Some(vec!["p.first.seen".to_owned()]));
    }

    #[test]
    fn each_input_has_a_topic_of_state_of_its_own_where_there_can_be_state() {
        let with_state = |text: &str| for_tests("p", &format!("handler = \"h.wasm\"\n{text}")).with_state();
        let topics = |text: &str| with_state(text).map(|pipeline| pipeline.state.map(|state| state.topics));
        let two = "input = [\"a\", \"^b\"]\n";
        assert_eq!(topics(two), Ok(Some(vec!["p.a.state".to_owned()])));
        let expanded = with_state(two).map(|pipeline| pipeline.with_topics(&names(&["b1", "a"])));
        let expanded = expanded.ok().flatten().and_then(|pipeline| pipeline.state);
        assert_eq!(expanded.map(|state| state.topics), Some(vec!["p.a.state".to_owned(), "p.b1.state".to_owned()]));
        assert_eq!(topics(&format!("{two}guarantee = \"at-least-once\"\n")), Ok(Some(vec!["p.a.state".to_owned()])));
        assert_eq!(topics(&format!("{two}order.by = \"none\"\n")), Ok(None));
        // That of what is parked is as long, and is found first.
        let mut long = for_tests("p", &format!("handler = \"h.wasm\"\ninput = [\"{}\"]\n", "t".repeat(241)));
        long.group = "pp".to_owned();
        assert!(long.with_state().is_err_and(|why| why.contains("has 250 characters: give the group a shorter name")));
    }

    #[test]
    fn what_is_delayed_has_a_topic_where_state_has_one_or_where_it_is_asked_for() {
        const DAY_MS: u64 = 24 * 3_600_000;
        let delayed = |text: &str, state: bool| {
            let manifest = for_tests("p", &format!("handler = \"h.wasm\"\ninput = [\"a\"]\n{text}"));
            let manifest = if state { manifest.with_state() } else { Ok(manifest) }.and_then(|own| own.with_delays());
            manifest.map(|own| (own.longest_delay_ms(), own.state.map(|state| state.topics)))
        };
        let topic = Some(vec!["p.a.state".to_owned()]);
        assert_eq!(delayed("", false), Ok((None, None)));
        assert_eq!(delayed("", true), Ok((Some(366 * DAY_MS), topic.clone())));
        assert_eq!(delayed("limits.delay = \"2d\"\n", false), Ok((Some(2 * DAY_MS), topic.clone())));
        assert_eq!(
            delayed("limits.delay = \"2d\"\norder.by = \"none\"\n", true),
            Ok((Some(2 * DAY_MS), topic.clone()))
        );
        assert_eq!(delayed("order.by = \"none\"\n", true), Ok((None, None)));
        assert_eq!(delayed("guarantee = \"at-least-once\"\n", true), Ok((None, topic)));
    }
}
