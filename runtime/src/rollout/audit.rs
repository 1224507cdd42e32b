//! What becomes of versions, as records of a topic: `[rollout] audit`.
//!
//! A record for each change, with the pipeline's name as its key. Each topic has a thread that writes them, so that no trial waits for a
//! broker, and no topic for another; an outage is waited for.

use crate::broker::client::Client;
use crate::broker::{Broker, Produce, Refusal};
use crate::{alerts, date};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;
use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records that wait for a broker at most; a change more than every second for a quarter of an hour.
const WAITING: usize = 1_000;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// At the end of the process, what is not written yet has so long.
const LAST: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    /// A version is on trial.
    Tried,
    /// It serves all keys.
    Promoted,
    /// It runs no more.
    RolledBack,
}

/// Who decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Decider {
    /// What the trial has shown.
    Evidence,
    /// Somebody.
    Hand,
    /// The folder.
    Folder,
}

/// A record's value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Entry {
    /// RFC 3339.
    pub(super) at: String,
    pub(super) event: Event,
    pub(super) by: Decider,
    pub(super) pipeline: String,
    pub(super) group: String,
    /// SHA-256 of the version's file.
    pub(super) version: String,
    /// Of the version that serves all keys but those on trial, from now on.
    pub(super) serving: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// All that the trial has shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shown: Option<String>,
    /// The machine, and the process there.
    pub(super) process: String,
}

impl Entry {
    pub(super) fn new(
        event: Event,
        by: Decider,
        (pipeline, group): (&str, &str),
        version: &str,
        serving: &str,
    ) -> Self {
        let at = date::utc(crate::pipeline::wall_ms()).unwrap_or_default();
        let process = format!("{}/{}", alerts::host(), std::process::id());
        let [pipeline, group, version, serving] = [pipeline, group, version, serving].map(str::to_owned);
        Self { at, event, by, pipeline, group, version, serving, share: None, why: None, shown: None, process }
    }
}

struct Record {
    key: String,
    value: Vec<u8>,
}

/// See the module. A topic's thread starts with its first record.
pub(super) struct Audit {
    broker: Arc<dyn Broker>,
    topics: BTreeMap<String, Writing>,
}

struct Writing {
    records: Sender<Record>,
    /// Records that are not written yet.
    left: Arc<AtomicUsize>,
    /// Closes when all is written.
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Audit {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, topics: BTreeMap::new() }
    }

    /// Never waits.
    pub(super) fn tell(&mut self, topic: &str, entry: &Entry) {
        let pipeline = entry.pipeline.as_str();
        let written = serde_json::to_vec(entry).map_err(|e| e.to_string()).and_then(|value| {
            let writing = self.start(topic)?;
            let record = Record { key: pipeline.to_owned(), value };
            writing.records.try_send(record).map_err(|_| format!("{WAITING} records wait for the broker already"))?;
            writing.left.fetch_add(1, SeqCst);
            Ok::<(), String>(())
        });
        if let Err(why) = written {
            tracing::error!(pipeline, topic, why, event = ?entry.event, "a record of the audit topic is not written");
        }
    }

    fn start(&mut self, topic: &str) -> Result<&Writing, String> {
        let slot = match self.topics.entry(topic.to_owned()) {
            Slot::Occupied(writing) => return Ok(writing.into_mut()),
            Slot::Vacant(slot) => slot,
        };
        let ((records, inbox), (end, done)) = (bounded(WAITING), bounded::<()>(0));
        let (broker, topic, left) = (self.broker.clone(), topic.to_owned(), Arc::<AtomicUsize>::default());
        let count = left.clone();
        let run = move || {
            // Told by being dropped.
            let _end = end;
            write(broker.as_ref(), &topic, &inbox, &count);
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(run);
        let thread = thread.map_err(|e| format!("no thread for it: {e}"))?;
        Ok(slot.insert(Writing { records, left, done, thread }))
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let until = Instant::now() + LAST;
        for (topic, Writing { records, left, done, thread }) in std::mem::take(&mut self.topics) {
            drop(records);
            // Closed, or over its time.
            if done.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
                let left = left.load(SeqCst);
                tracing::error!(topic, left, "records of the audit topic are not written: no broker takes them");
            } else if thread.join().is_err() {
                tracing::error!(topic, "the thread of the audit topic panicked");
            }
        }
    }
}

/// Until nobody can tell any more, and all is written.
fn write(broker: &dyn Broker, topic: &str, inbox: &Receiver<Record>, left: &AtomicUsize) {
    let mut client: Option<Box<dyn Client>> = None;
    while let Ok(record) = inbox.recv() {
        let began = Instant::now();
        let mut told = false;
        loop {
            let Record { key, value } = &record;
            let why = match try_once(broker, &mut client, topic, &record) {
                Ok(()) => break,
                Err(Trouble::Never(why)) => {
                    let value = String::from_utf8_lossy(value);
                    tracing::error!(topic, pipeline = key, why, %value, "the audit topic refuses a record");
                    break;
                }
                Err(Trouble::Again(why)) => why,
            };
            client = None;
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(topic, pipeline = key, why, "a record of the audit topic waits for the broker");
            }
            std::thread::sleep(PAUSE);
        }
        left.fetch_sub(1, SeqCst);
        if told {
            tracing::info!(topic, waited_s = began.elapsed().as_secs(), "the audit topic takes records again");
        }
    }
}

enum Trouble {
    Again(String),
    Never(String),
}

fn try_once(
    broker: &dyn Broker,
    client: &mut Option<Box<dyn Client>>,
    topic: &str,
    Record { key, value }: &Record,
) -> Result<(), Trouble> {
    let again = |error: crate::broker::BrokerError| Trouble::Again(error.message);
    let client = match client {
        Some(client) => client,
        None => client.insert(broker.client().map_err(again)?),
    };
    let (key, value) = (Some(key.as_bytes()), Some(value.as_slice()));
    let results = client.produce(&[Produce { topic, partition: None, key, value, headers: &[], timestamp_ms: None }]);
    match results.map_err(again)?.into_iter().next() {
        Some(Ok(())) => Ok(()),
        Some(Err(Refusal::Undeliverable(why))) => Err(Trouble::Never(why)),
        Some(Err(Refusal::Blocked(why) | Refusal::Fenced(why))) => Err(Trouble::Again(why)),
        None => Err(Trouble::Again("the broker said nothing of it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_entry_says_what_when_and_who_in_names_that_stay() {
        let mut entry = Entry::new(Event::RolledBack, Decider::Evidence, ("orders", "g"), "aa", "bb");
        (entry.at, entry.process) = ("2026-01-31T12:00:00Z".to_owned(), "m/7".to_owned());
        let bare = "{\"at\":\"2026-01-31T12:00:00Z\",\"event\":\"rolled-back\",\"by\":\"evidence\",\"pipeline\":\"orders\",\"group\":\"g\",\
                    \"version\":\"aa\",\"serving\":\"bb\",\"process\":\"m/7\"}";
        assert_eq!(serde_json::to_string(&entry).unwrap(), bare);
        (entry.share, entry.why, entry.shown) =
            (Some(0.05), Some("it is too slow".to_owned()), Some("7 messages".to_owned()));
        let value: serde_json::Value = serde_json::to_value(&entry).unwrap();
        assert_eq!(
            (&value["share"], &value["why"], &value["shown"]),
            (&0.05.into(), &"it is too slow".into(), &"7 messages".into())
        );
    }
}
