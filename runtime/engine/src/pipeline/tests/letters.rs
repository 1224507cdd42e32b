//! Dead letters: never given up, never in the way of others.

use super::*;

#[test]
fn a_dead_letter_settles_when_it_is_acknowledged() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         count => 1
         status 0 => @1 point 10 next 11 unsettled 1
         ack t1 => free 0@1:10
         status 0 => @1 point 11 next 11 unsettled 0
         tick => commit 1: 0@11 s1",
    );
}

#[test]
fn a_letter_too_large_goes_with_fewer_headers_first() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         never t1 large => short letter t1
         ack t1 => free 0@1:10
         status 0 => @1 point 11 next 11 unsettled 0",
    );
}

#[test]
fn a_refused_letter_is_sent_again_and_again_while_others_go_on() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         dead 10 => letter t1
         busy t1 no-topic => blocked 0 by letter: its dead letters: no-topic
         pub 11 1 => t2
         ack t2 =>
         status 0 => @1 point 10 next 12 unsettled 1 blocked: its dead letters: no-topic
         at 9
         tick => commit 1: 0@10[11..12] s1
         at 10
         tick => letter t1
         busy t1 no-topic =>
         at 29
         tick =>
         at 30
         tick => letter t1
         busy t1 forbidden => blocked 0 by letter: its dead letters: forbidden
         at 70
         tick => letter t1
         ack t1 => unblocked 0, free 0@1:10
         status 0 => @1 point 12 next 12 unsettled 0",
    );
}

#[test]
fn a_letter_too_large_even_without_details_waits_and_says_so() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         never t1 large => short letter t1
         never t1 large => blocked 0 by letter: its dead letter of offset 10: large
         at 10
         tick => short letter t1, commit 1: 0@10 s1
         never t1 large =>
         at 30
         tick => short letter t1",
    );
}

#[test]
fn the_partition_is_blocked_while_any_letter_is_refused() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         dead 10 => letter t1
         dead 11 => letter t2
         busy t1 no => blocked 0 by letter: its dead letters: no
         at 5
         busy t2 no =>
         at 10
         tick => letter t1, commit 1: 0@10 s1
         ack t1 => free 0@1:10
         status 0 => @1 point 11 next 12 unsettled 1 blocked: its dead letters: no
         at 15
         tick => letter t2
         ack t2 => unblocked 0, free 0@1:11",
    );
}

#[test]
fn letters_of_an_earlier_epoch_are_not_sent_again() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         dead 10 => letter t1
         dead 11 => letter t2
         busy t1 no => blocked 0 by letter: its dead letters: no
         open 0 2 10 =>
         busy t2 no =>
         count => 1
         at 10
         tick => commit 1: 0@10 s1
         count => 0
         recv 0 2 10 11 =>
         dead 10 e=2 => letter t3
         ack t3 => unblocked 0, free 0@2:10",
    );
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         busy t1 no => blocked 0 by letter: its dead letters: no
         lost 0 => close 0@1
         at 10
         tick =>
         count => 0",
    );
}

#[test]
fn a_letter_that_is_acknowledged_too_late_opens_no_lane() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         open 0 2 10 =>
         recv 0 2 10 10 =>
         ack t1 =>
         status 0 => @2 point 10 next 11 unsettled 1
         count => 0",
    );
}

#[test]
fn many_refused_letters_pause_their_partition_until_half_of_them_are_written() {
    let mut rig = check("open 0 1 0 =>\n recv 0 1 0 69 =>");
    for offset in 0..63 {
        rig.obey(&format!("dead {offset}"));
        rig.obey(&format!("busy t{} no", offset + 1));
    }
    assert!(!rig.pipeline.status().any(|(_, s)| s.paused));
    assert_eq!(rig.obey("dead 63"), "letter t64");
    assert_eq!(rig.obey("busy t64 no"), "pause 0");
    assert_eq!(rig.obey("dead 64"), "letter t65");
    assert_eq!(rig.obey("busy t65 no"), "");
    // Sent again and refused again: they stay as many.
    rig.obey("at 10");
    rig.obey("tick");
    for token in 1..=65 {
        assert_eq!(rig.obey(&format!("busy t{token} no")), "");
    }
    rig.obey("at 30");
    rig.obey("tick");
    for token in 1..=33 {
        let freed = format!("free 0@1:{}", token - 1);
        assert_eq!(rig.obey(&format!("ack t{token}")), freed, "still paused");
    }
    assert_eq!(rig.obey("ack t34"), "resume 0, free 0@1:33");
    assert!(!rig.pipeline.status().any(|(_, s)| s.paused));
}

#[test]
fn a_letter_that_gets_through_at_once_counts_for_nothing() {
    let mut rig = check("open 0 1 0 =>\n recv 0 1 0 99 =>");
    for offset in 0..100 {
        rig.obey(&format!("dead {offset}"));
        assert_eq!(rig.obey(&format!("ack t{}", offset + 1)), format!("free 0@1:{offset}"));
    }
}
