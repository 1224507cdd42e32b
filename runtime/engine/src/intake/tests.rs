//! Where a partition starts, and what becomes of its records.

#![allow(clippy::panic, reason = "a test may fail by panic")]

use super::*;
use crate::policy::{Absent, Dedup, IdFrom, Order, OrderBy, Scope};
use crate::testing::{Msg, P0, P1, ranges};
use alloc::string::String;

fn intake() -> Intake {
    Intake::new(Policy::default(), 4, 1)
}

/// A log of 100..200 in a topic of four partitions, and no commit.
const FOUND: Found<'static> = Found {
    committed: None,
    metadata: "",
    log_start: 100,
    log_end: 200,
    known_partitions: None,
    partitions: 4,
    log: 0,
};

/// How partition 0 starts, without what `Found` says plainly.
fn opened(found: &Found<'_>, from: From) -> Opened {
    intake().open(P0, found, from)
}

fn commit(offset: i64, metadata: &str) -> Found<'_> {
    Found { committed: Some(offset), metadata, ..FOUND }
}

fn map(offset: i64, settled: &[(i64, i64)]) -> String {
    Metadata { sequence: 7, partitions: 3, held: None, log: 0, kept: Kept::default(), settled: ranges(settled) }
        .encode(offset)
}

#[test]
fn a_group_without_commit_starts_where_the_manifest_says_and_never_at_0() {
    let earliest = opened(&FOUND, From::Earliest);
    let expected = Opened {
        epoch: Epoch(1),
        start: 100,
        log_end: FOUND.log_end,
        settled: Ranges::new(),
        sequence: 0,
        partitions: 4,
        log: 0,
        kept: Kept::default(),
        anew: false,
        fresh: true,
        loss: None,
        unusable: None,
        careful: Careful::default(),
        unmarked: true,
    };
    assert_eq!(earliest, expected);
    assert_eq!(opened(&FOUND, From::Latest), Opened { start: 200, ..expected });
}

#[test]
fn latest_means_the_end_only_for_partitions_that_were_there_at_the_first_start() {
    for (number, known, start) in
        [(0, Some(2), 200), (1, Some(2), 200), (2, Some(2), 100), (3, Some(2), 100), (3, None, 200)]
    {
        let partition = Partition { topic: 0, number };
        let found = Found { known_partitions: known, ..FOUND };
        let opened = intake().open(partition, &found, From::Latest);
        assert_eq!((opened.start, opened.fresh), (start, true), "{number} {known:?}");
        assert_eq!(opened.partitions, known.unwrap_or(4));
        assert_eq!(intake().open(partition, &found, From::Earliest).start, 100);
    }
}

#[test]
fn a_commit_is_gone_on_from_with_its_map() {
    let text = map(150, &[(152, 155), (160, 161)]);
    let expected = Opened {
        epoch: Epoch(1),
        start: 150,
        log_end: FOUND.log_end,
        settled: ranges(&[(152, 155), (160, 161)]),
        sequence: 7,
        partitions: 3,
        log: 0,
        kept: Kept::default(),
        anew: false,
        fresh: false,
        loss: None,
        unusable: None,
        careful: Careful::default(),
        unmarked: true,
    };
    for from in [From::Earliest, From::Latest] {
        assert_eq!(opened(&commit(150, &text), from), expected);
    }
    // What the commit says of the partitions goes before what others say.
    let found = Found { known_partitions: Some(2), ..commit(150, &text) };
    assert_eq!(opened(&found, From::Latest).partitions, 3);
    let bare = Found { known_partitions: Some(2), ..commit(150, "") };
    assert_eq!(opened(&bare, From::Latest).partitions, 2);
}

#[test]
fn an_operators_reset_has_no_metadata_and_is_believed() {
    for offset in [100, 150, 200] {
        let opened = opened(&commit(offset, ""), From::Latest);
        assert_eq!((opened.start, opened.loss, opened.unusable, opened.fresh), (offset, None, None, false));
        assert!(opened.settled.is_empty());
    }
}

#[test]
fn metadata_that_cannot_be_believed_is_an_empty_map_and_said() {
    let past_the_end = map(150, &[(152, 201)]);
    for (text, why) in
        [("by hand", Unusable::Foreign), ("kr4.???", Unusable::Damaged), (&past_the_end, Unusable::PastEnd)]
    {
        let opened = opened(&commit(150, text), From::Earliest);
        assert_eq!((opened.start, opened.unusable, opened.sequence, opened.partitions), (150, Some(why), 0, 4));
        assert!(opened.settled.is_empty() && !opened.fresh);
    }
    let up_to_the_end = map(150, &[(152, 200)]);
    assert_eq!(opened(&commit(150, &up_to_the_end), From::Earliest).settled, ranges(&[(152, 200)]));
}

#[test]
fn retention_passed_the_commit_is_a_loss_and_the_rest_of_the_map_holds() {
    let text = map(90, &[(95, 97), (98, 104), (110, 120)]);
    let opened = opened(&commit(90, &text), From::Latest);
    assert_eq!((opened.start, opened.loss, opened.fresh), (100, Some((90, 100)), true));
    assert_eq!(opened.settled, ranges(&[(98, 104), (110, 120)]));
    assert_eq!(opened.sequence, 7);
}

#[test]
fn a_log_cut_short_or_made_anew_starts_at_its_beginning_without_the_old_map() {
    let opened = opened(&commit(201, ""), From::Latest);
    assert_eq!((opened.start, opened.loss, opened.fresh), (100, Some((200, 201)), true));
    let text = map(300, &[(302, 304)]);
    let opened = intake().open(P0, &commit(300, &text), From::Earliest);
    assert_eq!((opened.start, opened.loss, opened.unusable), (100, Some((200, 300)), Some(Unusable::PastEnd)));
    assert!(opened.settled.is_empty());
}

fn routed(take: Take) -> (u32, Ticket) {
    match take {
        Take::Route { shard, ticket } => (shard, ticket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_becomes_a_ticket() {
    let mut intake = intake();
    let epoch = intake.open(P0, &FOUND, From::Earliest).epoch;
    let message = Msg { timestamp_ms: 42, size: 77, ..Msg::keyed("k") };
    let (shard, ticket) = routed(intake.take(P0, 105, &message));
    let lane = order::LaneHash::new(1).lane(order::OrderKey::Key(b"k"), None, P0, (P0, 105));
    let expected = Ticket {
        partition: P0,
        offset: 105,
        shared: false,
        epoch,
        lane,
        id: None,
        refused: None,
        alone: false,
        parked: 0,
        size: 77,
        timestamp_ms: 42,
    };
    assert_eq!(ticket, expected);
    assert_eq!(shard, order::shard_of(lane, 4));
}

#[test]
fn a_size_that_no_ticket_holds_is_the_largest() {
    let mut intake = intake();
    intake.open(P0, &FOUND, From::Earliest);
    let (_, ticket) = routed(intake.take(P0, 100, &Msg { size: usize::MAX, ..Msg::keyed("k") }));
    assert_eq!(ticket.size, u32::MAX);
}

#[test]
fn records_below_the_position_are_stale_and_gaps_are_none() {
    let mut intake = intake();
    intake.open(P0, &FOUND, From::Earliest);
    let message = Msg::keyed("k");
    assert_eq!(intake.position(P0), Some(100));
    assert_eq!(intake.take(P0, 99, &message), Take::Stale);
    assert_eq!(routed(intake.take(P0, 100, &message)).1.offset, 100);
    assert_eq!(intake.position(P0), Some(101));
    assert_eq!(intake.take(P0, 100, &message), Take::Stale);
    assert_eq!(routed(intake.take(P0, 107, &message)).1.offset, 107);
    assert_eq!(intake.take(P0, 103, &message), Take::Stale);
    assert_eq!(intake.position(P0), Some(108));
    assert_eq!(intake.take(P1, 108, &message), Take::Stale);
    assert_eq!((intake.position(P1), intake.epoch(P1)), (None, None));
}

#[test]
fn what_was_settled_before_is_skipped_exactly() {
    let mut intake = intake();
    let text = map(150, &[(152, 154), (156, 157)]);
    intake.open(P0, &commit(150, &text), From::Earliest);
    let skipped: Vec<i64> = (150..160).filter(|o| intake.take(P0, *o, &Msg::keyed("k")) == Take::Settled).collect();
    assert_eq!(skipped, [152, 153, 156]);
    assert_eq!(intake.position(P0), Some(160));
}

#[test]
fn epochs_are_never_used_twice_and_name_the_present_assignment() {
    let mut intake = intake();
    let first = intake.open(P0, &FOUND, From::Earliest).epoch;
    let other = intake.open(P1, &FOUND, From::Earliest).epoch;
    assert_eq!(intake.open_partitions(), [(P0, first), (P1, other)]);
    intake.close(P0);
    assert_eq!(intake.take(P0, 150, &Msg::keyed("k")), Take::Stale);
    assert_eq!(intake.open_partitions(), [(P1, other)]);
    let again = intake.open(P0, &FOUND, From::Earliest).epoch;
    let rewound = intake.rewind(P0, 120, ranges(&[(122, 123)])).epoch;
    assert!(first < other && other < again && again < rewound);
    assert_eq!(intake.epoch(P0), Some(rewound));
    assert_eq!(routed(intake.take(P0, 120, &Msg::keyed("k"))).1.epoch, rewound);
}

#[test]
fn a_rewind_starts_below_and_skips_what_stays_settled() {
    let mut intake = intake();
    intake.open(P0, &FOUND, From::Earliest);
    routed(intake.take(P0, 130, &Msg::keyed("k")));
    intake.rewind(P0, 120, ranges(&[(122, 123)]));
    assert_eq!(intake.position(P0), Some(120));
    assert_eq!(intake.take(P0, 119, &Msg::keyed("k")), Take::Stale);
    let skipped: Vec<i64> = (120..131).filter(|o| intake.take(P0, *o, &Msg::keyed("k")) == Take::Settled).collect();
    assert_eq!(skipped, [122]);
}

fn deduped(absent: Absent, by: OrderBy) -> Intake {
    let dedup = Dedup { id: IdFrom::Header("id".into()), window_ms: 1, absent, kept: false, capacity: 1 };
    let order = Order { by, ..Order::default() };
    let mut intake = Intake::new(Policy { dedup: Some(dedup), order, ..Policy::default() }, 4, 1);
    intake.open(P0, &FOUND, From::Earliest);
    intake
}

#[test]
fn the_id_counts_within_its_order_key() {
    let mut intake = deduped(Absent::Process, OrderBy::Key);
    let with = |key| Msg { headers: &[(b"id", Some(b"1"))], ..Msg::keyed(key) };
    let first = routed(intake.take(P0, 100, &with("a"))).1;
    let twin = routed(intake.take(P0, 101, &with("a"))).1;
    let other = routed(intake.take(P0, 102, &with("b"))).1;
    assert_eq!(first.id, Some(order::message_id(order::OrderKey::Key(b"a"), b"1")));
    assert_eq!((first.id, first.lane), (twin.id, twin.lane));
    assert_ne!(first.id, other.id);
}

#[test]
fn a_message_without_order_key_takes_its_id_as_one() {
    let mut intake = deduped(Absent::Process, OrderBy::None);
    let with = Msg { headers: &[(b"id", Some(b"1"))], ..Msg::keyed("k") };
    let first = routed(intake.take(P0, 100, &with)).1;
    let twin = routed(intake.take(P0, 101, &with)).1;
    assert_eq!(first.lane, twin.lane);
    let free = routed(intake.take(P0, 102, &Msg::keyed("k"))).1;
    assert_ne!(free.lane, routed(intake.take(P0, 103, &Msg::keyed("k"))).1.lane);
}

#[test]
fn a_message_without_id_gets_what_absent_says() {
    let ticket = |absent| routed(deduped(absent, OrderBy::Key).take(P0, 100, &Msg::keyed("k"))).1;
    let process = ticket(Absent::Process);
    assert_eq!((process.id, process.refused), (None, None));
    let digest = ticket(Absent::Digest);
    assert!(digest.id.is_some() && digest.refused.is_none());
    let dead = ticket(Absent::DeadLetter);
    assert_eq!((dead.id, dead.refused), (None, Some(Reason::Rejected)));
    assert_eq!(process.lane, dead.lane);
}

#[test]
fn no_shards_are_one() {
    let mut intake = Intake::new(Policy::default(), 0, 1);
    intake.open(P0, &FOUND, From::Earliest);
    assert_eq!(routed(intake.take(P0, 100, &Msg::keyed("k"))).0, 0);
}

#[test]
fn after_an_unclean_stop_what_may_have_run_runs_alone() {
    let text = |held| {
        Metadata { sequence: 7, partitions: 3, held, log: 0, kept: Kept::default(), settled: ranges(&[(152, 155)]) }
            .encode(150)
    };
    let careful = |held, log_end| {
        let text = text(held);
        let opened = opened(&Found { log_end, ..commit(150, &text) }, From::Earliest);
        (opened.careful.messages, opened.careful.below, opened.unmarked)
    };
    assert_eq!(careful(None, 100_000), (0, 0, true), "given up in good order: the next commit says that it is held");
    assert_eq!(careful(Some(0), 100_000), (1_000, 1_153, true), "what is settled runs no more");
    assert_eq!(careful(Some(0), 1_000), (1_000, 1_000, true), "what came later was not running");
    assert_eq!(careful(Some(1_000), 100_000), (2_000, 2_153, true), "it died again before it had come so far");
    assert_eq!(careful(Some(100_000), 1 << 40), (128_000, 128_153, true));
    assert_eq!(careful(Some(128_000), 1 << 40), (128_000, 128_153, false));
    assert_eq!(opened(&FOUND, From::Earliest).careful, Careful::default(), "the group never ran");
    let text = Metadata { held: Some(0), ..Metadata::default() }.encode(200);
    let at_the_end = opened(&commit(200, &text), From::Earliest);
    assert_eq!((at_the_end.careful, at_the_end.unmarked), (Careful::default(), false), "nothing was there");
}

#[test]
fn what_runs_alone_is_marked_also_after_a_rewind() {
    let mut intake = intake();
    let text =
        Metadata { sequence: 7, partitions: 3, held: Some(0), log: 0, kept: Kept::default(), settled: Ranges::new() }
            .encode(150);
    intake.open(P0, &Found { log_end: 152, ..commit(150, &text) }, From::Earliest);
    let alone = |intake: &mut Intake, offset| routed(intake.take(P0, offset, &Msg::keyed("k"))).1.alone;
    assert!(alone(&mut intake, 150) && alone(&mut intake, 151) && !alone(&mut intake, 152));
    intake.rewind(P0, 151, Ranges::new());
    assert!(alone(&mut intake, 151) && !alone(&mut intake, 152));
}

#[test]
fn a_partition_starts_anew_from_what_is_committed_now_or_else_from_where_it_started() {
    let mut intake = intake();
    let held = Metadata {
        sequence: 7,
        partitions: 3,
        held: Some(0),
        log: 0,
        kept: Kept::default(),
        settled: ranges(&[(162, 165)]),
    };
    let text = held.encode(160);
    intake.open(P0, &commit(150, ""), From::Latest);
    let anew = intake.reopen(P0, &commit(160, &text), 150);
    assert_eq!((anew.epoch, anew.start, anew.sequence, anew.fresh), (Epoch(2), 160, 7, false));
    assert_eq!((anew.settled.clone(), anew.seen_below()), (ranges(&[(162, 165)]), 160));
    // This process was there all the time: nothing runs alone, and the commit need not say again who holds it.
    assert_eq!((anew.careful, anew.unmarked), (Careful::default(), false));
    let first = intake.reopen(P0, &FOUND, 150);
    assert_eq!((first.start, first.fresh, first.loss), (150, true, None), "also where it began at the end");
}

#[test]
fn what_was_seen_and_is_lost_before_it_was_committed_is_not_seen() {
    // Found as seed 287: the id of a message that a given up transaction held, and that retention took then.
    let mut intake = intake();
    intake.open(P0, &commit(50, ""), From::Earliest);
    let anew = intake.reopen(P0, &commit(50, ""), 50);
    assert_eq!((anew.start, anew.loss, anew.seen_below()), (100, Some((50, 100)), 50));
    let cut = intake.reopen(P0, &commit(300, ""), 50);
    assert_eq!((cut.start, cut.loss, cut.seen_below()), (100, Some((200, 300)), 100));
    let other =
        Metadata { sequence: 7, partitions: 3, held: Some(0), log: 5, kept: Kept::default(), settled: Ranges::new() }
            .encode(150);
    let anew = intake.reopen(P0, &Found { log: 6, ..commit(150, &other) }, 150);
    assert_eq!((anew.start, anew.anew, anew.seen_below()), (100, true, crate::shard::NOTHING_SEEN));
}

#[test]
fn a_commit_of_an_earlier_topic_says_nothing_of_this_one() {
    let text = |log, settled: &[(i64, i64)]| {
        Metadata { sequence: 7, partitions: 3, held: Some(0), log, kept: Kept::default(), settled: ranges(settled) }
            .encode(150)
    };
    let open = |text: &str, log, from| opened(&Found { log, ..commit(150, text) }, from);
    for from in [From::Earliest, From::Latest] {
        let same = open(&text(5, &[(152, 155)]), 5, from);
        assert_eq!((same.start, same.anew, same.log, same.sequence), (150, false, 5, 7));
        // Also where it claims more than the new log holds; that log may be shorter or longer than the old one.
        for settled in [&[(152, 155)][..], &[(152, 9_000)]] {
            let other = open(&text(5, settled), 6, from);
            assert_eq!((other.start, other.anew, other.log, other.fresh), (100, true, 6, true));
            assert_eq!((other.settled, other.sequence, other.partitions), (Ranges::new(), 0, 4));
            assert_eq!((other.loss, other.unusable, other.careful), (None, None, Careful::default()));
        }
        // Where either is unknown (a broker that tells no ids, an operator's reset), nothing is concluded.
        for (text, log) in [(text(0, &[]), 6), (text(5, &[]), 0), (String::new(), 6), (String::from("foreign"), 6)] {
            let opened = open(&text, log, from);
            assert_eq!((opened.start, opened.anew, opened.log), (150, false, log));
        }
    }
}

#[test]
fn the_partitions_of_a_task_start_in_one_epoch_and_a_task_that_starts_anew_in_another() {
    let order = Order { scope: Scope::Inputs, ..Order::default() };
    let mut intake = Intake::new(Policy { order, ..Policy::default() }, 4, 1);
    let other = Partition { topic: 1, number: 0 };
    let start = |intake: &mut Intake, partition| intake.open(partition, &FOUND, From::Earliest).epoch;
    let first = [P0, other].map(|partition| start(&mut intake, partition));
    assert_eq!((first, start(&mut intake, P1)), ([Epoch(1); 2], Epoch(2)), "another task has one of its own");
    // A key of both is in one lane, and a message without one in its own.
    let message = Msg::keyed("k");
    let of = |intake: &mut Intake, partition| routed(intake.take(partition, 105, &message)).1;
    let [one, two] = [P0, other].map(|partition| of(&mut intake, partition));
    assert_eq!((one.lane, one.task(), one.epoch), (two.lane, two.task(), two.epoch));
    let [one, two] = [P0, other].map(|partition| routed(intake.take(partition, 106, &Msg::default())).1.lane);
    assert_ne!(one, two);
    let again = [other, P0].map(|partition| intake.reopen(partition, &FOUND, 100).epoch);
    assert_eq!(again, [Epoch(3); 2]);
    let rewound = [P0, other].map(|partition| intake.rewind(partition, 100, Ranges::new()).epoch);
    assert_eq!(rewound, [Epoch(4); 2]);
    [P0, other].into_iter().for_each(|partition| intake.close(partition));
    assert_eq!([other, P0].map(|partition| start(&mut intake, partition)), [Epoch(5); 2]);
}
