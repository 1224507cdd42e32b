//! The host against guests written by hand (`tests/guests/wat`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod bombs;
mod hostile;
mod imports;
mod loading;
mod malice;
mod preview1;
mod preview2;

use super::*;
use crate::record::{RecordBuilder, TopicPartition};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Long enough for any machine, short enough to wait for.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn host() -> &'static Arc<Host> {
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
        order: keyrail_engine::policy::Order::default(),
        timers: false,
        record: false,
        longest_delay_ms: None,
    }
}

fn open(guest: &str) -> Instance {
    load(guest).open(&setup(guest), &Limits::default()).unwrap()
}

fn delivery(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Delivery {
    let at = TopicPartition { topic: 1, partition: 3 };
    let record = RecordBuilder::new(key, value).build(at, offset, 5);
    Delivery { record, timer: None, attempt: 1, follows_dead_letter: false }
}

/// One message for each value.
pub(super) fn batch(values: &[&str]) -> Vec<Delivery> {
    let numbered = values.iter().enumerate();
    numbered.map(|(n, value)| delivery(n as i64, Some(b"key"), Some(value.as_bytes()))).collect()
}

/// What became of one message.
#[derive(Debug, PartialEq)]
struct SlotResult {
    outcome: Outcome,
    sends: Vec<Sent>,
    staged_bytes: usize,
}

/// A [`Send`] that outlives its call.
#[derive(Debug, PartialEq)]
struct Sent {
    output: u32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    forward_headers: bool,
    timestamp_ms: Option<i64>,
}

impl From<Send<'_>> for Sent {
    fn from(send: Send<'_>) -> Self {
        Self {
            output: send.output,
            key: send.key.map(<[u8]>::to_vec),
            value: send.value.map(<[u8]>::to_vec),
            headers: send.headers.map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
            forward_headers: send.forward_headers,
            timestamp_ms: send.timestamp_ms,
        }
    }
}

impl Instance {
    /// As [`Instance::process`], message by message. What a failed one staged does not stand, so it is left out.
    fn results(&mut self, batch: &mut Vec<Delivery>) -> Result<Vec<SlotResult>, CallFailure> {
        let Answer { outcomes, effects } = self.process(batch, NOW_MS, DEADLINE)?;
        let results = outcomes.into_iter().enumerate().map(|(slot, outcome)| {
            let (slot, stands) = (slot as u32, matches!(outcome, Outcome::Done | Outcome::Skip));
            let sends: Vec<_> = effects.of(slot).map(Sent::from).filter(|_| stands).collect();
            assert!(!stands || sends.len() == effects.count(slot) as usize);
            let staged_bytes = if stands { effects.staged_bytes(slot) as usize } else { 0 };
            SlotResult { outcome, sends, staged_bytes }
        });
        Ok(results.collect())
    }
}

fn send(key: Option<&[u8]>, value: Option<&[u8]>) -> Sent {
    Sent {
        output: 0,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
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
        let records: Vec<_> = batch.iter().map(|d| d.record.value().map(<[u8]>::as_ptr)).collect();
        let results = instance.results(&mut batch).unwrap();
        assert_eq!(results.len(), cases.len());
        for (result, (key, value)) in results.iter().zip(cases) {
            assert_eq!(result.outcome, Outcome::Done);
            assert_eq!(result.sends, [send(key, value)]);
            assert_eq!(result.staged_bytes, key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        }
        let after: Vec<_> = batch.iter().map(|d| d.record.value().map(<[u8]>::as_ptr)).collect();
        assert_eq!(after, records, "lent and given back");
        assert!(batch.iter().all(|d| d.record.holders() == 1), "nothing else holds a record");
    }
    assert_eq!(instance.results(&mut Vec::new()).unwrap(), []);
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
                    let results = instance.results(&mut batch(&["a"; 100])).unwrap();
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
