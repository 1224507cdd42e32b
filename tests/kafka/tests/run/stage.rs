//! What one test plays on: topics, a group, a folder with `keyrail.toml`, plugins and logs.

use crate::client::{bounds, committed};
use crate::worker::Worker;
use keyrail_kafka_tests::{Kafka, Options, Security, shared, skip, start, unique};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

/// What is special about a test's pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Setup<'a> {
    /// The handler: `scripted`, `identity`, `tally`, `alarm` or `later`.
    pub(crate) guest: &'a str,
    pub(crate) partitions: i32,
    /// `exactly-once` or `at-least-once`.
    pub(crate) guarantee: &'a str,
    /// Settings of all three topics.
    pub(crate) topics: &'a [(&'a str, &'a str)],
    /// The manifest's lines before its first table.
    pub(crate) top: &'a str,
    /// Its tables.
    pub(crate) tables: &'a str,
    /// Lines of `[kafka]` in keyrail.toml.
    pub(crate) kafka: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            guest: "scripted",
            partitions: 6,
            guarantee: "exactly-once",
            topics: &[],
            top: "",
            tables: "",
            kafka: "",
        }
    }
}

/// Of what a panic says so much is told at once.
const PANIC_CHARS: usize = 2_000;

/// See the module.
pub(crate) struct Stage<'k> {
    pub(crate) kafka: &'k Kafka,
    pub(crate) dir: PathBuf,
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) letters: String,
    pub(crate) group: String,
    /// Nothing may be repeated, whatever goes wrong.
    pub(crate) exactly_once: bool,
    test: &'static str,
    began: Instant,
}

/// A line of progress, past the harness's capture.
pub(crate) fn say(text: &str) {
    // A closed stderr loses nothing but the line.
    drop(writeln!(std::io::stderr(), "    {text}"));
}

/// What goes wrong is told at once, too: the harness tells at the end of all tests, and a log may be cut before that.
fn tell_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let told: String = info.to_string().chars().take(PANIC_CHARS).collect();
            say(&format!("{}: {}", thread.name().unwrap_or("a thread"), told.replace('\n', " | ")));
            before(info);
        }));
    });
}

/// The shared broker, if this machine has Kafka and the handlers.
pub(crate) fn broker(test: &str) -> Option<&'static Kafka> {
    guests(test)?;
    shared(test)
}

/// A broker for one test alone.
pub(crate) fn own_broker(test: &str, options: &Options) -> Option<Kafka> {
    guests(test)?;
    start(test, options)
}

/// Where the handlers are, if they are built.
pub(crate) fn guests(test: &str) -> Option<PathBuf> {
    tell_panics();
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let dir = std::env::var_os("KEYRAIL_GUESTS").map_or_else(built, PathBuf::from);
    if ["scripted", "identity", "tally"].iter().all(|name| dir.join(format!("{name}.wasm")).is_file()) {
        return Some(dir);
    }
    skip(test, &format!("no handlers in {}; cargo xtask test builds them", dir.display()));
    None
}

impl<'k> Stage<'k> {
    pub(crate) fn new(test: &'static str, kafka: &'k Kafka, setup: &Setup<'_>) -> Self {
        let name = unique("run");
        let dir = kafka.ca().with_file_name(&name);
        fs::create_dir_all(dir.join("plugins")).unwrap();
        let (input, output) = (format!("{name}-in"), format!("{name}-out"));
        let letters = format!("{name}.{input}.dlq");
        for topic in [&input, &output, &letters] {
            kafka.create_topic(topic, setup.partitions, setup.topics).unwrap();
        }
        let (exactly_once, began) = (setup.guarantee == "exactly-once", Instant::now());
        let stage = Self { kafka, dir, input, output, letters, group: name, exactly_once, test, began };
        stage.write_host(kafka.bootstrap(Security::Plain), setup.kafka);
        stage.write_manifest(setup);
        let wasm = format!("{}.wasm", setup.guest);
        fs::copy(guests(test).unwrap().join(&wasm), stage.dir.join("plugins").join(&wasm)).unwrap();
        stage
    }

    pub(crate) fn write_host(&self, bootstrap: &str, kafka: &str) {
        let text = format!(
            "shutdown-grace = \"20s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[logging]\nformat = \"json\"\n\
             [kafka]\n\"bootstrap.servers\" = \"{bootstrap}\"\n{kafka}\n"
        );
        fs::write(self.dir.join("keyrail.toml"), text).unwrap();
    }

    pub(crate) fn write_manifest(&self, setup: &Setup<'_>) {
        let Setup { guest, guarantee, top, tables, .. } = setup;
        let text = format!(
            "handler = \"{guest}.wasm\"\nguarantee = \"{guarantee}\"\ninput = [\"{}\"]\ngroup = \"{}\"\n{top}\n\
             [output]\nout = \"{}\"\n{tables}\n",
            self.input, self.group, self.output
        );
        fs::write(self.dir.join("plugins/p.toml"), text).unwrap();
    }

    /// The janitor of the broker kills what is named beside the brokers' own.
    pub(crate) fn pid_file(&self, number: usize) -> PathBuf {
        self.kafka.ca().with_file_name(format!("{}-{number}.pid", self.group))
    }

    pub(crate) fn say(&self, text: &str) {
        say(&format!("{} {:.1} s: {text}", self.test, self.began.elapsed().as_secs_f64()));
    }

    /// How many messages the group has not committed.
    pub(crate) fn uncommitted(&self) -> usize {
        let have = committed(self.kafka, &self.group, &self.input).unwrap_or_default();
        let ends = bounds(self.kafka, &self.input).into_iter().enumerate();
        let left = ends.map(|(n, (start, end))| end - have.get(n).copied().unwrap_or(0).max(start));
        usize::try_from(left.sum::<i64>()).unwrap()
    }

    /// How often the group went on without a worker that lived, by what all of them have logged.
    pub(crate) fn losses(&self) -> usize {
        let files = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        logs.map(|log| fs::read_to_string(log).unwrap().matches("partitions are lost").count()).sum()
    }

    /// Waits until the group has committed all input, but for `slack` offsets of a partition (transaction markers), and nothing
    /// is parked.
    pub(crate) fn wait_settled(&self, workers: &[&Worker], slack: i64, limit: Duration) {
        let began = Instant::now();
        loop {
            let ends = bounds(self.kafka, &self.input);
            let have = committed(self.kafka, &self.group, &self.input).unwrap_or_default();
            let left: Vec<i64> = ends.iter().zip(&have).map(|((_, end), have)| end - have.max(&0)).collect();
            let settled = left.len() == ends.len() && left.iter().all(|lag| *lag <= slack);
            let parked = if settled { crate::parked::waiting(self) } else { 0 };
            if settled && parked == 0 {
                return;
            }
            if began.elapsed() > limit {
                let logs: Vec<String> = workers.iter().map(|w| w.tail()).collect();
                panic!("{}: lag {left:?}, {parked} parked after {limit:?}\n{}", self.test, logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Stage<'_> {
    /// A failed test's logs are kept: the broker's folder goes.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let kept = std::env::temp_dir().join("keyrail-failed").join(self.test);
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = names.filter(|path| path.extension().is_some_and(|e| e == "log"));
        let copied = fs::create_dir_all(&kept).and_then(|()| {
            logs.into_iter()
                .try_for_each(|log| fs::copy(&log, kept.join(log.file_name().unwrap_or_default())).map(drop))
        });
        match copied {
            Ok(()) => self.say(&format!("failed; logs are in {}", kept.display())),
            Err(e) => self.say(&format!("failed, and its logs can't be kept: {e}")),
        }
    }
}
