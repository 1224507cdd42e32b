//! Output and dead-letter partitions, and what producers have on the way to them.
//!
//! As with an idempotent producer, records of one producer to one partition arrive in order. A record that can't be
//! written within the delivery time is reported as refused; the ones behind it may still be written.

use crate::invariants::PARTITIONS;
use crate::record::{INPUTS, SLOTS_PER_TOPIC};
use std::collections::{BTreeMap, VecDeque};

/// Output partitions: two topics of two.
pub const PLACES: usize = 4;
/// The first dead-letter partition; each input topic has one.
pub const LETTER_PLACE: u8 = 4;
/// The first partition of seen ids; each input partition has one.
pub const MARK_PLACE: u8 = LETTER_PLACE + INPUTS as u8;
/// The first partition of state; each input partition has one.
pub const STATE_PLACE: u8 = MARK_PLACE + PARTITIONS as u8;
/// The first partition of what is parked; each input partition has one.
pub const PARK_PLACE: u8 = STATE_PLACE + PARTITIONS as u8;
/// The first inbox; each input partition has one.
pub const INBOX_PLACE: u8 = PARK_PLACE + PARTITIONS as u8;
/// One past the last place.
pub const ALL_PLACES: u8 = INBOX_PLACE + PARTITIONS as u8;
/// Dead-letter topics, one for each input.
pub const LETTER_TOPICS: [usize; INPUTS] = [2, 3, 4];
/// Topics of seen ids, one for each input.
pub const MARK_TOPICS: [usize; INPUTS] = [5, 6, 7];
/// Topics of state, one for each input.
pub const STATE_TOPICS: [usize; INPUTS] = [8, 9, 10];
/// Retry topics, one for each input.
pub const PARK_TOPICS: [usize; INPUTS] = [11, 12, 13];
/// Inboxes, one for each input.
pub const INBOX_TOPICS: [usize; INPUTS] = [14, 15, 16];
const TOPICS: usize = 17;
/// Tells a record of seen ids from an output.
const MARKS: u8 = u8::MAX;
/// And one of state.
const STATE: u8 = u8::MAX - 1;
/// And one of a retry topic.
const PARK: u8 = u8::MAX - 2;
/// And an answer to a command.
const ANSWER: u8 = u8::MAX - 3;

/// What a record in an output or dead-letter partition stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Number of the assignment that it comes from, unique in the run.
    pub run: u32,
    /// Dense number of the input partition.
    pub partition: u16,
    /// Offset of the message; of seen ids, of state, of what is parked and of answers, which record of them.
    pub offset: i64,
    /// Which of the message's outputs.
    pub index: u8,
    /// It is a dead letter.
    pub letter: bool,
    /// What an output tells of the state that its message read and left: a sum of it.
    pub said: u64,
}

/// Where the seen ids of an input partition are written.
#[must_use]
pub const fn marks_place(partition: u16) -> u8 {
    MARK_PLACE + partition as u8
}

/// Where its state is.
#[must_use]
pub const fn state_place(partition: u16) -> u8 {
    STATE_PLACE + partition as u8
}

/// Where what is parked of it is.
#[must_use]
pub const fn parked_place(partition: u16) -> u8 {
    PARK_PLACE + partition as u8
}

/// Where commands to its messages are written, and the answers.
#[must_use]
pub const fn inbox_place(partition: u16) -> u8 {
    INBOX_PLACE + partition as u8
}

impl Effect {
    /// Seen ids of a partition.
    #[must_use]
    pub const fn marks(partition: u16, record: usize) -> Self {
        Self { run: 0, partition, offset: record as i64, index: MARKS, letter: false, said: 0 }
    }

    /// A change of a partition's state.
    #[must_use]
    pub const fn state(partition: u16, record: usize) -> Self {
        Self { index: STATE, ..Self::marks(partition, record) }
    }

    /// A record of a retry topic, and the assignment that it comes from.
    #[must_use]
    pub const fn parked(partition: u16, record: usize, run: u32) -> Self {
        Self { index: PARK, run, ..Self::marks(partition, record) }
    }

    /// An answer to a command, and the assignment that it comes from.
    #[must_use]
    pub const fn answer(partition: u16, record: usize, run: u32) -> Self {
        Self { index: ANSWER, run, ..Self::marks(partition, record) }
    }

    /// Whether this is an answer, and which record of an inbox.
    #[must_use]
    pub const fn answer_record(&self) -> Option<usize> {
        if self.index == ANSWER { Some(self.offset as usize) } else { None }
    }

    /// Whether this is of a retry topic, and which record.
    #[must_use]
    pub const fn parked_record(&self) -> Option<usize> {
        if self.index == PARK { Some(self.offset as usize) } else { None }
    }

    /// Whether these are seen ids, and which record of them.
    #[must_use]
    pub const fn marks_record(&self) -> Option<usize> {
        if self.index == MARKS { Some(self.offset as usize) } else { None }
    }

    /// Whether this is state, and which record of it.
    #[must_use]
    pub const fn state_record(&self) -> Option<usize> {
        if self.index == STATE { Some(self.offset as usize) } else { None }
    }

    /// Whether it is no message's.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        self.index >= ANSWER
    }
}

/// Which producer sends a record or a request. Without transactions there is one for each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The worker, which is the transactional id.
    pub worker: u8,
    /// The process.
    pub process: u16,
    /// Which producer of the process.
    pub instance: u32,
    /// The producer's epoch.
    pub epoch: u32,
    /// Which of the process's transactions.
    pub attempt: u32,
}

/// What will come of a record on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lot {
    /// Written, and reported so.
    Written,
    /// Never written, and reported so.
    Undeliverable,
    /// Written, but reported as not.
    Doubtful,
    /// Reported as not written; with transactions it arrives after this many milliseconds.
    Late(u64),
}

/// A record on its way.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    /// When it reaches the broker.
    pub ready_ms: u64,
    /// When it was handed to the producer.
    pub sent_ms: u64,
    /// Who sent it.
    pub sender: Sender,
    /// The publication.
    pub token: u64,
    /// What it stands for.
    pub effect: Effect,
    /// What will come of it.
    pub lot: Lot,
}

/// What a queue does at a point in time.
#[derive(Debug, Clone, Copy)]
pub enum Pumped {
    /// Nothing is on its way.
    Empty,
    /// Look again at this time.
    Later(u64),
    /// This record is decided: written if `written`, and reported as `reported`.
    Out {
        /// Which.
        pending: Pending,
        /// It is in the partition now.
        written: bool,
        /// What the producer is told.
        reported: Report,
    },
}

/// A delivery report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Written.
    Ok,
    /// It will never be taken.
    Undeliverable,
    /// Not taken in time.
    Blocked,
    /// The producer has been replaced.
    Fenced,
}

/// All queues of all producers.
#[derive(Debug, Default)]
pub struct Outputs {
    queues: BTreeMap<(u16, u8), VecDeque<Pending>>,
    blocked_until_ms: [u64; TOPICS],
}

/// The topic of an output place, dead letters included.
#[must_use]
pub const fn topic_of(place: u8) -> usize {
    if place < LETTER_PLACE {
        place as usize / 2
    } else if place < MARK_PLACE {
        LETTER_TOPICS[(place - LETTER_PLACE) as usize]
    } else if place < STATE_PLACE {
        MARK_TOPICS[(place - MARK_PLACE) as usize / SLOTS_PER_TOPIC as usize]
    } else if place >= INBOX_PLACE {
        INBOX_TOPICS[(place - INBOX_PLACE) as usize / SLOTS_PER_TOPIC as usize]
    } else if place >= PARK_PLACE {
        PARK_TOPICS[(place - PARK_PLACE) as usize / SLOTS_PER_TOPIC as usize]
    } else {
        STATE_TOPICS[(place - STATE_PLACE) as usize / SLOTS_PER_TOPIC as usize]
    }
}

impl Outputs {
    /// Hands a record to the producer of a process. Returns whether its queue was empty, so that it must be pumped.
    pub fn send(&mut self, process: u16, place: u8, pending: Pending) -> bool {
        let queue = self.queues.entry((process, place)).or_default();
        queue.push_back(pending);
        queue.len() == 1
    }

    /// Decides the first record of a queue, if its time has come.
    pub fn pump(&mut self, process: u16, place: u8, now_ms: u64, delivery_ms: u64) -> Pumped {
        let blocked_until = self.blocked_until_ms[topic_of(place)];
        let Some(queue) = self.queues.get_mut(&(process, place)) else { return Pumped::Empty };
        let Some(&pending) = queue.front() else { return Pumped::Empty };
        if pending.ready_ms > now_ms {
            return Pumped::Later(pending.ready_ms);
        }
        let give_up = pending.sent_ms + delivery_ms;
        if blocked_until > now_ms && give_up > now_ms {
            return Pumped::Later(blocked_until.min(give_up));
        }
        queue.pop_front();
        let (written, reported) = match pending.lot {
            _ if blocked_until > now_ms => (false, Report::Blocked),
            Lot::Written => (true, Report::Ok),
            Lot::Undeliverable => (false, Report::Undeliverable),
            Lot::Doubtful => (true, Report::Blocked),
            Lot::Late(_) => (false, Report::Blocked),
        };
        Pumped::Out { pending, written, reported }
    }

    /// A record that was decided can't be taken yet: it is the first of its queue again.
    pub fn put_back(&mut self, process: u16, place: u8, pending: Pending) {
        self.queues.entry((process, place)).or_default().push_front(pending);
    }

    /// The producer of a process is replaced: of each of its queues some records had left already, the others never will.
    pub fn replaced(&mut self, process: u16, mut leaves: impl FnMut(usize) -> usize) -> Vec<(u8, Pending)> {
        let mut left = Vec::new();
        for ((_, place), queue) in self.queues.range_mut((process, 0)..=(process, u8::MAX)) {
            let gone = leaves(queue.len());
            left.extend(queue.drain(..).take(gone).map(|pending| (*place, pending)));
        }
        left
    }

    /// A process died: of each of its queues some records had left already, the others never will.
    pub fn died(&mut self, process: u16, mut leaves: impl FnMut(usize) -> usize) {
        for ((_, _), queue) in self.queues.range_mut((process, 0)..=(process, u8::MAX)) {
            let len = queue.len();
            queue.truncate(leaves(len));
        }
    }

    /// A topic takes nothing before this time.
    pub fn block(&mut self, topic: usize, until_ms: u64) {
        self.blocked_until_ms[topic] = self.blocked_until_ms[topic].max(until_ms);
    }

    /// Records on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }
}
