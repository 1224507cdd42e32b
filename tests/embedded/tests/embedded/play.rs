//! A pipeline with the `scripted` handler, or another one, on the embedded broker, what is sent to it, and what must come of
//! that.

use crate::run::{PARTITIONS, beside, by_key, guests, options, start, written};
use crate::support::{Folder, all, at, produce, send, text, topic};
use keyrail::broker::Produce;
use keyrail::broker::client::Client;
use keyrail::broker::embedded::{self, Embedded};
use keyrail::record::Record;
use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(60);

/// A folder, its pipeline `p`, and the account of what must come out.
pub(crate) struct Play {
    pub(crate) folder: Folder,
    sent: usize,
    /// Values of outputs and dead letters that must come, by key and in order.
    outputs: BTreeMap<String, Vec<String>>,
    letters: BTreeMap<String, Vec<String>>,
}

/// Outputs and dead letters, by key and in order.
pub(crate) type Expected = (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>);

/// What of a topic came more often than once.
pub(crate) type Repeats = usize;

impl Play {
    /// `tables` stand at the end of the manifest. `None`, noted: the handlers are not built.
    pub(crate) fn new(test: &str, tables: &str) -> Option<Self> {
        Self::of(test, "scripted", tables)
    }

    /// With another handler.
    pub(crate) fn of(test: &str, guest: &str, tables: &str) -> Option<Self> {
        let handler = guests(test)?.join(format!("{guest}.wasm"));
        let folder = Folder::new();
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        std::fs::copy(handler, plugins.join("p.wasm")).unwrap();
        let host = "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\n";
        std::fs::write(folder.path().join("keyrail.toml"), host).unwrap();
        let top = "handler = \"p.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n";
        std::fs::write(plugins.join("p.toml"), format!("{top}{tables}")).unwrap();
        let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
        for name in ["in", "out", "p.in.dlq"] {
            topic(client.as_mut(), name, PARTITIONS, &[]);
        }
        drop(client);
        Some(Self { folder, sent: 0, outputs: BTreeMap::new(), letters: BTreeMap::new() })
    }

    /// Where no process holds the folder.
    pub(crate) fn client(&self) -> Box<dyn Client> {
        embedded::client(&options(&self.folder)).unwrap()
    }

    pub(crate) fn start(&self) -> Child {
        start(&self.folder)
    }

    /// Messages to send: key, command and id. What must come of them is noted.
    pub(crate) fn send(&mut self, client: &mut dyn Client, messages: &[(String, &str, String)]) {
        let values: Vec<String> =
            messages.iter().map(|(_, command, id)| format!("{{\"do\":\"{command}\",\"id\":\"{id}\"}}")).collect();
        let mut records = Vec::new();
        for ((key, command, id), value) in messages.iter().zip(&values) {
            records.push((key.clone(), value.clone()));
            match *command {
                "dead-letter" | "retry" | "trap" | "unknown-output" => self.expect_letter(key, value),
                _ => self.expect_output(key, id),
            }
        }
        self.send_plain(client, &records);
    }

    /// Keys and values of which nothing more must come than what is noted otherwise.
    pub(crate) fn send_plain(&mut self, client: &mut dyn Client, messages: &[(String, String)]) {
        self.sent += messages.len();
        send(client, &messages.iter().map(|(key, value)| produce("in", key, value)).collect::<Vec<_>>());
    }

    /// The same as records.
    pub(crate) fn send_records(&mut self, client: &mut dyn Client, records: &[Produce<'_>]) {
        self.sent += records.len();
        send(client, records);
    }

    /// The same without a key.
    pub(crate) fn send_keyless(&mut self, client: &mut dyn Client, values: &[&str]) {
        self.sent += values.len();
        let keyless = |value| Produce { key: None, ..produce("in", "", value) };
        send(client, &values.iter().map(|value| keyless(*value)).collect::<Vec<_>>());
    }

    pub(crate) fn expect_output(&mut self, key: &str, value: &str) {
        self.outputs.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    pub(crate) fn expect_letter(&mut self, key: &str, value: &str) {
        self.letters.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// What must come out, as of now.
    pub(crate) fn expected(&self) -> Expected {
        (self.outputs.clone(), self.letters.clone())
    }

    /// What is sent beyond `expected` must leave no trace.
    pub(crate) fn expect(&mut self, expected: Expected) {
        (self.outputs, self.letters) = expected;
    }

    /// Waits until all that was sent is committed, and ends the process in good order.
    pub(crate) fn settle(&self, mut child: Child) {
        let until = Instant::now() + LIMIT;
        let mut client = beside(&self.folder, &child);
        while self.uncommitted(client.as_mut()) > 0 {
            assert!(Instant::now() < until, "{} messages are not committed", self.uncommitted(client.as_mut()));
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    pub(crate) fn uncommitted(&self, client: &mut dyn Client) -> usize {
        let partitions: Vec<_> = (0..PARTITIONS).map(|n| at(0, n)).collect();
        let committed = client.committed("p", &["in".to_owned()], &partitions).unwrap();
        self.sent - committed.iter().filter_map(|c| c.offset).sum::<i64>() as usize
    }

    pub(crate) fn letters(&self, client: &mut dyn Client) -> Vec<Record> {
        all(client, "p.in.dlq", PARTITIONS)
    }

    /// Nothing is lost, nothing made up, and each key is in order: what a death repeats comes again message by message.
    pub(crate) fn judge(&self, client: &mut dyn Client) -> (Repeats, Repeats) {
        (judge(client, "out", &self.outputs), judge(client, "p.in.dlq", &self.letters))
    }
}

fn judge(client: &mut dyn Client, name: &str, expected: &BTreeMap<String, Vec<String>>) -> Repeats {
    let (mut came, mut repeats): (BTreeMap<String, Vec<String>>, usize) = (BTreeMap::new(), 0);
    for record in all(client, name, PARTITIONS) {
        came.entry(text(record.key()).to_owned()).or_default().push(text(record.value()).to_owned());
    }
    let mut strangers = came.keys().filter(|key| !expected.contains_key(*key));
    assert_eq!(strangers.next(), None, "{name}: a key that was not sent");
    for (key, wanted) in expected {
        let places: BTreeMap<&str, usize> = wanted.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
        let (mut front, mut next) = (0, 0);
        for value in came.get(key).into_iter().flatten() {
            let Some(place) = places.get(value.as_str()) else { panic!("{name}, {key}: {value} was not sent") };
            assert!(*place <= front, "{name}, {key}: {value} overtook {}", wanted[front]);
            assert!(*place <= next, "{name}, {key}: a replay left out what stands before {value}");
            repeats += usize::from(*place < front);
            (front, next) = (front.max(place + 1), place + 1);
        }
        assert_eq!(front, wanted.len(), "{name}, {key}: lost from {:?} on", wanted.get(front));
    }
    repeats
}

/// Messages `from..to` of so many keys: one of a hundred fails once, one of two hundred for good.
pub(crate) fn mixed(from: usize, to: usize, keys: usize) -> Vec<(String, &'static str, String)> {
    let message = |n: usize| {
        let command = match n % 199 {
            0 => "dead-letter",
            50 | 130 => "fail-times:1",
            90 => "skip",
            _ => "done",
        };
        (format!("k{}", n % keys), command, format!("{n:0>7}"))
    };
    (from..to).map(message).collect()
}

/// The wall clock, as records and timers tell time.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Keys and values, beside the process that holds the folder.
pub(crate) fn say(play: &mut Play, child: &Child, messages: &[(&str, &str)]) {
    let messages: Vec<_> = messages.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    play.send_plain(beside(&play.folder, child).as_mut(), &messages);
}

/// Until so many records came out.
pub(crate) fn wait(play: &Play, child: &Child, records: u64) {
    let until = Instant::now() + LIMIT;
    let mut client = beside(&play.folder, child);
    while written(client.as_mut(), "out") < records {
        assert!(Instant::now() < until, "{:?}", by_key(client.as_mut(), "out"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What came out, by key and in order.
pub(crate) fn out(play: &Play) -> BTreeMap<String, Vec<String>> {
    by_key(play.client().as_mut(), "out")
}

/// As [`out`] gives it, of one key.
pub(crate) fn of<'a>(key: &str, values: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([(key.to_owned(), values.into_iter().map(str::to_owned).collect())])
}
