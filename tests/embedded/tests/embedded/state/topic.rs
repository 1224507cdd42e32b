//! The topic of state: what it must be like, and what somebody else writes to it.

use super::{Counting, Counts, TOPIC, owner_and_name, values};
use crate::commands::run;
use crate::play::Play;
use crate::run::PARTITIONS;
use crate::support::{all, send, text, topic};
use keyrail::broker::Produce;

/// What `keyrail run` says when it can't go on.
fn refusal(play: &Play) -> String {
    let (code, _, err) = run(&play.folder, &["run"], "");
    assert_eq!(code, 1, "{err}");
    err
}

#[test]
fn a_topic_of_state_that_would_lose_some_is_refused_with_what_it_needs() {
    let test = "a_topic_of_state_that_would_lose_some_is_refused_with_what_it_needs";
    let fit: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("delete.retention.ms", "604800000")];
    let unfit = |n: usize, value: &'static str| {
        let mut settings = fit.to_vec();
        settings[n].1 = value;
        settings
    };
    let cases = [
        (PARTITIONS + 1, fit.to_vec(), "has 5 partitions, its input 4, and what is kept keeps its partition"),
        (PARTITIONS, unfit(0, "delete"), "has cleanup.policy=delete, and needs compact: retention takes state away"),
        (
            PARTITIONS,
            unfit(1, "1000"),
            "has delete.retention.ms=1000, and needs 604800000: what was deleted may come back",
        ),
    ];
    for (partitions, settings, why) in cases {
        let Some(Counting { mut play, .. }) = Counting::new(test, "") else { return };
        let mut client = play.client();
        topic(client.as_mut(), TOPIC, partitions, &settings);
        play.send_plain(client.as_mut(), &[("k".to_owned(), "a".to_owned())]);
        drop(client);
        let told = refusal(&play);
        assert!(told.contains(&format!("topic of state \"{TOPIC}\" {why}")), "{told}");
        assert!(told.contains("Give the pipeline another group, which has its own"), "{told}");
        assert_eq!(play.uncommitted(play.client().as_mut()), 1, "it ran");
    }
}

/// Counts a key, and gives the partition and the key of its state.
fn counted(test: &str) -> Option<(Counting, i32, Vec<u8>)> {
    let mut counting = Counting::new(test, "")?;
    let child = counting.play.start();
    counting.say(&child, "k", &["a", "b"]);
    counting.say(&child, "other", &["a"]);
    counting.play.settle(child);
    let records = values(counting.play.client().as_mut());
    let own = records.iter().find(|record| owner_and_name(record).0 == "k").unwrap();
    let (partition, key) = (own.at.partition, own.key().unwrap().to_vec());
    Some((counting, partition, key))
}

fn write(play: &Play, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    let record = Produce { topic: TOPIC, partition: Some(partition), key, value, headers: &[], timestamp_ms: None };
    send(play.client().as_mut(), &[record]);
}

#[test]
fn a_record_under_a_key_that_is_none_of_a_state_is_passed_over() {
    let test = "a_record_under_a_key_that_is_none_of_a_state_is_passed_over";
    let Some((mut counting, partition, _)) = counted(test) else { return };
    // Another kind, one that ends too early, and a name that is no text.
    for key in [&b"hello"[..], b"\x09x", b"\x01\x00\x09ab", b"\x01\x00\x01k\xff"] {
        write(&counting.play, partition, Some(key), Some(b"\x01x"));
        write(&counting.play, partition, Some(key), None);
    }
    let child = counting.play.start();
    counting.say(&child, "k", &["c"]);
    counting.say(&child, "other", &["b"]);
    counting.play.settle(child);
    let client = counting.play.client();
    assert_eq!(counting.play.judge({ client }.as_mut()), (0, 0));
    assert_eq!(counting.counts, Counts::from([("k".to_owned(), 3), ("other".to_owned(), 2)]));
}

#[test]
fn a_value_that_nobody_can_read_stops_the_pipeline_until_its_key_is_written_anew() {
    let test = "a_value_that_nobody_can_read_stops_the_pipeline_until_its_key_is_written_anew";
    let Some((mut counting, partition, key)) = counted(test) else { return };
    let mend = |value: Option<&[u8]>, after: &str, counting: &mut Counting| {
        write(&counting.play, partition, Some(&key), Some(b"three"));
        counting.send(counting.play.client().as_mut(), &[("k".to_owned(), after.to_owned())]);
        // A second start passes over nothing either.
        for _ in 0..2 {
            let told = refusal(&counting.play);
            assert!(told.contains(&format!("{TOPIC}/{partition} holds at offset")), "{told}");
            assert!(told.contains("what Keyrail did not write (it is no record of state)"), "{told}");
            assert!(told.contains("Write that key anew, or a tombstone to delete it"), "{told}");
            assert_eq!(counting.play.uncommitted(counting.play.client().as_mut()), 1, "it ran");
        }
        write(&counting.play, partition, Some(&key), value);
        counting.play.settle(counting.play.start());
        counting.judge();
    };
    counting.counts.insert("k".to_owned(), 10);
    mend(Some(b"\x0110"), "c", &mut counting);
    counting.counts.remove("k");
    mend(None, "d", &mut counting);
    let last = all(counting.play.client().as_mut(), "out", PARTITIONS);
    let said: Vec<&str> = last.iter().filter(|r| r.key() == Some(b"k")).map(|r| text(r.value())).collect();
    assert_eq!(said, ["1 a", "2 b", "11 c", "1 d"]);
}
