//! The simulator finds every planted bug, under every guarantee that knows it.

use keyrail_engine::planted::Bug;
use keyrail_engine::policy::Guarantee;
use keyrail_sim::many::run_seeds_of;

/// A bug that lives through so many seeds is not found; half of them have each guarantee.
const SEEDS: u64 = 4_000;

/// What only commits without transactions can do wrong.
const WITHOUT_TRANSACTIONS: [Bug; 19] = [
    Bug::ReleaseUnacknowledged,
    Bug::RewindKeepsLater,
    Bug::FailedCommitCounts,
    Bug::SettleHalfRefused,
    Bug::DrainIgnoresRefusal,
    Bug::LateAnswerCounts,
    Bug::MarkUnacknowledged,
    Bug::IdsWithState,
    Bug::OffsetsBeforeIds,
    Bug::SettleOutOfLine,
    Bug::PutBackOverNewer,
    Bug::ForgetRefusedRound,
    Bug::RewindUnwritten,
    Bug::ReleaseUnwritten,
    Bug::ExpireWritten,
    Bug::WriteBeforeStart,
    Bug::DrainUncovered,
    Bug::ParkUnacknowledged,
    Bug::ResolveUnacknowledged,
];

/// What only transactions can do wrong.
const WITH_TRANSACTIONS: [Bug; 69] = [
    Bug::MarksOfInput,
    Bug::RestartOneInput,
    Bug::PublishWhileEnding,
    Bug::EndUnacknowledged,
    Bug::OmitUnmoved,
    Bug::DoubtCountsAsCommitted,
    Bug::KeepAfterResend,
    Bug::KeepProducer,
    Bug::SpareOnePartition,
    Bug::ReopenFromMemory,
    Bug::ReleaseBeforeEnd,
    Bug::ForgetVerdict,
    Bug::RestartBeforeRenewal,
    Bug::EmptyOffsets,
    Bug::StragglerIsStranger,
    Bug::MarkedBeforeCommit,
    Bug::KeptBeforeCommit,
    Bug::KeepStateOfVerdict,
    Bug::LearnFromCondemned,
    Bug::StateUncommitted,
    Bug::StateOnceOnly,
    Bug::StateToStable,
    Bug::RunDropped,
    Bug::RunHeld,
    Bug::ReturnFirst,
    Bug::ForgetReturned,
    Bug::RefusalPardons,
    Bug::ForgetDone,
    Bug::ReturnIsDuplicate,
    Bug::OmitInbox,
    Bug::PassUnobeyed,
    Bug::RetryKeepsAttempts,
    Bug::RetryIsNoDuplicate,
    Bug::DropUnmarked,
    Bug::KeepAnswersOfGivenUp,
    Bug::ObeyUnopened,
    Bug::AnswerAtOnce,
    Bug::InboxFromEnd,
    Bug::InboxOnceOnly,
    Bug::InboxUncommitted,
    Bug::LoseMark,
    Bug::RunFollowers,
    Bug::BuryNewer,
    Bug::BuryBackwards,
    Bug::LetterAgain,
    Bug::NumberOfGivenUp,
    Bug::GiveUpKnown,
    Bug::KeepParkingsOfGivenUp,
    Bug::ParkedToStable,
    Bug::ParkedUncommitted,
    Bug::MarksToStable,
    Bug::MarksOnceOnly,
    Bug::LateGeneration,
    Bug::UnstableOffsets,
    Bug::HoldReversed,
    Bug::DropHeld,
    Bug::FireEarly,
    Bug::KeepFired,
    Bug::FireUndone,
    Bug::TimerOvertakes,
    Bug::TimerTogether,
    Bug::LookOnce,
    Bug::ForgetWalled,
    Bug::KeepParkedTimer,
    Bug::SendEarly,
    Bug::KeepSent,
    Bug::SendAgain,
    Bug::LookOn,
    Bug::SendBackwards,
];

#[test]
fn every_planted_bug_is_found() {
    let mut survivors = Vec::new();
    for bug in Bug::ALL {
        for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
            let of_the_other = match guarantee {
                Guarantee::AtLeastOnce => &WITH_TRANSACTIONS[..],
                Guarantee::ExactlyOnce => &WITHOUT_TRANSACTIONS,
            };
            if of_the_other.contains(bug) {
                continue;
            }
            match run_seeds_of(guarantee, 0..SEEDS, Some(*bug)).failure {
                Some(failure) => println!("{bug:?}: seed {}, {}", failure.seed, failure.violation),
                None => survivors.push((*bug, guarantee)),
            }
        }
    }
    assert!(Bug::ALL.len() >= 142, "only {} bugs are planted", Bug::ALL.len());
    assert!(survivors.is_empty(), "not found in {SEEDS} seeds: {survivors:?}");
}
