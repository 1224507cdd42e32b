//! What a process tells of itself: probes, metrics, and how soon it works.

use crate::client::{Rec, bounds, read_all, send_all};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn probes_and_metrics_tell_what_is() {
    let test = "probes_and_metrics_tell_what_is";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup::default());
    let mut worker = Worker::start(&stage, 0);
    let until = Instant::now() + LIMIT;
    let first = loop {
        if let Some(page) = worker.get("/readyz") {
            break page;
        }
        assert!(Instant::now() < until, "no admin server\n{}", worker.tail());
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(first.status, 503, "not ready before its first assignment: {}", first.body);
    assert_eq!(worker.get("/livez").map(|p| p.status), Some(200));
    worker.wait_ready();
    let command = |n: usize| if n.is_multiple_of(100) { "dead-letter" } else { "done" };
    let records: Vec<Rec> =
        (0..1000).map(|n| Rec::script(&format!("k{}", n % 37), command(n), &format!("m{n}"))).collect();
    send_all(kafka, &stage.input, &records);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.wait_metric("keyrail_partition_lag_records", &[], |lag| lag == 0.0);
    let bytes: usize = records.iter().map(|r| r.text().len() + r.key.as_ref().map_or(0, Vec::len)).sum();
    let wanted = [
        ("keyrail_records_received_total", "", 1000.0),
        ("keyrail_received_bytes_total", "", bytes as f64),
        ("keyrail_messages_settled_total", "fate=\"done\"", 990.0),
        ("keyrail_messages_settled_total", "fate=\"dead_lettered\"", 10.0),
        ("keyrail_dead_letters_total", "reason=\"rejected\"", 10.0),
        ("keyrail_attempts_failed_total", "kind=\"rejected\"", 10.0),
        ("keyrail_retries_total", "", 0.0),
        ("keyrail_records_produced_total", "kind=\"output\"", 990.0),
        ("keyrail_records_produced_total", "kind=\"dead_letter\"", 10.0),
        ("keyrail_settle_latency_seconds_count", "", 1000.0),
        ("keyrail_partitions_assigned", "", 6.0),
        ("keyrail_partition_committed_offset", "", 1000.0),
        ("keyrail_partition_received_offset", "", 1000.0),
        ("keyrail_messages_in_flight", "", 0.0),
        ("keyrail_lanes_open", "", 0.0),
        ("keyrail_budget_used_bytes", "", 0.0),
    ];
    for (name, label, value) in wanted {
        worker.wait_metric(name, &[label], |n| n == value);
    }
    assert!(worker.metric("keyrail_commits_total", &["result=\"ok\""]) >= 1.0);
    assert_eq!(worker.metric("keyrail_commits_total", &["result=\"failed\""]), 0.0);
    worker.stop(Duration::from_secs(10));
}

#[test]
fn with_its_code_cached_a_process_is_at_work_soon() {
    let test = "with_its_code_cached_a_process_is_at_work_soon";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, ..Setup::default() });
    let mut last = Duration::ZERO;
    for (count, start) in (1..).zip(["compiled anew", "cached", "cached"]) {
        send_all(kafka, &stage.input, &[Rec::script("k", "done", &format!("m{count}"))]);
        let before = bounds(kafka, &stage.output);
        let began = Instant::now();
        let mut worker = Worker::start(&stage, 0);
        while bounds(kafka, &stage.output) == before {
            assert!(began.elapsed() < LIMIT, "{}", worker.tail());
            std::thread::sleep(Duration::from_millis(5));
        }
        last = began.elapsed();
        stage.say(&format!("start to first message: {:.2} s, {start}", last.as_secs_f64()));
        worker.stop(Duration::from_secs(10));
    }
    assert!(last < Duration::from_secs(5), "{last:?}");
    assert_eq!(read_all(kafka, &stage.output).len(), 3);
}
