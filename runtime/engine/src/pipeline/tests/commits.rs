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
    let mut rig = check("open 0 1 0 s=30 =>\n recv 0 1 0 59999 =>");
    // Commits what is settled after these offsets too; tells the size of the map and what was done beside.
    let settle = |rig: &mut Rig, offsets: &mut dyn Iterator<Item = i64>| {
        offsets.for_each(|o| assert_eq!(rig.obey(&format!("pub {o} 0")), "-"));
        rig.now.steady_ms += 100;
        let told = rig.obey("tick");
        let (before, commit) = told.split_once("commit ").unwrap();
        rig.obey(&format!("commit {} ok", commit.split_once(':').unwrap().0));
        (rig.pipeline.status().next().unwrap().1.map_bytes, String::from(before))
    };
    // Eleven bytes and one for eight offsets, in base64, behind four: 18,312 offsets make 3071, and 3072 is the line.
    assert_eq!(settle(&mut rig, &mut (1..18_312).step_by(2)), (3_071, String::new()));
    assert_eq!(settle(&mut rig, &mut core::iter::once(18_321)), (3_074, "pause 0, ".into()));
    assert!(rig.obey("status 0").ends_with("paused"));
    // The map begins at the point. Fetching goes on at 2048 only, lest it flutter.
    assert_eq!(settle(&mut rig, &mut core::iter::once(0)), (3_072, String::new()));
    assert_eq!(settle(&mut rig, &mut (2..6_138).step_by(2)), (2_050, String::new()));
    assert!(rig.obey("status 0").ends_with("paused"));
    assert_eq!(settle(&mut rig, &mut (6_138..6_146).step_by(2)), (2_048, "resume 0, ".into()));
    assert_eq!(rig.obey("status 0"), "@1 point 6146 committed 6146 next 60000 unsettled 47770");
    // Below the upper line nothing changes again.
    assert_eq!(settle(&mut rig, &mut core::iter::once(18_331)).1, "");
}

/// Found by kills on the embedded broker: the pause came before the first record, and nothing was ever read again.
#[test]
fn a_partition_that_starts_with_a_full_map_is_read_up_to_the_map_s_end_before_it_is_held_back() {
    let map: String = (1..18_400).step_by(2).map(|o| format!(" {o}..{}", o + 1)).collect();
    let mut rig = check(&format!("open 0 1 0{map} =>\n recv 0 1 0 2 =>\n pub 2 0 => -\n at 100 =>"));
    let told = rig.obey("tick");
    assert!(told.starts_with("commit 1:"), "{}", &told[..60]);
    rig.obey("commit 1 ok");
    // All that was settled before is read: from here on only new records would come.
    for (command, answer) in [("recv 0 1 3 18399", ""), ("pub 4 0", "-"), ("at 200", "")] {
        assert_eq!(rig.obey(command), answer);
    }
    assert!(rig.obey("tick").starts_with("pause 0, commit 2:"));
}

#[test]
fn a_map_that_shrinks_while_the_partition_waits_for_a_rewind_resumes_nothing() {
    let mut rig = check("open 0 1 0 =>\n recv 0 1 0 59999 =>\n pub 59999 1 => t1\n pub 1500 1 => t2");
    (1..18_400).step_by(2).for_each(|o| assert_eq!(rig.obey(&format!("pub {o} 0")), "-"));
    assert!(rig.obey("tick").starts_with("pause 0, commit 1:"));
    rig.obey("commit 1 ok");
    // Paused already: it is not paused a second time, and the cut map does not resume it.
    assert_eq!(rig.obey("busy t2 no"), "blocked 0 by output: no");
    rig.obey("at 100");
    let told = rig.obey("tick");
    assert!(told.starts_with("rewind 0 to 0[1..2 ") && !told.contains("resume"), "{}", &told[..60]);
    assert_eq!(rig.obey("open 0 2 0"), "resume 0");
}

#[test]
fn a_map_that_shrinks_during_a_revoke_resumes_nothing() {
    let mut rig = check("open 0 1 0 =>\n recv 0 1 0 59999 =>");
    (1..18_400).step_by(2).for_each(|o| assert_eq!(rig.obey(&format!("pub {o} 0")), "-"));
    assert!(rig.obey("tick").starts_with("pause 0, commit 1:"));
    rig.obey("commit 1 ok");
    rig.obey("revoke 0");
    (0..18_400).step_by(2).for_each(|o| assert_eq!(rig.obey(&format!("pub {o} 0")), "-"));
    rig.obey("at 100");
    assert_eq!(rig.obey("tick"), "commit 2: 0@18400 s2");
}

#[test]
fn a_duplicate_settles_with_the_message_that_it_repeats() {
    let mut rig = check(
        "open 0 1 10 =>
         recv 0 1 10 13 =>
         pub 10 1 => t1
         pub 13 0 => -",
    );
    let now = rig.now;
    for (offset, of) in [("11", 10), ("12", 9)] {
        let duplicate = settled(offset, &[], Fate::Duplicate { of: Some((P0, of)) });
        assert_eq!(rig.pipeline.publish(duplicate, 0, now, &mut rig.actions), None);
    }
    assert_eq!(rig.obey("tick"), "commit 1: 0@10[12..14] s1", "the first of 11 is on its way, that of 12 long done");
    rig.obey("commit 1 ok");
    rig.obey("ack t1");
    assert_eq!(rig.obey("status 0"), "@1 point 14 committed 10 next 14 unsettled 0");
}

#[test]
fn commits_say_that_the_breaker_is_open_though_nothing_else_is_new() {
    let rig = check(
        "open 0 1 10 =>
         tick =>
         breaker open =>
         at 100
         tick => commit 1: 0@10 s1
         commit 1 lost =>
         at 200
         tick => commit 2: 0@10 s1
         commit 2 ok =>
         at 300
         tick =>
         open 1 1 5 =>
         at 400
         tick => commit 3: 1@5 s1
         breaker closed =>
         commit 3 ok =>
         at 500
         tick => commit 4: 0@10 s2 1@5 s2
         commit 4 ok =>
         at 600
         tick =>",
    );
    assert_eq!(rig.say_breaker, [&[true][..], &[true], &[true], &[false, false]]);
}
