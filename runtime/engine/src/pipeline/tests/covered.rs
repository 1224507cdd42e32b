//! At least once: a message is parked once a commit covers it, and leaves the retry topic behind all that it did.

use super::*;

const READY: &str = "
    parking
    open 0 1 10 => covered 0@1
    recv 0 1 10 14
    park 10 11
    at 100
    tick => commit 1: 0@10 s1
    commit 1 ok
    tick => park t1
";

#[track_caller]
fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn the_first_record_waits_for_a_commit_that_says_that_there_are_some() {
    let rig = check_ready("");
    assert_eq!(rig.say_parked, [[true]]);
}

#[test]
fn a_message_is_parked_when_a_commit_covers_it_and_not_before() {
    check_ready(
        "writing 0 => true
        ack t1
        writing 0 => true
        at 200
        tick => commit 2: 0@11 s2
        tick
        commit 2 ok
        tick => parked 0@1 10:11
        writing 0 => false",
    );
}

#[test]
fn a_commit_that_failed_covers_nothing() {
    check_ready(
        "ack t1
        at 200
        tick => commit 2: 0@11 s2
        commit 2 failed
        tick
        at 300
        tick => commit 3: 0@11 s2
        commit 3 ok
        tick => parked 0@1 10:11",
    );
}

#[test]
fn a_tombstone_comes_behind_the_state_and_the_id_of_its_message_and_moves_no_offset() {
    check_ready(
        "pub 4 1 q=5 #a $k=1 => t2
        at 200
        tick
        ack t2
        at 300
        tick => keep t3 of 0 k=1
        ack t3 => kept 0 k=1, mark t4 of 0 a
        ack t4 => marked 0 a, unpark t5 of 0 4
        ack t5 => parked 0@1 4:5-",
    );
}

#[test]
fn what_is_parked_anew_is_so_at_once_and_leaves_no_tombstone() {
    check_ready(
        "park 4 5 q=5 => park t2
        ack t2 => parked 0@1 4:5
        at 200
        tick
        ack t1
        at 300
        tick => commit 2: 0@11 s2",
    );
}

#[test]
fn a_tombstone_that_is_not_taken_is_written_again() {
    check_ready(
        "ack t1
        pub 4 0 q=5 => -
        at 200
        tick => unpark t2 of 0 4
        busy t2 away => pause 0, blocked 0 by output: its parked messages: away
        at 300
        tick => unpark t3 of 0 4
        ack t3 => parked 0@1 4:5-, unblocked 0, resume 0, commit 2: 0@11 s2",
    );
}

#[test]
fn what_can_not_be_parked_becomes_a_dead_letter_and_frees_its_place() {
    check_ready(
        "never t1 large => letter t1
        ack t1 => parked 0@1 10:11-, free 0@1:10
        at 200
        tick => unpark t2 of 0 10
        ack t2 => commit 2: 0@11 s2",
    );
}

/// The record may be in the topic, and what comes of the message this time is something else.
#[test]
fn a_record_in_doubt_leaves_the_topic_before_an_offset_says_that_its_message_is_settled() {
    check_ready(
        "busy t1 away => pause 0, blocked 0 by output: away
        at 200
        tick => rewind 0 to 10
        open 0 2 10 => resume 0, covered 0@2 below 10
        recv 0 2 10 14
        pub 10 0 e=2 => - unblocked 0
        at 300
        tick => unpark t2 of 0 10
        ack t2 => commit 2: 0@11 s2",
    );
}

#[test]
fn a_rewind_waits_for_the_reports_of_what_is_under_way() {
    check_ready(
        "park 12 13 => park t2
        busy t2 away => pause 0, blocked 0 by output: away
        at 200
        tick
        ack t1
        at 300
        tick => rewind 0 to 10",
    );
}

#[test]
fn a_rewind_waits_for_the_commit_of_what_is_parked() {
    check_ready(
        "ack t1
        pub 12 1 => t2
        busy t2 away => pause 0, blocked 0 by output: away
        at 200
        tick => commit 2: 0@11 s2
        at 300
        tick
        commit 2 ok
        tick => parked 0@1 10:11
        tick => rewind 0 to 11",
    );
}
