//! Decides what is told when: the pure part. Time comes in as an argument, a message goes out as a value.
//!
//! Alerts of one pipeline and kind are a group. A group's first news wait for `group-wait`, so that what belongs together
//! comes together; then the group is silent for `group-interval`, however much happens, and what still stands is told
//! again every `repeat-interval`. A message holds all groups that may speak, and between two messages is `group-wait`: so
//! a storm over many pipelines is a few messages. Nothing is lost by silence: counts go on, and a message that was not
//! delivered leaves all of it to be told by the next one.

use super::event::{Event, Example, Kind, Place, What};
use keyrail_engine::message::Now;
use std::collections::BTreeMap;

/// Groups in one message at most; the others are in the next.
pub(super) const GROUPS_TOLD: usize = 50;
/// Groups that are known at most: pipelines that come and go while a receiver is away must not fill the memory.
const GROUPS: usize = 2_000;
/// Places of a group that are counted apart.
const PLACES: usize = 20;
/// The first wait after a message that was not delivered; it doubles up to [`BACKOFF_MAX_MS`].
const BACKOFF_FIRST_MS: u64 = 1_000;
const BACKOFF_MAX_MS: u64 = 5 * 60_000;
/// A receiver is not obeyed for longer when it asks to be left alone.
const RETRY_AFTER_MAX_MS: u64 = 60 * 60_000;

/// `[alerts]`, as far as it is about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// What belongs together comes within this time.
    pub group_wait_ms: u64,
    /// Between two messages of a group.
    pub group_interval_ms: u64,
    /// What still stands is told again after this time.
    pub repeat_interval_ms: u64,
}

/// What is told of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) pipeline: String,
    pub(super) kind: Kind,
    /// Whether it is over.
    pub(super) over: bool,
    /// How many, since it began; of what stands: now.
    pub(super) count: u64,
    /// How many of them since the last message.
    pub(super) new: u64,
    /// How often it began, of what stands.
    pub(super) times: u64,
    /// When the group came to be: with pipeline and kind it names the group.
    pub(super) began_ms: i64,
    /// The first and the last of it, in milliseconds since the Unix epoch.
    pub(super) since_ms: i64,
    pub(super) last_ms: i64,
    pub(super) places: Vec<(Place, u64)>,
    /// How many at places that are not named.
    pub(super) elsewhere: u64,
    pub(super) example: Example,
}

/// What one message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) groups: Vec<Told>,
    /// Events that found no room before they were heard of.
    pub(super) missed: u64,
}

/// Pipeline and kind.
type Key = (String, Kind);

#[derive(Debug)]
struct Group {
    began_ms: i64,
    since_ms: i64,
    last_ms: i64,
    count: u64,
    /// The count as of the last message.
    told_count: u64,
    times: u64,
    over: bool,
    /// Since when there are news; `None`: all is told.
    news_ms: Option<u64>,
    /// When it was told last.
    told_ms: Option<u64>,
    /// There are news since the message that is under way.
    touched: bool,
    places: BTreeMap<Place, u64>,
    elsewhere: u64,
    example: Example,
}

impl Group {
    fn new(now: Now) -> Self {
        Self {
            began_ms: now.wall_ms,
            since_ms: now.wall_ms,
            last_ms: now.wall_ms,
            count: 0,
            told_count: 0,
            times: 0,
            over: true,
            news_ms: None,
            told_ms: None,
            touched: false,
            places: BTreeMap::new(),
            elsewhere: 0,
            example: Example::default(),
        }
    }

    fn news(&mut self, now: Now) {
        self.news_ms.get_or_insert(now.steady_ms);
        (self.touched, self.last_ms) = (true, now.wall_ms);
    }

    fn hear(&mut self, what: What, now: Now) {
        match what {
            What::Happened { count, places, example } => {
                (self.count, self.over) = (self.count.saturating_add(count), false);
                for (place, count) in places {
                    let room = self.places.len() < PLACES || self.places.contains_key(&place);
                    let counted = if room { self.places.entry(place).or_insert(0) } else { &mut self.elsewhere };
                    *counted = counted.saturating_add(count);
                }
                self.example = example;
                self.news(now);
            }
            What::Stands { count, since_ms, example } => {
                (self.count, self.example, self.last_ms) = (count, example, now.wall_ms);
                if self.over {
                    (self.over, self.times) = (false, self.times + 1);
                    self.since_ms = since_ms.unwrap_or(now.wall_ms);
                    self.news(now);
                }
            }
            What::Over if !self.over => {
                self.over = true;
                self.news(now);
            }
            What::Over => {}
        }
    }

    /// When it may be told, by its own times.
    fn due_ms(&self, kind: Kind, timing: Timing) -> Option<u64> {
        let free_ms = self.told_ms.map_or(0, |told| told.saturating_add(timing.group_interval_ms));
        match (self.news_ms, self.told_ms) {
            (Some(news), _) => Some(news.saturating_add(timing.group_wait_ms).max(free_ms)),
            (None, Some(told)) if kind.stands() && !self.over => Some(told.saturating_add(timing.repeat_interval_ms)),
            (None, _) => None,
        }
    }

    /// Whether it goes with a message that goes for another group's sake.
    fn goes_along(&self, now_ms: u64, timing: Timing) -> bool {
        let free = self.told_ms.is_none_or(|told| told.saturating_add(timing.group_interval_ms) <= now_ms);
        self.news_ms.is_some() && free
    }

    /// Whether nothing is left to be told, and what comes now is another matter.
    fn is_done(&self, kind: Kind, now_ms: u64, timing: Timing) -> bool {
        let quiet = self.news_ms.is_none() && (self.over || !kind.stands());
        quiet && self.told_ms.is_none_or(|told| told.saturating_add(timing.group_interval_ms) <= now_ms)
    }

    fn told(&self, pipeline: &str, kind: Kind) -> Told {
        Told {
            pipeline: pipeline.to_owned(),
            kind,
            over: kind.stands() && self.over,
            count: self.count,
            new: if kind.stands() { 0 } else { self.count.saturating_sub(self.told_count) },
            times: self.times,
            began_ms: self.began_ms,
            since_ms: self.since_ms,
            last_ms: self.last_ms,
            places: self.places.iter().map(|(place, count)| (place.clone(), *count)).collect(),
            elsewhere: self.elsewhere,
            example: self.example.clone(),
        }
    }
}

/// What one receiver is to be told.
#[derive(Debug)]
pub(super) struct Desk {
    timing: Timing,
    groups: BTreeMap<Key, Group>,
    /// Nothing goes before: the pace, or the wait after a failure.
    not_before_ms: u64,
    failures: u32,
    missed: u64,
    under_way: Option<UnderWay>,
}

/// What the message under way tells.
#[derive(Debug)]
struct UnderWay {
    /// Of each group, the count.
    counts: Vec<(Key, u64)>,
    missed: u64,
}

impl Desk {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, groups: BTreeMap::new(), not_before_ms: 0, failures: 0, missed: 0, under_way: None }
    }

    /// Takes in what a place says.
    pub(super) fn hear(&mut self, event: Event, now: Now) {
        self.forget(now.steady_ms);
        let Event { pipeline, kind, what } = event;
        let key = (pipeline, kind);
        if let Some(group) = self.groups.get_mut(&key) {
            group.hear(what, now);
        } else if what == What::Over {
            // Nobody was told that it stood.
        } else if self.groups.len() < GROUPS {
            let mut group = Group::new(now);
            group.hear(what, now);
            self.groups.insert(key, group);
        } else {
            self.missed = self.missed.saturating_add(1);
        }
    }

    /// So many events found no room before they came here.
    pub(super) fn miss(&mut self, events: u64) {
        self.missed = self.missed.saturating_add(events);
    }

    /// When the next message may go, if nothing more comes.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.under_way.is_some() {
            return None;
        }
        let due = |((_, kind), group): (&Key, &Group)| group.due_ms(*kind, self.timing);
        self.groups.iter().filter_map(due).min().map(|due| due.max(self.not_before_ms))
    }

    /// Groups that have something to tell.
    pub(super) fn waiting(&self) -> u64 {
        self.groups.values().filter(|group| group.news_ms.is_some()).count() as u64
    }

    /// The message that is due, if one is. It is under way until [`Desk::delivered`] or [`Desk::failed`].
    pub(super) fn take(&mut self, now: Now) -> Option<Parcel> {
        let (now_ms, timing) = (now.steady_ms, self.timing);
        if self.next_ms().is_none_or(|due| due > now_ms) {
            return None;
        }
        let mut keys: Vec<(u64, Key)> = Vec::new();
        for (key, group) in &self.groups {
            let due = group.due_ms(key.1, timing);
            if due.is_some_and(|due| due <= now_ms) || group.goes_along(now_ms, timing) {
                keys.push((due.unwrap_or(now_ms), key.clone()));
            }
        }
        // Who waits longest comes first.
        keys.sort();
        Some(self.parcel(keys.into_iter().map(|(_, key)| key).take(GROUPS_TOLD).collect()))
    }

    /// All that has not been told, whatever the times: nothing more comes.
    pub(super) fn take_all(&mut self) -> Option<Parcel> {
        let has_news = |(key, group): (&Key, &Group)| group.news_ms.is_some().then(|| key.clone());
        let keys: Vec<_> = self.groups.iter().filter_map(has_news).take(GROUPS_TOLD).collect();
        (self.under_way.is_none() && !keys.is_empty()).then(|| self.parcel(keys))
    }

    fn parcel(&mut self, keys: Vec<Key>) -> Parcel {
        let (mut groups, mut counts) = (Vec::new(), Vec::new());
        for key in keys {
            if let Some(group) = self.groups.get_mut(&key) {
                group.touched = false;
                groups.push(group.told(&key.0, key.1));
                counts.push((key, group.count));
            }
        }
        self.under_way = Some(UnderWay { counts, missed: self.missed });
        Parcel { groups, missed: self.missed }
    }

    /// The receiver has it.
    pub(super) fn delivered(&mut self, now: Now) {
        let Some(UnderWay { counts, missed }) = self.under_way.take() else { return };
        (self.failures, self.missed) = (0, self.missed.saturating_sub(missed));
        self.not_before_ms = now.steady_ms.saturating_add(self.timing.group_wait_ms);
        for (key, count) in counts {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            (group.told_ms, group.told_count) = (Some(now.steady_ms), count);
            group.news_ms = group.touched.then_some(now.steady_ms);
        }
        self.forget(now.steady_ms);
    }

    /// The receiver does not have it, as far as is known: all of it is told by the next message, which is not tried before
    /// a while, or before the receiver wants it.
    pub(super) fn failed(&mut self, now: Now, retry_after_ms: Option<u64>) {
        self.under_way = None;
        let backoff_ms = BACKOFF_FIRST_MS << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait_ms = backoff_ms.min(BACKOFF_MAX_MS).max(retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS));
        self.not_before_ms = now.steady_ms.saturating_add(wait_ms);
    }

    fn forget(&mut self, now_ms: u64) {
        let timing = self.timing;
        self.groups.retain(|(_, kind), group| !group.is_done(*kind, now_ms, timing));
    }
}

#[cfg(test)]
mod tests;
