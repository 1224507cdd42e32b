//! A task of two inputs: their messages share lanes, ids and the epoch.

use super::*;
use crate::policy::{Order, Scope};

const OTHER: Partition = Partition { topic: 1, number: 0 };

fn shard() -> Shard<()> {
    let order = Order { scope: Scope::Inputs, ..Order::default() };
    let mut shard = Shard::new(Policy { order, ..kept() }, 1);
    open(&mut shard, 1);
    shard
}

fn open(shard: &mut Shard<()>, epoch: u64) {
    for partition in [P0, OTHER] {
        shard.open(partition, Epoch(epoch), 0, &Ranges::new());
    }
}

/// A message of the one lane.
fn of(partition: Partition, offset: i64, epoch: u64, id: u8) -> Ticket {
    let (shared, id) = (partition != P0, Some(MessageId([id; 16])));
    Ticket { partition, shared, offset, epoch: Epoch(epoch), id, ..ticket("a0") }
}

fn run(shard: &mut Shard<()>) -> (Vec<(Partition, i64)>, Vec<Fate>) {
    let mut settled = Vec::new();
    let now = Now { steady_ms: 0, wall_ms: WALL_MS };
    shard.next(now, &NoPast, &crate::parking::NothingParked, &mut settled);
    let batch = shard.batch().map(|delivery| (delivery.ticket.partition, delivery.ticket.offset)).collect();
    (batch, settled.into_iter().map(|settled| settled.fate).collect())
}

fn end(shard: &mut Shard<()>, outcomes: Vec<Outcome>) -> usize {
    let mut settled = Vec::new();
    shard.complete(outcomes, 0, Now { steady_ms: 0, wall_ms: WALL_MS }, &mut settled);
    settled.len()
}

#[test]
fn a_key_s_messages_of_both_inputs_run_in_the_order_in_which_they_came() {
    let mut shard = shard();
    for (partition, offset, id) in [(OTHER, 7, 1), (P0, 3, 2), (OTHER, 8, 3)] {
        assert!(shard.accept(of(partition, offset, 1, id), (), Now::default()));
    }
    assert_eq!(run(&mut shard).0, [(OTHER, 7), (P0, 3), (OTHER, 8)]);
    // What is behind one that fails is undone, whichever input it is of.
    let again = Outcome::Retry { failure: Failure::default(), delay_ms: Some(5), outage: false };
    assert_eq!(end(&mut shard, [again, Outcome::Done, Outcome::Done].into()), 0);
    assert!(run(&mut shard).0.is_empty());
}

#[test]
fn a_message_that_came_by_another_input_is_a_duplicate_until_the_task_starts_anew() {
    let mut shard = shard();
    shard.accept(of(P0, 3, 1, 9), (), Now::default());
    assert_eq!((run(&mut shard).0.len(), end(&mut shard, [Outcome::Done].into())), (1, 1));
    shard.accept(of(OTHER, 3, 1, 9), (), Now::default());
    let (batch, fates) = run(&mut shard);
    assert_eq!((batch.len(), fates), (0, [Fate::Duplicate { of: Some((P0, 3)) }].into()));
    open(&mut shard, 2);
    shard.accept(of(OTHER, 3, 2, 9), (), Now::default());
    assert_eq!(run(&mut shard).0, [(OTHER, 3)], "the first is to come again, and is its duplicate then");
}

#[test]
fn the_partitions_of_a_task_start_and_go_together() {
    let mut shard = shard();
    assert!(shard.accept(of(OTHER, 7, 1, 1), (), Now::default()));
    // The first that starts anew takes all that was there along; the second one takes nothing of the first.
    shard.open(P0, Epoch(2), 0, &Ranges::new());
    assert!(!shard.accept(of(OTHER, 8, 1, 2), (), Now::default()), "of the epoch before");
    assert!(shard.accept(of(P0, 3, 2, 3), (), Now::default()));
    shard.open(OTHER, Epoch(2), 0, &Ranges::new());
    assert_eq!(run(&mut shard).0, [(P0, 3)]);
    shard.close(OTHER, Epoch(2));
    assert!(!shard.accept(of(P0, 4, 2, 4), (), Now::default()));
    shard.open(P0, Epoch(2), 0, &Ranges::new());
    assert!(!shard.accept(of(P0, 4, 2, 4), (), Now::default()), "what was closed never opens again");
}
