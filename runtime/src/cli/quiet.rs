//! What a command makes of a reader that brings nothing.

use super::terminal::say;
use keyrail::broker::client::ANSWER_WAIT;
use keyrail::broker::{BrokerError, BrokerErrorKind};
use std::time::{Duration, Instant};

/// Between two looks at a broker that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// How long nothing has come, and why.
pub(super) struct Quiet {
    follows: bool,
    comes_back: bool,
    since: Instant,
    told: Option<String>,
}

impl Quiet {
    pub(super) fn new(follows: bool, comes_back: bool) -> Self {
        Self { follows, comes_back, since: Instant::now(), told: None }
    }

    /// An outage is told once and waited for by who follows; who wants what is there waits only so long.
    pub(super) fn after(&mut self, read: Result<(), BrokerError>, nothing: bool) -> anyhow::Result<()> {
        if !nothing {
            (self.since, self.told) = (Instant::now(), None);
        }
        match read {
            Ok(()) => {}
            Err(error) if error.kind == BrokerErrorKind::Retry && self.comes_back => {
                if self.follows && self.told.is_none() {
                    say(&format!("keyrail: {error}; waiting"));
                }
                self.told = Some(error.message);
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
        if self.follows || self.since.elapsed() < ANSWER_WAIT {
            return Ok(());
        }
        let why = self.told.take().unwrap_or_else(|| "the broker does not answer".to_owned());
        Err(anyhow::anyhow!("nothing more came within {ANSWER_WAIT:?}, and the end is not reached: {why}"))
    }
}
