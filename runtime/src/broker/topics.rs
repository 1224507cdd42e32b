//! The topics that pipelines need, and what may be wrong with them.

pub use crate::nearest::nearest;

use std::time::Duration;

/// What a pipeline uses a topic for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRole {
    /// Read.
    Input,
    /// Written by the handler.
    Output,
    /// Dead letters of the input named; made with as many partitions as that has.
    DeadLetter {
        /// The input topic.
        input: String,
    },
    /// Ids of the input's messages that were seen; made with as many partitions as that has, and fit only with as many.
    Seen {
        /// The input topic.
        input: String,
        /// How long an id counts.
        window: Duration,
    },
    /// State of the handlers of the input's messages; made with as many partitions as that has, and fit only with as many.
    State {
        /// The input topic.
        input: String,
    },
    /// Messages of the input that wait for their next run; made with as many partitions as that has, and fit only with as
    /// many.
    Parked {
        /// The input topic.
        input: String,
    },
    /// Commands to whoever owns a partition of the input; made with as many partitions as that has, and fit only with as many.
    Inbox {
        /// The input topic.
        input: String,
    },
}

/// A topic that a pipeline needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededTopic {
    /// Its name.
    pub name: String,
    /// What for.
    pub role: TopicRole,
}

/// What is wrong with a topic, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProblem {
    /// The topic.
    pub topic: String,
    /// What is wrong with it and what to do.
    pub message: String,
    /// The command that puts it right, where there is one.
    pub command: Option<String>,
}

/// What a topic keeps that belongs to the partitions of an input: it has as many, and must not lose what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Ids of messages that were seen.
    Ids {
        /// How long an id counts.
        window: Duration,
    },
    /// State of handlers.
    State,
    /// Messages that wait for their next run, or behind one that does.
    Parked,
    /// Commands, and the answers to them.
    Commands,
}

impl TopicRole {
    /// What is kept there and the input that it belongs to, if anything.
    #[must_use]
    pub fn kept(&self) -> Option<(Kept, &str)> {
        match self {
            Self::Input | Self::Output | Self::DeadLetter { .. } => None,
            Self::Seen { input, window } => Some((Kept::Ids { window: *window }, input)),
            Self::State { input } => Some((Kept::State, input)),
            Self::Parked { input } => Some((Kept::Parked, input)),
            Self::Inbox { input } => Some((Kept::Commands, input)),
        }
    }
}

impl Kept {
    /// What such a topic is called.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Ids { .. } => "topic of seen ids",
            Self::State => "topic of state",
            Self::Parked => "retry topic",
            Self::Commands => "inbox",
        }
    }

    /// What comes of it when the input has more partitions than the topic.
    #[must_use]
    pub const fn left_behind(self) -> &'static str {
        match self {
            Self::Ids { .. } => {
                "keys have moved to other partitions, and the ids of their messages have not, so what comes twice within \
                 dedup.window of before may run twice"
            }
            Self::State => {
                "keys have moved to other partitions, and their state has not, so each of those keys would begin with none"
            }
            Self::Parked => {
                "keys have moved to other partitions, and their parked messages have not, so what comes now would overtake them"
            }
            Self::Commands => "commands to messages of those partitions would reach nobody",
        }
    }

    /// Its settings, by Kafka's names. `segments`: the broker deletes whole segments, as Kafka does, and knows settings for
    /// them. `input_limit`: the input's `max.message.bytes`, where known.
    #[must_use]
    pub fn settings(self, segments: bool, input_limit: Option<i64>) -> Vec<(String, String)> {
        match self {
            Self::Ids { window } => seen_settings(window, segments),
            Self::State => state_settings(),
            Self::Parked => parked_settings(input_limit),
            Self::Commands => inbox_settings(input_limit),
        }
    }

    /// Which settings of such a topic would lose what counts, or keep it out. What is not told is not called wrong.
    #[must_use]
    pub fn unfit(self, settings: &[(String, String)]) -> Vec<Unfit> {
        match self {
            Self::Ids { window } => unfit_seen(settings, window),
            Self::State => unfit_state(settings),
            Self::Parked => unfit_parked(settings),
            Self::Commands => Vec::new(),
        }
    }
}

/// How long deletions stay: a local store that is older by half of it is not gone on from.
const STATE_TOMBSTONES_MS: i64 = 7 * 24 * 3_600_000;
/// The largest value with the largest key, and what a batch adds to them.
const STATE_RECORD_BYTES: i64 = 576 * 1024;

/// The settings of a topic for state, by Kafka's names.
#[must_use]
pub fn state_settings() -> Vec<(String, String)> {
    let all = [
        ("cleanup.policy", "compact".to_owned()),
        ("delete.retention.ms", STATE_TOMBSTONES_MS.to_string()),
        ("max.message.bytes", SEEN_LARGEST.to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Which settings of a topic for state would lose some of it, or keep it out. What is not told is not called wrong.
#[must_use]
pub fn unfit_state(settings: &[(String, String)]) -> Vec<Unfit> {
    let of = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let number = |wanted: &str| of(wanted).and_then(|value| value.parse::<i64>().ok());
    let mut unfit = Vec::new();
    let mut add = |setting, needs: String, why| {
        let has = of(setting).unwrap_or_default().to_owned();
        unfit.push(Unfit { setting, has, needs, why });
    };
    if of("cleanup.policy").is_some_and(|policy| policy != "compact") {
        add("cleanup.policy", "compact".to_owned(), "retention takes state away that nobody changed for a while");
    }
    if number("delete.retention.ms").is_some_and(|ms| ms < STATE_TOMBSTONES_MS) {
        add(
            "delete.retention.ms",
            STATE_TOMBSTONES_MS.to_string(),
            "what was deleted may come back from a local store",
        );
    }
    if number("max.message.bytes").is_some_and(|bytes| bytes < STATE_RECORD_BYTES) {
        add("max.message.bytes", SEEN_LARGEST.to_string(), "the largest values don't fit");
    }
    unfit
}

/// What is parked of a message beside itself: what it failed with, and where it was read.
const ENVELOPE_BYTES: i64 = 64 * 1024;

/// The largest batch of a topic that what fits the input must fit with its envelope. `input_limit`: the input's.
fn with_envelope(input_limit: Option<i64>) -> i64 {
    input_limit.unwrap_or(SEEN_LARGEST).saturating_add(ENVELOPE_BYTES).min(i64::from(i32::MAX))
}

/// The settings of a retry topic, by Kafka's names. `input_limit` is the input's `max.message.bytes`, where known: what fits
/// the input must fit with its envelope.
#[must_use]
pub fn parked_settings(input_limit: Option<i64>) -> Vec<(String, String)> {
    let limit = with_envelope(input_limit);
    let all = [
        ("cleanup.policy", "compact".to_owned()),
        ("delete.retention.ms", STATE_TOMBSTONES_MS.to_string()),
        ("max.message.bytes", limit.to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Which settings of a retry topic would lose what waits. What is not told is not called wrong.
#[must_use]
pub fn unfit_parked(settings: &[(String, String)]) -> Vec<Unfit> {
    let of = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut unfit = Vec::new();
    if let Some(has) = of("cleanup.policy").filter(|policy| *policy != "compact") {
        let (has, needs, why) = (has.to_owned(), "compact".to_owned(), "retention takes messages away that still wait");
        unfit.push(Unfit { setting: "cleanup.policy", has, needs, why });
    }
    let tombstones = of("delete.retention.ms").and_then(|value| Some((value, value.parse::<i64>().ok()?)));
    if let Some((has, _)) = tombstones.filter(|(_, ms)| *ms < STATE_TOMBSTONES_MS) {
        let (has, needs) = (has.to_owned(), STATE_TOMBSTONES_MS.to_string());
        let why = "what was resolved may come back from a local store";
        unfit.push(Unfit { setting: "delete.retention.ms", has, needs, why });
    }
    unfit
}

/// Commands and answers stay so long: longer than a pipeline is usually away.
const INBOX_RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// The settings of an inbox, by Kafka's names: a message that is to run again is in it with its envelope.
#[must_use]
pub fn inbox_settings(input_limit: Option<i64>) -> Vec<(String, String)> {
    let limit = with_envelope(input_limit);
    let all = [
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", limit.to_string()),
        ("retention.ms", INBOX_RETENTION_MS.to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Room for the headers that a dead letter gets, beside the record itself.
const DEAD_LETTER_HEADERS_BYTES: i64 = 64 * 1024;

/// The settings of a topic for dead letters, by Kafka's names. `limit` is the input's `max.message.bytes`, where known:
/// what fits the input must fit with its new headers. Retention stays the broker's.
#[must_use]
pub fn dead_letter_settings(limit: Option<i64>) -> Vec<(String, String)> {
    let mut settings = vec![("cleanup.policy".to_owned(), "delete".to_owned())];
    if let Some(limit) = limit {
        let with_headers = limit.saturating_add(DEAD_LETTER_HEADERS_BYTES).min(i64::from(i32::MAX));
        settings.push(("max.message.bytes".to_owned(), with_headers.to_string()));
    }
    settings
}

/// Ids stay longer than they count, so that none is gone while somebody still asks for it.
const SEEN_MARGIN: Duration = Duration::from_hours(1);
/// Kafka's own default, which has room for a packed record.
const SEEN_LARGEST: i64 = 1_048_588;
/// A packed record of ids with what a batch adds to it.
const SEEN_RECORD_BYTES: i64 = 544 * 1024;
/// Ids go in whole segments: in such parts of the window, within these bounds.
const SEEN_SEGMENTS: u32 = 8;
const SEEN_SEGMENT: [Duration; 2] = [Duration::from_mins(10), Duration::from_hours(24)];

/// The settings of a topic for seen ids, by Kafka's names. `segments`: the broker deletes whole segments, as Kafka does, and
/// knows settings for them.
#[must_use]
pub fn seen_settings(window: Duration, segments: bool) -> Vec<(String, String)> {
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", SEEN_LARGEST.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("retention.ms", seen_retention_ms(window).to_string()),
    ];
    if segments {
        let part = (window / SEEN_SEGMENTS).clamp(SEEN_SEGMENT[0], SEEN_SEGMENT[1]);
        settings.push(("segment.ms", part.as_millis().to_string()));
        // Ids go by when they were written, not by the clock of who wrote them.
        settings.push(("message.timestamp.type", "LogAppendTime".to_owned()));
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn seen_retention_ms(window: Duration) -> u128 {
    (window + SEEN_MARGIN).as_millis()
}

/// A setting that does not fit what a topic is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// By Kafka's name.
    pub setting: &'static str,
    /// What it is.
    pub has: String,
    /// What it must be, or what it must at least be.
    pub needs: String,
    /// What comes of it.
    pub why: &'static str,
}

/// Which settings of a topic for seen ids would let ids go before the window is over, or keep them out. What is not told is
/// not called wrong.
#[must_use]
pub fn unfit_seen(settings: &[(String, String)], window: Duration) -> Vec<Unfit> {
    let of = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let number = |wanted: &str| of(wanted).and_then(|value| value.parse::<i64>().ok());
    let mut unfit = Vec::new();
    let mut add = |setting, needs: String, why| {
        let has = of(setting).unwrap_or_default().to_owned();
        unfit.push(Unfit { setting, has, needs, why });
    };
    if of("cleanup.policy").is_some_and(|policy| policy != "delete") {
        add("cleanup.policy", "delete".to_owned(), "compaction takes ids away");
    }
    let too_short = |ms: i64| u128::try_from(ms).is_ok_and(|ms| ms < window.as_millis());
    if number("retention.ms").is_some_and(too_short) {
        add("retention.ms", seen_retention_ms(window).to_string(), "ids are gone before dedup.window is over");
    }
    if number("retention.bytes").is_some_and(|bytes| bytes >= 0) {
        add("retention.bytes", "-1".to_owned(), "ids are gone before dedup.window is over when there are many");
    }
    if number("max.message.bytes").is_some_and(|bytes| bytes < SEEN_RECORD_BYTES) {
        add("max.message.bytes", SEEN_LARGEST.to_string(), "a commit's ids don't fit");
    }
    unfit
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn with(name: &str, value: &str) -> Vec<String> {
        let mut settings = seen_settings(DAY, true);
        settings.retain(|(known, _)| known != name);
        settings.push((name.to_owned(), value.to_owned()));
        unfit_seen(&settings, DAY).into_iter().map(|u| format!("{} {} {}", u.setting, u.has, u.needs)).collect()
    }

    #[test]
    fn ids_stay_for_the_window_and_not_much_longer() {
        let told = |window, segments| {
            let all = seen_settings(window, segments).into_iter().map(|(name, value)| format!("{name}={value}"));
            all.skip(2).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told(DAY, true),
            "retention.bytes=-1 retention.ms=90000000 segment.ms=10800000 message.timestamp.type=LogAppendTime"
        );
        assert_eq!(told(DAY, false), "retention.bytes=-1 retention.ms=90000000");
        assert_eq!(
            told(Duration::from_millis(1), true),
            "retention.bytes=-1 retention.ms=3600001 segment.ms=600000 message.timestamp.type=LogAppendTime"
        );
        assert_eq!(
            told(DAY * 365, true),
            "retention.bytes=-1 retention.ms=31539600000 segment.ms=86400000 message.timestamp.type=LogAppendTime"
        );
    }

    #[test]
    fn what_loses_state_or_keeps_it_out_is_unfit() {
        let with = |name: &str, value: &str| {
            let mut settings = Kept::State.settings(true, None);
            settings.retain(|(known, _)| known != name);
            settings.push((name.to_owned(), value.to_owned()));
            let told = |u: Unfit| format!("{} {} {}: {}", u.setting, u.has, u.needs, u.why);
            Kept::State.unfit(&settings).into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(unfit_state(&state_settings()), []);
        assert_eq!(unfit_state(&[]), [], "what may not be asked is not called wrong");
        for policy in ["delete", "compact,delete"] {
            let told =
                format!("cleanup.policy {policy} compact: retention takes state away that nobody changed for a while");
            assert_eq!(with("cleanup.policy", policy), [told]);
        }
        assert_eq!(
            with("delete.retention.ms", "604799999"),
            ["delete.retention.ms 604799999 604800000: what was deleted may come back from a local store"]
        );
        assert_eq!(with("delete.retention.ms", "604800001"), [""; 0]);
        assert_eq!(
            with("max.message.bytes", "589823"),
            ["max.message.bytes 589823 1048588: the largest values don't fit"]
        );
        assert_eq!(with("max.message.bytes", "589824"), [""; 0]);
    }

    #[test]
    fn the_largest_value_fits_a_topic_of_state() {
        use keyrail_engine::state::{MAX_NAME, MAX_OWNER, MAX_VALUE};
        let largest = MAX_OWNER + MAX_NAME + MAX_VALUE + 12;
        let most = usize::try_from(STATE_RECORD_BYTES).unwrap_or_default();
        assert!(largest + 4_096 < most, "{largest}");
        const { assert!(STATE_RECORD_BYTES <= SEEN_LARGEST) };
    }

    #[test]
    fn what_is_kept_is_told_by_its_kind() {
        let input = || "orders".to_owned();
        let roles = [
            TopicRole::Input,
            TopicRole::Output,
            TopicRole::DeadLetter { input: input() },
            TopicRole::Seen { input: input(), window: DAY },
            TopicRole::State { input: input() },
            TopicRole::Parked { input: input() },
        ];
        let kept: Vec<_> = roles.iter().map(|role| role.kept().map(|(kept, input)| (kept.topic(), input))).collect();
        let (ids, state) = (Some(("topic of seen ids", "orders")), Some(("topic of state", "orders")));
        assert_eq!(kept, [None, None, None, ids, state, Some(("retry topic", "orders"))]);
        assert!(Kept::State.left_behind().ends_with("each of those keys would begin with none"));
        assert!(Kept::Ids { window: DAY }.left_behind().contains("may run twice"));
        assert_eq!(
            Kept::State.settings(true, None),
            Kept::State.settings(false, Some(1)),
            "segments say nothing of state"
        );
    }

    #[test]
    fn what_loses_messages_that_wait_is_unfit() {
        let with = |name: &str, value: &str| {
            let mut settings = parked_settings(Some(1_000));
            settings.retain(|(known, _)| known != name);
            settings.push((name.to_owned(), value.to_owned()));
            let told = |u: Unfit| format!("{} {} {}", u.setting, u.has, u.needs);
            Kept::Parked.unfit(&settings).into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(with("max.message.bytes", "1"), [""; 0], "what does not fit is told when it comes");
        assert_eq!(unfit_parked(&[]), [], "what may not be asked is not called wrong");
        assert_eq!(with("cleanup.policy", "compact,delete"), ["cleanup.policy compact,delete compact"]);
        assert_eq!(with("delete.retention.ms", "604799999"), ["delete.retention.ms 604799999 604800000"]);
        assert_eq!(parked_settings(Some(1_000))[2].1, "66536");
        assert_eq!(parked_settings(Some(i64::MAX))[2].1, "2147483647");
    }

    #[test]
    fn what_takes_ids_early_or_keeps_them_out_is_unfit() {
        assert_eq!(unfit_seen(&seen_settings(DAY, true), DAY), []);
        assert_eq!(unfit_seen(&[], DAY), [], "what may not be asked is not called wrong");
        assert_eq!(with("cleanup.policy", "compact,delete"), ["cleanup.policy compact,delete delete"]);
        assert_eq!(with("retention.ms", "86399999"), ["retention.ms 86399999 90000000"]);
        assert_eq!(with("retention.ms", "86400000"), [""; 0]);
        assert_eq!(with("retention.ms", "-1"), [""; 0]);
        assert_eq!(with("retention.bytes", "1073741824"), ["retention.bytes 1073741824 -1"]);
        assert_eq!(with("max.message.bytes", "524288"), ["max.message.bytes 524288 1048588"]);
    }
}
