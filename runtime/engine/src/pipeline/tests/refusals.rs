//! Records that can't be in a transaction: refused by the broker, or without room in the commit's map.

use super::exactly::check_ready;
use super::*;

#[test]
fn a_record_refused_for_good_becomes_a_dead_letter_when_its_message_comes_again() {
    check_ready(
        "pub 10 2 => t1
        ack t1
        never t1 large
        tick => given up: the message at offset 10 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 2 e=2 => - letter t2
        never t2 headers
        tick => given up: the message at offset 10 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10, restart 0 or 10
        open 0 3 10 => resume 0
        recv 0 3 10 14
        pub 10 2 e=3 => - short letter t3
        ack t3 => free 0@3:10
        tick => commit 1: 0@11 s1 1@10 s1
        done 1
        pub 11 1 e=3 => t4",
    );
}

#[test]
fn all_records_refused_for_good_in_one_transaction_are_learnt_at_once() {
    // One at a time, each for twice the wait of the one before, a hundred of them would hold the pipeline for an hour.
    check_ready(
        "pub 10 1 => t1
        pub 11 1 => t2
        never t1 large
        takes => true
        pub 12 1 => t3
        pub 13 1 => t4
        never t3 large
        ack t2
        at 100
        tick
        never t4 large => given up: the message at offset 10 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10 12 13, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 1 e=2 => - letter t5
        pub 11 1 e=2 => t6
        pub 12 1 e=2 => - letter t7
        pub 13 1 e=2 => - letter t8",
    );
}

#[test]
fn what_a_client_does_not_take_after_a_refusal_for_good_is_not_held_back() {
    check_ready(
        "pub 10 1 => t1
        never t1 large
        pub 10 1 p=1 => t2
        busy t2 state => given up: the message at offset 10 can't be written, pause 0, pause 1
        tick => renew
        renewed ok => condemn 0 10, restart 0 or 10 1 or 10",
    );
}

#[test]
fn what_is_known_of_a_message_is_forgotten_once_it_is_committed() {
    let rig = check_ready(
        "pub 10 1 => t1
        never t1 large
        tick => given up: the message at offset 10 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 1 e=2 => - letter t2
        ack t2 => free 0@2:10
        tick => commit 1: 0@11 s1 1@10 s1
        done 1",
    );
    assert!(rig.pipeline.transactions.unwrap().verdicts.is_empty());
}

#[test]
fn a_dead_letter_that_its_topic_does_not_take_holds_its_partition_alone() {
    check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1
        dead 10 => letter t1
        busy t1 full => given up: its dead letters: full, pause 0, blocked 0 by letter: its dead letters: full
        tick => renew
        renewed ok
        pub 10 1 p=1 => t2
        ack t2
        at 100
        tick => restart 0 or 10, commit 2: 1@11 s2",
    );
}

#[test]
fn what_the_map_has_no_room_for_is_turned_away_and_comes_again_once_it_has() {
    let mut rig = check_ready("recv 0 1 15 59999\n");
    let publish = |rig: &mut Rig, offset: i64| rig.obey(&format!("pub {offset} 0"));
    let full = (11..59_999).step_by(2).find(|offset| publish(&mut rig, *offset) == "- pause 0").unwrap();
    assert_eq!(publish(&mut rig, full + 2), "-");
    // What is below still settles, and what is above does not, whatever its key.
    assert_eq!(publish(&mut rig, full - 3), "-");
    let first = rig.obey("tick");
    assert!(
        first.starts_with("commit 1: 0@10[11..12 ") && first.contains(&format!("{}..{}]", full - 4, full - 1)),
        "{}",
        &first[..60]
    );
    assert_eq!((rig.obey("done 1"), rig.obey("tick")), (String::new(), String::new()));
    for offset in (10..full - 3).step_by(2) {
        assert_eq!(publish(&mut rig, offset), "-");
    }
    rig.obey("at 100");
    assert_eq!(rig.obey("tick"), format!("commit 2: 0@{} s2", full - 1));
    rig.obey("done 2");
    assert_eq!(rig.obey("tick"), "restart 0 or 10");
    assert_eq!(rig.obey(&format!("open 0 2 {}", full - 1)), "resume 0");
}
