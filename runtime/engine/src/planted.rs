//! Bugs that can be switched on to prove that the simulator finds them. Without the feature `planted` the switch is a
//! constant `false`, and the compiler removes it.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One planted bug; each name says what the code then does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

/// Tells which bug is on, where no policy is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Switch {
    #[cfg(feature = "planted")]
    pub(crate) bug: Option<Bug>,
}

impl Switch {
    /// Whether this bug is on; always `false` outside the simulator's own tests.
    #[cfg(feature = "planted")]
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) const fn has(self, _: Bug) -> bool {
        false
    }
}

bugs! {
    /// Commits past the highest settled offset instead of up to the lowest unsettled one.
    CommitHighest,
    /// Takes completions of an earlier assignment for the present one.
    IgnoreEpochAtSettle,
    /// Opens a lane for its followers while its head waits for a retry.
    ReleaseLaneEarly,
    /// Marks an id as seen when its message starts, so that one that is undone or replayed is its own duplicate.
    SeenBeforeSuccess,
    /// Lets slots stand that come behind a failed one of their lane.
    KeepSlotsBehindFailure,
    /// Puts undone slots back in reverse order.
    UndoReversed,
    /// Settles a message when its first output is acknowledged, not its last.
    SettleAtFirstAck,
    /// Opens the lane of a dead letter before the dead letter is acknowledged.
    OpenBeforeLetterAck,
    /// Settles a message whose output the broker refused.
    SettleRefused,
    /// Keeps remembered ids of messages that were never committed when their partition starts again.
    KeepUncommittedSeen,
    /// Starts a group without a commit one record late.
    StartOneLate,
    /// Skips one offset too many of each settled range at a restart.
    SkipOneTooMany,
    /// Keeps lanes of a revoked partition.
    KeepLanesAtRevoke,
    /// Commits for partitions that were lost.
    CommitLost,
    /// Releases a revoked partition before what was published is acknowledged, yet commits it as settled.
    ReleaseUnacknowledged,
    /// Condemns a whole batch when one of its messages traps.
    CondemnBatch,
    /// Queues a batch that is replayed one by one behind what has arrived since.
    ReplayBehindNewer,
    /// Counts an outage as an attempt.
    OutageCosts,
    /// Takes equal ids of different keys for the same message.
    IdIgnoresKey,
    /// Keeps settled marks above a refused output when the partition is rewound.
    RewindKeepsLater,
    /// Takes a failed commit for a successful one and never repeats it.
    FailedCommitCounts,
    /// Settles a message when the last of its outputs is acknowledged, though another one was refused for now.
    SettleHalfRefused,
    /// Commits what was settled above an output that was refused while its partition was given up.
    DrainIgnoresRefusal,
    /// Lets a message and its duplicate run in one batch.
    TwinsTogether,
    /// Closes the lane of a discarded message before what was undone behind it is back in it.
    LoseUndone,
    /// Runs a failed message again at once.
    RetryAtOnce,
    /// Counts the failure of a breaker's probe as an attempt.
    ProbeCosts,
    /// Runs what is due while the breaker is open.
    RunDueWhileOpen,
    /// Counts runs that fail, so that one message opens the breaker.
    CountRuns,
    /// Has no answer for a probe whose partition went while it ran.
    ForgetProbeOfRevoked,
    /// Leaves the breaker open while there is nothing to try.
    ProbeForEver,
    /// Lets a probe run while another one does.
    ProbeTogether,
    /// Leaves a partition paused after its rewind.
    StayPaused,
    /// Hands records to the shards while something still waits for the ledger.
    ShardsFirst,
    /// Takes the late answer to one commit for the answer to the next.
    LateAnswerCounts,
    /// Opens a partition in a shard although its closing came in before.
    OpenAfterClose,
    /// Publishes into a transaction whose end is already sent.
    PublishWhileEnding,
    /// Ends a transaction before its records are acknowledged.
    EndUnacknowledged,
    /// Leaves a partition that has a part in a transaction out of its offsets when its commit point has not moved, though
    /// its map has.
    OmitUnmoved,
    /// Takes a doubtful end of a transaction for a commit.
    DoubtCountsAsCommitted,
    /// Goes on with a producer whose EndTxn was sent twice.
    KeepAfterResend,
    /// Goes on with the producer of a transaction that was given up.
    KeepProducer,
    /// Starts all partitions of a transaction that was given up anew, but for one.
    SpareOnePartition,
    /// Starts a partition anew from where it last started, not from what is committed.
    ReopenFromMemory,
    /// Gives a partition up before the transaction that it has a part in has ended.
    ReleaseBeforeEnd,
    /// Forgets over a restart that a record is refused for good.
    ForgetVerdict,
    /// Starts partitions of a transaction that was given up anew before the producer is, from what then stands.
    RestartBeforeRenewal,
    /// Ends a transaction without naming an offset.
    EmptyOffsets,
    /// Takes its own renewal that comes late for another process.
    StragglerIsStranger,
    /// Commits a transaction without the ids that it marks.
    OmitMarks,
    /// Takes marks for committed when they are written.
    MarkedBeforeCommit,
    /// Keeps state that was never committed when its partition starts again.
    KeepUncommittedState,
    /// Keeps the state of a message that is undone behind a failed one.
    KeepUndoneState,
    /// Forgets a change that is not committed when an earlier one of its name is.
    PassOnNewer,
    /// Commits a transaction without the state that it changes.
    OmitState,
    /// Commits a transaction without the state that it deletes.
    OmitDeletions,
    /// Takes state for committed when it is written.
    KeptBeforeCommit,
    /// Keeps the state of a message whose outputs will never be taken, and runs it again.
    KeepStateOfVerdict,
    /// Keys of several inputs that share a task have a lane for each input.
    LaneOfInput,
    /// Seen ids of several inputs that share a task count for their own input alone.
    IdOfInput,
    /// What a task commits is written to the topics of the input that it came from.
    MarksOfInput,
    /// Starts only those partitions of a task anew that had a part in a transaction that was given up.
    RestartOneInput,
    /// Keeps verdicts on messages that ran on the state of one that was condemned.
    LearnFromCondemned,
    /// Gives a handler a value that has ended.
    ReadEnded,
    /// Shows a message what a later one of its batch has changed.
    SeeLaterSlots,
    /// Deletes what has ended though the present transaction changes it.
    ExpireChanged,
    /// Runs what arrives for a lane though messages of it are parked.
    OvertakeParked,
    /// The same, where it is not committed yet that they are.
    OvertakeUncommitted,
    /// Runs a parked message that was resolved in a transaction that is not committed yet.
    DrainResolved,
    /// Runs a parked message as it was before it was parked anew.
    DrainStale,
    /// Runs a parked message before it is due.
    DrainEarly,
    /// Runs what was loaded behind a message that is parked anew.
    KeepLoaded,
    /// Runs a message that was dropped by hand in a transaction that is not committed yet.
    RunDropped,
    /// Runs a message that is held until somebody acts.
    RunHeld,
    /// Puts a message that is to run again before those that are parked of its key.
    ReturnFirst,
    /// Gives the number of a message that is to run again to another one, too, which ran meanwhile and is parked.
    ForgetReturned,
    /// Lets a message whose outputs will never be taken run again when a command to it is refused.
    RefusalPardons,
    /// Passes over a command that was obeyed before one that stands before it, and obeys it again.
    ForgetDone,
    /// Takes a message that is to run again for a duplicate of itself.
    ReturnIsDuplicate,
    /// Obeys a command, and commits that without its place in the inbox.
    OmitInbox,
    /// Commits a place in the inbox behind commands that are not obeyed yet.
    PassUnobeyed,
    /// Counts attempts of a message on that somebody lets run again.
    RetryKeepsAttempts,
    /// Takes a message that has only waited for others for no duplicate when somebody lets it run.
    RetryIsNoDuplicate,
    /// Drops a message by hand without marking it as seen.
    DropUnmarked,
    /// Writes answers of a transaction that was given up with the next.
    KeepAnswersOfGivenUp,
    /// A shell's: takes a command for that of an assignment that is over when it comes in before the opening.
    ObeyUnopened,
    /// A shell's: answers a command before the transaction that holds what came of it is committed.
    AnswerAtOnce,
    /// A shell's: reads the inbox of a partition that starts from its end.
    InboxFromEnd,
    /// A shell's: goes on in the inbox of a partition that starts anew where it had read it.
    InboxOnceOnly,
    /// A shell's: obeys commands of transactions that were not committed, too.
    InboxUncommitted,
    /// Writes no mark where a message is given up with what is parked behind it.
    LoseMark,
    /// Runs what was given up with a message.
    RunFollowers,
    /// Gives up what was parked after a message of its key was given up, too.
    BuryNewer,
    /// Writes dead letters of what was given up with a message in reverse order.
    BuryBackwards,
    /// Writes the dead letter of a message that was given up with others once more when its lane is loaded again.
    LetterAgain,
    /// Gives a number that was given up to what is parked later.
    NumberOfGivenUp,
    /// Gives up only what is known to be committed behind a message, and not what is decided.
    GiveUpKnown,
    /// Forgets how often a parked message has failed.
    ForgetAttempts,
    /// Writes no tombstones.
    OmitTombstones,
    /// Tells of what is parked before it is committed.
    ParkedBeforeCommit,
    /// Starts a partition whose commit says that it parks without its retry topic, where the broker lists none.
    BelieveListing,
    /// Goes on from a commit that is not Keyrail's, on the ids and the state that are there.
    BelieveMoved,
    /// Without transactions: writes the first ids and state of a partition before its start is committed.
    WriteBeforeStart,
    /// Says that a partition parks only in the commit after that of the first parked message.
    SayParkedLate,
    /// Takes what a transaction that was given up would have changed of what is parked for committed with the next.
    KeepParkingsOfGivenUp,
    /// A shell's: reads what is parked up to what is decided, not up to the end of its log.
    ParkedToStable,
    /// A shell's: does not read again what is parked for a partition that it starts anew.
    ParkedOnceOnly,
    /// A shell's: reads what was parked by transactions that were not committed, too.
    ParkedUncommitted,
    /// Without transactions: runs what is parked though it comes from the input once more.
    DrainUncovered,
    /// Without transactions: writes the tombstone of a parked message before the records of its run are acknowledged.
    ResolveUnacknowledged,
    /// Without transactions: settles a message before its record in the retry topic is acknowledged.
    ParkUnacknowledged,
    /// Without transactions: writes an id before the records of its message are acknowledged.
    MarkUnacknowledged,
    /// Without transactions: writes ids with the state of their messages, not behind it.
    IdsWithState,
    /// Without transactions: commits offsets before the ids of their messages are written.
    OffsetsBeforeIds,
    /// Without transactions: settles a message before one of its key that was published before it.
    SettleOutOfLine,
    /// Without transactions: writes the state of a round that was refused over that of a later one.
    PutBackOverNewer,
    /// Without transactions: forgets the state of a round that was refused.
    ForgetRefusedRound,
    /// Without transactions: rewinds a partition before what its settled messages left is written.
    RewindUnwritten,
    /// Without transactions: commits for the last time what is not written.
    ReleaseUnwritten,
    /// Without transactions: deletes what has ended though a new value of it is being written.
    ExpireWritten,
    /// A shell's: tells shards that state is kept before its store has it.
    ShardsForgetFirst,
    /// A shell's: reads state of transactions that were not committed, too.
    StateUncommitted,
    /// A shell's: takes the end of a log of state for read as soon as it is told where that is.
    StateEndUnproven,
    /// A shell's: does not read state again for a partition that it starts anew.
    StateOnceOnly,
    /// A shell's: reads state up to what is decided, not up to the end of its log.
    StateToStable,
    /// A shell's: reads state from behind its position.
    StateFromBehind,
    /// A shell's: reads seen ids up to what is decided, not up to the end of their log.
    MarksToStable,
    /// A shell's: does not read seen ids again for a partition that it starts anew.
    MarksOnceOnly,
    /// A shell's: reads the group's generation when the offsets arrive, not when the ledger has them sent.
    LateGeneration,
    /// A shell's: starts a partition while offsets of it are under way.
    UnstableOffsets,
    /// A shell's: tells what waited for the end of a transaction in reverse order.
    HoldReversed,
    /// Lets timers run a second before they are due.
    FireEarly,
    /// Does not delete a timer that has run.
    KeepFired,
    /// Runs timers though what was decided of them is not committed.
    FireUndone,
    /// Puts a timer before what waits in its lane.
    TimerOvertakes,
    /// Runs a timer in one call with messages of its key that may cancel it.
    TimerTogether,
    /// Gives two messages of a key to one call, though what the call does outside has no order.
    Together,
    /// Looks for timers once: what could not join its lane then never does.
    LookOnce,
    /// Sends what is delayed a second before it is due.
    SendEarly,
    /// Does not delete what was delayed when it is sent.
    KeepSent,
    /// Timers that wait for what is parked of their lane are looked for once.
    ForgetWalled,
    /// A timer that is parked stays set.
    KeepParkedTimer,
    /// Sends again what is delayed and in the present transaction already.
    SendAgain,
    /// Goes on behind what a transaction held that was given up, and where an earlier assignment was, with what is delayed.
    LookOn,
    /// Sends what is delayed and due in reverse order.
    SendBackwards,
    /// Takes a version on trial at its word when it fails.
    TrialBelieved,
    /// Chooses messages for a version on trial, not lanes.
    TrialSplitsLane,
    /// Forgets lanes that are not for the version of the batch.
    TrialForgetsAside,
    /// Writes no marks of schemas.
    SchemaUnmarked,
    /// A shell's: forgets what waits for the end of a transaction when that is given up.
    DropHeld,
}
