//! Where records and offsets go: each for itself, or together in transactions.

use super::Trouble;
use crate::broker::{BrokerError, BrokerErrorKind, Commits, Finished, OffsetCommit, Producer, Transactions};
use crate::fail::{Point, pass};
use keyrail_engine::answers::Answers;
use keyrail_engine::pipeline;
use std::time::Duration;

/// What writes for a pipeline; see `guarantee`.
pub(super) enum Sink {
    /// At least once: a commit is of what is acknowledged.
    Apart {
        /// Writes records.
        producer: Box<dyn Producer>,
        /// Writes offsets.
        commits: Box<dyn Commits>,
        /// Whose answer is whose.
        answers: Answers<()>,
    },
    /// Exactly once: a commit is the end of a transaction.
    Together {
        /// Writes both.
        transactions: Box<dyn Transactions>,
        /// Begun and not ended.
        begun: Option<Begun>,
        /// A transaction was committed: rights and broker are as they should be.
        proven: bool,
    },
}

/// What [`Transactions`] are at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begun {
    /// The producer is made anew.
    Renewal,
    /// The commit of this number.
    Commit(u64),
}

/// What came of it.
pub(super) enum Ended {
    /// A commit of offsets alone.
    Commit(u64, Result<(), BrokerError>),
    /// A transaction; `true`: a request of it was sent more than once.
    Transaction(u64, Result<bool, BrokerError>),
    /// A new producer.
    Renewal(Result<(), BrokerError>),
}

impl Sink {
    pub(super) fn apart(producer: Box<dyn Producer>, commits: Box<dyn Commits>) -> Self {
        Self::Apart { producer, commits, answers: Answers::new() }
    }

    pub(super) fn together(transactions: Box<dyn Transactions>) -> Self {
        Self::Together { transactions, begun: None, proven: false }
    }

    pub(super) fn producer(&mut self) -> &mut dyn Producer {
        match self {
            Self::Apart { producer, .. } => producer.as_mut(),
            Self::Together { transactions, .. } => transactions.as_mut(),
        }
    }

    /// Whether something is on its way.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Apart { producer, .. } => producer.in_flight() > 0,
            Self::Together { transactions, begun, .. } => begun.is_some() || transactions.in_flight() > 0,
        }
    }

    /// Starts the commit of this number; its end comes out of [`Sink::ended`], or at once when it could not be started.
    pub(super) fn commit(&mut self, number: u64, offsets: Vec<OffsetCommit>) -> Option<Ended> {
        pass(Point::BeforeCommit);
        match self {
            Self::Apart { commits, answers, .. } => match commits.start(&offsets) {
                Ok(()) => {
                    answers.sent(number, ());
                    pass(Point::CommitSent);
                }
                Err(error) => return Some(Ended::Commit(number, Err(error))),
            },
            Self::Together { transactions, begun, .. } => {
                transactions.commit(offsets);
                *begun = Some(Begun::Commit(number));
            }
        }
        None
    }

    /// Makes the transactional producer anew; nothing of what it was at counts any more.
    pub(super) fn renew(&mut self) {
        if let Self::Together { transactions, begun, .. } = self {
            pass(Point::BeforeRenewal);
            transactions.renew();
            *begun = Some(Begun::Renewal);
        }
    }

    /// Partitions are given up, in good order or not: see [`Transactions::disown`].
    pub(super) fn disown(&mut self) {
        if let Self::Together { transactions, .. } = self {
            transactions.disown();
        }
    }

    /// What was begun has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        match self {
            Self::Apart { commits, answers, .. } => {
                let found = answers.take(|()| commits.finished().inspect(|_| pass(Point::CommitAnswered)));
                found.map(|(number, result)| Ended::Commit(number, result))
            }
            Self::Together { transactions, begun, proven } => {
                let at = (*begun)?;
                let Some(result) = transactions.finished() else {
                    if matches!(at, Begun::Commit(_)) {
                        pass(Point::CommitSent);
                    }
                    return None;
                };
                *begun = None;
                Some(match at {
                    Begun::Renewal => {
                        pass(Point::AfterRenewal);
                        Ended::Renewal(result.map(|_| ()))
                    }
                    Begun::Commit(number) => {
                        pass(Point::CommitAnswered);
                        *proven |= result.is_ok();
                        let resent = |ended| matches!(ended, Finished::Committed { resent: true });
                        Ended::Transaction(number, result.map(resent))
                    }
                })
            }
        }
    }

    /// The last commit of partitions that are given up, at least once only: waited for.
    pub(super) fn commit_now(&mut self, offsets: &[OffsetCommit], wait: Duration) -> Result<(), BrokerError> {
        match self {
            Self::Apart { commits, answers, .. } => {
                answers.forget();
                if offsets.is_empty() { Ok(()) } else { commits.now(offsets, wait) }
            }
            Self::Together { .. } => Ok(()),
        }
    }

    /// What a failure of the transactional producer is to the ledger. What a person must mend ends the pipeline, unless it
    /// worked before: then it may pass, as a right that is taken and given, or a topic that is made anew.
    pub(super) fn judge<T>(&self, result: Result<T, BrokerError>) -> Result<Result<T, pipeline::Trouble>, Trouble> {
        let proven = matches!(self, Self::Together { proven: true, .. });
        let error = match result {
            Ok(it) => return Ok(Ok(it)),
            Err(error) => error,
        };
        match error.kind {
            BrokerErrorKind::Operator if !proven => Err(Trouble::Operator(error.message)),
            BrokerErrorKind::Fatal => Ok(Err(pipeline::Trouble::Fenced(error.message))),
            BrokerErrorKind::Superseded => Ok(Err(pipeline::Trouble::Superseded(error.message))),
            BrokerErrorKind::Retry | BrokerErrorKind::Operator => Ok(Err(pipeline::Trouble::Failed(error.message))),
        }
    }
}
