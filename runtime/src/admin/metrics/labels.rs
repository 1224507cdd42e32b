//! The closed sets of label values. They are part of the product's face: add to them, never rename.

use super::value::Counter;
use std::marker::PhantomData;

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The position in [`Label::ALL`].
    fn index(self) -> usize;
    /// The value as it is shown.
    fn text(self) -> &'static str;
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct CounterBy<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterBy<L> {
    /// Adds `n` under this label value.
    pub fn add(&self, label: L, n: u64) {
        self.counters[label.index()].add(n);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.counters[label.index()].get()
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    )+};
}

labels! {
    /// What became of a message.
    Fate {
        /// The handler was done with it.
        Done = "done",
        /// The handler filtered it out on purpose.
        Skipped = "skipped",
        /// Its id was seen before within the window.
        Duplicate = "duplicate",
        /// It stands in the dead-letter topic; [`DeadLetterReason`] says why.
        DeadLettered = "dead_lettered",
        /// It was spent and `then = "discard"`.
        Discarded = "discarded",
        /// It waits in the retry topic; when it has run, it counts once more.
        Parked = "parked",
    }

    /// What came of a message that was tried while the breaker was open.
    Probe {
        /// It succeeded, or the handler said that it never will.
        Stood = "stood",
        /// It failed.
        Failed = "failed",
    }

    /// Why a message became a dead letter: the same words as in the header `keyrail-reason`.
    DeadLetterReason {
        /// All its attempts failed.
        Attempts = "attempts",
        /// It failed for longer than `retry.max-age`.
        Age = "age",
        /// The handler rejected it.
        Rejected = "rejected",
        /// It was older than `expires-after` when it would have run.
        Expired = "expired",
        /// Its last run trapped.
        Trap = "trap",
        /// Its last run took longer than `limits.timeout`.
        Timeout = "timeout",
        /// It or what it sent is larger than a limit.
        Oversized = "oversized",
        /// It can't be handed to a handler: no id where one is demanded, a header name that is no UTF-8.
        Undecodable = "undecodable",
        /// The broker refuses for good what it sent.
        Undeliverable = "undeliverable",
        /// An earlier message of its order key was given up, and it with that one.
        Follows = "follows",
    }

    /// How one run of a message failed.
    Failure {
        /// The handler asked for a retry.
        Error = "error",
        /// The handler says that a service is down; costs no attempt.
        Outage = "outage",
        /// The handler asked for a dead letter.
        Rejected = "rejected",
        /// The guest trapped.
        Trap = "trap",
        /// The run took longer than `limits.timeout`.
        Timeout = "timeout",
        /// The guest asked for more than `limits.memory`.
        Memory = "memory",
        /// The guest answered with too few or too many outcomes.
        WrongCount = "wrong_count",
        /// The guest called the host too often, or handed it too much.
        HostCalls = "host_calls",
        /// The broker refuses for good what the run sent.
        Undeliverable = "undeliverable",
    }

    /// Why a partition is not fetched for now.
    PauseReason {
        /// The byte budget of `[memory] records` is used up.
        Budget = "budget",
        /// Its map of gaps nears what commit metadata can hold.
        Metadata = "metadata",
        /// It is blocked; [`BlockReason`] says why.
        Blocked = "blocked",
    }

    /// Why a partition can't go on until something outside changes.
    BlockReason {
        /// An output topic takes no records.
        Output = "output",
        /// The dead-letter topic takes no records.
        DeadLetter = "dead_letter",
        /// The group's commits fail.
        Commit = "commit",
        /// Input was lost and `on-loss = "stop"`.
        Loss = "loss",
        /// Nothing settled for too long although something is in flight.
        Stalled = "stalled",
    }

    /// How a commit ended.
    CommitResult {
        /// The broker has it.
        Ok = "ok",
        /// It failed; it is made again with what is true then.
        Failed = "failed",
    }

    /// What a produced record is.
    Produced {
        /// Sent by the handler.
        Output = "output",
        /// A dead letter.
        DeadLetter = "dead_letter",
        /// Ids that a commit marks as seen.
        SeenIds = "seen_ids",
        /// State that a commit changes.
        State = "state",
        /// A parked message, or its tombstone.
        Parked = "parked",
        /// An answer to a command from outside.
        Answer = "answer",
    }

    /// What became of a record in an inbox.
    CommandResult {
        /// A command, and it is done.
        Obeyed = "obeyed",
        /// A command, and it is refused.
        Refused = "refused",
        /// No command of Keyrail's: passed over.
        Foreign = "foreign",
    }

    /// Why a record was not taken.
    RefusedReason {
        /// Never: the record itself is at fault.
        Undeliverable = "undeliverable",
        /// Not now: the topic or the broker is at fault.
        Blocked = "blocked",
        /// This producer was replaced by a newer one.
        Fenced = "fenced",
    }

    /// What a rebalance did.
    Rebalance {
        /// Partitions came.
        Assigned = "assigned",
        /// Partitions went in good order.
        Revoked = "revoked",
        /// Partitions were somebody else's already.
        Lost = "lost",
    }

    /// Why a remembered id was forgotten.
    ForgottenReason {
        /// It is older than `dedup.window`.
        Window = "window",
        /// There was no room left: earlier than promised.
        Capacity = "capacity",
    }

    /// Why a handler's instance was closed.
    ClosedReason {
        /// Its memory had grown, or its pipeline stopped.
        Recycled = "recycled",
        /// It trapped, answered wrongly or asked for too much.
        Trapped = "trapped",
        /// It was stopped at its deadline.
        Timeout = "timeout",
        /// Another version of the handler took over.
        Swapped = "swapped",
    }
    /// What came of a handler's HTTP request.
    HttpResult {
        /// An answer with a status from 100 to 199.
        Informational = "1xx",
        /// From 200 on.
        Success = "2xx",
        /// From 300 on.
        Redirect = "3xx",
        /// From 400 on.
        ClientError = "4xx",
        /// From 500 on.
        ServerError = "5xx",
        /// The manifest does not grant it.
        Denied = "denied",
        /// No such request can be sent.
        Invalid = "invalid",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or one that broke.
        Unreachable = "unreachable",
        /// A larger answer than is allowed.
        TooLarge = "too-large",
    }
    /// What became of a change in the folder of the pipelines.
    Rollout {
        /// A pipeline was added.
        Started = "started",
        /// Its handler was swapped while it ran.
        Swapped = "swapped",
        /// Its manifest changed: it was drained and started anew.
        Restarted = "restarted",
        /// It was removed, and drained.
        Drained = "drained",
        /// The change is not fit to run; what ran before goes on.
        Refused = "refused",
        /// A version began to be tried on a part of the keys.
        Tried = "tried",
        /// The version on trial serves all keys now.
        Promoted = "promoted",
        /// It does not run any more.
        RolledBack = "rolled-back",
    }
    /// How messages did on a version on trial.
    TrialResult {
        /// Its call answered.
        Ran = "ran",
        /// It failed there alone.
        Overruled = "overruled",
        /// It failed there, and on the version that serves.
        Upheld = "upheld",
    }
}
