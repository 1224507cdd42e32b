//! A shard, driven by scripts.
//!
//! Each line of a script is `command => what must come of it`. A message is written lane, offset, marks: `a1` is
//! offset 1 of lane a in partition 0, `A1` the same of partition 1. Marks: `#x` its id, `*500` its size in bytes (10
//! if not said), `@7` its timestamp, `~2` its epoch (1 if not said), `!` refused by the intake,
//! `^` to run alone.
//!
//! | command | answer |
//! |---|---|
//! | `put MESSAGE..` | those that were dropped |
//! | `next` | `settled .. run MESSAGE.. in DEADLINE` or `settled .. wait [UNTIL]`; `x2` is the attempt, `+` follows a dead letter |
//! | `end OUTCOME..` | fates with `/slot` or reason and attempts, then the report; outcomes: done skip retry[MS] outage[MS] dead big |
//! | `took US` | how long the next calls take |
//! | `trap`, `timeout` | as `end` |
//! | `put_off` | the call could not be made |
//! | `ack MESSAGE` | the dead letter is acknowledged |
//! | `behind MESSAGE` | what waits behind that dead letter is given up: its fates |
//! | `open P EPOCH START [FROM..TO]..`, `close P EPOCH` | |
//! | `marked MESSAGE..` | their ids are committed |
//! | `commit` | what was parked and resolved since the last one: LANE:NUMBER, with `-` where it is resolved |
//! | `release MESSAGE`, `drop MESSAGE`, `redrive MESSAGE` | a command to it: its fate, or why not |
//! | `at MS`, `wall MS` | sets the clocks; `at` moves both |
//! | `load` | lanes, waiting, letters, ids |
//! | `order open`, `order close NUMBER`, `order probe NUMBER [fresh]` | the breaker's |
//! | `news` | what it is to hear: `tally SINCE FAILED/TRIED [CODE]`, `probe NUMBER WHAT` |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

mod batches;
mod burial;
mod failures;
mod inbox;
mod lanes;
mod ownership;
mod parked;
mod repeats;
mod state;
mod timers;
mod together;
mod told;
mod watch;

use super::*;
use crate::dedup::{NoPast, Past};
use crate::message::MessageId;
use crate::parking::NothingParked;
use crate::policy::{Absent, Batch, Dedup, Guarantee, IdFrom, Retry, Spent};
use crate::testing::{P0, P1};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

/// The wall clock when the steady one shows 0.
const WALL_MS: i64 = 1_000_000;

/// No chance, no waiting for company, a back-off of 100, 200, 400 ms.
fn policy() -> Policy {
    let default = Policy::default();
    Policy {
        batch: Batch { max_messages: 16, max_bytes: 1_000, max_wait_ms: 0, max_time_ms: 30_000, apart: false },
        retry: Retry { attempts: 3, first_ms: 100, factor: 2.0, jitter: 0.0, ..default.retry },
        timeout_ms: 1_000,
        ..default
    }
}

fn deduped() -> Policy {
    let dedup = Dedup { id: IdFrom::Key, window_ms: 10_000, absent: Absent::Process, kept: false, capacity: 1_000 };
    Policy { dedup: Some(dedup), guarantee: Guarantee::AtLeastOnce, ..policy() }
}

/// With ids that are kept.
fn kept() -> Policy {
    let dedup = deduped().dedup.map(|dedup| Dedup { kept: true, ..dedup });
    Policy { dedup, guarantee: Guarantee::ExactlyOnce, ..policy() }
}

fn discarding() -> Policy {
    let policy = policy();
    Policy { retry: Retry { then: Spent::Discard, ..policy.retry.clone() }, ..policy }
}

struct Rig {
    shard: Shard<String>,
    now: Now,
    took_us: u64,
    past: BTreeSet<(Partition, MessageId)>,
    parked: parked::Store,
    /// Of the last tally: runs that failed, and all.
    runs: (u64, u64),
}

impl Past for BTreeSet<(Partition, MessageId)> {
    fn contains(&self, partition: Partition, id: MessageId, _: Now) -> bool {
        BTreeSet::contains(self, &(partition, id))
    }
}

/// Runs a script against a shard with this policy, whose partitions 0 and 1 are open in epoch 1.
#[track_caller]
fn check(policy: Policy, script: &str) {
    let mut rig = Rig::new(policy);
    let mut done = String::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (command, expected) = line.split_once("=>").unwrap_or((line, ""));
        let answer = rig.obey(command.trim());
        assert!(answer == expected.trim(), "\n{done}{line}\n{:>w$} {answer}", "got", w = command.len() + 2);
        done.push_str(line);
        done.push('\n');
    }
}

impl Rig {
    fn new(policy: Policy) -> Self {
        let mut shard = Shard::new(policy, 1);
        shard.open(P0, Epoch(1), 0, &Ranges::new());
        shard.open(P1, Epoch(1), 0, &Ranges::new());
        Self {
            shard,
            now: Now { steady_ms: 0, wall_ms: WALL_MS },
            took_us: 0,
            past: BTreeSet::new(),
            parked: parked::Store::default(),
            runs: (0, 0),
        }
    }

    fn obey(&mut self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let mut settled = Vec::new();
        let report = match verb {
            "put" => return self.put(&words),
            "next" => return self.next(),
            "load" => return self.load(),
            "order" => return self.order(&words),
            "news" => return self.news(),
            "at" => self.set_clock(words[0].parse().unwrap()),
            "wall" => return self.quietly(|r| r.now.wall_ms = words[0].parse().unwrap()),
            "took" => return self.quietly(|r| r.took_us = words[0].parse().unwrap()),
            "put_off" => return self.quietly(|r| r.shard.put_off()),
            "commit" => return self.commit(),
            "release" | "drop" | "redrive" => return self.command(verb, words[0]),
            "marked" => return self.quietly(|r| r.marked(&words)),
            "covered" => return self.quietly(|r| r.covered(&words)),
            "open" | "close" | "ack" => return self.quietly(|r| r.ownership(verb, &words)),
            "end" => {
                let outcomes = words.iter().map(|w| outcome(w)).collect();
                Some(self.shard.complete(outcomes, self.took_us, self.now, &mut settled))
            }
            "behind" => {
                let head = ticket(words[0]);
                let past = core::mem::take(&mut self.past);
                self.shard.give_up_behind((head.partition, head.offset), self.now, &past, &mut settled);
                self.past = past;
                None
            }
            "trap" | "timeout" => {
                let failure = Failure { code: verb.into(), detail: String::new() };
                Some(self.shard.fail(CallFailure { timeout: verb == "timeout", failure }, self.now, &mut settled))
            }
            _ => panic!("no such command: {command}"),
        };
        self.parked.stage(&settled);
        let mut answer = fates(&settled);
        let report = report.unwrap_or_default();
        for (what, count) in [("retried", report.retried), ("undone", report.undone), ("replayed", report.replayed)] {
            if count > 0 {
                write!(answer, " {what} {count}").unwrap();
            }
        }
        answer.trim().into()
    }

    fn quietly(&mut self, act: impl FnOnce(&mut Self)) -> String {
        act(self);
        String::new()
    }

    fn set_clock(&mut self, ms: u64) -> Option<Report> {
        self.now = Now { steady_ms: ms, wall_ms: WALL_MS + ms as i64 };
        None
    }

    fn marked(&mut self, words: &[&str]) {
        for ticket in words.iter().map(|word| ticket(word)) {
            let (partition, id) = (ticket.partition, ticket.id.unwrap());
            self.past.insert((partition, id));
            self.shard.marked(partition, &[id]);
        }
    }

    fn put(&mut self, words: &[&str]) -> String {
        let mut dropped = Vec::new();
        for word in words {
            let ticket = ticket(word);
            if !self.shard.accept(ticket, name(&ticket), self.now) {
                dropped.push(name(&ticket));
            }
        }
        dropped.join(" ")
    }

    fn next(&mut self) -> String {
        let mut settled = Vec::new();
        let next = self.shard.next(self.now, &self.past, &self.parked, &mut settled);
        self.parked.stage(&settled);
        let mut answer = fates(&settled);
        match next {
            Next::Run(plan) => {
                answer.push_str(" run");
                assert_eq!(plan.messages as usize, self.shard.batch().count());
                for delivery in self.shard.batch() {
                    assert_eq!(name(delivery.ticket), *delivery.message);
                    write!(answer, " {}", delivery.message).unwrap();
                    if delivery.attempt != 1 {
                        write!(answer, "x{}", delivery.attempt).unwrap();
                    }
                    answer.push_str(if delivery.follows_dead_letter { "+" } else { "" });
                }
                write!(answer, " in {}", plan.deadline_ms).unwrap();
            }
            Next::Wait(None) => answer.push_str(" wait"),
            Next::Wait(Some(until)) => write!(answer, " wait {until}").unwrap(),
        }
        answer.trim().into()
    }

    fn ownership(&mut self, verb: &str, words: &[&str]) {
        if verb == "ack" {
            let ticket = ticket(words[0]);
            return self.shard.letter_acknowledged(ticket.partition, ticket.epoch, ticket.offset);
        }
        let partition = if words[0] == "0" { P0 } else { P1 };
        let epoch = Epoch(words[1].parse().unwrap());
        if verb == "close" {
            return self.shard.close(partition, epoch);
        }
        let mut settled = Ranges::new();
        for range in &words[3..] {
            let (from, to) = range.split_once("..").unwrap();
            settled.push(from.parse().unwrap(), to.parse().unwrap());
        }
        self.shard.open(partition, epoch, words[2].parse().unwrap(), &settled);
    }

    fn load(&self) -> String {
        let load = self.shard.load();
        format!("lanes {} waiting {} letters {} ids {}", load.lanes, load.waiting, load.letters, load.ids)
    }
}

fn ticket(word: &str) -> Ticket {
    let (lane, rest) = word.split_at(1);
    let marks: Vec<(usize, char)> = rest.char_indices().filter(|(_, c)| !c.is_ascii_alphanumeric()).collect();
    let mut parts: BTreeMap<char, &str> = BTreeMap::new();
    let bare = marks.first().map_or(rest, |(at, _)| &rest[..*at]);
    for (n, (at, mark)) in marks.iter().enumerate() {
        let end = marks.get(n + 1).map_or(rest.len(), |m| m.0);
        parts.insert(*mark, &rest[at + 1..end]);
    }
    let letter = lane.as_bytes()[0];
    let partition = if letter.is_ascii_lowercase() { P0 } else { P1 };
    Ticket {
        partition,
        shared: false,
        offset: bare.parse().unwrap(),
        epoch: Epoch(parts.get(&'~').map_or(1, |e| e.parse().unwrap())),
        lane: u64::from(letter.to_ascii_lowercase()),
        id: parts.get(&'#').map(|id| MessageId([id.as_bytes()[0]; 16])),
        refused: parts.contains_key(&'!').then_some(Reason::Rejected),
        alone: parts.contains_key(&'^'),
        parked: 0,
        size: parts.get(&'*').map_or(10, |s| s.parse().unwrap()),
        timestamp_ms: parts.get(&'@').map_or(-1, |t| t.parse().unwrap()),
    }
}

/// Lane and offset, as scripts write them.
fn name(ticket: &Ticket) -> String {
    let lane = char::from(ticket.lane as u8);
    let lane = if ticket.partition == P0 { lane } else { lane.to_ascii_uppercase() };
    format!("{lane}{}", ticket.offset)
}

fn outcome(word: &str) -> Outcome {
    let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
    let (what, delay) = word.split_at(digits);
    let failure = Failure { code: what.into(), detail: String::new() };
    let delay_ms = delay.parse().ok();
    match what {
        "done" => Outcome::Done,
        "skip" => Outcome::Skip,
        "retry" => Outcome::Retry { failure, delay_ms, outage: false },
        "outage" => Outcome::Retry { failure, delay_ms, outage: true },
        "dead" => Outcome::DeadLetter(failure),
        "big" => Outcome::Oversized(failure),
        _ => panic!("no such outcome: {word}"),
    }
}

fn fates(settled: &[Settled<String>]) -> String {
    let mut text = String::new();
    for s in settled {
        assert_eq!(name(&s.ticket), s.message);
        let (fate, epitaph) = match &s.fate {
            Fate::Done => ("done", None),
            Fate::Skipped => ("skipped", None),
            Fate::Duplicate { .. } => ("duplicate", None),
            Fate::DeadLetter(epitaph) => ("dead", Some(epitaph)),
            Fate::Discarded(epitaph) => ("discarded", Some(epitaph)),
            Fate::Parked(waiting) if waiting.given_up.is_some() => ("given up", None),
            Fate::Parked(_) => ("parked", None),
            Fate::ParkedBefore => ("known", None),
            Fate::Buried => ("buried", None),
        };
        write!(text, " {} {fate}", s.message).unwrap();
        match (epitaph, s.slot) {
            (Some(epitaph), slot) => {
                assert_eq!((epitaph.attempts, slot), (s.attempts, None));
                write!(text, ":{}", epitaph.reason.as_str()).unwrap();
                match &epitaph.company {
                    Company::Alone => {}
                    Company::Leads(mark) => write!(text, " up to {}", mark.given_up.unwrap().until).unwrap(),
                    Company::Follows(head) => write!(text, " with {head}").unwrap(),
                }
            }
            (None, Some(slot)) => write!(text, "/{slot}").unwrap(),
            (None, None) => {}
        }
        match s.attempts {
            1 => {}
            attempts => write!(text, " x{attempts}").unwrap(),
        }
    }
    text
}
