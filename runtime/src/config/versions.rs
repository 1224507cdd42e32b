//! What a manifest says of how one version follows another.

use super::reader::{Reader, Text};
use super::topic;
use crate::rollout::trial::Terms;
use keyrail_engine::state::schema::Schemas;
use std::time::Duration;

/// `[rollout]`.
pub(super) fn rollout(reader: &mut Reader<'_, '_>) -> Option<Terms> {
    let share = reader.number("rollout.share");
    if reader.has("rollout.share") && share == 0.0 {
        reader.fault("rollout.share", "a new handler would be tried on no key", "write a part of 1, as in 0.05");
    }
    let terms = Terms {
        share,
        lasts: Duration::from_millis(reader.duration("rollout.for")),
        least_messages: reader.whole("rollout.least-messages").into(),
        failures: reader.number("rollout.failures"),
        slower: reader.number("rollout.slower"),
    };
    reader.has("rollout").then_some(terms)
}

/// `rollout.audit`.
pub(super) fn audit(reader: &mut Reader<'_, '_>, input: &[Text]) -> Option<String> {
    const KEY: &str = "rollout.audit";
    let written = reader.text(KEY, "deployments")?;
    if let Err((problem, cure)) = topic::check(&written.text) {
        reader.fault(KEY, problem, cure);
    } else if input.iter().any(|input| input.text == written.text) {
        reader.fault(
            KEY,
            format!("{:?} is an input too: the handler would be given these records", written.text),
            "name another topic",
        );
    }
    Some(written.text)
}

/// `[state]`.
pub(super) fn schemas(reader: &mut Reader<'_, '_>) -> Schemas {
    let (own, accepts) = (reader.whole("state.schema"), reader.wholes("state.accepts"));
    if accepts.contains(&own) {
        reader.fault("state.accepts", format!("{own} is what it writes, and always reads"), "remove it");
    }
    // The catalogue's limits are those of the type.
    let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Schemas::new(narrow(own), accepts.into_iter().map(narrow))
}
