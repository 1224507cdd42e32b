//! Stops that can't end in good order: they end in time, fail, and say why.

use crate::client::{Rec, send_all};
use crate::stage::{Setup, Stage, broker, own_broker};
use crate::worker::Worker;
use keyrail_kafka_tests::Options;
use std::time::{Duration, Instant};

/// What the process ends by itself after `shutdown-grace`, and a slow machine.
const MARGIN: Duration = Duration::from_secs(4);

fn records(command: &str) -> Vec<Rec> {
    (0..20).map(|n| Rec::script(&format!("k{n}"), command, &format!("m{n}"))).collect()
}

fn must_fail(stage: &Stage<'_>, worker: &mut Worker, grace: Duration, why: &str) {
    let began = Instant::now();
    worker.signal("TERM");
    let status = worker.wait(grace + MARGIN);
    stage.say(&format!("ended {:.1} s after SIGTERM: {status}", began.elapsed().as_secs_f64()));
    assert_eq!(status.code(), Some(1), "{}", worker.tail());
    for words in ["not in good order", why] {
        assert!(worker.log().contains(words), "nothing of {words:?}\n{}", worker.tail());
    }
}

#[test]
fn a_stop_that_can_not_commit_fails_in_time() {
    let test = "a_stop_that_can_not_commit_fails_in_time";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let tables = "[commit]\ninterval = \"60s\"";
    let stage = Stage::new(test, &kafka, &Setup { tables, ..Setup::default() });
    send_all(&kafka, &stage.input, &records("done"));
    let mut worker = Worker::start(&stage, 0);
    worker.wait_metric("keyrail_messages_settled_total", &[], |n| n == 20.0);
    kafka.freeze(1).unwrap();
    must_fail(&stage, &mut worker, Duration::from_secs(20), "the last commit failed");
    kafka.thaw(1).unwrap();
}

#[test]
fn a_stop_that_does_not_wait_for_a_long_call_fails_and_says_so() {
    let test = "a_stop_that_does_not_wait_for_a_long_call_fails_and_says_so";
    let Some(kafka) = broker(test) else { return };
    let tables = "[limits]\ntimeout = \"6s\"";
    let stage = Stage::new(test, kafka, &Setup { tables, ..Setup::default() });
    let mut worker = Worker::start_with(&stage, 0, &["shutdown-grace=\"8s\""]);
    worker.wait_metric("keyrail_partitions_assigned", &[], |n| n == 6.0);
    send_all(kafka, &stage.input, &records("loop"));
    worker.wait_metric("keyrail_records_received_total", &[], |n| n == 20.0);
    must_fail(&stage, &mut worker, Duration::from_secs(8), "under way for");
}
