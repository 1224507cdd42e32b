//! The pipeline's decision.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use alloc::vec;

/// Two shards; lately is 15 s, a pause 30 s, four lanes at least.
struct Rig {
    breaker: Breaker,
    now: Now,
}

impl Rig {
    fn new() -> Self {
        let breaker = policy::Breaker { failures: 0.5, window_ms: 15_000, pause_ms: 30_000, least_lanes: 4 };
        let policy = Policy { breaker: Some(breaker), ..Policy::default() };
        Self { breaker: Breaker::new(&policy, 2).unwrap(), now: Now { steady_ms: 0, wall_ms: 0 } }
    }

    fn at(&mut self, ms: u64) -> Vec<Act> {
        self.now.steady_ms = ms;
        let mut acts = Vec::new();
        self.breaker.tick(self.now, &mut acts);
        acts
    }

    fn tally(&mut self, shard: usize, since: u64, failed: u32, tried: u32) -> Vec<Act> {
        self.tally_of(shard, (since, failed, tried), (u64::from(failed), u64::from(tried)))
    }

    fn tally_of(
        &mut self,
        shard: usize,
        (since, failed, tried): (u64, u32, u32),
        (failed_runs, runs): (u64, u64),
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        let failure = Some(Failure { code: "down".into(), detail: "no answer".into() });
        let tally = Tally { since, tried, failed, runs, failed_runs, failure };
        self.breaker.hear(shard, News::Tally(tally), self.now, &mut acts);
        acts
    }

    fn probed(&mut self, number: u64, probed: Probed) -> Vec<Act> {
        self.probed_of(0, number, probed, 20)
    }

    fn probed_of(&mut self, shard: usize, number: u64, probed: Probed, lanes: u32) -> Vec<Act> {
        let mut acts = Vec::new();
        self.breaker.hear(shard, News::Probed { number, probed, lanes }, self.now, &mut acts);
        acts
    }

    /// Opens at 2 s.
    fn opened() -> Self {
        let mut rig = Self::new();
        rig.tally(0, 0, 5, 5);
        rig.at(2_000);
        let failure = Failure { code: "down".into(), detail: "no answer".into() };
        let told = |shard| Act::Tell(shard, Order::Open);
        assert_eq!(rig.tally(0, 0, 5, 5), [Act::Opened { tried: 5, failed: 5, failure }, told(0), told(1)]);
        rig
    }
}

fn probe(shard: usize, number: u64, fresh: bool) -> Vec<Act> {
    vec![Act::Tell(shard, Order::Probe { number, fresh })]
}

fn closing(number: u64, open_ms: u64, probes: u32, few: bool) -> Vec<Act> {
    let told = |shard| Act::Tell(shard, Order::Close { number });
    vec![Act::Closed { open_ms, probes, few }, told(0), told(1)]
}

#[test]
fn without_a_section_there_is_none() {
    assert!(Breaker::new(&Policy::default(), 2).is_none());
}

#[test]
fn it_opens_for_a_share_of_all_shards_lanes_that_holds_for_a_tenth_of_the_window() {
    let mut rig = Rig::new();
    // Half of them failed, by one too few.
    assert_eq!(rig.tally(0, 0, 4, 4), []);
    assert_eq!(rig.tally(1, 0, 0, 5), []);
    rig.at(5_000);
    assert_eq!(rig.tally(0, 0, 4, 4), [], "4 of 9");
    assert_eq!(rig.tally(1, 0, 1, 6), [], "5 of 10, for the first time");
    rig.at(6_400);
    assert_eq!(rig.tally(1, 0, 1, 6), [], "for 1.4 s");
    rig.at(6_500);
    assert!(matches!(rig.tally(1, 0, 1, 6)[..], [Act::Opened { tried: 10, failed: 5, .. }, ..]));
    assert_eq!(rig.breaker.phase(), Phase::Open);
    assert_eq!(rig.tally(1, 0, 6, 6), [], "it is open");
}

/// Found by kills of a process with a backlog, of which one message in five failed once or twice: each lane ran until one failed.
#[test]
fn lanes_that_all_wait_behind_a_failed_message_do_not_open_it_while_most_runs_stand() {
    let mut rig = Rig::new();
    for second in 0..60 {
        rig.at(second * 1_000);
        assert_eq!(rig.tally_of(0, (0, 90, 100), (230, 1_000)), []);
        assert_eq!(rig.tally_of(1, (0, 95, 100), (499, 1_000)), []);
    }
    rig.at(60_000);
    assert_eq!(rig.tally_of(1, (0, 95, 100), (770, 1_000)), [], "half of all, for the first time");
    rig.at(61_500);
    assert!(matches!(
        rig.tally_of(1, (0, 95, 100), (770, 1_000))[..],
        [Act::Opened { tried: 200, failed: 185, .. }, ..]
    ));
    // A service that hangs leaves no run at all for longer than runs are counted.
    let mut rig = Rig::new();
    rig.tally_of(0, (0, 5, 5), (0, 0));
    rig.at(1_500);
    assert!(matches!(rig.tally_of(0, (0, 5, 5), (0, 0))[..], [Act::Opened { .. }, ..]));
}

#[test]
fn a_hiccup_and_a_few_lanes_do_not_open_it() {
    let mut rig = Rig::new();
    for second in 0..100 {
        rig.at(second * 1_000);
        let failed = if second % 2 == 0 { 9 } else { 0 };
        assert_eq!(rig.tally(0, 0, failed, 10), [], "it had passed a second later");
    }
    for second in 100..200 {
        rig.at(second * 1_000);
        assert_eq!(rig.tally(0, 0, 3, 3), [], "three lanes");
    }
}

#[test]
fn after_its_pause_three_probes_of_shards_in_turn_close_it() {
    let mut rig = Rig::opened();
    assert_eq!(rig.at(31_999), []);
    assert_eq!(rig.at(32_000), probe(0, 1, true));
    assert_eq!(rig.breaker.phase(), Phase::Probing);
    assert_eq!(rig.at(60_000), [], "one at a time");
    assert_eq!(rig.probed(1, Probed::Stood), probe(1, 2, true));
    assert_eq!(rig.probed(1, Probed::Failed), [], "an answer that was given");
    assert_eq!(rig.probed(2, Probed::Stood), probe(0, 3, true));
    assert_eq!(rig.probed(3, Probed::Stood), closing(4, 58_000, 3, false));
    assert_eq!(rig.breaker.phase(), Phase::Closed);
    // What was counted before says nothing.
    rig.at(70_000);
    assert_eq!(rig.tally(0, 0, 9, 9), []);
    rig.at(80_000);
    assert_eq!(rig.tally(0, 0, 9, 9), []);
    assert_eq!(rig.tally(0, 4, 9, 9), []);
    rig.at(82_000);
    assert!(matches!(rig.tally(0, 4, 9, 9)[..], [Act::Opened { .. }, ..]));
}

#[test]
fn a_probe_that_fails_costs_a_pause_and_the_next_one_is_another_shards() {
    let mut rig = Rig::opened();
    assert_eq!(rig.at(32_000), probe(0, 1, true));
    assert_eq!(rig.probed(1, Probed::Failed), []);
    assert_eq!(rig.breaker.phase(), Phase::Open);
    assert_eq!(rig.at(61_999), []);
    assert_eq!(rig.at(62_000), probe(1, 2, true));
    assert_eq!(rig.probed(2, Probed::Failed), []);
    assert_eq!(rig.at(92_000), probe(0, 3, true));
}

#[test]
fn where_more_probes_stand_than_fail_it_closes_all_the_same() {
    let mut rig = Rig::opened();
    rig.at(32_000);
    rig.probed(1, Probed::Stood);
    assert_eq!(rig.probed(2, Probed::Failed), probe(0, 3, true));
    rig.probed(3, Probed::Stood);
    assert_eq!(rig.probed(4, Probed::Failed), probe(0, 5, true));
    assert_eq!(rig.probed(5, Probed::Stood), closing(6, 30_000, 5, false));
    // And where more fail it does not.
    let mut rig = Rig::opened();
    rig.at(32_000);
    rig.probed(1, Probed::Stood);
    rig.probed(2, Probed::Failed);
    assert_eq!(rig.probed(3, Probed::Failed), []);
    assert_eq!(rig.breaker.phase(), Phase::Open);
}

#[test]
fn messages_that_failed_before_are_tried_when_no_shard_has_another() {
    let mut rig = Rig::opened();
    assert_eq!(rig.at(32_000), probe(0, 1, true));
    assert_eq!(rig.probed(1, Probed::Nothing), probe(1, 2, true));
    assert_eq!(rig.probed(2, Probed::Nothing), probe(0, 3, false));
    assert_eq!(rig.probed(3, Probed::Nothing), probe(1, 4, false));
    // It stood: fresh ones come first again.
    assert_eq!(rig.probed(4, Probed::Stood), probe(0, 5, true));
}

#[test]
fn with_nothing_to_try_it_asks_again_once_a_second_and_closes_by_itself_after_a_window() {
    let mut rig = Rig::opened();
    let mut acts = rig.at(32_000);
    let (mut number, mut ms) = (0, 32_000);
    while rig.breaker.phase() != Phase::Closed {
        let asked = acts.clone();
        number += 1;
        assert!(matches!(asked[..], [Act::Tell(_, Order::Probe { number: asked, .. })] if asked == number));
        let Act::Tell(shard, _) = asked[0] else { return };
        acts = rig.probed_of(shard, number, Probed::Nothing, 0);
        if acts.is_empty() {
            assert_eq!(rig.at(ms + 999), []);
            ms += 1_000;
            acts = rig.at(ms);
        }
    }
    assert_eq!(ms, 47_000);
    assert_eq!(acts, closing(number + 1, 45_000, 0, true));
}

#[test]
fn where_enough_lanes_wait_and_none_is_due_it_stays() {
    let mut rig = Rig::opened();
    let (mut acts, mut number) = (rig.at(32_000), 0);
    for second in 33..400 {
        while !acts.is_empty() {
            number += 1;
            acts = rig.probed_of(number as usize % 2, number, Probed::Nothing, 2);
        }
        acts = rig.at(second * 1_000);
    }
    assert_eq!(rig.breaker.phase(), Phase::Probing);
}

#[test]
fn a_few_lanes_that_never_succeed_do_not_keep_it_open() {
    let mut rig = Rig::opened();
    rig.at(32_000);
    assert_eq!(rig.probed_of(0, 1, Probed::Failed, 3), []);
    rig.at(62_000);
    assert_eq!(rig.probed_of(1, 2, Probed::Failed, 0), [], "three are left, since now");
    rig.at(92_000);
    assert_eq!(rig.probed_of(0, 3, Probed::Failed, 3), closing(4, 90_000, 3, true));
}
