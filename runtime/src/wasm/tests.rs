//! The host against guests written by hand (`tests/guests/wat`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod hostile;
mod imports;
mod loading;

use super::*;
use crate::record::{RecordBuilder, TopicPartition};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Long enough for any machine, short enough to wait for.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

fn host() -> &'static Arc<Host> {
    static HOST: OnceLock<Arc<Host>> = OnceLock::new();
    HOST.get_or_init(|| Host::new(HostOptions::default()).unwrap())
}

fn text(guest: &str) -> String {
    std::fs::read_to_string(format!("{}/../tests/guests/wat/{guest}.wat", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub(super) fn bytes(guest: &str) -> Vec<u8> {
    wat::parse_str(text(guest)).unwrap()
}

fn load(guest: &str) -> Handler {
    host().load(guest, &bytes(guest)).unwrap()
}

pub(super) fn setup(name: &str) -> Setup {
    Setup {
        handler: name.to_owned(),
        topics: vec!["orders".to_owned(), "refunds".to_owned()],
        group: "test".to_owned(),
        outputs: vec!["out".to_owned(), "other".to_owned()],
        config: vec![("currency".to_owned(), "EUR".to_owned())],
        max_batch: 256,
    }
}

fn open(guest: &str) -> Instance {
    load(guest).open(&setup(guest), &Limits::default()).unwrap()
}

fn delivery(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Delivery {
    let at = TopicPartition { topic: 1, partition: 3 };
    let record = Arc::new(RecordBuilder::new(key, value, 0).build(at, offset, 5));
    Delivery { record, attempt: 1, follows_dead_letter: false }
}

/// One message for each value.
pub(super) fn batch(values: &[&str]) -> Vec<Delivery> {
    let numbered = values.iter().enumerate();
    numbered.map(|(n, value)| delivery(n as i64, Some(b"key"), Some(value.as_bytes()))).collect()
}

fn send(key: Option<&[u8]>, value: Option<&[u8]>) -> Send {
    Send {
        output: 0,
        key: key.map(Box::from),
        value: value.map(Box::from),
        headers: Vec::new(),
        forward_headers: false,
        timestamp_ms: None,
    }
}

#[test]
fn identity_sends_each_message_with_null_and_empty_apart() {
    let mut instance = open("identity");
    let big = vec![b'x'; 1 << 20];
    type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
    let cases: [Pair<'_>; 6] = [
        (Some(b"key"), Some(b"value")),
        (None, Some(b"value")),
        (Some(b"key"), None),
        (Some(b""), Some(b"")),
        (None, None),
        (Some(b"\xff\x00"), Some(&big)),
    ];
    for round in 0..3 {
        let mut batch: Vec<_> = cases.iter().map(|(key, value)| delivery(round, *key, *value)).collect();
        let records: Vec<_> = batch.iter().map(|d| Arc::as_ptr(&d.record)).collect();
        let results = instance.process(&mut batch, NOW_MS, DEADLINE).unwrap();
        assert_eq!(results.len(), cases.len());
        for (result, (key, value)) in results.iter().zip(cases) {
            assert_eq!(result.outcome, Outcome::Done);
            assert_eq!(result.sends, [send(key, value)]);
            assert_eq!(result.staged_bytes, key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        }
        assert_eq!(batch.iter().map(|d| Arc::as_ptr(&d.record)).collect::<Vec<_>>(), records, "lent and given back");
        assert!(batch.iter().all(|d| Arc::strong_count(&d.record) == 1), "nothing else holds a record");
    }
    assert_eq!(instance.process(&mut Vec::new(), NOW_MS, DEADLINE).unwrap(), []);
    assert!(!instance.worn());
}

#[test]
fn instances_of_one_handler_run_on_several_threads() {
    let handler = load("identity");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut instance = handler.open(&setup("identity"), &Limits::default()).unwrap();
            std::thread::spawn(move || {
                let mut sent = 0;
                for _ in 0..50 {
                    let results = instance.process(&mut batch(&["a"; 100]), NOW_MS, DEADLINE).unwrap();
                    sent += results.iter().map(|r| r.sends.len()).sum::<usize>();
                }
                sent
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 5000);
    }
}

/// Runs the test above again where the pool of instances does not fit into the address space.
#[test]
fn a_limited_address_space_is_enough() {
    let test = "wasm::tests::identity_sends_each_message_with_null_and_empty_apart";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 4000000 && exec \"$0\" --exact \"$1\" --test-threads 1"])
        .args([std::env::current_exe().unwrap().as_os_str(), test.as_ref()])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed"), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
}
