//! A pipeline's ledger, driven by scripts.
//!
//! Each line of a script is `command => what must come of it`. Partitions are numbers of the first topic, or TOPIC:NUMBER; tokens are named
//! t1, t2 in the order in which they appear. An offset with its map is written `12[14..16]`.
//!
//! | command | does |
//! |---|---|
//! | `open P EPOCH START [fresh] [s=SEQUENCE] [FROM..TO]..` | a partition starts |
//! | `recv P EPOCH FIRST LAST`, `end P OFFSET`, `awaited P EPOCH` | records arrive; the log's end is heard of; it may run from now on |
//! | `pub OFFSET RECORDS [p=P] [e=EPOCH] [#ID] [$KEY=VALUE].. [$KEY-]..` | a shard settled it as done: the token, or `-` |
//! | `twin OFFSET OF/- [p=P] [e=EPOCH] [#ID]` | a shard settled it as a duplicate |
//! | `park OFFSET NUMBER [p=P] [e=EPOCH] [q=NUMBER]`, `known OFFSET` | a shard parked it, or found that it is; what comes from the retry topic has `q` |
//! | `dead OFFSET [p=P] [e=EPOCH]` | a shard settled it as dead letter |
//! | `ack T`, `busy T WHY`, `never T WHY` | the broker took a record, or refused it for now, or for good |
//! | `at MS`, `tick` | sets the clock; lets the ledger do what time asks for |
//! | `commit N ok/failed` | a commit ended |
//! | `revoke P..`, `drained P EPOCH`, `released`, `lost P..` | |
//! | `exactly-once`, `dedup`, `state` | a new ledger with transactions, or with those and ids, or state too; the first line |
//! | `rounds` | the same with at-least-once, ids and state |
//! | `inputs`, `inputs-apart` | the same with state, or without transactions, where the inputs share their tasks |
//! | `expired P KEY..` | these have ended, by what is kept |
//! | `renewed ok/failed/fenced`, `done N [resent]`, `doubt N`, `old N`, `fenced N` | what came of the producer, or of a transaction |
//! | `another` | another ledger had the transactional id before |
//! | `takes`, `staged BYTES` | whether fates may be told; bytes were produced |
//! | `writing P`, `awaits T` | whether records of ids or state are on their way, or are waited for |
//! | `gate on/off` | the byte budget pauses and resumes |
//! | `status P`, `count` | how it stands; publications under way |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

mod chance;
mod commits;
mod covered;
mod delays;
mod exactly;
mod inbox;
mod kept;
mod letters;
mod marks;
mod outputs;
mod parkings;
mod refusals;
mod revokes;
mod rounds;
mod stalls;
mod timers;
mod together;

use super::*;
use crate::intake::Careful;
use crate::message::{Epitaph, Failure, Fate, Reason, Ticket};
use crate::metadata::Metadata;
use crate::policy::{Absent, Dedup, Guarantee, IdFrom, Order};
use crate::shard::Settled;
use crate::state::{Change, Entry};
use crate::testing::{P0, P1, ranges};
use alloc::boxed::Box;
use alloc::format;
use core::fmt::Write as _;

const TIMING: Timing = Timing {
    revoke_ms: 1_000,
    release_ms: 1_050,
    stall_ms: 500,
    commit_ms: 300,
    refusal_first_ms: 10,
    refusal_max_ms: 50,
    transaction_ms: 200,
};

struct Rig {
    pipeline: Pipeline<i64>,
    now: Now,
    tokens: Vec<Token>,
    actions: Vec<Action>,
    /// For each commit, which of its partitions it says to park.
    say_parked: Vec<Vec<bool>>,
    /// The same of the breaker.
    say_breaker: Vec<Vec<bool>>,
    /// What the last commit says of the inbox of its first partition.
    kept: (u32, i64, u64),
}

fn at_least_once() -> Policy {
    Policy { guarantee: Guarantee::AtLeastOnce, ..Policy::default() }
}

fn rig() -> Rig {
    let now = Now { steady_ms: 0, wall_ms: 1_000_000 };
    Rig {
        pipeline: Pipeline::new(at_least_once(), 2, TIMING),
        now,
        tokens: Vec::new(),
        actions: Vec::new(),
        say_parked: Vec::new(),
        say_breaker: Vec::new(),
        kept: (0, 0, 0),
    }
}

/// Runs a script against a ledger with two shards and commits every 100 ms.
#[track_caller]
fn check(script: &str) -> Rig {
    let mut rig = rig();
    let mut done = String::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (command, expected) = line.split_once("=>").unwrap_or((line, ""));
        let answer = rig.obey(command.trim());
        assert!(answer == expected.trim(), "\n{done}{line}\n{:>w$} {answer}", "got", w = command.len() + 2);
        done.push_str(line);
        done.push('\n');
    }
    rig
}

fn partition(word: &str) -> Partition {
    let (topic, number) = word.split_once(':').unwrap_or(("0", word));
    Partition { topic: topic.parse().unwrap(), number: number.parse().unwrap() }
}

/// A partition as scripts write it: with its topic, where that is not the first.
fn named(partition: Partition) -> String {
    if partition.topic == 0 {
        return format!("{}", partition.number);
    }
    format!("{}:{}", partition.topic, partition.number)
}

fn number<T: core::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}

impl Rig {
    fn obey(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (now, actions) = (self.now, &mut self.actions);
        let mut answer = String::new();
        match words.as_slice() {
            ["open", p, epoch, start, more @ ..] => {
                let opened = opened(number(epoch), number(start), more);
                self.pipeline.opened(partition(p), &opened, now, actions);
            }
            ["recv", p, epoch, first, last] => {
                self.pipeline.received(partition(p), Epoch(number(epoch)), number(first), number(last), now);
            }
            ["awaited", p, epoch] => self.pipeline.awaited(partition(p), Epoch(number(epoch)), now),
            ["end", p, offset] => self.pipeline.watermark(partition(p), number(offset)),
            ["pub", offset, records, more @ ..] => {
                let token = self.pipeline.publish(settled(offset, more, Fate::Done), number(records), now, actions);
                answer = token.map_or("-".into(), |t| self.name(t));
            }
            ["twin", offset, of, more @ ..] => {
                let fate = Fate::Duplicate { of: (*of != "-").then(|| (P0, number(of))) };
                assert_eq!(self.pipeline.publish(settled(offset, more, fate), 0, now, actions), None);
            }
            ["dead", offset, more @ ..] => {
                let settled = settled(offset, more, Fate::DeadLetter(epitaph()));
                assert_eq!(self.pipeline.publish(settled, 3, now, actions), None);
            }
            ["park" | "known" | "lead" | "buried", ..] => self.park(&words),
            ["inbox" | "cmd" | "note" | "obeyed" | "denied", ..] => answer = self.command(&words),
            ["busy", token, why] => {
                self.pipeline.refused(token_of(&self.tokens, token), Refusal::Blocked((*why).into()), now, actions);
            }
            ["never", token, why] => {
                let refusal = Refusal::Undeliverable((*why).into());
                self.pipeline.refused(token_of(&self.tokens, token), refusal, now, actions);
            }
            ["at", ms] => self.now = Now { steady_ms: number(ms), wall_ms: 1_000_000 + number::<i64>(ms) },
            ["tick"] => self.pipeline.tick(now, actions),
            ["commit", n, end] => self.pipeline.commit_finished(number(n), *end == "ok"),
            ["revoke", taken @ ..] => self.pipeline.revoke(taken.iter().map(|p| partition(p)).collect(), now, actions),
            ["drained", p, epoch] => self.pipeline.drained(partition(p), Epoch(number(epoch)), now, actions),
            ["released"] => self.pipeline.released(),
            ["lost", taken @ ..] => {
                self.pipeline.lost(&taken.iter().map(|p| partition(p)).collect::<Vec<_>>(), now, actions);
            }
            ["expired", p, names @ ..] => {
                answer = format!("{}", self.pipeline.expired(partition(p), &keys(names), now));
            }
            [kind @ ("exactly-once" | "dedup" | "state" | "rounds" | "parking" | "inputs" | "inputs-apart")] => {
                self.pipeline = Pipeline::new(policy_of(kind), 2, TIMING);
            }
            ["ack" | "renewed" | "done" | "doubt" | "old" | "fenced", ..] => self.come_of_it(&words),
            ["another"] => self.pipeline.follows_another(),
            ["writing", p] => answer = format!("{}", self.pipeline.is_writing(partition(p))),
            ["awaits", token] => answer = format!("{}", self.pipeline.awaits(token_of(&self.tokens, token))),
            ["takes"] => answer = format!("{}", self.pipeline.takes_settled()),
            ["staged", bytes] => self.pipeline.staged(number(bytes)),
            ["gate", state] => self.pipeline.gate(*state == "on", now),
            ["breaker", state] => self.pipeline.breaker(*state == "open"),
            ["status", p] => answer = self.status(partition(p)),
            ["count"] => answer = format!("{}", self.pipeline.publications()),
            _ => panic!("no such command: {command}"),
        }
        let mut parts: Vec<String> = Vec::new();
        for action in core::mem::take(&mut self.actions) {
            parts.push(self.told(&action));
        }
        format!("{answer} {}", parts.join(", ")).trim().into()
    }

    /// A shard parked a message, or found that it is.
    fn park(&mut self, words: &[&str]) {
        let settled = match words {
            ["park", offset, place, more @ ..] => {
                let (history, failure) = (crate::retry::History::default(), Failure::default());
                let waiting = parking::Waiting { number: number(place), due_ms: 0, history, failure, given_up: None };
                settled(offset, more, Fate::Parked(Box::new(waiting)))
            }
            ["lead", offset, place, until, more @ ..] => {
                let (history, failure) = (crate::retry::History::default(), Failure::default());
                let given_up = Some(parking::GivenUp { reason: Reason::Attempts, until: number(until) });
                let mark = parking::Waiting { number: number(place), due_ms: 0, history, failure, given_up };
                let company = crate::message::Company::Leads(Box::new(mark));
                let fate = Fate::DeadLetter(Box::new(Epitaph { company, ..*epitaph() }));
                settled(offset, &[more, &[&format!("q={place}")]].concat(), fate)
            }
            ["buried", offset, more @ ..] => settled(offset, more, Fate::Buried),
            [_, offset, more @ ..] => settled(offset, more, Fate::ParkedBefore),
            _ => panic!("which? {words:?}"),
        };
        assert_eq!(self.pipeline.publish(settled, 0, self.now, &mut self.actions), None);
    }

    /// What came of a record, of the producer, or of a transaction.
    fn come_of_it(&mut self, words: &[&str]) {
        let (now, actions) = (self.now, &mut self.actions);
        match words {
            ["ack", token] => {
                let token = token_of(&self.tokens, token);
                let letter = self.pipeline.publication(token).is_some_and(|s| matches!(s.fate, Fate::DeadLetter(_)));
                // Of a letter and its mark the last one tells.
                let told = self.pipeline.acknowledged(token, now, actions);
                assert_eq!(told, letter && self.pipeline.publication(token).is_none());
            }
            ["renewed", "ok"] => self.pipeline.renewed(Ok(()), now, actions),
            ["renewed", "failed"] => self.pipeline.renewed(Err(Trouble::Failed("away".into())), now, actions),
            ["renewed", _] => self.pipeline.renewed(Err(Trouble::Fenced("taken".into())), now, actions),
            ["done", n, more @ ..] => self.pipeline.committed(number(n), !more.is_empty(), now, actions),
            ["doubt", n] => self.pipeline.commit_failed(number(n), Trouble::Failed("doubt".into()), now, actions),
            ["old", n] => self.pipeline.commit_failed(number(n), Trouble::Superseded("old".into()), now, actions),
            ["fenced", n] => self.pipeline.commit_failed(number(n), Trouble::Fenced("taken".into()), now, actions),
            _ => panic!("nothing comes of it: {words:?}"),
        }
    }

    fn name(&mut self, token: Token) -> String {
        let at = self.tokens.iter().position(|t| *t == token).unwrap_or_else(|| {
            self.tokens.push(token);
            self.tokens.len() - 1
        });
        format!("t{}", at + 1)
    }

    fn status(&self, partition: Partition) -> String {
        let Some((_, s)) = self.pipeline.status().find(|(p, _)| *p == partition) else { return "none".into() };
        let mut text = format!("@{} point {}", s.epoch.0, s.point);
        if let Some(committed) = s.committed {
            write!(text, " committed {committed}").unwrap();
        }
        write!(text, " next {} unsettled {}", s.next, s.unsettled).unwrap();
        if s.paused {
            text.push_str(" paused");
        }
        if let Some(why) = s.blocked {
            write!(text, " blocked: {why}").unwrap();
        }
        text
    }

    fn told(&mut self, action: &Action) -> String {
        match action {
            Action::DeadLetter { token, short } => {
                format!("{} {}", if *short { "short letter" } else { "letter" }, self.name(*token))
            }
            Action::Mark { token, partition, ids, .. } => {
                format!("mark {} of {}{}", self.name(*token), named(*partition), ids_of(ids))
            }
            Action::Keep { token, partition, changes } => {
                format!("keep {} of {}{}", self.name(*token), named(*partition), changes_of(changes))
            }
            Action::Answer { .. }
            | Action::Parked { .. }
            | Action::Park { .. }
            | Action::Unpark { .. }
            | Action::Covered { .. } => self.told_of_parked(action),
            Action::Kept { partition, changes } => format!("kept {}{}", named(*partition), changes_of(changes)),
            Action::Condemn { partition, offsets } => {
                offsets.iter().fold(format!("condemn {}", named(*partition)), |text, at| format!("{text} {at}"))
            }
            Action::Marked { partition, ids, .. } => format!("marked {}{}", named(*partition), ids_of(ids)),
            Action::Commit { number, offsets } => {
                let read = Metadata::decode(&offsets[0].metadata, offsets[0].offset, i64::MAX).unwrap();
                let says = |c: &CommitOffset| Metadata::decode(&c.metadata, c.offset, i64::MAX).unwrap().kept;
                self.say_parked.push(offsets.iter().map(|c| says(c).parked).collect());
                self.say_breaker.push(offsets.iter().map(|c| says(c).breaker).collect());
                self.kept = (read.kept.inbox, read.kept.inbox_at, read.kept.inbox_done);
                format!("commit {number}:{}", offsets_of(offsets))
            }
            Action::CommitAndRelease { offsets, partitions } => {
                let given: Vec<String> = partitions.iter().map(|p| named(*p)).collect();
                format!("release {}:{}", given.join(" "), offsets_of(offsets))
            }
            Action::Release { partitions, unfinished } => {
                let given: Vec<String> = partitions.iter().map(|p| named(*p)).collect();
                let why = unfinished.as_ref().map_or(String::new(), |why| format!(", unfinished: {why}"));
                format!("release {}{why}", given.join(" "))
            }
            Action::Renew => "renew".into(),
            Action::GivenUp { why } => format!("given up: {why}"),
            Action::Restart(partitions) => {
                let all: Vec<String> = partitions.iter().map(|(p, at)| format!("{} or {at}", named(*p))).collect();
                format!("restart {}", all.join(" "))
            }
            Action::Fenced(why) => format!("end: {why}"),
            Action::Close { partition, epoch } => format!("close {}@{}", named(*partition), epoch.0),
            Action::LetterAcknowledged { partition, epoch, offset, lane } => {
                assert_eq!(*lane, 1_000_u64.wrapping_add_signed(*offset));
                format!("free {}@{}:{offset}", named(*partition), epoch.0)
            }
            Action::Pause(partition) => format!("pause {}", named(*partition)),
            Action::Resume(partition) => format!("resume {}", named(*partition)),
            Action::Rewind(all) => {
                let one = |(p, start, settled): &(Partition, i64, Ranges)| {
                    format!("rewind {} to {start}{}", named(*p), map(settled))
                };
                all.iter().map(one).collect::<Vec<_>>().join(" and ")
            }
            Action::Blocked { partition, why, letter } => {
                format!("blocked {} by {}: {why}", named(*partition), if *letter { "letter" } else { "output" })
            }
            Action::Unblocked(partition) => format!("unblocked {}", named(*partition)),
            Action::Stray { partition, offset } => format!("stray {}:{offset}", named(*partition)),
            Action::Stalled { partition, position, end } => {
                format!("stalled {} at {position} of {end}", named(*partition))
            }
        }
    }

    fn told_of_parked(&mut self, action: &Action) -> String {
        match action {
            Action::Park { token } => format!("park {}", self.name(*token)),
            Action::Unpark { token, partition, offsets } => {
                let text = format!("unpark {} of {}", self.name(*token), named(*partition));
                offsets.iter().fold(text, |text, at| format!("{text} {at}"))
            }
            Action::Answer { token, partition, answers } => {
                let text = format!("answer {} of {}", self.name(*token), named(*partition));
                answers.iter().fold(text, |text, (id, answer)| format!("{text} {}={answer:?}", id.0[0]))
            }
            Action::Parked { partition, epoch, changes } => {
                let text = format!("parked {}@{}", named(*partition), epoch.0);
                changes.iter().fold(text, |text, change| {
                    let resolved = if change.written.is_none() { "-" } else { "" };
                    format!("{text} {}:{}{resolved}", change.offset, change.number)
                })
            }
            Action::Covered { partition, epoch, progress } => {
                let text = format!("covered {}@{}", named(*partition), epoch.0);
                let Some(progress) = progress else { return text };
                let above = progress.settled.iter().map(|(from, to)| format!(" {from}..{to}"));
                format!("{text} below {}{}", progress.point, above.collect::<String>())
            }
            _ => unreachable!(),
        }
    }
}

fn policy_of(word: &str) -> Policy {
    match word {
        "exactly-once" => Policy::default(),
        "dedup" => deduped(),
        "rounds" => Policy { guarantee: Guarantee::AtLeastOnce, state: true, ..deduped() },
        "parking" => {
            let mut policy = policy_of("rounds");
            policy.retry.in_place_ms = Some(0);
            policy
        }
        "inputs" => Policy { order: shared(), state: true, ..deduped() },
        "inputs-apart" => Policy { order: shared(), ..at_least_once() },
        _ => Policy { state: true, ..deduped() },
    }
}

fn shared() -> Order {
    Order { scope: Scope::Inputs, ..Order::default() }
}

fn deduped() -> Policy {
    let dedup = Dedup { id: IdFrom::Key, window_ms: 10_000, absent: Absent::Process, kept: true, capacity: 1_000 };
    Policy { dedup: Some(dedup), ..Policy::default() }
}

/// `a=1` is a value, `a-` a deletion.
fn changes_of(changes: &[Change]) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    changes.iter().fold(String::new(), |told, change| match &change.entry {
        Some(entry) => format!("{told} {}={}", text(&change.key), text(&entry.value)),
        None => format!("{told} {}-", text(&change.key)),
    })
}

fn keys(names: &[&str]) -> Vec<Arc<[u8]>> {
    names.iter().map(|name| Arc::from(name.as_bytes())).collect()
}

fn change(word: &str, number: u64) -> Change {
    let entry = |value: &str| Entry { value: Arc::from(value.as_bytes()), expires_ms: None };
    let (key, entry) = match word.split_once('=') {
        Some((key, value)) => (key, Some(entry(value))),
        None => (word.trim_end_matches('-'), None),
    };
    Change { key: Arc::from(key.as_bytes()), entry, number }
}

fn ids_of(ids: &[MessageId]) -> String {
    ids.iter().fold(String::new(), |text, id| format!("{text} {}", char::from(id.0[0])))
}

fn token_of(tokens: &[Token], word: &str) -> Token {
    tokens[number::<usize>(&word[1..]) - 1]
}

/// Offsets, maps, sequence numbers and known partitions, read back from the metadata.
fn offsets_of(offsets: &[CommitOffset]) -> String {
    let mut text = String::new();
    for o in offsets {
        let read = Metadata::decode(&o.metadata, o.offset, i64::MAX).unwrap();
        assert_eq!(read.partitions, 4);
        write!(text, " {}@{}{} s{}", named(o.partition), o.offset, map(&read.settled), read.sequence).unwrap();
    }
    text
}

fn map(settled: &Ranges) -> String {
    let runs: Vec<String> = settled.iter().map(|(from, to)| format!("{from}..{to}")).collect();
    if runs.is_empty() { String::new() } else { format!("[{}]", runs.join(" ")) }
}

fn opened(epoch: u64, start: i64, more: &[&str]) -> Opened {
    let mut settled = Vec::new();
    let (mut fresh, mut sequence) = (false, 0);
    for word in more {
        match word.split_once("..") {
            Some((from, to)) => settled.push((number(from), number(to))),
            None if *word == "fresh" => fresh = true,
            None => sequence = number(&word[2..]),
        }
    }
    let settled = ranges(&settled);
    Opened {
        log_end: start,
        epoch: Epoch(epoch),
        start,
        settled,
        sequence,
        partitions: 4,
        log: 200,
        kept: crate::metadata::Kept::default(),
        anew: false,
        fresh,
        loss: None,
        unusable: None,
        careful: Careful::default(),
        unmarked: false,
    }
}

fn epitaph() -> Box<Epitaph> {
    Box::new(Epitaph {
        reason: Reason::Attempts,
        failure: Failure::default(),
        attempts: 3,
        first_failed_ms: 5,
        version: None,
        company: crate::message::Company::Alone,
    })
}

fn settled(offset: &str, more: &[&str], fate: Fate) -> Settled<i64> {
    let offset: i64 = number(offset);
    let mark = |name: &str| more.iter().find_map(|w| w.strip_prefix(name));
    let partition = mark("p=").map_or(P0, partition);
    let ticket = Ticket {
        partition,
        shared: partition.topic != 0,
        offset,
        epoch: Epoch(mark("e=").map_or(1, number)),
        lane: mark("l=").map_or(1_000_u64.wrapping_add_signed(offset), number),
        id: mark("#").map(|id| MessageId([id.as_bytes()[0]; 16])),
        refused: None,
        alone: false,
        parked: mark("q=").map_or(0, number),
        size: 10,
        timestamp_ms: -1,
    };
    let changes = more.iter().filter_map(|w| w.strip_prefix('$')).map(|w| change(w, offset as u64)).collect();
    Settled { ticket, message: offset, fate, slot: Some(0), attempts: 2, changes }
}
