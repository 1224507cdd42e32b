//! A message, what its run is to read, and what is to come of it, as a file: what `keyrail replay --fixture` writes and
//! `keyrail test` runs.

use crate::cli::runs::verdict;
use keyrail::replay::{Case, Kind, Played, Verdict};
use keyrail::scenario::told::{Data, Output, StateChange, TimerChange, changes};
use keyrail::wasm::{Fired, Reads, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a file must say that it is.
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::cli) struct Fixture {
    keyrail_fixture: u32,
    /// Where it comes from, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The pipeline whose handler and manifest are meant.
    pub(in crate::cli) pipeline: String,
    message: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<Timer>,
    #[serde(default = "one")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    follows_dead_letter: bool,
    /// Milliseconds since 1970.
    now: i64,
    /// Milliseconds.
    #[serde(default = "five_seconds")]
    deadline: u64,
    #[serde(default)]
    state: State,
    /// How it ended when it was made, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<Was>,
    pub(in crate::cli) expect: Expected,
}

fn one() -> u32 {
    1
}

fn five_seconds() -> u64 {
    5_000
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_false(yes: &bool) -> bool {
    !yes
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Data,
    value: Data,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Data, Data)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timer {
    name: String,
    #[serde(default)]
    hops: u32,
}

/// What is there when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct State {
    /// By name; null: nothing.
    values: BTreeMap<String, Data>,
    /// Parts of the names in which nothing else is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Known {
    prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Was {
    handler: String,
    outcome: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

impl Was {
    pub(super) fn of(handler: &str, verdict: &Verdict) -> Self {
        Self {
            handler: handler.to_owned(),
            outcome: verdict.kind.as_str().to_owned(),
            code: verdict.failure.code.clone(),
            detail: verdict.failure.detail.clone(),
        }
    }
}

/// What is to come of it. What is not there is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct Expected {
    /// A word of [`Kind`], or `handled`: done or skipped.
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sends: Option<Vec<Output>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Vec<StateChange>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timers: Option<Vec<TimerChange>>,
}

impl Fixture {
    pub(super) fn of(from: &str, pipeline: &str, case: &Case, was: Was, expect: Expected) -> Self {
        let known = |Span { prefix, after, until }: &Span| Known {
            prefix: prefix.clone(),
            after: after.clone(),
            until: until.clone(),
        };
        let values =
            case.reads.names.iter().map(|(name, value)| (name.clone(), Data(value.as_deref().map(<[u8]>::to_vec))));
        Self {
            keyrail_fixture: VERSION,
            from: Some(from.to_owned()),
            pipeline: pipeline.to_owned(),
            message: Message {
                topic: case.topic.clone(),
                partition: case.partition,
                offset: case.offset,
                timestamp: case.timestamp_ms,
                key: Data(case.key.clone()),
                value: Data(case.value.clone()),
                headers: Data::pairs(&case.headers),
            },
            timer: case.timer.as_ref().map(|timer| Timer { name: timer.name.clone(), hops: timer.hops }),
            attempt: case.attempt,
            follows_dead_letter: case.follows_dead_letter,
            now: case.now_ms,
            deadline: case.deadline_ms,
            state: State { values: values.collect(), known: case.reads.spans.iter().map(known).collect() },
            was: Some(was),
            expect,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// In words: it is none.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let fixture: Self = serde_json::from_str(text).map_err(|why| why.to_string())?;
        if fixture.keyrail_fixture != VERSION {
            return Err(format!(
                "\"keyrail-fixture\" is {}, and this Keyrail knows {VERSION}",
                fixture.keyrail_fixture
            ));
        }
        let outcome = &fixture.expect.outcome;
        if outcome != HANDLED && !Kind::ALL.iter().any(|kind| kind.as_str() == outcome) {
            let words = Kind::ALL.map(Kind::as_str).join(", ");
            return Err(format!("\"expect\" needs an \"outcome\": {HANDLED}, {words}"));
        }
        if fixture.message.headers.iter().any(|(name, _)| name.0.is_none()) {
            return Err("a header needs a name".to_owned());
        }
        Ok(fixture)
    }

    /// What is to be run.
    pub(in crate::cli) fn case(&self) -> Case {
        let Message { topic, partition, offset, timestamp, key, value, headers } = self.message.clone();
        let values =
            self.state.values.iter().map(|(name, Data(value))| (name.clone(), value.as_deref().map(Arc::from)));
        let span = |Known { prefix, after, until }: &Known| Span {
            prefix: prefix.clone(),
            after: after.clone(),
            until: until.clone(),
        };
        Case {
            topic,
            partition,
            offset,
            timestamp_ms: timestamp,
            key: key.0,
            value: value.0,
            headers: headers.into_iter().map(|(name, value)| (name.0.unwrap_or_default(), value.0)).collect(),
            timer: self.timer.as_ref().map(|Timer { name, hops }| Fired { name: name.clone(), hops: *hops }),
            attempt: self.attempt,
            follows_dead_letter: self.follows_dead_letter,
            now_ms: self.now,
            deadline_ms: self.deadline,
            reads: Reads::of(values.collect(), self.state.known.iter().map(span).collect(), false),
        }
    }
}

/// Done or skipped.
const HANDLED: &str = "handled";

impl Expected {
    /// That it is handled, in whatever way.
    pub(super) fn handled() -> Self {
        Self { outcome: HANDLED.to_owned(), ..Self::default() }
    }

    /// What came of a run: of one that failed, what it staged does not count.
    pub(super) fn of(played: &Played) -> Self {
        let kind = played.verdict.kind;
        let code = (!kind.stands()).then(|| played.verdict.failure.code.clone());
        let mut expected = Self { outcome: kind.as_str().to_owned(), code, ..Self::default() };
        if !kind.stands() {
            return expected;
        }
        expected.sends = Some(played.sent.iter().map(Output::of).collect());
        let (state, timers) = changes(&played.changes);
        (expected.state, expected.timers) = (Some(state), Some(timers));
        expected
    }

    /// What is sent and changed, by the names that a fixture has for it.
    pub(super) fn effects(&self) -> Vec<(&'static str, Value)> {
        let told = [("sends", json!(self.sends)), ("state", json!(self.state)), ("timers", json!(self.timers))];
        told.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// What is wrong with what came, in lines; none if nothing is.
    pub(in crate::cli) fn against(&self, played: &Played) -> Vec<String> {
        let (came, mut wrong) = (Self::of(played), Vec::new());
        let is_meant = came.outcome == self.outcome || self.outcome == HANDLED && played.verdict.kind.stands();
        if !is_meant || self.code.is_some() && self.code != came.code {
            let code = self.code.as_ref().map_or_else(String::new, |code| format!(" {code}"));
            wrong.push(format!("expected {}{code}, came {}", self.outcome, verdict(&played.verdict)));
        }
        for ((name, wanted), found) in self.effects().into_iter().zip(self.like(&came)) {
            if wanted != found {
                wrong.push(format!("{name}: expected {wanted}, came {found}"));
            }
        }
        wrong
    }

    /// Of what came that which is looked at, as `effects` tells it.
    fn like(&self, came: &Self) -> Vec<Value> {
        let told = [
            (self.sends.is_some(), json!(came.sends.clone().unwrap_or_default())),
            (self.state.is_some(), json!(came.state.clone().unwrap_or_default())),
            (self.timers.is_some(), json!(came.timers.clone().unwrap_or_default())),
        ];
        told.into_iter().filter(|(looked_at, _)| *looked_at).map(|(_, value)| value).collect()
    }
}
