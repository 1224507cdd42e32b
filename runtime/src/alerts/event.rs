//! What there is to tell of, as the places say it where it happens.

use serde::Serialize;

/// What an alert is about. The names are part of the product's face: add to them, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Messages became dead letters.
    DeadLetters,
    /// The breaker is open: messages wait.
    Breaker,
    /// A parked message failed long ago.
    Parked,
    /// A message is held until somebody acts.
    Held,
    /// Input was lost before it was read.
    Loss,
    /// A pipeline can't go on.
    Stopped,
    /// A new version of a handler failed its trial.
    RolledBack,
    /// Somebody asked for it: `keyrail alerts test`.
    Test,
}

impl Kind {
    /// Those that are told of by themselves.
    pub const ALL: [Self; 7] =
        [Self::DeadLetters, Self::Breaker, Self::Parked, Self::Held, Self::Loss, Self::Stopped, Self::RolledBack];

    /// Those that stand until they are over. The others happen, and are never over.
    pub(super) const STANDING: [Self; 4] = [Self::Breaker, Self::Parked, Self::Held, Self::Stopped];

    /// The name, as in `alerts.kinds` and in a message.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead-letters",
            Self::Breaker => "breaker",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::Loss => "loss",
            Self::Stopped => "stopped",
            Self::RolledBack => "rolled-back",
            Self::Test => "test",
        }
    }

    /// Whether it has an end of which is told, too.
    pub(super) fn stands(self) -> bool {
        Self::STANDING.contains(&self)
    }
}

/// One of those that an alert is about. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The input topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Where the message was first read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Its key, as text or as `0x` and digits, cut where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why a message was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The failure's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is said of it beyond that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An input's partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// Its number; `None`: all of them.
    pub partition: Option<i32>,
}

/// What a place says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The pipeline.
    pub pipeline: String,
    /// About what.
    pub kind: Kind,
    /// And what of it.
    pub what: What,
}

/// What of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// So many more happened, at these places.
    Happened {
        /// How many.
        count: u64,
        /// How many of them where.
        places: Vec<(Place, u64)>,
        /// The last of them.
        example: Example,
    },
    /// It stands so. Said again and again while it does, so that one that is lost does no harm.
    Stands {
        /// How many, if that can be counted.
        count: u64,
        /// Since when, in milliseconds since the Unix epoch, if that is known better than by when it is said first.
        since_ms: Option<i64>,
        /// The first of them.
        example: Example,
    },
    /// It does not stand (any more). Said again, too.
    Over,
}
