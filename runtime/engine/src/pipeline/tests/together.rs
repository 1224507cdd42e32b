//! Tasks that span two inputs: 0 and 1:0 are one, 1 and 1:1 another.

use super::*;

const READY: &str = "
    inputs
    tick => renew
    open 0 1 10
    open 1:0 1 20
    open 1 2 10
    open 1:1 2 20
    recv 0 1 10 14
    recv 1:0 1 20 24
    recv 1 2 10 14
    renewed ok
";

#[track_caller]
fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn a_transaction_names_offsets_of_all_partitions_of_the_tasks_that_it_acts_for() {
    check_ready(
        "pub 20 0 p=1:0 #a $k=1 => -
        at 100
        tick => keep t1 of 0 k=1, mark t2 of 0 a
        ack t1
        ack t2 => commit 1: 0@10 s1 1@10 s1 1:0@21 s1
        done 1 => marked 0 a, kept 0 k=1",
    );
}

#[test]
fn what_messages_of_several_inputs_leave_under_a_key_is_one_record() {
    check_ready(
        "pub 20 0 p=1:0 $k=1 => -
        pub 10 0 $k=2 => -
        pub 21 0 p=1:0 $k=3 => -
        pub 10 0 p=1 e=2 $k=9 => -
        at 100
        tick => keep t1 of 0 k=3, keep t2 of 1 k=9",
    );
}

#[test]
fn a_task_starts_anew_as_a_whole() {
    check_ready(
        "pub 10 0 $k=1 => -
        at 100
        tick => keep t1 of 0 k=1
        ack t1 => commit 1: 0@11 s1 1@10 s1 1:0@20 s1
        doubt 1 => given up: doubt, pause 0, pause 1, pause 1:0, pause 1:1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10 1:0 or 20 1:1 or 20
        open 0 3 11 => resume 0
        open 1:0 3 20 => resume 1:0
        recv 1:0 3 20 21
        pub 20 0 p=1:0 e=1 $k=2 => -
        pub 20 0 p=1:0 e=3 $k=2 => -
        at 200
        tick => keep t2 of 0 k=2",
    );
}

#[test]
fn a_duplicate_settles_with_the_message_of_another_input_that_it_repeats() {
    let mut rig = check_ready(
        "pub 10 1 #a => t1
        twin 20 10 p=1:0 #a
        twin 21 9 p=1:0 #b
        status 1:0 => @1 point 20 next 25 unsettled 4
        ack t1
        status 1:0 => @1 point 22 next 25 unsettled 3",
    );
    assert_eq!(rig.obey("status 0"), "@1 point 11 next 15 unsettled 4");
}

#[test]
fn a_task_of_which_a_record_is_refused_waits_as_a_whole_and_starts_anew_as_a_whole() {
    check_ready(
        "pub 10 1 => t1
        pub 20 1 p=1:0 => t2
        busy t1 away => given up: away, pause 0, pause 1:0, blocked 0 by output: away
        tick => renew
        renewed ok
        at 10
        tick => restart 0 or 10 1:0 or 20, commit 1: 1@10 s1
        open 0 3 10 => resume 0
        open 1:0 3 20 => resume 1:0",
    );
}

#[test]
fn without_transactions_a_task_is_rewound_as_a_whole() {
    check(
        "inputs-apart
        open 0 1 10
        open 1:0 1 20
        open 1:1 2 20
        recv 0 1 10 12
        recv 1:0 1 20 22
        pub 11 1 => t1
        pub 20 1 p=1:0 => t2
        pub 21 1 p=1:0 => t3
        ack t2
        busy t1 away => pause 0, pause 1:0, blocked 0 by output: away
        ack t3
        at 10
        tick => rewind 0 to 10 and rewind 1:0 to 21, commit 1: 0@10 s1 1:0@21 s1",
    );
}

#[test]
fn behind_what_was_turned_away_nothing_of_its_lane_is_published() {
    let mut rig =
        check("inputs\ntick => renew\nopen 0 1 0\nopen 1:0 1 0\nrecv 0 1 0 59999\nrecv 1:0 1 0 9\nrenewed ok");
    // Every other one settles, until the commit's map has no room.
    let turned_away = (1..60_000).step_by(2).find(|offset| {
        rig.obey(&format!("pub {offset} 0 l={}", offset + 100_000));
        rig.obey("status 0").contains("paused")
    });
    let offset = turned_away.unwrap();
    // Messages of the other input: behind it in its lane, and in another.
    assert_eq!(rig.obey(&format!("pub 3 1 p=1:0 l={}", offset + 100_000)), "- pause 1:0");
    assert_eq!(rig.obey("pub 2 1 p=1:0 l=7"), "t1", "before it, in another lane");
    assert_eq!(rig.obey("pub 4 1 p=1:0 l=8"), "-", "above what was turned away");
    // Not its head: what it left may have been read.
    assert_eq!(rig.obey(&format!("pub 0 1 l={}", offset + 100_000)), "-");
    rig.obey("at 100");
    rig.obey("ack t1");
    let commit = rig.obey("tick");
    assert!(commit.starts_with("commit 1: 0@0["), "{commit}");
    assert_eq!(rig.obey("done 1"), "");
    assert_eq!(rig.obey("tick"), "restart 0 or 0 1:0 or 0");
}
