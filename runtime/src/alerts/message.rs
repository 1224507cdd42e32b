//! What a receiver is told, in its form: JSON for programs, text for people, and what Alertmanager takes.
//!
//! Words come from outside in it: keys, and codes and details of handlers. Nothing of them forges a line, turns the
//! direction of writing, calls people of a chat, or is part of a command.

use super::desk::{Parcel, Timing, Told};
use super::event::{Example, Kind};
use crate::date;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Of the JSON: raised when a field changes its meaning or goes.
const VERSION: u32 = 1;
/// Of a detail are so many characters told.
const DETAIL_CHARS: usize = 300;

/// What the process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    /// The machine's name.
    pub(super) host: String,
    /// What commands need to find the same configuration, with a space before it; mostly nothing.
    pub(super) config: String,
    /// What stands is told again after this.
    pub(super) timing: Timing,
}

/// A message, in the form of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Message {
    version: u32,
    /// `resolved` if all of it is over.
    status: &'static str,
    /// All of it in words, as Slack and its likes show them.
    text: String,
    host: String,
    sent: String,
    /// Events that are counted nowhere else.
    missed: u64,
    alerts: Vec<Alert>,
    #[serde(skip)]
    sent_ms: i64,
    #[serde(skip)]
    timing: Timing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Alert {
    id: String,
    kind: &'static str,
    status: &'static str,
    pipeline: String,
    summary: String,
    count: u64,
    new: u64,
    times: u64,
    since: String,
    last: String,
    places: Vec<Counted>,
    elsewhere: u64,
    example: Example,
    help: &'static str,
    commands: Vec<String>,
    #[serde(skip)]
    of: (Kind, i64, i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Counted {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    count: u64,
}

/// The message of a parcel.
pub(super) fn message(parcel: Parcel, sender: &Sender, now_ms: i64) -> Message {
    let alerts: Vec<Alert> = parcel.groups.into_iter().map(|told| alert(told, sender)).collect();
    let resolved = !alerts.is_empty() && alerts.iter().all(|alert| alert.status == RESOLVED);
    let mut message = Message {
        version: VERSION,
        status: if resolved { RESOLVED } else { FIRING },
        text: String::new(),
        host: sender.host.clone(),
        sent: utc(now_ms),
        missed: parcel.missed,
        alerts,
        sent_ms: now_ms,
        timing: sender.timing,
    };
    message.text = message.words(&Chat);
    message
}

/// What `keyrail alerts test` sends.
pub(super) fn test(sender: &Sender, now_ms: i64) -> Message {
    let told = Told {
        pipeline: "test".to_owned(),
        kind: Kind::Test,
        over: false,
        count: 1,
        new: 1,
        times: 0,
        began_ms: now_ms,
        since_ms: now_ms,
        last_ms: now_ms,
        places: Vec::new(),
        elsewhere: 0,
        example: Example::default(),
    };
    message(Parcel { groups: vec![told], missed: 0 }, sender, now_ms)
}

const FIRING: &str = "firing";
const RESOLVED: &str = "resolved";

fn alert(told: Told, sender: &Sender) -> Alert {
    let status = if told.over { RESOLVED } else { FIRING };
    let mut hash = Sha256::new();
    for part in [sender.host.as_str(), told.pipeline.as_str(), told.kind.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(told.began_ms.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let counted =
        |(place, count): (super::event::Place, u64)| Counted { topic: place.topic, partition: place.partition, count };
    Alert {
        id: digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
        kind: told.kind.as_str(),
        status,
        summary: summary(&told),
        help: help(told.kind, told.over),
        commands: if told.over { Vec::new() } else { commands(&told, &sender.config) },
        of: (told.kind, told.since_ms, told.last_ms),
        pipeline: told.pipeline,
        count: told.count,
        new: told.new,
        times: told.times,
        since: utc(told.since_ms),
        last: utc(told.last_ms),
        places: told.places.into_iter().map(counted).collect(),
        elsewhere: told.elsewhere,
        example: told.example,
    }
}

/// A number and its noun.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn summary(told: &Told) -> String {
    let count = told.count;
    match (told.kind, told.over) {
        (Kind::DeadLetters, _) => counted(count, "dead letter", "dead letters"),
        (Kind::Breaker, false) => "the breaker is open: most order keys fail, and messages wait".to_owned(),
        (Kind::Breaker, true) => "the breaker is closed: messages run again".to_owned(),
        (Kind::Parked, false) => {
            format!(
                "{} for long, and what comes behind waits with it",
                counted(count, "order key fails", "order keys fail")
            )
        }
        (Kind::Parked, true) => "no order key here fails for that long any more".to_owned(),
        (Kind::Held, false) => {
            format!("{} until somebody acts", counted(count, "order key is held", "order keys are held"))
        }
        (Kind::Held, true) => "no order key is held here any more".to_owned(),
        (Kind::Loss, _) => format!("input was lost before it was read, {}", counted(count, "time", "times")),
        (Kind::Stopped, false) => "the pipeline can't go on".to_owned(),
        (Kind::Stopped, true) => "the pipeline runs again".to_owned(),
        (Kind::RolledBack, _) => {
            format!("a new version of the handler is rolled back, {}", counted(count, "time", "times"))
        }
        (Kind::Test, _) => "a test: this receiver gets Keyrail's alerts".to_owned(),
    }
}

fn help(kind: Kind, over: bool) -> &'static str {
    match kind {
        _ if over => "",
        Kind::DeadLetters => "see why, and send them back when the cause is cured",
        Kind::Breaker => "look at the service that the handler calls; the breaker closes by itself",
        Kind::Parked => "see with what they fail; they run again by themselves",
        Kind::Held => "see with what they failed, then let each first message run again, or drop it",
        Kind::Loss => {
            "lengthen the topic's retention; where the pipeline has stopped, say where it is to go on (earliest, latest or a time)"
        }
        Kind::Stopped => "mend what it says; it starts when its files change, or with the process",
        Kind::RolledBack => {
            "see what failed on it alone, and put a mended version into the folder; the one before serves"
        }
        Kind::Test => "",
    }
}

/// What to type. Of words from outside nothing goes in but topics, whose names are harmless.
fn commands(told: &Told, config: &str) -> Vec<String> {
    let name = quoted(&told.pipeline);
    let first = || {
        let Example { topic: Some(topic), partition: Some(partition), offset: Some(offset), .. } = &told.example else {
            return "TOPIC:PARTITION:OFFSET".to_owned();
        };
        quoted(&format!("{topic}:{partition}:{offset}"))
    };
    let all = match told.kind {
        Kind::DeadLetters => vec![format!("dlq list {name}"), format!("dlq redrive {name}")],
        Kind::Breaker => vec![format!("lag {name}")],
        Kind::Parked => vec![format!("parked list {name}")],
        Kind::Held => vec![
            format!("parked list {name} --held"),
            format!("parked retry {name} {}", first()),
            format!("parked drop {name} {}", first()),
        ],
        Kind::Loss => vec![format!("lag {name}"), format!("rewind {name} --to PLACE")],
        Kind::Stopped => vec!["check".to_owned()],
        Kind::RolledBack => vec!["check".to_owned()],
        Kind::Test => vec![],
    };
    all.into_iter().map(|command| format!("keyrail {command}{config}")).collect()
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/=@".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", clean(word, usize::MAX).replace('\'', "'\\''"))
}

/// Text without what forges lines or hides: such a character is written as its escape. Cut where it is long.
pub(super) fn clean(text: &str, chars: usize) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n >= chars {
            return out + "...";
        }
        if hides(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// How words are written: in general, and those from outside.
trait Style {
    fn plain(&self, text: &str) -> String;
    fn foreign(&self, text: &str) -> String;
}

/// Mail, and a terminal.
struct Plain;

impl Style for Plain {
    fn plain(&self, text: &str) -> String {
        clean(text, usize::MAX)
    }

    fn foreign(&self, text: &str) -> String {
        clean(text, DETAIL_CHARS)
    }
}

/// Slack and its likes: `&`, `<` and `>` are escaped, as they demand, so that no word is a link or calls a channel; what is
/// foreign stands as code, in which nothing has a meaning.
struct Chat;

impl Style for Chat {
    fn plain(&self, text: &str) -> String {
        clean(text, usize::MAX).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }

    fn foreign(&self, text: &str) -> String {
        format!("`{}`", self.plain(&clean(text, DETAIL_CHARS).replace('`', "'")))
    }
}

impl Alert {
    /// A line of its own, and indented ones below it.
    fn words(&self, style: &dyn Style) -> String {
        let Self { pipeline, summary, since, last, .. } = self;
        let times = match (self.times, self.of.0.stands()) {
            (2.., true) => format!(" ({} times)", self.times),
            _ => String::new(),
        };
        let mut out = format!("{}: {}: {summary}{times}\n", self.status.to_uppercase(), style.plain(pipeline));
        let new = if self.new > 0 && self.new < self.count { format!(", {} new", self.new) } else { String::new() };
        out += &format!("  since {since}, last {last}{new}\n");
        if !self.places.is_empty() {
            let place = |place: &Counted| {
                let partition = place.partition.map_or_else(String::new, |partition| format!("/{partition}"));
                format!("{}{partition} ({})", style.plain(&place.topic), place.count)
            };
            let mut places: Vec<String> = self.places.iter().map(place).collect();
            if self.elsewhere > 0 {
                places.push(format!("elsewhere ({})", self.elsewhere));
            }
            out += &format!("  where: {}\n", places.join(", "));
        }
        let example = example(&self.example, style);
        if !example.is_empty() {
            out += &format!("  one of them: {example}\n");
        }
        if !self.help.is_empty() {
            out += &format!("  what to do: {}\n", self.help);
        }
        self.commands.iter().for_each(|command| out += &format!("    {}\n", style.plain(command)));
        out
    }
}

fn example(example: &Example, style: &dyn Style) -> String {
    let mut parts = Vec::new();
    if let Some(topic) = &example.topic {
        let mut place = style.plain(topic);
        place += &example.partition.map_or_else(String::new, |partition| format!("/{partition}"));
        place += &example.offset.map_or_else(String::new, |offset| format!("@{offset}"));
        parts.push(place);
    }
    parts.extend(example.key.as_ref().map(|key| format!("key {}", style.foreign(key))));
    parts.extend(example.reason.map(str::to_owned));
    parts.extend(example.code.as_ref().map(|code| format!("code {}", style.foreign(code))));
    parts.extend(example.detail.as_ref().filter(|detail| !detail.is_empty()).map(|detail| style.foreign(detail)));
    parts.join(", ")
}

impl Message {
    fn words(&self, style: &dyn Style) -> String {
        let mut out: String = self.alerts.iter().map(|alert| alert.words(style)).collect();
        if self.missed > 0 {
            out += &format!("{} found no room, counted nowhere else\n", counted(self.missed, "event", "events"));
        }
        out + &format!("keyrail on {}, {}", style.plain(&self.host), self.sent)
    }

    /// Names it: of what is told first, and when.
    pub(super) fn id(&self) -> String {
        let first = self.alerts.first().map_or("none", |alert| alert.id.as_str());
        format!("{first}.{}", self.sent_ms)
    }

    /// As the body of a mail.
    pub(super) fn body(&self) -> String {
        self.words(&Plain) + "\n"
    }

    /// As the subject of a mail: no word of a record or of a handler is in it.
    pub(super) fn subject(&self) -> String {
        let subject = match &self.alerts[..] {
            [one] => format!("{}: {}: {}", self.status.to_uppercase(), one.pipeline, one.summary),
            all => {
                let mut names: Vec<&str> = all.iter().map(|alert| alert.pipeline.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                format!("{}: {} alerts of {}", self.status.to_uppercase(), all.len(), names.join(", "))
            }
        };
        clean(&format!("[keyrail] {subject}"), 180)
    }

    /// As JSON of version 1.
    pub(super) fn json(&self) -> Vec<u8> {
        // Writing to memory does not fail, and every key is a string.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// As Alertmanager's `POST /api/v2/alerts` takes it. What happens and is never over ends for it when it has been quiet
    /// for a while; what stands, when it was not told again in time.
    pub(super) fn for_alertmanager(&self) -> Vec<u8> {
        let Timing { group_interval_ms, repeat_interval_ms, .. } = self.timing;
        let all: Vec<Value> = self
            .alerts
            .iter()
            .map(|alert| {
                let (kind, since_ms, last_ms) = alert.of;
                let lasts_ms = if kind.stands() { repeat_interval_ms } else { group_interval_ms }.saturating_mul(2);
                let ends_ms = match alert.status == RESOLVED {
                    true => last_ms,
                    false => self.sent_ms.saturating_add(i64::try_from(lasts_ms).unwrap_or(i64::MAX)),
                };
                json!({
                    "labels": {
                        "alertname": alertname(alert.kind),
                        "pipeline": alert.pipeline,
                        "host": self.host,
                        "kind": alert.kind,
                        "source": "keyrail",
                    },
                    "annotations": {
                        "summary": format!("{}: {}", alert.pipeline, alert.summary),
                        "description": alert.words(&Plain),
                        "commands": alert.commands.join("\n"),
                        "count": alert.count.to_string(),
                    },
                    "startsAt": utc(since_ms),
                    "endsAt": utc(ends_ms),
                })
            })
            .collect();
        serde_json::to_vec(&all).unwrap_or_default()
    }
}

/// `KeyrailDeadLetters`
fn alertname(kind: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    "Keyrail".to_owned() + &kind.split('-').map(capital).collect::<String>()
}

/// RFC 3339 in UTC, to the second. What no date is known for counts as the nearest that has one.
pub(super) fn utc(ms: i64) -> String {
    date::utc(ms.clamp(0, date::LAST_MS)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
