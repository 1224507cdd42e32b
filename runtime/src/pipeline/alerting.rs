//! What alerts are told of a pipeline as a whole, and in which words.

use super::clock::wall_ms;
use super::{Failure, Parts, Shared, supervise};
use crate::alerts::{Example, Kind, Place, What};

/// Keeps a pipeline running as [`supervise`] does. That it can't go on is an alert, and none stands of what it did here.
///
/// # Errors
/// See [`supervise`].
pub(crate) fn supervised(parts: &Parts, shared: &Shared) -> Result<(), Failure> {
    let (name, alerts) = (&parts.manifest.name, &shared.alerts);
    alerts.tell(name, Kind::Stopped, What::Over);
    let ended = supervise(parts, shared);
    alerts.rests(name);
    if let Err(Failure::Person(why) | Failure::Loop(why) | Failure::Fenced(why)) = &ended {
        let example = Example { detail: Some(why.clone()), ..Example::default() };
        alerts.tell(name, Kind::Stopped, What::Stands { count: 1, since_ms: Some(wall_ms()), example });
    }
    ended
}

/// Input is gone: these offsets, or all that was not read of a topic that was made anew.
pub(super) fn lost(topic: &str, partition: Option<i32>, offsets: Option<(i64, i64)>) -> What {
    let detail = match offsets {
        Some((from, to)) => format!("offsets {from} to {} are not in the log any more", to.saturating_sub(1)),
        None => "the topic was deleted and made anew: what had not been read of the old one is gone".to_owned(),
    };
    let example = Example {
        topic: Some(topic.to_owned()),
        partition,
        offset: offsets.map(|(from, _)| from),
        detail: Some(detail),
        ..Example::default()
    };
    What::Happened { count: 1, places: vec![(Place { topic: topic.to_owned(), partition }, 1)], example }
}
