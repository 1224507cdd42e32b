//! What is known of one message.

use super::runs::RunId;
use crate::record::Rec;
use keyrail_engine::inbox::CommandId;
use keyrail_engine::message::MessageId;
use std::rc::Rc;

/// An order key as a small number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub i32);

impl Scope {
    /// Waits for nothing.
    pub const FREE: Self = Self(-1);

    pub(super) fn is_ordered(self) -> bool {
        self != Self::FREE
    }
}

/// What is known of one message.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The record.
    pub rec: Rc<Rec>,
    /// Its order key.
    pub scope: Scope,
    /// Which messages are the same one.
    pub(super) twin: Option<u32>,
    /// Outputs that stand in their partitions, by index.
    pub(super) seen: u8,
    /// When each output appeared first and last, counted in appends; 0 is never.
    pub(super) first: [u32; 3],
    pub(super) last: [u32; 3],
    /// The run whose output appeared last.
    pub(super) effect_run: RunId,
    /// Dead letters that stand.
    pub(super) letters: u16,
    /// The handler has answered done, or skip.
    pub(super) done: bool,
    pub(super) skipped: bool,
    /// A shard decided its fate at least once.
    pub(super) settled: bool,
    /// Lawfully dropped.
    pub(super) discarded: bool,
    /// Suppressed as a duplicate.
    pub(super) suppressed: bool,
    /// It settled otherwise, too: where inputs share their ids either may come first when they come again.
    pub(super) settled_itself: bool,
    /// The broker refused something it sends for good.
    pub(super) undeliverable: bool,
    /// In which run that was last an output.
    pub(super) refused_in: RunId,
    /// The broker did not take something it sends in time.
    pub(super) blocked: bool,
    /// An earlier message of its key was refused after this one had its effect: it must come again. The time says
    /// since when.
    pub(super) needed_again_ms: Option<u64>,
    /// An earlier one of its partition was refused: what was settled above it may lawfully come again.
    pub(super) may_repeat: bool,
    /// Nobody needs its fate: compacted away, or passed over by an operator.
    pub(super) excused: bool,
    /// Retention took it.
    pub(super) removed: bool,
    /// And that was reported, before any commit covered it.
    pub(super) lost: bool,
    /// A commit covers it, and its fate was found visible.
    pub(super) checked: bool,
    /// With exactly-once: the group's offset or its map covers it now, and this came of it.
    pub(super) covered: bool,
    /// It did once, before somebody moved the group.
    pub(super) was_covered: bool,
    pub(super) ended: Option<End>,
    /// How often it was taken back after it had become a dead letter.
    pub(super) redriven: u32,
}

/// What a shard decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Skipped,
    Duplicate,
    Letter,
    Discarded,
    /// It waits in the retry topic.
    Parked,
    /// It did already.
    Known,
    /// All that was given up with it is a dead letter.
    Buried,
}

impl Fact {
    pub(super) fn new(rec: Rc<Rec>, scope: Scope, twin: Option<u32>) -> Self {
        Self {
            rec,
            scope,
            twin,
            seen: 0,
            first: [0; 3],
            last: [0; 3],
            effect_run: RunId::default(),
            letters: 0,
            done: false,
            skipped: false,
            settled: false,
            discarded: false,
            suppressed: false,
            settled_itself: false,
            undeliverable: false,
            refused_in: RunId::default(),
            blocked: false,
            needed_again_ms: None,
            may_repeat: false,
            excused: false,
            removed: false,
            lost: false,
            checked: false,
            covered: false,
            was_covered: false,
            ended: None,
            redriven: 0,
        }
    }

    /// All outputs that it sends.
    pub(super) fn all_outputs(&self) -> u8 {
        (1u8 << self.rec.outputs.places().len()) - 1
    }

    /// Its fate can be seen, twins apart.
    pub(super) fn has_fate(&self) -> bool {
        let done = self.seen == self.all_outputs() && (self.seen != 0 || self.done);
        self.excused || done || self.letters > 0 || self.skipped || self.discarded
    }

    /// It lawfully had no output before later ones of its key had theirs.
    pub(super) fn may_come_late(&self) -> bool {
        self.excused || self.removed || self.letters > 0 || self.discarded || self.suppressed || self.undeliverable
    }
}

/// What is known of one message within one assignment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Local {
    /// Its id, as the engine has it.
    pub(super) id: Option<MessageId>,
    /// And that is to be written.
    pub(super) marks: bool,
    pub(super) settled: bool,
    /// Counts all that settles: which came first.
    pub(super) order: u32,
    /// How.
    pub(super) end: Option<End>,
    /// It is a dead letter for what the broker will never take.
    pub(super) undeliverable: bool,
    pub(super) calls: u32,
    pub(super) attempts: u32,
    pub(super) first_failed_ms: Option<i64>,
    pub(super) done: bool,
    pub(super) skipped: bool,
    pub(super) trapped_alone: bool,
    pub(super) timed_out_alone: bool,
    pub(super) rejected: bool,
    pub(super) oversized: bool,
    /// It was dropped by hand.
    pub(super) dropped: bool,
    /// By this command it is what it is.
    pub(super) command: Option<CommandId>,
    /// It has run since it was last parked.
    pub(super) released: bool,
    /// Not to run again before this steady time.
    pub(super) not_before_ms: u64,
    /// Outputs that stand in their partitions.
    pub(super) seen: u8,
    /// So does its dead letter.
    pub(super) letter: bool,
}
