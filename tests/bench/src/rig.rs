//! What every figure needs: a broker, a folder, and ways to start both programs over the same topics.

use crate::process::Process;
use crate::topics::{PARTITIONS, Watch};
use anyhow::{Context as _, Result, ensure};
use keyrail_kafka_tests::{Kafka, Options, Security, start, unique};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// No figure needs longer than this for one more record to come.
const SILENCE: Duration = Duration::from_secs(60);

/// The folder of Kafka Streams' state.
const STREAMS: &str = "streams";

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Raw,
    Keyrail,
}

/// A broker and a folder of our own.
pub(crate) struct Rig {
    kafka: Kafka,
    folder: PathBuf,
    keyrail: PathBuf,
    guests: PathBuf,
    pub(crate) bootstrap: String,
    /// Properties of both programs' clients.
    properties: Vec<(String, String)>,
}

/// What one run of Keyrail is given beside its topics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape<'a> {
    /// The guest; `identity` when empty.
    pub(crate) guest: &'static str,
    /// More of the pipeline's file.
    pub(crate) manifest: &'a str,
    /// `[memory] records`; the default when empty.
    pub(crate) records: &'static str,
    /// With transactions; the raw loop has none.
    pub(crate) exactly_once: bool,
}

impl Rig {
    pub(crate) fn new(properties: &[(String, String)]) -> Result<Self> {
        let guests = path("KEYRAIL_GUESTS")?;
        let keyrail = path("KEYRAIL_BIN")?;
        let options = Options {
            // The log is written and dropped faster than a broker's defaults expect.
            properties: vec![("log.segment.delete.delay.ms".into(), "1000".into())],
            ..Options::default()
        };
        let kafka = start("the bench", &options).context("there is no Kafka here: run `cargo xtask bench`")?;
        let folder = std::env::temp_dir().join(unique("keyrail-bench"));
        fs::create_dir_all(folder.join("plugins"))?;
        let bootstrap = kafka.bootstrap(Security::Plain).to_owned();
        Ok(Self { kafka, folder, keyrail, guests, bootstrap, properties: properties.to_vec() })
    }

    /// A topic with the bench's partitions; gives its name.
    pub(crate) fn topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<String> {
        let name = unique(name);
        self.kafka.create_topic(&name, PARTITIONS, settings)?;
        Ok(name)
    }

    /// Empties a topic that is not needed any more: the disk may be small.
    pub(crate) fn retire(&self, topic: &str) -> Result<()> {
        use rdkafka::admin::{AdminClient, AdminOptions};
        let admin: AdminClient<_> =
            rdkafka::config::ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create()?;
        // The answer is not waited for: nothing depends on it.
        drop(admin.delete_topics(&[topic], &AdminOptions::new()));
        Ok(())
    }

    /// Starts one of the two, with a new group, from the beginning of `from`.
    pub(crate) fn start(&self, who: Who, from: &str, to: &str, shape: &Shape<'_>) -> Result<Process> {
        let group = unique("bench");
        match who {
            Who::Raw => {
                let log = self.folder.join(format!("{group}.log"));
                let mut raw = Command::new(std::env::current_exe()?);
                raw.args(["raw", &self.bootstrap, &group, from, to]);
                raw.args(self.properties.iter().flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]));
                Process::start(&mut raw, &log)
            }
            Who::Keyrail => self.start_keyrail(&group, from, to, shape),
        }
    }

    /// Starts Keyrail as this group; another process of the same group has ended before.
    pub(crate) fn start_keyrail(&self, group: &str, from: &str, to: &str, shape: &Shape<'_>) -> Result<Process> {
        self.configure(group, from, to, shape)?;
        let mut keyrail = Command::new(&self.keyrail);
        keyrail.args(["run", "-c"]).arg(self.folder.join("keyrail.toml"));
        Process::start(&mut keyrail, &self.folder.join(format!("{group}.log")))
    }

    /// The folder of Kafka Streams and the program on it.
    #[expect(clippy::unused_self, reason = "as all that is asked of the rig")]
    pub(crate) fn streams(&self) -> Result<PathBuf> {
        path("KEYRAIL_STREAMS").context("there is no Kafka Streams here, and the set-up said why")
    }

    /// Starts the count on Kafka Streams under this application id, with a thread for each core; `cache` is its cache of
    /// records in bytes, or "default".
    pub(crate) fn start_streams(&self, application: &str, from: &str, to: &str, cache: &str) -> Result<Process> {
        let streams = self.streams()?;
        let threads = std::thread::available_parallelism()?;
        let mut java = Command::new(path("KEYRAIL_JAVA")?);
        // RocksDB unpacks itself at each start.
        java.arg(format!("-Djava.io.tmpdir={}", self.folder.display()));
        java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        let (libs, classes) = (streams.join("libs/*"), streams.join("classes"));
        java.arg("-cp").arg(format!("{}:{}", libs.display(), classes.display())).arg("Count");
        java.args([&self.bootstrap, application, from, to]).arg(self.folder.join(STREAMS));
        java.args([&threads.to_string(), cache]);
        Process::start(&mut java, &self.folder.join(format!("{application}.log")))
    }

    /// Deletes what either of them keeps of state on this machine's disk.
    pub(crate) fn clear_state(&self) -> Result<()> {
        let streams = self.folder.join(STREAMS);
        if streams.exists() {
            fs::remove_dir_all(&streams)?;
        }
        let store = self.folder.join("state");
        for entry in if store.exists() { fs::read_dir(&store)?.collect() } else { Vec::new() } {
            let path = entry?.path();
            // Compiled code is no state.
            match (path.ends_with("code"), path.is_dir()) {
                (true, _) => {}
                (_, true) => fs::remove_dir_all(&path)?,
                (_, false) => fs::remove_file(&path)?,
            }
        }
        Ok(())
    }

    /// Bytes of a topic's segments on the broker's disk.
    pub(crate) fn topic_bytes(&self, topic: &str) -> Result<u64> {
        let mut bytes = 0;
        for partition in 0..PARTITIONS {
            let folder = self.kafka.data(1)?.join(format!("{topic}-{partition}"));
            let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.path().extension().is_some_and(|e| e == "log") {
                    bytes += entry.metadata()?.len();
                }
            }
        }
        Ok(bytes)
    }

    fn configure(&self, group: &str, from: &str, to: &str, shape: &Shape<'_>) -> Result<()> {
        let records = if shape.records.is_empty() { "256MiB" } else { shape.records };
        let guest = if shape.guest.is_empty() { "identity" } else { shape.guest };
        let more: String = self.properties.iter().map(|(name, value)| format!("{name:?} = {value:?}\n")).collect();
        let host = format!(
            "[kafka]\n\"bootstrap.servers\" = \"{}\"\n{more}[memory]\nrecords = \"{records}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[logging]\nformat = \"text\"\n",
            self.bootstrap
        );
        fs::write(self.folder.join("keyrail.toml"), host)?;
        let guarantee = if shape.exactly_once { "exactly-once" } else { "at-least-once" };
        let pipeline = format!(
            "handler = \"{guest}.wasm\"\ninput = [\"{from}\"]\ngroup = \"{group}\"\nguarantee = \"{guarantee}\"\n\
             {}\n[output]\nout = \"{to}\"\n",
            shape.manifest
        );
        fs::write(self.folder.join("plugins/copy.toml"), pipeline)?;
        let file = format!("{guest}.wasm");
        fs::copy(self.guests.join(&file), self.folder.join("plugins").join(&file))
            .with_context(|| format!("copying {file} from {}", self.guests.display()))?;
        Ok(())
    }

    /// Bytes of all compiled code in the cache.
    pub(crate) fn code_bytes(&self) -> Result<u64> {
        fn sum(dir: &Path) -> Result<u64> {
            let mut bytes = 0;
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                bytes += if meta.is_dir() { sum(&entry.path())? } else { meta.len() };
            }
            Ok(bytes)
        }
        sum(&self.folder.join("state/code"))
    }

    /// Forgets compiled code.
    pub(crate) fn clear_code(&self) -> Result<()> {
        let code = self.folder.join("state/code");
        if code.exists() { Ok(fs::remove_dir_all(code)?) } else { Ok(()) }
    }

    /// Waits until the topic holds `goal` records.
    pub(crate) fn wait(&self, process: &mut Process, watch: &Watch, goal: u64) -> Result<u64> {
        self.reach(process, goal, || watch.count())
    }

    /// Waits until `count` has come to `goal`.
    #[expect(clippy::unused_self, reason = "as all that is asked of the rig")]
    pub(crate) fn reach(&self, process: &mut Process, goal: u64, count: impl Fn() -> Result<u64>) -> Result<u64> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let count = count()?;
            if count >= goal {
                return Ok(count);
            }
            process.check()?;
            if count != last {
                (last, moved) = (count, Instant::now());
            }
            ensure!(
                moved.elapsed() < SILENCE,
                "stuck at {count} of {goal} records for {SILENCE:?}:\n{}",
                process.story()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It lies in the system's folder for temporary files, which cleans itself.
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn path(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))
}
