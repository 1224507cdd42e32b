//! Which action met which fault. A run of many seeds fails unless every pair occurred.

use keyrail_engine::policy::Guarantee;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in traces and tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// A step of a message's way, or of a partition's. Each is a point at which a fault can strike, before or after.
    Action {
        /// The consumer fetches a batch.
        Fetch = "fetch",
        /// A record is routed to a shard.
        Route = "route",
        /// A record is passed over: settled in an earlier assignment.
        PassOver = "pass over",
        /// The handler is called.
        Call = "call",
        /// The call answered.
        Complete = "complete",
        /// The call failed as a whole.
        CallFailed = "call failed",
        /// A message waits for its retry.
        RetryWait = "retry wait",
        /// A message is found to be a duplicate.
        Duplicate = "duplicate",
        /// Outputs are handed to the producer.
        Publish = "publish",
        /// An output is acknowledged.
        Ack = "ack",
        /// An output is refused.
        Refusal = "refusal",
        /// A dead letter is handed to the producer.
        Letter = "letter",
        /// A dead letter is acknowledged.
        LetterAck = "letter ack",
        /// A message is handed to the producer to be parked.
        Park = "park",
        /// One that was parked leaves.
        Unpark = "unpark",
        /// A shard gets a command.
        Obey = "obey",
        /// An answer to a command is handed to the producer.
        Answer = "answer",
        /// A commit starts.
        Commit = "commit",
        /// A commit's answer arrives.
        CommitAnswer = "commit answer",
        /// A partition is opened.
        Open = "open",
        /// Partitions are being revoked.
        Revoke = "revoke",
        /// A shard has closed a partition.
        Drained = "drained",
        /// The last commit of revoked partitions starts.
        Release = "release",
        /// Partitions are given up.
        Unassign = "unassign",
        /// Partitions were lost.
        Lost = "lost",
        /// A partition is rewound.
        Rewind = "rewind",
        /// A partition or all fetching is paused.
        Pause = "pause",
        /// A partition or all fetching goes on.
        Resume = "resume",
        /// A worker leaves in good order.
        Stop = "stop",
        /// A transactional producer is made anew.
        Renew = "renew",
        /// It has its id, or has not.
        Renewed = "renewed",
        /// The offsets are in the transaction, and its end is sent.
        EndTransaction = "end",
        /// A transaction is given up.
        GiveUp = "give up",
        /// Partitions of a transaction that was given up start anew.
        Restart = "restart",
    }
}

named! {
    /// What goes wrong.
    Fault {
        /// The process dies.
        Crash = "crash",
        /// The process is asked to stop, and is started again later.
        Stop = "stop",
        /// The group moves partitions of this worker elsewhere, in good order.
        Revoke = "revoke",
        /// The group takes all of this worker's partitions at once.
        Lost = "lost",
        /// A partition is taken and given back to the same worker.
        Bounce = "bounce",
        /// Members join and leave in quick turns.
        Storm = "storm",
        /// The process stands still past its session, then goes on.
        Zombie = "zombie",
        /// The next call takes long.
        SlowHandler = "slow handler",
        /// The handler fails for a while.
        FailingHandler = "failing handler",
        /// The handler traps for a while.
        TrappingHandler = "trapping handler",
        /// A service is down for a while.
        Outage = "outage",
        /// The broker will never take the next record.
        Undeliverable = "undeliverable",
        /// The next record is written, but reported as not.
        DoubtfulProduce = "doubtful produce",
        /// Acknowledgements are late.
        LateAck = "late ack",
        /// An output topic takes nothing for a while.
        BlockedOutput = "blocked output",
        /// The dead-letter topics take nothing for a while.
        BlockedLetters = "blocked letters",
        /// The next commit fails.
        FailedCommit = "failed commit",
        /// The next commit is stored, but reported as failed.
        DoubtfulCommit = "doubtful commit",
        /// The next commit's answer is late, perhaps past the time it is waited for.
        LateCommit = "late commit",
        /// The broker does nothing for a while.
        BrokerDown = "broker down",
        /// The producer outside sends messages again.
        Duplicates = "duplicates",
        /// Compaction takes records out of the log.
        Compaction = "compaction",
        /// Transaction markers take up offsets.
        Markers = "markers",
        /// Retention takes records that were not read yet.
        Retention = "retention",
        /// The wall clock jumps.
        ClockJump = "clock jump",
        /// An operator moves the group's offset.
        Reset = "reset",
        /// The commit's metadata is foreign, damaged or lies.
        HostileMetadata = "hostile metadata",
        /// The byte budget is small for a while.
        SmallBudget = "small budget",
        /// The client stops delivering a partition without a word.
        SilentStall = "silent stall",
        /// The input topic gets a partition more.
        PartitionAdded = "partition added",
        /// The process stands still past the time of a transaction, not past its session.
        Frozen = "frozen",
        /// The next record is reported as not written, and arrives later.
        LateProduce = "late produce",
        /// The next request that ends a transaction takes long to arrive.
        SlowEnd = "slow end",
        /// It is sent twice, and the first one arrives later.
        ResentEnd = "resent end",
        /// The coordinator does not take the next offsets.
        RefusedOffsets = "refused offsets",
        /// The next producer can't be made.
        FailedRenewal = "failed renewal",
        /// Making it takes long, perhaps longer than it is waited for.
        LateRenewal = "late renewal",
        /// The next decision takes long until it shows.
        SlowMarkers = "slow markers",
        /// Another process takes the transactional id.
        StolenId = "stolen id",
        /// The broker lists no retry topics for a while, and a process starts meanwhile.
        HiddenTopics = "hidden topics",
    }
}

impl Action {
    /// Whether it happens under this guarantee.
    #[must_use]
    pub const fn is_of(self, guarantee: Guarantee) -> bool {
        let of_transactions = matches!(
            self,
            Self::Renew
                | Self::Renewed
                | Self::EndTransaction
                | Self::GiveUp
                | Self::Restart
                | Self::Obey
                | Self::Answer
        );
        match guarantee {
            Guarantee::ExactlyOnce => !matches!(self, Self::Rewind),
            Guarantee::AtLeastOnce => !of_transactions,
        }
    }
}

impl Fault {
    /// Whether it does harm under this guarantee.
    #[must_use]
    pub const fn is_of(self, guarantee: Guarantee) -> bool {
        let of_transactions = matches!(
            self,
            Self::Frozen
                | Self::LateProduce
                | Self::SlowEnd
                | Self::ResentEnd
                | Self::RefusedOffsets
                | Self::FailedRenewal
                | Self::LateRenewal
                | Self::SlowMarkers
                | Self::StolenId
        );
        !of_transactions || matches!(guarantee, Guarantee::ExactlyOnce)
    }
}

/// How often each pair occurred.
#[derive(Debug, Clone)]
pub struct Coverage {
    pairs: Vec<u32>,
    actions: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { pairs: vec![0; Action::ALL.len() * Fault::ALL.len()], actions: vec![0; Action::ALL.len()] }
    }
}

impl Coverage {
    /// An action happened.
    pub fn action(&mut self, action: Action) {
        self.actions[action as usize] += 1;
    }

    /// A fault struck at this action.
    pub fn pair(&mut self, action: Action, fault: Fault) {
        self.pairs[action as usize * Fault::ALL.len() + fault as usize] += 1;
    }

    /// How many faults struck in all.
    #[must_use]
    pub fn faults(&self) -> u32 {
        self.pairs.iter().sum()
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.pairs.iter_mut().zip(&other.pairs) {
            *sum += more;
        }
        for (sum, more) in self.actions.iter_mut().zip(&other.actions) {
            *sum += more;
        }
    }

    /// The pairs that never occurred, of those that can.
    #[must_use]
    pub fn missing(&self) -> Vec<(Action, Fault)> {
        let all = Action::ALL.iter().flat_map(|a| Fault::ALL.iter().map(|f| (*a, *f)));
        let under = |g: Guarantee, a: Action, f: Fault| a.is_of(g) && f.is_of(g);
        let can = |a, f| under(Guarantee::ExactlyOnce, a, f) || under(Guarantee::AtLeastOnce, a, f);
        all.filter(|(a, f)| can(*a, *f) && self.count(*a, *f) == 0).collect()
    }

    /// How often a pair occurred.
    #[must_use]
    pub fn count(&self, action: Action, fault: Fault) -> u32 {
        self.pairs[action as usize * Fault::ALL.len() + fault as usize]
    }

    /// The table of all pairs: a line for each fault, a column for each action.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (number, action) in Action::ALL.iter().enumerate() {
            text += &format!("{number:>3} {:<14} {:>12} times\n", action.name(), self.actions[number]);
        }
        text += &format!("{:<18}", "");
        for number in 0..Action::ALL.len() {
            text += &format!("{number:>5}");
        }
        text.push('\n');
        for fault in Fault::ALL {
            text += &format!("{:<18}", fault.name());
            for action in Action::ALL {
                text += &format!("{:>5}", self.count(*action, *fault));
            }
            text.push('\n');
        }
        text
    }
}
