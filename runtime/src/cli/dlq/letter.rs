//! What a dead letter says of itself, in one form, whoever wrote it: Keyrail, Spring for Apache Kafka, Kafka Streams
//! (KIP-1034), Kafka Connect or a share group (KIP-1191).

use keyrail::record::Record;
use serde::Serialize;

/// See [`Letter::cut`].
const CUT: usize = 256;
/// How often a letter was sent back already, as text.
pub(super) const REDRIVES: &str = "keyrail-redrives";
/// It was a timer of this name, which the message at its origin set.
pub(super) const TIMER: &str = "keyrail-timer";
/// It was to be sent to this output, later, by the message at its origin.
pub(super) const DELAYED: &str = "keyrail-delayed";

/// Whose headers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Family {
    Keyrail,
    Spring,
    Streams,
    Connect,
    ShareGroup,
}

/// What a header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Group,
    Handler,
    Attempts,
    FirstFailed,
    Reason,
    Code,
    Detail,
    Redrives,
    Follows,
    /// The run that it died of: only `keyrail replay` reads it.
    Record,
    /// Something of a failure that has no place in the one form.
    Other,
}

use Family::{Connect, Keyrail, ShareGroup, Spring, Streams};
use Tells::{
    Attempts, Code, Detail, FirstFailed, Follows, Group, Handler, Offset, Other, Partition, Reason, Record as Run,
    Redrives, Timestamp, Topic,
};

const KEYRAIL: &str = "keyrail-";
const SPRING: &str = "kafka_dlt-";
const SPRING_RETRY: &str = "retry_topic-";
const STREAMS: &str = "__streams.errors.";
const CONNECT: &str = "__connect.errors.";
const SHARE_GROUP: &str = "__dlq.errors.";

type Names = &'static [(&'static str, Tells)];

/// Beginnings of names and what follows. What begins so and is not named here is [`Other`], but for Keyrail's.
const FAMILIES: [(&str, Family, Names); 6] = [
    (
        KEYRAIL,
        Keyrail,
        &[
            ("topic", Topic),
            ("partition", Partition),
            ("offset", Offset),
            ("timestamp", Timestamp),
            ("group", Group),
            ("handler", Handler),
            ("attempts", Attempts),
            ("first-failed", FirstFailed),
            ("reason", Reason),
            ("code", Code),
            ("detail", Detail),
            ("redrives", Redrives),
            ("follows", Follows),
            ("record", Run),
        ],
    ),
    (
        SPRING,
        Spring,
        &[
            ("original-topic", Topic),
            ("original-partition", Partition),
            ("original-offset", Offset),
            ("original-timestamp", Timestamp),
            ("original-consumer-group", Group),
            ("exception-fqcn", Reason),
            ("exception-cause-fqcn", Code),
            ("exception-message", Detail),
            // Of a key or a value that could not be read there is nothing else.
            ("key-exception-fqcn", Code),
            ("key-exception-message", Detail),
        ],
    ),
    (SPRING_RETRY, Spring, &[("attempts", Attempts)]),
    (
        STREAMS,
        Streams,
        &[("topic", Topic), ("partition", Partition), ("offset", Offset), ("exception", Code), ("message", Detail)],
    ),
    (
        CONNECT,
        Connect,
        &[
            ("topic", Topic),
            ("partition", Partition),
            ("offset", Offset),
            ("connector.name", Handler),
            ("stage", Reason),
            ("exception.class.name", Code),
            ("exception.message", Detail),
        ],
    ),
    (
        SHARE_GROUP,
        ShareGroup,
        &[
            ("topic", Topic),
            ("partition", Partition),
            ("offset", Offset),
            ("group", Group),
            ("delivery.count", Attempts),
            ("message", Detail),
        ],
    ),
];

/// Words of share groups, and the reasons that Keyrail gives for the same.
const SHARE_GROUP_REASONS: [(&str, &str); 2] =
    [("Offset rejected by client.", "rejected"), ("Offset delivery count exceeded the threshold.", "attempts")];
/// Keyrail's own reasons, by which its letters with Spring's headers are known.
const REASONS: [&str; 10] = [
    "attempts",
    "age",
    "rejected",
    "expired",
    "trap",
    "timeout",
    "oversized",
    "undecodable",
    "undeliverable",
    "follows",
];

/// Where a message was first read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Origin {
    #[serde(skip)]
    pub(super) by: Family,
    pub(in crate::cli) topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) timestamp: Option<i64>,
}

/// Why it was given up the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Cause {
    /// Who told.
    pub(super) by: Family,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) detail: Option<String>,
    /// `NAME@DIGEST` of Keyrail, a connector's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) handler: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) attempts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_failed: Option<i64>,
    /// The message with which it was given up: `TOPIC:PARTITION:OFFSET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<String>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cli) struct Letter {
    /// `None`: it does not tell.
    pub(in crate::cli) origin: Option<Origin>,
    /// `None`: it does not tell.
    pub(in crate::cli) cause: Option<Cause>,
    /// How often it was sent back already.
    pub(in crate::cli) redrives: u32,
}

/// Whose header this is, and what it tells.
fn known(name: &[u8]) -> Option<(Family, Tells)> {
    let name = std::str::from_utf8(name).ok()?;
    for (start, family, names) in FAMILIES {
        let Some(rest) = name.strip_prefix(start) else { continue };
        let tells = names.iter().find(|(name, _)| *name == rest).map(|(_, tells)| *tells);
        // A user may have headers that begin as Keyrail's; the other beginnings are long enough to be meant.
        return tells.or((family != Keyrail).then_some(Other)).map(|tells| (family, tells));
    }
    None
}

/// A number as text, or as Java's serializers write it, big-endian.
fn number(family: Family, value: &[u8]) -> Option<i64> {
    let binary = match *value {
        [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    };
    let text = || std::str::from_utf8(value).ok()?.trim().parse().ok();
    if family == Spring { binary.or_else(text) } else { text().or(binary) }
}

/// What one family tells.
#[derive(Debug, Default)]
struct Told {
    topic: Option<String>,
    partition: Option<i64>,
    offset: Option<i64>,
    timestamp: Option<i64>,
    group: Option<String>,
    handler: Option<String>,
    attempts: Option<i64>,
    first_failed: Option<i64>,
    reason: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    redrives: Option<i64>,
    follows: Option<String>,
}

impl Told {
    fn take(&mut self, family: Family, tells: Tells, value: &[u8]) {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        let number = || number(family, value);
        match tells {
            Topic => self.topic = text(),
            Partition => self.partition = number(),
            Offset => self.offset = number(),
            Timestamp => self.timestamp = number(),
            Group => self.group = text(),
            Handler => self.handler = text(),
            Attempts => self.attempts = number(),
            FirstFailed => self.first_failed = number(),
            Reason => self.reason = text(),
            Code => self.code = text(),
            Detail => self.detail = text(),
            Redrives => self.redrives = number(),
            Follows => self.follows = text(),
            Run | Other => {}
        }
    }

    fn origin(&self, by: Family) -> Option<Origin> {
        Some(Origin {
            by,
            topic: self.topic.clone()?,
            partition: self.partition.and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0),
            offset: self.offset.filter(|n| *n >= 0),
            timestamp: self.timestamp.filter(|n| *n >= 0),
        })
    }

    fn cause(self, by: Family) -> Cause {
        let Self { group, handler, attempts, first_failed, follows, mut reason, mut code, mut detail, .. } = self;
        match by {
            // With Keyrail's own letters in Spring's form the words begin with the code.
            Spring if reason.as_deref().is_some_and(|reason| REASONS.contains(&reason)) => {
                if let Some((first, rest)) = detail.as_deref().and_then(|detail| detail.split_once(": ")) {
                    (code, detail) = (Some(first.to_owned()), Some(rest.to_owned()));
                }
            }
            // The container's exception is the same for all; what the listener threw is the cause.
            Spring => code = code.or_else(|| reason.clone()),
            ShareGroup => {
                let words = detail.as_deref().unwrap_or_default();
                let meant = SHARE_GROUP_REASONS.iter().find(|(told, _)| *told == words);
                reason = meant.map(|(_, reason)| (*reason).to_owned());
            }
            Keyrail | Streams | Connect => {}
        }
        Cause { by, reason, code, detail, handler, group, attempts, first_failed, follows }
    }
}

impl Letter {
    pub(in crate::cli) fn of(record: &Record) -> Self {
        let mut told: [Option<Told>; 5] = Default::default();
        // What comes last was written last: a letter may have died here and there.
        let mut last = None;
        for (name, value) in record.headers() {
            let Some((family, tells)) = known(name) else { continue };
            told[family as usize].get_or_insert_default().take(family, tells, value.unwrap_or_default());
            if !matches!(tells, Topic | Partition | Offset | Timestamp | Redrives | Run) {
                last = Some(family);
            }
        }
        let redrives = told[Keyrail as usize].as_ref().and_then(|told| told.redrives);
        let all = [Keyrail, Spring, Streams, Connect, ShareGroup];
        // Keyrail's and Spring's first origin is kept for ever; what the others say is of the last time.
        let origin = all.into_iter().find_map(|family| told[family as usize].as_ref()?.origin(family));
        let cause = last.and_then(|family| Some(told[family as usize].take()?.cause(family)));
        let redrives = redrives.map_or(0, |n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
        Self { origin, cause, redrives }
    }

    /// The beginning of a text that a header holds, for what is kept of many letters.
    pub(in crate::cli) fn cut(text: &str) -> String {
        text.chars().take(CUT).collect()
    }

    pub(in crate::cli) fn reason(&self) -> &str {
        self.cause.as_ref().and_then(|cause| cause.reason.as_deref()).unwrap_or_default()
    }

    pub(in crate::cli) fn code(&self) -> &str {
        self.cause.as_ref().and_then(|cause| cause.code.as_deref()).unwrap_or_default()
    }

    pub(in crate::cli) fn handler(&self) -> &str {
        self.cause.as_ref().and_then(|cause| cause.handler.as_deref()).unwrap_or_default()
    }
}

/// Headers of the message itself, of a letter that does not keep which they are: all that tell of no failure and no origin.
pub(in crate::cli) fn is_own(name: &[u8]) -> bool {
    known(name).is_none() && name != TIMER.as_bytes()
}

/// A header to write.
pub(super) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a letter that is sent back carries beside the headers that the message had.
#[derive(Debug)]
pub(in crate::cli) struct Papers(Vec<(&'static str, Vec<u8>)>);

impl Papers {
    pub(in crate::cli) fn of(letter: &Letter) -> Self {
        let mut all = Vec::new();
        let text = |number: i64| number.to_string().into_bytes();
        // Whoever buries it next writes an origin only where there is none of its own kind: so there is one of Keyrail's, which
        // counts before the others.
        if let Some(origin) = letter.origin.as_ref().filter(|origin| origin.by != Keyrail) {
            all.push(("keyrail-topic", origin.topic.clone().into_bytes()));
            all.extend(origin.partition.map(|n| ("keyrail-partition", text(n.into()))));
            all.extend(origin.offset.map(|n| ("keyrail-offset", text(n))));
            all.extend(origin.timestamp.map(|n| ("keyrail-timestamp", text(n))));
        }
        all.push((REDRIVES, text(i64::from(letter.redrives).saturating_add(1))));
        Self(all)
    }

    /// All headers of a letter that is sent back: the message's own byte for byte, its first origin, and how often it was
    /// sent back. What told of the failure is gone: it would be taken for that of the next one.
    pub(in crate::cli) fn headers<'a>(&'a self, record: &'a Record) -> Vec<Header<'a>> {
        let stays = |name: &[u8]| match known(name) {
            None => true,
            Some((Keyrail | Spring, tells)) => {
                matches!(tells, Topic | Partition | Offset | Timestamp) || is_origin(name)
            }
            Some(_) => false,
        };
        let own = record.headers().filter(|(name, _)| stays(name));
        own.chain(self.0.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice())))).collect()
    }
}

/// Spring's group and kind of timestamp belong to the origin that it keeps.
fn is_origin(name: &[u8]) -> bool {
    name.starts_with(b"kafka_dlt-original-")
}

#[cfg(test)]
mod tests;
