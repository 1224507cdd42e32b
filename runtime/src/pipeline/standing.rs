//! Readiness, as the consumer's troubles make it: there are words for what begins, and seldom any for its end.

use crate::admin::health::{PipelineHealth, State};
use crate::broker::BrokerError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Trouble that is not told again for this long is over; longer than the broker's client is silent about what lasts.
const TROUBLE: Duration = Duration::from_secs(40);

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    health: Arc<PipelineHealth>,
    /// When a person was last told to act, or that no broker answers.
    troubled: Option<Instant>,
    /// No broker answers: the next answer shows that it is over. A record does not, for it may have been fetched before.
    away: bool,
}

impl Standing {
    pub(super) fn new(health: Arc<PipelineHealth>) -> Self {
        Self { health, troubled: None, away: false }
    }

    /// Not ready, until nothing is heard of it any more; where no broker answers, until one does.
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

    /// Whether a broker is to be asked for a sign of life.
    pub(super) const fn is_away(&self) -> bool {
        self.away
    }

    /// A broker gave one.
    pub(super) fn answered(&mut self) {
        if self.away {
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
    fn an_outage_ends_with_the_first_answer() {
        let mut it = standing();
        assert!(!it.is_away());
        it.trouble(&error("no broker answers"), true);
        it.look();
        assert_eq!(it.health.state(), State::NotReady("no broker answers".to_owned()));
        assert!(it.is_away());
        it.answered();
        assert_eq!(it.health.state(), State::Ready);
        assert!(!it.is_away());
    }

    #[test]
    fn other_trouble_ends_when_nothing_is_heard_of_it_any_more() {
        let mut it = standing();
        it.trouble(&error("no rights"), false);
        later(&mut it, TROUBLE / 2);
        it.answered();
        it.look();
        assert_ne!(it.health.state(), State::Ready, "a broker answers all the while");
        later(&mut it, TROUBLE);
        it.look();
        assert_eq!(it.health.state(), State::Ready);
    }
}
