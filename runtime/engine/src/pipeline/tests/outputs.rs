//! Outputs on their way: settled when all are acknowledged, rewound when refused.

use super::*;

#[test]
fn a_message_settles_at_its_last_acknowledgement() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 3 => t1
         count => 1
         ack t1 =>
         ack t1 =>
         status 0 => @1 point 10 next 11 unsettled 1
         ack t1 =>
         status 0 => @1 point 11 next 11 unsettled 0
         count => 0
         ack t1 =>
         tick => commit 1: 0@11 s1",
    );
}

#[test]
fn a_publication_tells_its_message_while_it_is_under_way() {
    let mut rig = check("open 0 1 10 =>\n recv 0 1 10 11 =>\n pub 10 1 => t1\n pub 11 1 => t2");
    let message = |rig: &Rig, n: usize| rig.pipeline.publication(rig.tokens[n]).map(|s| (s.message, s.attempts));
    assert_eq!((message(&rig, 0), message(&rig, 1)), (Some((10, 2)), Some((11, 2))));
    assert_eq!(rig.obey("ack t1"), "");
    assert_eq!((message(&rig, 0), message(&rig, 1)), (None, Some((11, 2))));
    // Its place is taken again, under another token.
    rig.obey("recv 0 1 12 12");
    assert_eq!(rig.obey("pub 12 1"), "t3");
    assert_eq!((message(&rig, 0), message(&rig, 2)), (None, Some((12, 2))));
    assert_eq!(rig.pipeline.publication(Token(u64::MAX)).map(|s| s.message), None);
    assert_eq!(rig.obey("ack t1"), "");
    assert_eq!(rig.obey("count"), "2");
}

#[test]
fn a_refused_output_rewinds_the_partition_to_its_lowest_unsettled_offset() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 15 =>
         pub 10 0 => -
         pub 12 1 => t1
         pub 13 1 => t2
         pub 14 0 => -
         busy t1 no-topic => pause 0, blocked 0 by output: no-topic
         status 0 => @1 point 11 next 16 unsettled 4 paused blocked: no-topic
         count => 1
         ack t2 =>
         pub 15 0 => -
         pub 11 2 => -
         status 0 => @1 point 11 next 16 unsettled 4 paused blocked: no-topic
         at 9
         tick => commit 1: 0@11 s1
         commit 1 ok =>
         at 10
         tick => rewind 0 to 11
         tick =>
         open 0 2 11 => resume 0
         status 0 => @2 point 11 committed 11 next 11 unsettled 0 blocked: no-topic
         recv 0 2 11 12 =>
         pub 12 1 e=2 => t3
         ack t3 => unblocked 0
         status 0 => @2 point 11 committed 11 next 13 unsettled 1
         at 110
         tick => commit 2: 0@11[12..13] s2",
    );
}

#[test]
fn a_rewind_drops_what_was_settled_above_the_refused_output_and_keeps_what_is_below() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 19 =>
         pub 12 0 => -
         pub 16 0 => -
         pub 18 0 => -
         pub 17 1 => t1
         pub 14 1 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         busy t2 no =>
         tick => commit 1: 0@10[12..13] s1
         at 10
         tick => rewind 0 to 10[12..13]
         open 0 2 10 12..13 => resume 0
         recv 0 2 10 19 =>
         commit 1 ok =>
         at 100
         tick => commit 2: 0@10[12..13] s1",
    );
    // The lowest of them counts, whichever comes first.
    check(
        "open 0 1 10 =>
         recv 0 1 10 19 =>
         pub 11 0 => -
         pub 13 0 => -
         pub 12 1 => t1
         pub 14 1 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         busy t2 no =>
         at 10
         tick => rewind 0 to 10[11..12], commit 1: 0@10[11..12] s1",
    );
}

#[test]
fn the_map_stays_as_it_was_when_the_rewind_began() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 12 =>
         pub 12 0 => -
         pub 10 1 => t1
         pub 11 1 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         commit 1 failed =>
         recv 0 1 13 14 =>
         busy t2 still => blocked 0 by output: still
         at 110
         tick => commit 2: 0@10 s1
         status 0 => @1 point 10 next 15 unsettled 4 paused blocked: still
         count => 0",
    );
}

#[test]
fn waits_after_refusals_double_up_to_their_limit_and_start_anew_after_success() {
    let mut rig = check("open 0 1 10 =>");
    let refuse = |rig: &mut Rig, epoch: u64| {
        let from = rig.now.steady_ms;
        rig.obey(&format!("recv 0 {epoch} 10 10"));
        let token = rig.obey(&format!("pub 10 1 e={epoch}"));
        rig.obey(&format!("busy {token} no"));
        while !rig.obey("tick").contains("rewind") {
            rig.now.steady_ms += 1;
            assert!(rig.now.steady_ms < from + 1_000, "never rewound");
        }
        let waited = rig.now.steady_ms - from;
        rig.obey(&format!("open 0 {} 10", epoch + 1));
        waited
    };
    let waits: Vec<u64> = (1..6).map(|epoch| refuse(&mut rig, epoch)).collect();
    assert_eq!(waits, [10, 20, 40, 50, 50]);
    rig.obey("recv 0 6 10 10");
    let token = rig.obey("pub 10 1 e=6");
    assert_eq!(rig.obey(&format!("ack {token}")), "unblocked 0");
    rig.obey("open 0 7 10");
    assert_eq!(refuse(&mut rig, 7), 10);
}

#[test]
fn the_wait_after_very_many_refusals_does_not_overflow() {
    let waits: Vec<u64> = [0, 1, 19, 20, 21, 63, 64, u32::MAX]
        .map(|refusals| super::super::publish::wait_ms(500, u64::MAX, refusals))
        .into();
    let most = 500 << 20;
    assert_eq!(waits, [500, 1_000, most / 2, most, most, most, most, most]);
}

#[test]
fn a_reason_is_told_once_until_it_changes() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 12 =>
         pub 10 1 => t1
         pub 11 1 => t2
         pub 12 1 => t3
         busy t1 down => pause 0, blocked 0 by output: down
         busy t2 down =>
         busy t3 gone => blocked 0 by output: gone",
    );
}

#[test]
fn one_partitions_refusal_does_not_touch_another() {
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         recv 1 2 20 20 =>
         pub 10 1 => t1
         pub 20 1 p=1 e=2 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         ack t2 =>
         tick => commit 1: 0@10 s1 1@21 s1
         at 10
         tick => rewind 0 to 10",
    );
}

#[test]
fn a_refusal_of_an_earlier_epoch_holds_back_nothing() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         pub 10 2 => t1
         pub 11 1 => t2
         open 0 2 10 =>
         recv 0 2 10 11 =>
         busy t1 no =>
         never t2 no =>
         count => 1
         ack t1 =>
         count => 0
         status 0 => @2 point 10 next 12 unsettled 2
         tick => commit 1: 0@10 s1",
    );
    check("open 0 1 10 =>\n recv 0 1 10 10 =>\n pub 10 1 => t1\n lost 0 => close 0@1\n busy t1 no =>\n count => 0");
}

#[test]
fn a_message_with_one_refused_record_never_settles() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 2 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         count => 1
         ack t1 =>
         count => 0
         status 0 => @1 point 10 next 11 unsettled 1 paused blocked: no",
    );
}

#[test]
fn an_undeliverable_output_makes_a_dead_letter_of_its_message() {
    let rig = check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 3 => t1
         never t1 too-large =>
         never t1 later =>
         ack t1 => letter t1
         count => 1",
    );
    let letter = rig.pipeline.publication(rig.tokens[0]).map(|s| s.fate.clone());
    let failure = Failure { code: "undeliverable".into(), detail: "too-large".into() };
    let expected = Epitaph {
        reason: Reason::Undeliverable,
        failure,
        attempts: 2,
        first_failed_ms: 1_000_000,
        version: None,
        company: crate::message::Company::Alone,
    };
    assert_eq!(letter, Some(Fate::DeadLetter(expected.into())));
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 1 => t1
         never t1 too-large => letter t1
         status 0 => @1 point 10 next 11 unsettled 1
         ack t1 => free 0@1:10
         status 0 => @1 point 11 next 11 unsettled 0",
    );
}

#[test]
fn an_undeliverable_output_waits_for_the_reports_of_the_others() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 2 => t1
         ack t1 =>
         never t1 too-large => letter t1",
    );
    // Refused for now goes before refused for good: it all runs again.
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 2 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         never t1 too-large =>
         count => 0
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1",
    );
}

/// A worker that no longer owned the partition, or was about to rewind it, wrote a dead letter for what ran again.
#[test]
fn regression_no_dead_letter_for_an_undeliverable_output_that_does_not_count() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         pub 10 1 => t1
         pub 11 1 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         never t2 too-large =>
         count => 0",
    );
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 1 => t1
         lost 0 => close 0@1
         never t1 too-large =>
         count => 0",
    );
}

#[test]
fn a_table_of_publications_gives_a_bursts_memory_back() {
    let mut outbox: Outbox<i64> = Outbox::new();
    let publish = |outbox: &mut Outbox<i64>| outbox.insert(settled("1", &[], Fate::Done), 1, false, false);
    let tokens: Vec<Token> = (0..65_537).map(|_| publish(&mut outbox)).collect();
    for token in &tokens[1..] {
        assert!(outbox.remove(*token).is_some() && outbox.get(*token).is_none());
    }
    assert_eq!((outbox.len(), outbox.room()), (1, 65_537));
    assert!(outbox.get(tokens[0]).is_some());
    assert!(outbox.remove(tokens[0]).is_some());
    assert_eq!((outbox.len(), outbox.room()), (0, 0));
    // Old tokens find nothing in the new table.
    let new = publish(&mut outbox);
    assert!(
        outbox.get(tokens[0]).is_none() && outbox.get_mut(tokens[0]).is_none() && outbox.remove(tokens[0]).is_none()
    );
    assert!(outbox.remove(new).is_some() && outbox.remove(new).is_none());
    // A table of usual size is kept, and its places are used again.
    let tokens: Vec<Token> = (0..65_536).map(|_| publish(&mut outbox)).collect();
    tokens.iter().for_each(|t| assert!(outbox.remove(*t).is_some()));
    assert_eq!((outbox.len(), outbox.room()), (0, 65_536));
    let again: alloc::collections::BTreeSet<Token> = (0..65_536).map(|_| publish(&mut outbox)).collect();
    assert_eq!((outbox.room(), again.len()), (65_536, 65_536));
    assert!(tokens.iter().all(|t| !again.contains(t) && outbox.get(*t).is_none()));
}

/// With one of two output topics missing, each acknowledgement of the other told the partition free and set its waits
/// back: it was rewound every half second, and what stood above the refused message was published again each time.
#[test]
fn regression_success_elsewhere_does_not_end_a_refusal() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         pub 10 1 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         open 0 2 10 => resume 0
         recv 0 2 10 13 =>
         pub 11 1 e=2 => t2
         ack t2 =>
         pub 12 0 e=2 => -
         pub 10 1 e=2 => t3
         busy t3 no => pause 0
         at 29
         tick =>
         at 30
         tick => rewind 0 to 10
         open 0 3 10 => resume 0
         recv 0 3 10 13 =>
         pub 10 1 e=3 => t4
         ack t4 => unblocked 0
         pub 11 1 e=3 => t5
         busy t5 no => pause 0, blocked 0 by output: no
         at 39
         tick =>
         at 40
         tick => rewind 0 to 11",
    );
}

#[test]
fn a_refusal_ends_without_an_output_too() {
    let again = "open 0 1 10 =>
         recv 0 1 10 11 =>
         pub 10 1 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         open 0 2 10 => resume 0\n";
    // The handler filters it out now, or retention took it meanwhile.
    check(&format!("{again} recv 0 2 10 11 =>\n pub 11 0 e=2 => -\n pub 10 0 e=2 => - unblocked 0"));
    check(&format!("{again} recv 0 2 11 11 =>\n pub 11 0 e=2 => - unblocked 0\n tick =>"));
}

#[test]
fn what_was_never_received_or_settles_twice_is_told() {
    check(
        "open 0 1 0
         pub 0 0       => - stray 0:0
         recv 0 1 0 3
         pub 0 0       => -
         pub 0 0       => - stray 0:0
         pub 1 1       => t1
         pub 1 0       => -
         ack t1        => stray 0:1
         dead 9        => letter t2
         ack t2        => stray 0:9, free 0@1:9
         pub 2 0 e=2   => -
         status 0      => @1 point 2 next 4 unsettled 2",
    );
}
