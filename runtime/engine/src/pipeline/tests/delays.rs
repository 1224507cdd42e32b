//! Delayed sends: when they are due they go out with their deletion, in a transaction of their partition.

use super::*;
use crate::delays::{Delays, Loaded};
use crate::timers::Due;
use alloc::collections::BTreeMap;

const READY: &str = "
    tick => renew
    open 0 1 10
    open 1 1 10
    recv 0 1 10 14
    recv 1 1 10 14
    renewed ok
";

/// What is committed: by partition and when it is due, the number.
#[derive(Debug, Default)]
struct Known(BTreeMap<Partition, BTreeMap<Due, i64>>);

impl Known {
    fn add(&mut self, partition: Partition, at_ms: i64, key: &str, number: i64) {
        self.0.entry(partition).or_default().insert((1_000_000 + at_ms, Arc::from(key.as_bytes())), number);
    }

    fn sent(&mut self, partition: Partition, key: &str) {
        self.0.entry(partition).or_default().retain(|(_, own), _| **own != *key.as_bytes());
    }
}

impl Delays<i64> for Known {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let all = self.0.get(&task).into_iter().flat_map(BTreeMap::keys);
        all.filter(|due| due.0 <= until_ms && after.is_none_or(|after| *due > after)).take(most).cloned().collect()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        self.0.get(&task)?.keys().map(|due| due.0).find(|at_ms| *at_ms > after_ms)
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<i64>> {
        let ((at_ms, _), number) = self.0.get(&task)?.iter().find(|((_, own), _)| **own == *key)?;
        let refused = (*number < -99).then(|| "there is no such output".into());
        Some(Loaded { number: *number, size: 10, at_ms: *at_ms, message: *number, refused })
    }
}

fn ready() -> Rig {
    let mut rig = rig();
    let policy = Policy { state: true, delays: true, ..Policy::default() };
    rig.pipeline = Pipeline::new(policy, 2, TIMING);
    script(&mut rig, READY);
    rig
}

#[track_caller]
fn script(rig: &mut Rig, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once("=>").unwrap_or((line, ""));
        assert_eq!(rig.obey(command.trim()), expected.trim(), "{line}");
    }
}

/// Publishes what is due, and tells partitions and numbers.
fn go_out(rig: &mut Rig, known: &Known) -> Vec<(i32, i64)> {
    let mut all = Vec::new();
    while let Some(settled) = rig.pipeline.next_delayed(rig.now, known) {
        all.push((settled.ticket.partition.number, settled.message));
        if let Some(token) = rig.pipeline.publish(settled, 1, rig.now, &mut rig.actions) {
            rig.name(token);
        }
    }
    all
}

#[test]
fn they_go_out_when_they_are_due_once_and_with_their_deletion() {
    let (mut rig, mut known) = (ready(), Known::default());
    known.add(P0, 50, "\u{5}b", -3);
    known.add(P0, 50, "\u{5}a", -2);
    known.add(P0, 51, "\u{5}c", -4);
    assert_eq!(go_out(&mut rig, &known), []);
    script(&mut rig, "at 50");
    assert_eq!(go_out(&mut rig, &known), [(0, -2), (0, -3)]);
    assert_eq!(go_out(&mut rig, &known), [], "the transaction holds them");
    script(
        &mut rig,
        "ack t1
        ack t2
        at 100
        tick => keep t3 of 0 \u{5}a- \u{5}b-",
    );
    assert_eq!(go_out(&mut rig, &known), [], "it closes");
    script(
        &mut rig,
        "ack t3
        ack t3 => commit 1: 0@10 s1 1@10 s1
        done 1 => kept 0 \u{5}a- \u{5}b-",
    );
    known.sent(P0, "\u{5}a");
    known.sent(P0, "\u{5}b");
    assert_eq!(go_out(&mut rig, &known), [(0, -4)]);
}

#[test]
fn partitions_take_turns_by_pages() {
    let (mut rig, mut known) = (ready(), Known::default());
    for n in 0..300 {
        for partition in [P0, P1] {
            known.add(partition, 0, &format!("\u{5}{n:03}"), -2 - n);
        }
    }
    let all = go_out(&mut rig, &known);
    let turns: Vec<(i32, usize)> = all.chunk_by(|a, b| a.0 == b.0).map(|turn| (turn[0].0, turn.len())).collect();
    assert_eq!(turns, [(0, 256), (1, 256), (0, 44), (1, 44)]);
    let own = all.iter().filter(|(partition, _)| *partition == 0).map(|(_, number)| *number);
    assert!(own.eq((0..300).map(|n| -2 - n)));
}

#[test]
fn what_was_given_up_goes_out_again_once_the_partition_is_known() {
    let (mut rig, mut known) = (ready(), Known::default());
    known.add(P0, 0, "\u{5}a", -2);
    assert_eq!(go_out(&mut rig, &known), [(0, -2)]);
    script(
        &mut rig,
        "busy t1 away => given up: away, pause 0, blocked 0 by output: away
        tick => renew
        renewed ok",
    );
    assert_eq!(go_out(&mut rig, &known), [], "it waits");
    script(
        &mut rig,
        "at 20
        tick => restart 0 or 10, commit 1: 1@10 s1
        open 0 2 10 => resume 0
        done 1",
    );
    assert_eq!(go_out(&mut rig, &known), [(0, -2)]);
    script(&mut rig, "ack t2 => unblocked 0");
}

#[test]
fn what_is_never_taken_becomes_a_dead_letter_with_its_deletion() {
    let (mut rig, mut known) = (ready(), Known::default());
    known.add(P0, 0, "\u{5}a", -2);
    assert_eq!(go_out(&mut rig, &known), [(0, -2)]);
    script(
        &mut rig,
        "never t1 big
        at 100
        tick => given up: the message at offset -2 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 -2, restart 0 or 10
        open 0 2 10 => resume 0",
    );
    assert_eq!(go_out(&mut rig, &known), [(0, -2)]);
    let Some(Action::DeadLetter { token, .. }) = rig.actions.pop() else { panic!("{:?}", rig.actions) };
    let letter = rig.pipeline.publication(token).unwrap();
    let Fate::DeadLetter(epitaph) = &letter.fate else { panic!("{letter:?}") };
    assert_eq!((epitaph.reason, epitaph.failure.detail.as_str()), (Reason::Undeliverable, "big"));
    assert!(rig.pipeline.acknowledged(token, rig.now, &mut rig.actions));
    rig.actions.clear();
    script(
        &mut rig,
        "at 200
        tick => keep t2 of 0 \u{5}a-",
    );
}

#[test]
fn without_its_output_it_becomes_a_dead_letter_at_once() {
    let (mut rig, mut known) = (ready(), Known::default());
    known.add(P0, 0, "\u{5}a", -100);
    assert_eq!(go_out(&mut rig, &known), [(0, -100)]);
    assert!(matches!(rig.actions[..], [Action::DeadLetter { short: false, .. }]), "{:?}", rig.actions);
}

#[test]
fn a_partition_that_is_given_up_sends_no_more_and_commits_what_it_sent() {
    let (mut rig, mut known) = (ready(), Known::default());
    known.add(P0, 0, "\u{5}a", -2);
    assert_eq!(go_out(&mut rig, &known), [(0, -2)]);
    script(&mut rig, "revoke 0 => close 0@1");
    known.add(P0, 0, "\u{5}b", -3);
    rig.pipeline.awaited(P0, Epoch(1), rig.now);
    assert_eq!(go_out(&mut rig, &known), []);
    script(
        &mut rig,
        "drained 0 1
        drained 0 1 => keep t2 of 0 \u{5}a-
        ack t1
        ack t2 => commit 1: 0@10 s1 1@10 s1",
    );
}

#[test]
fn a_delay_counts_from_when_its_message_is_published() {
    let mut rig = ready();
    let delayed = crate::delays::Delayed {
        at_ms: 500,
        offset: 10,
        output: "out",
        key: None,
        value: None,
        headers: Vec::new(),
        timestamp_ms: None,
    };
    let mut settled = settled("10", &[], Fate::Done);
    let entry = Entry { value: delayed.encode().into(), expires_ms: None };
    settled.changes.push(Change { key: crate::delays::owner().key("n").into(), entry: Some(entry), number: 1 });
    script(&mut rig, "at 70");
    assert_eq!(rig.pipeline.publish(settled, 0, rig.now, &mut rig.actions), None);
    script(&mut rig, "at 100");
    rig.pipeline.tick(rig.now, &mut rig.actions);
    let [Action::Keep { changes, .. }] = &rig.actions[..] else { panic!("{:?}", rig.actions) };
    let value = &changes[0].entry.as_ref().unwrap().value;
    assert_eq!(crate::delays::Delayed::due_ms(value), Some(1_000_570));
}
