//! Readiness, as the consumer's troubles make it: there are words for what begins, and seldom any for its end.

use crate::admin::health::{PipelineHealth, State};
use crate::broker::BrokerError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Trouble that is not told again for this long is over; longer than the broker's client is silent about what lasts.
const TROUBLE: Duration = Duration::from_secs(40);
/// What is read so soon after an outage began was fetched before.
const FETCHED: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    health: Arc<PipelineHealth>,
    /// When a person was last told to act, or that no broker answers.
    troubled: Option<Instant>,
    /// No broker answers: the next record shows that it is over.
    away: bool,
}

impl Standing {
    pub(super) fn new(health: Arc<PipelineHealth>) -> Self {
        Self { health, troubled: None, away: false }
    }

    /// Not ready, until nothing is heard of it any more; where no broker answers, until a record comes.
    pub(super) fn trouble(&mut self, error: &BrokerError, away: bool) {
        (self.troubled, self.away) = (Some(Instant::now()), away);
        self.health.set(State::NotReady(error.message.clone()));
    }

    /// Once in a while.
    pub(super) fn look(&mut self) {
        if self.troubled.is_some_and(|since| since.elapsed() > TROUBLE) {
            self.recovered();
        }
    }

    /// Records came.
    pub(super) fn read(&mut self) {
        if self.away && self.troubled.is_none_or(|since| since.elapsed() > FETCHED) {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        (self.troubled, self.away) = (None, false);
        self.health.set(State::Ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::health::Health;
    use crate::broker::BrokerErrorKind;

    fn standing() -> Standing {
        Standing::new(Health::new().pipeline("p"))
    }

    fn later(standing: &mut Standing, by: Duration) {
        standing.troubled = standing.troubled.and_then(|since| since.checked_sub(by));
    }

    fn error(message: &str) -> BrokerError {
        BrokerError { kind: BrokerErrorKind::Retry, message: message.to_owned() }
    }

    #[test]
    fn an_outage_ends_with_the_first_record_that_was_not_fetched_before() {
        let mut it = standing();
        it.trouble(&error("no broker answers"), true);
        it.read();
        assert_eq!(it.health.state(), State::NotReady("no broker answers".to_owned()));
        later(&mut it, FETCHED * 2);
        it.look();
        assert_ne!(it.health.state(), State::Ready);
        it.read();
        assert_eq!(it.health.state(), State::Ready);
    }

    #[test]
    fn other_trouble_ends_when_nothing_is_heard_of_it_any_more() {
        let mut it = standing();
        it.trouble(&error("no rights"), false);
        later(&mut it, FETCHED * 2);
        it.read();
        it.look();
        assert_ne!(it.health.state(), State::Ready, "records of another topic may come");
        later(&mut it, TROUBLE);
        it.look();
        assert_eq!(it.health.state(), State::Ready);
    }
}
