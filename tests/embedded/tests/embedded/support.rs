//! Folders, topics and records for one test.

use keyrail::broker::client::{Client, NewTopic, Reader};
use keyrail::broker::embedded::{Embedded, Options};
use keyrail::broker::{Broker as _, Consumer, Polled, Produce, Refusal};
use keyrail::record::{Record, TopicPartition};
use std::fmt::Debug;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const WAIT: Duration = Duration::from_secs(10);
/// For what takes several processes, restarts or retries.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A folder that is removed when the test is over.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keyrail-emb-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The broker's own folder below it, which is not there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn options(&self) -> Options {
        Options { dir: self.data(), partitions: 3, durable: true }
    }

    pub(crate) fn open(&self) -> Embedded {
        Embedded::open(&self.options()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn at(topic: u32, partition: i32) -> TopicPartition {
    TopicPartition { topic, partition }
}

pub(crate) fn topic(client: &mut dyn Client, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let new = NewTopic { name: name.to_owned(), partitions: Some(partitions), settings };
    assert!(client.create_topic(&new).unwrap());
}

pub(crate) fn produce<'a>(topic: &'a str, key: &'a str, value: &'a str) -> Produce<'a> {
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    Produce { topic, partition: None, key, value, headers: &[], timestamp_ms: None }
}

pub(crate) fn send(client: &mut dyn Client, records: &[Produce<'_>]) {
    let results = client.produce(records).unwrap();
    assert_eq!(results, vec![Ok(()); records.len()]);
}

/// Writes through a producer, as a pipeline does.
pub(crate) fn deliver(broker: &Embedded, records: &[Produce<'_>]) -> Vec<Result<(), Refusal>> {
    let mut producer = broker.producer(&[]).unwrap();
    let mut results = vec![Ok(()); records.len()];
    let mut reports = Vec::new();
    for (number, record) in records.iter().enumerate() {
        match producer.send(record, number as u64) {
            Ok(taken) => assert!(taken),
            Err(refusal) => results[number] = Err(refusal),
        }
    }
    let until = Instant::now() + WAIT;
    while producer.in_flight() > 0 {
        assert!(Instant::now() < until);
        producer.poll(Duration::from_millis(100), &mut reports);
    }
    for (number, result) in reports {
        results[number as usize] = result;
    }
    results
}

/// All records of a topic, partition by partition.
pub(crate) fn all(client: &mut dyn Client, name: &str, partitions: i32) -> Vec<Record> {
    let numbers: Vec<i32> = (0..partitions).collect();
    let bounds = client.bounds(name, &numbers).unwrap();
    let starts: Vec<_> = numbers.iter().map(|n| (at(0, *n), bounds[*n as usize].start)).collect();
    let mut reader = client.read(&[name.to_owned()], &starts).unwrap();
    let mut records = drain(reader.as_mut());
    records.sort_by_key(|r| (r.at, r.offset));
    records
}

/// What comes until nothing comes for a while.
pub(crate) fn drain(reader: &mut dyn Reader) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let before = records.len();
        reader.next(Duration::from_millis(200), &mut records).unwrap();
        if records.len() == before {
            return records;
        }
    }
}

pub(crate) fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.unwrap_or(b"<null>")).unwrap()
}

/// Polls until something other than idleness comes.
pub(crate) fn next(consumer: &mut dyn Consumer) -> Polled {
    let until = Instant::now() + WAIT;
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(50)) {
            Polled::Idle => {}
            other => return other,
        }
    }
    panic!("nothing came within {WAIT:?}");
}

/// Takes what the group gives, each partition from what is committed or 0.
pub(crate) fn join(consumer: &mut dyn Consumer) -> Vec<TopicPartition> {
    let Polled::Assigned(given) = next(consumer) else { panic!("no assignment") };
    let committed = consumer.committed(&given, WAIT).unwrap();
    let starts: Vec<_> = given.iter().zip(committed).map(|(at, c)| (*at, c.offset.unwrap_or(0))).collect();
    consumer.assign(&starts).unwrap();
    given
}

pub(crate) fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(consumer) {
            Polled::Record(record) => records.push(record),
            other => panic!("{other:?}"),
        }
    }
    records
}

/// Looks again and again.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < end, "{what}: not after {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a runtime in good order, as the end of its stdin does.
pub(crate) fn stopped(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// The same handler with another digest: a custom section, as tools add them, changes nothing else.
pub(crate) fn version(base: &[u8], number: u8) -> Vec<u8> {
    [base, &[0, 3, 1, b'v', number]].concat()
}

/// Waits until the process has ended by itself, as one that dies at a fail point does.
pub(crate) fn ended(child: &mut Child, limit: Duration, what: &dyn Debug) -> ExitStatus {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "{what:?}: it lives");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says that a test did not run, and why, past the test harness's capture of output.
pub(crate) fn skip(test: &str, reason: &str) {
    // Nothing can be done about a closed stdout, and the summary would miss the line anyway.
    drop(writeln!(std::io::stdout(), "\nSKIP {test}: {reason}"));
}

/// Runs a shell script that mounts disks of its own: root can, elsewhere a user may be allowed to. `None`: not here.
pub(crate) fn in_own_namespace(test: &str, script: &str) -> Option<Output> {
    let run = |flags: &str, script: &str| Command::new("unshare").args([flags, "sh", "-c", script]).output();
    let allowed = |flags: &&str| run(flags, "mount -t tmpfs none /mnt").is_ok_and(|o| o.status.success());
    let Some(flags) = ["-m", "-rm"].into_iter().find(allowed) else {
        skip(test, "no disk of its own can be made (unshare, mount)");
        return None;
    };
    Some(run(flags, script).unwrap())
}
