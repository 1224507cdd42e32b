//! Two versions of a handler side by side on the same messages, without effects: what `keyrail backtest` does with what topics
//! still hold.
//!
//! Each version has a [`Player`] of its own, with state that begins empty or as it is told, and both clocks stand at the same time: that of the
//! newest message so far, never later than now. So time, chance and what is kept are the same for both until the versions
//! themselves make it otherwise.

mod compare;

pub use compare::{Compared, Difference, Ending, Part, compare, ending};

use crate::config::Pipeline;
use crate::record::Record;
use crate::scenario::{Event, Halted, Player, Told, Took, What};
use crate::wasm::Handler;
use keyrail_engine::message::Partition;
use keyrail_engine::state::Change;
use std::collections::{BTreeMap, VecDeque};

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that is compared with.
    Old,
    /// The one that may replace it.
    New,
}

/// Why a back-test can't go on.
#[derive(Debug)]
pub enum Broken {
    /// A version can't.
    Halted(Side, Halted),
    /// A version keeps more than so many bytes.
    Full(Side, u64),
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Old { "the old version" } else { "the new version" })
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Halted(side, why) => write!(f, "{side} can't go on: {why}"),
            Self::Full(side, bytes) => {
                write!(f, "the state of {side} takes more than {} MiB of memory", bytes >> 20)
            }
        }
    }
}

impl std::error::Error for Broken {}

/// A version: its handler, and the manifest as that handler completes it.
pub type Version<'a> = (Handler, &'a Pipeline);

/// What a back-test holds both versions to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// No clock is later, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// What a version keeps may take so many bytes.
    pub most_bytes: u64,
    /// What they change of state counts, too.
    pub state: bool,
}

/// What both versions made of a message or a timer.
#[derive(Debug)]
pub struct Seen<'a> {
    /// `None`: the old version has no such timer now.
    pub old: Option<&'a Told>,
    /// `None`: the new version has no such timer now.
    pub new: Option<&'a Told>,
    /// How they compare.
    pub compared: Compared,
}

/// What looks at each message and each timer.
pub type Each<'e> = dyn FnMut(&Seen<'_>) + 'e;

/// Both versions on the messages of one task, the partitions that share their keys.
#[derive(Debug)]
pub struct Pair {
    old: Player,
    new: Player,
    terms: Terms,
    /// Who runs second has the message in the processor's caches: they take turns.
    new_first: bool,
}

impl Pair {
    /// `start_ms`: where both clocks stand at first.
    #[must_use]
    pub fn new(old: Version<'_>, new: Version<'_>, start_ms: i64, terms: Terms) -> Self {
        let start_ms = start_ms.min(terms.now_ms);
        let player = |(handler, manifest): Version<'_>| Player::once(handler, manifest, start_ms);
        Self { old: player(old), new: player(new), terms, new_first: false }
    }

    /// Changes the state of both, as if messages before had.
    ///
    /// # Errors
    /// [`Broken::Full`].
    pub fn begin(&mut self, task: Partition, changes: &[Change]) -> Result<(), Broken> {
        self.old.begin(task, changes);
        self.new.begin(task, changes);
        self.look_if_full()
    }

    fn look_if_full(&self) -> Result<(), Broken> {
        for (side, player) in [(Side::Old, &self.old), (Side::New, &self.new)] {
            if player.held_bytes() > self.terms.most_bytes {
                return Err(Broken::Full(side, self.terms.most_bytes));
            }
        }
        Ok(())
    }

    /// Runs what timers are due until then, and the record. `false`: `stop` asked for it, before the record ran.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn run(&mut self, record: &Record, stop: &dyn Fn() -> bool, each: &mut Each<'_>) -> Result<bool, Broken> {
        let at_ms = record.timestamp_ms.min(self.terms.now_ms);
        self.new_first = !self.new_first;
        if !self.timers(at_ms, stop, each)? {
            return Ok(false);
        }
        self.both(&mut |player| player.advance_to(at_ms), each)?;
        self.both(&mut |player| player.run(record), each)?;
        self.look_if_full()?;
        Ok(true)
    }

    /// It is so late now, milliseconds since the Unix epoch. Where messages are run as they come.
    pub fn is_now(&mut self, now_ms: i64) {
        self.terms.now_ms = self.terms.now_ms.max(now_ms);
    }

    /// There is no message before that time: timers that are due by then run.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn idle_until(&mut self, now_ms: i64, stop: &dyn Fn() -> bool, each: &mut Each<'_>) -> Result<(), Broken> {
        self.is_now(now_ms);
        self.timers(now_ms, stop, each)?;
        Ok(())
    }

    /// Runs what timers are due until then. `false`: `stop` asked for it before that.
    fn timers(&mut self, at_ms: i64, stop: &dyn Fn() -> bool, each: &mut Each<'_>) -> Result<bool, Broken> {
        // Timer by timer: what comes of a day of them is not held at once.
        while let Some(due_ms) = self.next_timer_ms().filter(|due_ms| *due_ms <= at_ms) {
            if stop() {
                return Ok(false);
            }
            self.both(&mut |player| player.advance_to(due_ms), each)?;
        }
        Ok(true)
    }

    /// How long calls took: of the old version, and of the new one.
    #[must_use]
    pub fn took(&self) -> (Took, Took) {
        (self.old.took(), self.new.took())
    }

    fn next_timer_ms(&self) -> Option<i64> {
        [self.old.next_timer_ms(), self.new.next_timer_ms()].into_iter().flatten().min()
    }

    fn both(
        &mut self,
        act: &mut dyn FnMut(&mut Player) -> Result<Vec<Event>, Halted>,
        each: &mut Each<'_>,
    ) -> Result<(), Broken> {
        let mut of = |side: Side| {
            let player = if side == Side::Old { &mut self.old } else { &mut self.new };
            act(player).map(told).map_err(|why| Broken::Halted(side, why))
        };
        let (old, new) = if self.new_first {
            let new = of(Side::New)?;
            (of(Side::Old)?, new)
        } else {
            (of(Side::Old)?, of(Side::New)?)
        };
        for (old, new) in matched(old, new) {
            let compared = compare(old.as_ref(), new.as_ref(), self.terms.state);
            each(&Seen { old: old.as_ref(), new: new.as_ref(), compared });
        }
        Ok(())
    }
}

/// Delayed sends were told with their messages.
fn told(events: Vec<Event>) -> Vec<Told> {
    let message = |event: Event| if let What::Message(told) = event.what { Some(told) } else { None };
    events.into_iter().filter_map(message).collect()
}

/// What is the same message, or the same timer of the same key, in both; in the order of the old one, then of the new one.
fn matched(old: Vec<Told>, new: Vec<Told>) -> Vec<(Option<Told>, Option<Told>)> {
    type What = (Option<String>, Option<Vec<u8>>);
    let what = |told: &Told| -> What { (told.timer.clone(), told.key.clone()) };
    // Most often there is one message, and no timer.
    if let ([one], [other]) = (&*old, &*new)
        && what(one) == what(other)
    {
        return old.into_iter().map(Some).zip(new.into_iter().map(Some)).collect();
    }
    let mut others: BTreeMap<What, VecDeque<(usize, Told)>> = BTreeMap::new();
    for (place, told) in new.into_iter().enumerate() {
        others.entry(what(&told)).or_default().push_back((place, told));
    }
    let mut all: Vec<(Option<Told>, Option<Told>)> = Vec::new();
    for told in old {
        let other = others.get_mut(&what(&told)).and_then(VecDeque::pop_front);
        all.push((Some(told), other.map(|(_, other)| other)));
    }
    let mut rest: Vec<(usize, Told)> = others.into_values().flatten().collect();
    rest.sort_by_key(|(place, _)| *place);
    all.extend(rest.into_iter().map(|(_, told)| (None, Some(told))));
    all
}

#[cfg(test)]
mod tests;
