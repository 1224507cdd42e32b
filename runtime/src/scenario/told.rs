//! What came of a run, as files tell it: those of scenarios, and fixtures of one message.

use crate::line::{self, Blob};
use crate::replay::{Change, Sent};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// A send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Output {
    to: String,
    key: Data,
    value: Data,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Data, Data)>,
    #[serde(default, skip_serializing_if = "is_false")]
    forward_headers: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

/// Of state; no value: it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    name: String,
    value: Data,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

/// Of a timer; no time: it is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimerChange {
    name: String,
    #[serde(default)]
    at: Option<i64>,
    payload: Data,
}

/// Bytes as `keyrail tail` prints them: text, `{"base64":"..."}` or null.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Data(
    /// `None` is null.
    pub Option<Vec<u8>>,
);

impl Data {
    /// These.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Some(bytes.to_vec()))
    }

    /// Names and values.
    #[must_use]
    pub fn pairs(all: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<(Self, Self)> {
        all.iter().map(|(name, value)| (Self::of(name), Self(value.clone()))).collect()
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_deref().map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
            None => to.serialize_none(),
            Some(Ok(text)) => to.serialize_str(text),
            Some(Err(bytes)) => json!({ "base64": line::to_base64(bytes) }).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Blob::deserialize(from).map(|blob| Self(blob.0))
    }
}

impl Output {
    /// It, as a file tells it.
    #[must_use]
    pub fn of(sent: &Sent) -> Self {
        Self {
            to: sent.to.clone(),
            key: Data(sent.key.clone()),
            value: Data(sent.value.clone()),
            headers: Data::pairs(&sent.headers),
            forward_headers: sent.forward_headers,
            timestamp: sent.timestamp_ms,
        }
    }
}

/// Of state, and of timers.
#[must_use]
pub fn changes(all: &[Change]) -> (Vec<StateChange>, Vec<TimerChange>) {
    let (mut state, mut timers) = (Vec::new(), Vec::new());
    for change in all {
        match change {
            Change::State(name, to) => state.push(StateChange {
                name: name.clone(),
                value: Data(to.as_ref().map(|(value, _)| value.clone())),
                until: to.as_ref().and_then(|(_, until)| *until),
            }),
            Change::Timer(name, to) => timers.push(TimerChange {
                name: name.clone(),
                at: to.as_ref().map(|(at_ms, _)| *at_ms),
                payload: Data(to.as_ref().map(|(_, payload)| payload.clone())),
            }),
        }
    }
    (state, timers)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_false(yes: &bool) -> bool {
    !yes
}
