//! Interleavings that concern transactions, each on its own. That nothing is lost, visible twice, by halves or out of
//! order is checked by the oracle at each step of all of them.

mod burial;
mod delays;
mod ids;
mod inbox;
mod parked;
mod state;
mod together;

use crate::stage::{Stage, with_dedup};
use keyrail_engine::policy::Absent;
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;

/// One worker and partition 0 of the first topic.
fn alone() -> Settings {
    Settings { workers: 1, partitions: vec![1, 0], ..Settings::quiet_exactly_once() }
}

fn two_workers() -> Settings {
    Settings { workers: 2, ..alone() }
}

/// Commits only once a second: what happens in between happens in the middle of a transaction.
fn slow_commits(mut settings: Settings) -> Settings {
    settings.policy.commit.interval_ms = 1_000;
    settings
}

/// Messages of different keys, one after the other.
fn write(stage: &mut Stage, partition: u16, numbers: std::ops::Range<u32>) {
    for n in numbers {
        stage.write(Rec::new(partition, Some(n), n));
    }
}

#[test]
fn outputs_and_offsets_become_visible_together() {
    let mut stage = Stage::new(slow_commits(alone()));
    stage.run_ms(500);
    write(&mut stage, 0, 0..5);
    stage.until("output staged", 0);
    stage.run_ms(50);
    assert_eq!((stage.count("output staged", 0), stage.visible(0, 5)), (5, vec![0; 5]));
    stage.finish();
    assert_eq!((stage.visible(0, 5), stage.committed(0)), (vec![1; 5], Some(5)));
    assert_eq!(stage.count_all("given up"), 0);
}

#[test]
fn a_zombie_that_wakes_in_the_middle_of_its_transaction_commits_nothing() {
    let mut stage = Stage::new(slow_commits(two_workers()));
    stage.run_ms(500);
    write(&mut stage, 0, 0..10);
    stage.until("output staged", 0);
    let sleeper = stage.owner(0);
    stage.strike(sleeper, Fault::Zombie);
    stage.until("commit stored", 0);
    assert_ne!(stage.owner(0), sleeper, "the next owner does not wait for it");
    stage.finish();
    assert_eq!((stage.visible(0, 10), stage.committed(0)), (vec![1; 10], Some(10)));
    assert_eq!(stage.count_all("ends"), 0, "it was the broker that ended its transaction");
}

#[test]
fn a_revoke_that_gave_up_waiting_leaves_nothing_that_the_old_member_could_commit() {
    let mut settings = Settings { workers: 2, partitions: vec![4, 0], ..Settings::quiet_exactly_once() };
    settings.timing.revoke_ms = 1_000;
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    let old = stage.owner(0);
    let kept = (1..4).find(|p| stage.owner(*p) == old).unwrap_or_else(|| panic!("worker {old} has one partition"));
    write(&mut stage, 0, 0..1);
    stage.until("commit stored", 0);
    stage.write(Rec::new(0, Some(1), 1).with_plan(Plan::Slow(3_000)));
    stage.write(Rec::new(0, Some(2), 2).with_plan(Plan::Slow(1)));
    stage.until("called", 0);
    stage.revoke(old, 0);
    stage.until("opened", 0);
    assert_ne!(stage.owner(0), old);
    // The old owner is of the new generation by now, its call still runs, and it commits what it has kept.
    let given_up = stage.now_ms();
    for n in 0..60 {
        write(&mut stage, kept, n..n + 1);
        stage.run_ms(100);
    }
    assert!(stage.times("commit stored", kept).iter().any(|at| *at > given_up), "the old owner commits");
    stage.finish();
    assert_eq!((stage.visible(0, 3), stage.committed(0)), (vec![1; 3], Some(3)));
    assert_eq!(stage.count_at("called", 0, 1), 2, "the call that was not waited for counts for nothing");
}

#[test]
fn a_revoke_ends_the_transaction_first_and_the_next_owner_goes_on_behind_it() {
    for seed in 0..20 {
        let mut stage = Stage::new(Settings { seed, ..slow_commits(two_workers()) });
        stage.run_ms(500);
        write(&mut stage, 0, 0..20);
        stage.until("output staged", 0);
        let owner = stage.owner(0);
        stage.revoke(owner, 0);
        stage.finish();
        assert_eq!((stage.visible(0, 20), stage.count("called", 0)), (vec![1; 20], 20), "nothing ran twice");
    }
}

#[test]
fn a_worker_dies_between_the_decision_and_its_markers_and_the_next_owner_waits_for_them() {
    let mut stage = Stage::new(two_workers());
    stage.run_ms(500);
    write(&mut stage, 0, 0..10);
    stage.until("output staged", 0);
    stage.next_markers_take(10_000);
    let owner = stage.owner(0);
    stage.until("commit decided", 0);
    stage.strike(owner, Fault::Crash);
    stage.until("commit stored", 0);
    let stored_ms = stage.now_ms();
    stage.finish();
    let opened = stage.times("opened", 0);
    let next = opened.last().copied().unwrap_or_default();
    assert!(next >= stored_ms && next > opened[0], "it opened at {opened:?}, and the offsets stood at {stored_ms}");
    assert_eq!((stage.visible(0, 10), stage.count("called", 0)), (vec![1; 10], 10));
}

#[test]
fn a_transaction_fails_while_shards_have_run_ahead_and_what_they_have_seen_is_forgotten() {
    let mut stage = Stage::new(with_dedup(alone(), Absent::Process));
    stage.run_ms(500);
    stage.strike(0, Fault::RefusedOffsets);
    for n in 0..200 {
        stage.write(Rec::new(0, Some(n % 3), n).with_id(n / 2));
        if n % 20 == 0 {
            stage.run_ms(10);
        }
    }
    stage.finish();
    assert!(stage.count_all("given up") == 1 && stage.count("opened", 0) == 2);
    assert_eq!((stage.count("output visible", 0), stage.committed(0)), (200, Some(200)), "each id had two keys");
}

#[test]
fn the_answer_to_the_end_of_a_transaction_is_lost_and_the_broker_is_asked_what_became_of_it() {
    for (lot, runs) in
        [(CommitLot::Doubtful, 1), (CommitLot::Failed, 2), (CommitLot::Late(20_000), 1), (CommitLot::Slow(20_000), 2)]
    {
        for seed in 0..10 {
            let mut stage = Stage::new(Settings { seed, ..alone() });
            stage.run_ms(500);
            stage.next_commit(0, lot);
            write(&mut stage, 0, 0..1);
            stage.finish();
            assert_eq!((stage.visible(0, 1), stage.committed(0)), (vec![1], Some(1)), "{lot:?}");
            assert_eq!(stage.count_all("given up"), 1, "{lot:?}");
            assert_eq!(stage.count("called", 0), runs, "{lot:?}: what is committed does not run again");
        }
    }
}

#[test]
fn a_request_that_was_sent_twice_ends_no_later_transaction() {
    for (seed, ms) in (0..40).flat_map(|seed| [(seed, 50), (seed, 300), (seed, 900)]) {
        let mut stage = Stage::new(Settings { seed, ..alone() });
        stage.run_ms(500);
        stage.next_commit(0, CommitLot::Twice(ms));
        let renewed = stage.count_all("takes its id");
        for n in 0..20 {
            write(&mut stage, 0, n..n + 1);
            stage.run_ms(70);
        }
        stage.finish();
        assert_eq!(stage.count_all("takes its id"), renewed + 1);
        assert_eq!((stage.visible(0, 20), stage.count_all("given up")), (vec![1; 20], 0));
    }
}

#[test]
fn a_record_that_was_given_up_and_arrives_late_is_in_no_later_transaction() {
    for seed in 0..40 {
        let mut stage = Stage::new(Settings { seed, ..slow_commits(alone()) });
        stage.run_ms(500);
        stage.strike(0, Fault::LateProduce);
        write(&mut stage, 0, 0..20);
        stage.run_ms(8_000);
        stage.finish();
        assert_eq!(stage.visible(0, 20), vec![1; 20]);
        assert!(stage.count("late record", 0) >= 1);
    }
}

#[test]
fn records_too_large_for_the_broker_cost_their_transactions_and_end_as_dead_letters() {
    let mut stage = Stage::new(Settings { partitions: vec![2, 0], ..alone() });
    for n in 0..30 {
        stage.write(Rec { too_large: n % 3 == 0, ..Rec::new(0, Some(n), n) });
        stage.write(Rec::new(1, Some(n), n));
    }
    let before = stage.now_ms();
    stage.finish();
    assert_eq!(stage.count("letter visible", 0), 10);
    assert_eq!((stage.count("output visible", 0), stage.visible(1, 30)), (20, vec![1; 30]));
    assert!(stage.count_all("given up") <= 6, "not once for each: {}", stage.count_all("given up"));
    assert!(stage.times("letter visible", 0).iter().all(|at| at - before < 3_000), "and nothing waits for long");
}

#[test]
fn a_process_that_stood_still_goes_on_though_the_broker_has_ended_its_transaction() {
    for seed in 0..20 {
        let mut stage = Stage::new(Settings { seed, ..slow_commits(alone()) });
        stage.run_ms(500);
        write(&mut stage, 0, 0..5);
        stage.until("output staged", 0);
        stage.strike(0, Fault::Frozen);
        stage.finish();
        assert_eq!((stage.visible(0, 5), stage.count_all("ends")), (vec![1; 5], 0));
    }
}

#[test]
fn who_loses_its_id_to_another_process_ends() {
    let mut stage = Stage::new(slow_commits(alone()));
    stage.run_ms(500);
    write(&mut stage, 0, 0..5);
    stage.until("output staged", 0);
    stage.strike(0, Fault::StolenId);
    stage.finish();
    assert_eq!((stage.visible(0, 5), stage.count_all("ends")), (vec![1; 5], 1));
}

#[test]
fn a_renewal_that_arrives_after_it_was_given_up_is_no_other_process() {
    let mut stage = Stage::new(alone());
    stage.run_ms(500);
    stage.next_commit(0, CommitLot::Failed);
    stage.next_renewal_takes(0, 5_000);
    write(&mut stage, 0, 0..1);
    stage.until("opened", 0);
    for n in 1..40 {
        write(&mut stage, 0, n..n + 1);
        stage.run_ms(100);
    }
    stage.finish();
    assert_eq!((stage.visible(0, 40), stage.count_all("ends")), (vec![1; 40], 0));
    assert_eq!(stage.count_all("given up"), 2, "for the commit that failed, and for the renewal that came late");
}

#[test]
fn a_partition_that_is_lost_in_the_middle_of_a_transaction_is_not_in_it() {
    for seed in 0..20 {
        let settings = Settings { seed, workers: 2, partitions: vec![4, 0], ..Settings::quiet_exactly_once() };
        let mut stage = Stage::new(slow_commits(settings));
        stage.run_ms(500);
        for partition in 0..4 {
            write(&mut stage, partition, 0..5);
        }
        stage.until("output staged", 0);
        let owner = stage.owner(0);
        stage.strike(owner, Fault::Lost);
        stage.finish();
        for partition in 0..4 {
            assert_eq!(stage.visible(partition, 5), vec![1; 5]);
        }
    }
}

#[test]
fn a_dead_letter_that_is_refused_holds_its_partition_alone() {
    let mut stage = Stage::new(Settings { partitions: vec![2, 0], ..alone() });
    stage.run_ms(500);
    stage.block_letters(15_000);
    stage.write(Rec::new(0, Some(1), 1).with_plan(Plan::DeadLetter));
    write(&mut stage, 0, 2..5);
    stage.until("blocked", 0);
    let blocked_ms = stage.now_ms();
    for n in 0..20 {
        write(&mut stage, 1, n..n + 1);
        stage.run_ms(200);
    }
    assert_eq!(stage.count("letter visible", 0), 0);
    assert!(stage.committed(1) >= Some(10), "the other goes on: {:?}", stage.committed(1));
    stage.finish();
    assert!(stage.times("letter visible", 0)[0] > blocked_ms + 10_000);
    assert_eq!((stage.count("output visible", 0), stage.visible(1, 20)), (3, vec![1; 20]));
    assert_eq!(stage.count("unblocked", 0), 1);
}

#[test]
fn an_id_that_a_given_up_transaction_had_seen_and_retention_took_is_not_seen() {
    // Found as seed 287.
    let mut stage = Stage::new(with_dedup(slow_commits(alone()), Absent::Process));
    stage.run_ms(500);
    let twin = || Rec::new(0, Some(1), 1).with_id(7);
    stage.write(twin());
    stage.until("output staged", 0);
    stage.next_commit(0, CommitLot::Failed);
    stage.until_any("commit answered");
    stage.retain_from(0, 1);
    stage.write(twin());
    stage.finish();
    assert_eq!(stage.visible(0, 2), [0, 1]);
}

#[test]
fn an_id_that_was_seen_in_an_earlier_assignment_is_not_seen_because_a_map_covers_the_gap_where_it_was() {
    // Found as seed 10355.
    let mut stage = Stage::new(with_dedup(slow_commits(two_workers()), Absent::Process));
    stage.run_ms(500);
    stage.write(Rec::new(0, Some(9), 9).with_id(9).with_plan(Plan::Retry { times: 1, delay_ms: Some(20_000) }));
    let twin = || Rec::new(0, Some(1), 1).with_id(7);
    stage.write(twin());
    stage.until("output staged", 0);
    let first = stage.owner(0);
    stage.strike(first, Fault::Zombie);
    stage.compact(0, 1);
    stage.write(twin().with_plan(Plan::Retry { times: 1, delay_ms: Some(20_000) }));
    stage.write(Rec::new(0, Some(2), 2).with_id(2));
    // The next owner commits a map in which the gap counts as settled, and gives the partition back.
    while stage.visible(0, 4)[3] == 0 {
        stage.run_ms(100);
    }
    stage.until("lost", 0);
    stage.run_ms(500);
    let second = stage.owner(0);
    assert_ne!(second, first);
    stage.revoke(second, 0);
    stage.finish();
    assert_eq!((stage.owner(0), stage.visible(0, 4)), (first, vec![1, 0, 1, 1]));
}

#[test]
fn a_map_without_room_takes_no_message_into_a_transaction() {
    // What its offset does not tell would run again after a restart, and be visible twice.
    let mut stage = Stage::new(Settings { shards: 1, fetch_max: 64, ..alone() });
    for n in 0..8_000 {
        let plan = if n % 2 == 0 { Plan::Retry { times: 1, delay_ms: Some(5_000) } } else { Plan::Done };
        stage.write(Rec::new(0, Some(n), n).with_plan(plan));
    }
    stage.until("commit stored", 0);
    stage.run_ms(3_000);
    stage.strike(0, Fault::Crash);
    stage.finish();
    assert_eq!((stage.count("output visible", 0), stage.committed(0)), (8_000, Some(8_000)));
}

#[test]
fn a_full_map_holds_through_duplicates_retries_and_changes_of_owner() {
    for seed in 0..6 {
        let mut settings = with_dedup(Settings { seed, fetch_max: 64, ..two_workers() }, Absent::Process);
        settings.policy.retry.attempts = 3;
        let mut stage = Stage::new(settings);
        for n in 0..6_000 {
            // Twice each, some far apart; every third waits long for its second run, every fiftieth ends as a dead letter.
            let id = if n % 4 == 3 { n - 3 } else { n };
            let plan = match id {
                _ if id % 50 == 0 => Plan::DeadLetter,
                _ if id % 3 == 0 => Plan::Retry { times: 1, delay_ms: Some(2_000 + u64::from(id % 7) * 500) },
                _ => Plan::Done,
            };
            stage.write(Rec::new(0, Some(id % 4_001), id).with_id(id).with_plan(plan));
        }
        stage.until("commit stored", 0);
        let owner = stage.owner(0);
        stage.run_ms(300 + 200 * seed);
        stage.strike(owner, if seed % 2 == 0 { Fault::Crash } else { Fault::Revoke });
        stage.finish();
        assert_eq!(stage.committed(0), Some(6_000));
        assert!(stage.count("duplicate", 0) >= 1_500);
    }
}

#[test]
fn a_transaction_ends_in_time_though_commits_are_far_apart() {
    let mut settings = alone();
    settings.policy.commit.interval_ms = 20_000;
    let mut stage = Stage::new(settings);
    for n in 0..200 {
        write(&mut stage, 0, n..n + 1);
        stage.run_ms(100);
    }
    stage.finish();
    assert_eq!((stage.visible(0, 200), stage.count_all("given up")), (vec![1; 200], 0));
}
