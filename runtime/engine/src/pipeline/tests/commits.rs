//! What is committed, and when.

use super::*;

#[test]
fn nothing_to_commit_is_no_commit() {
    check("tick =>\n open 0 1 10 =>\n tick =>\n at 1000\n tick =>\n status 0 => @1 point 10 next 10 unsettled 0");
}

#[test]
fn a_fresh_start_is_committed_at_once_so_that_it_stays() {
    check(
        "open 0 1 10 fresh =>
         tick => commit 1: 0@10 s1
         status 0 => @1 point 10 next 10 unsettled 0
         commit 1 ok =>
         status 0 => @1 point 10 committed 10 next 10 unsettled 0
         at 1000
         tick =>",
    );
}

#[test]
fn the_commit_names_the_lowest_unsettled_offset_and_what_is_settled_above() {
    check(
        "open 0 1 10 s=6 =>
         recv 0 1 10 14 =>
         pub 10 0 => -
         pub 12 0 => -
         pub 14 0 => -
         tick => commit 1: 0@11[12..13 14..15] s7
         commit 1 ok =>
         status 0 => @1 point 11 committed 11 next 15 unsettled 2
         pub 11 0 => -
         at 100
         tick => commit 2: 0@13[14..15] s8
         commit 2 ok =>
         pub 13 0 => -
         at 200
         tick => commit 3: 0@15 s9",
    );
}

#[test]
fn commits_keep_their_interval_and_one_is_under_way_at_a_time() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 14 =>
         tick => commit 1: 0@10 s1
         pub 10 0 => -
         at 99
         commit 1 ok =>
         tick =>
         at 100
         tick => commit 2: 0@11 s2
         pub 11 0 => -
         at 250
         tick =>
         commit 2 ok =>
         tick => commit 3: 0@12 s3
         commit 3 ok =>
         pub 12 0 => -
         at 349
         tick =>
         at 350
         tick => commit 4: 0@13 s4",
    );
}

#[test]
fn only_partitions_with_news_are_committed() {
    check(
        "open 0 1 10 fresh =>
         open 1 2 20 fresh =>
         tick => commit 1: 0@10 s1 1@20 s1
         commit 1 ok =>
         recv 1 2 20 20 =>
         pub 20 0 p=1 e=2 => -
         at 100
         tick => commit 2: 1@21 s2
         commit 2 ok =>
         recv 0 1 10 10 =>
         at 200
         tick =>
         pub 10 0 => -
         at 300
         tick => commit 3: 0@11 s2",
    );
}

#[test]
fn a_failed_commit_is_repeated_and_its_number_of_the_partition_stays() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 0 => -
         tick => commit 1: 0@11 s1
         commit 1 failed =>
         status 0 => @1 point 11 next 11 unsettled 0
         at 99
         tick =>
         at 100
         tick => commit 2: 0@11 s1
         commit 2 ok =>
         status 0 => @1 point 11 committed 11 next 11 unsettled 0
         at 200
         tick =>",
    );
    // It may stand at the broker all the same: what was committed before is not known any more either.
    check(
        "open 0 1 10 fresh =>
         tick => commit 1: 0@10 s1
         commit 1 ok =>
         recv 0 1 10 10 =>
         pub 10 0 => -
         at 100
         tick => commit 2: 0@11 s2
         commit 2 failed =>
         status 0 => @1 point 11 next 11 unsettled 0",
    );
}

#[test]
fn an_answer_to_another_commit_is_none() {
    check(
        "open 0 1 10 fresh =>
         commit 0 ok =>
         tick => commit 1: 0@10 s1
         commit 2 ok =>
         commit 0 failed =>
         at 100
         tick =>
         commit 1 ok =>
         commit 1 failed =>
         status 0 => @1 point 10 committed 10 next 10 unsettled 0
         at 200
         tick =>",
    );
}

#[test]
fn a_commit_without_an_answer_counts_as_failed_after_a_while() {
    check(
        "open 0 1 10 fresh =>
         at 5
         tick => commit 1: 0@10 s1
         at 305
         tick =>
         at 306
         tick => commit 2: 0@10 s1
         commit 1 ok =>
         status 0 => @1 point 10 next 10 unsettled 0
         commit 2 ok =>
         status 0 => @1 point 10 committed 10 next 10 unsettled 0",
    );
}

#[test]
fn completions_and_answers_of_an_earlier_epoch_change_nothing() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 12 =>
         pub 10 2 => t1
         pub 11 0 => -
         tick => commit 1: 0@10[11..12] s1
         lost 0 => close 0@1
         open 0 2 10 =>
         recv 0 1 10 12 =>
         status 0 => @2 point 10 next 10 unsettled 0
         recv 0 2 10 12 =>
         pub 10 0 => -
         pub 11 1 => -
         ack t1 =>
         ack t1 =>
         commit 1 ok =>
         status 0 => @2 point 10 next 13 unsettled 3
         pub 10 0 e=2 => -
         at 100
         tick => commit 2: 0@11 s1",
    );
    check(
        "open 0 1 10 fresh =>
         tick => commit 1: 0@10 s1
         lost 0 => close 0@1
         open 0 2 10 =>
         commit 1 failed =>
         at 100
         tick =>",
    );
}

#[test]
fn what_belongs_to_no_partition_is_ignored() {
    check(
        "recv 0 1 10 12 =>
         end 0 50 =>
         pub 10 1 => -
         dead 10 =>
         drained 0 1 =>
         commit 1 ok =>
         released =>
         lost 0 =>
         status 0 => none
         count => 0",
    );
}

#[test]
fn a_map_near_its_limit_holds_back_new_records_until_it_is_smaller() {
    let mut rig = check("open 0 1 0 =>\n recv 0 1 0 9999 =>");
    // Every second message is slow: each two offsets cost two bytes, of 3072 in base64 at which fetching stops.
    let mut settle = |rig: &mut Rig, offsets: &mut dyn Iterator<Item = i64>| {
        offsets.for_each(|o| assert_eq!(rig.obey(&format!("pub {o} 0")), "-"));
        rig.now.steady_ms += 100;
        let told = rig.obey("tick");
        let number = told.split_once("commit ").map(|t| t.1.split_once(':').unwrap().0.replace(" ", "")).unwrap();
        rig.obey(&format!("commit {number} ok"));
        let bytes = rig.pipeline.status().next().unwrap().1.map_bytes;
        (bytes, told.split_once("commit").unwrap().0.trim().replace("  ", " "))
    };
    // 1149 runs, 3 bytes of numbers, 4 of check: 2305 bytes, 3074 in base64, 3078 with the prefix.
    let first = settle(&mut rig, &mut (1..2_290).step_by(2));
    assert_eq!(first, (3_070, String::new()));
    let full = settle(&mut rig, &mut core::iter::once(2_291));
    assert_eq!(full, (3_073, "pause 0,".into()));
    assert!(rig.obey("status 0").ends_with("paused"));
    // Hysteresis: below the line where it stopped, it does not go on yet.
    let less = settle(&mut rig, &mut (0..20).step_by(2));
    assert!(less.0 < 3_072 && less.1.is_empty(), "{less:?}");
    let half = settle(&mut rig, &mut (20..748).step_by(2));
    assert!((2_048..2_060).contains(&half.0) && half.1.is_empty(), "{half:?}");
    let free = settle(&mut rig, &mut (748..766).step_by(2));
    assert_eq!(free.1, "resume 0,");
    assert!(free.0 <= 2_048, "{free:?}");
}
