//! keyrail.toml: from the table as written to [`Host`].

use super::alerts;
use super::catalogue::{Absent, HOST, Kind};
use super::client;
use super::document::{Table, Value, Variables, entry, parse, set};
use super::fault::{Fault, Faults, Place};
use super::reader::{Reader, Text};
use super::schema;
use super::{BrokerKind, Embedded, Format, Host, Level, Logging, token};
use crate::signature::{Key, Trust};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a key looks like.
const EXAMPLE_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
/// What to do where one is none.
const OF_KEY: &str = "write the last line of minisign.pub, which starts with RW and has 56 letters and digits";

/// What became of a file.
pub(super) struct Resolved {
    /// The host, whole only without faults; `None` when the file is no TOML.
    pub(super) host: Option<Host>,
    pub(super) faults: Vec<Fault>,
    /// Where `group.instance.id` is written, if Kafka is the broker: whether it may be, the manifests decide.
    pub(super) static_member: Option<Place>,
    /// Where stands what keeps inputs from sharing their keys, if anything.
    pub(super) against_range: Option<Place>,
}

impl Resolved {
    pub(super) fn result(self) -> Result<Host, Faults> {
        match self.host {
            Some(host) if self.faults.is_empty() => Ok(host),
            _ => Err(Faults::of(self.faults)),
        }
    }
}

/// Resolves a file's text. `dir` is the file's folder: a relative `plugins.dir` written in the file starts there.
pub(super) fn resolve(file: &str, text: &str, dir: &Path, sets: &[String], variables: Variables<'_>) -> Resolved {
    let mut faults = Vec::new();
    let free = schema::free(HOST);
    let Some(mut table) = parse(file, text, &free, variables, &mut faults) else {
        return Resolved { host: None, faults, static_member: None, against_range: None };
    };
    set(&mut table, sets, &free, variables, &mut faults);
    schema::check(&table, HOST, &mut faults);
    let host = read(file, &table, dir, &mut faults);
    let place = |name: &str| match entry(&table, "kafka").map(|kafka| &kafka.node.value) {
        Some(Value::Table(kafka)) if host.broker == BrokerKind::Kafka => entry(kafka, name).map(|e| e.place.clone()),
        _ => None,
    };
    let static_member = place(client::STATIC_MEMBER);
    let against_range = client::against_range(&host.kafka).and_then(|(name, _, _)| place(name));
    Resolved { host: Some(host), faults, static_member, against_range }
}

fn read(file: &str, table: &Table, dir: &Path, faults: &mut Vec<Fault>) -> Host {
    let mut reader = Reader::new(file, table, HOST, faults);
    let before = reader.faults.len();
    let broker = reader.choice("broker", &[("kafka", BrokerKind::Kafka), ("embedded", BrokerKind::Embedded)]);
    // Where nobody knows which is meant, nothing is missing in [kafka].
    let uses_kafka = broker == BrokerKind::Kafka && reader.faults.len() == before;
    Host {
        broker,
        kafka: client::read(&mut reader, uses_kafka),
        embedded: embedded(&mut reader, dir),
        plugins_dir: folder(&mut reader, "plugins.dir", dir),
        plugins_poll: Duration::from_millis(reader.duration("plugins.poll")),
        trust: trust(&mut reader),
        store_dir: folder(&mut reader, "store.dir", dir),
        records_bytes: reader.size("memory.records"),
        admin_listen: admin_listen(&mut reader),
        admin_token: token::read(&mut reader, dir),
        logging: logging(&mut reader),
        shutdown_grace: Duration::from_millis(reader.duration("shutdown-grace")),
        alerts: alerts::read(&mut reader),
    }
}

/// A relative folder starts where it was written: beside the file, or where the command was given.
fn folder(reader: &mut Reader<'_, '_>, key: &str, dir: &Path) -> PathBuf {
    let default = default(reader, key);
    match reader.text(key, default) {
        Some(written) => starting(&written, dir),
        None => dir.join(default.trim_start_matches("./")),
    }
}

/// See [`folder`].
pub(super) fn starting(written: &Text, dir: &Path) -> PathBuf {
    let start = if written.place.line > 0 { dir } else { Path::new("") };
    // Its parts alone: `./.` and `a//b/` are places, and no words to read.
    let path: PathBuf = start.join(written.text.strip_prefix("./").unwrap_or(&written.text)).components().collect();
    // An empty path is no folder.
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

/// What the catalogue says of a text that is not written.
fn default(reader: &Reader<'_, '_>, key: &str) -> &'static str {
    match reader.key(key).kind {
        Kind::Text { default: Absent::Is(default), .. } => default,
        _ => reader.key(key).misread(),
    }
}

fn trust(reader: &mut Reader<'_, '_>) -> Trust {
    const KEYS: &str = "plugins.trusted-keys";
    let (before, mut keys) = (reader.faults.len(), Vec::new());
    for text in reader.texts(KEYS, EXAMPLE_KEY) {
        match Key::parse(&text.text) {
            Ok(key) => keys.push(key),
            Err(why) => reader.faults.push(text.place.fault(KEYS, why, OF_KEY)),
        }
    }
    if reader.has(KEYS) && keys.is_empty() && reader.faults.len() == before && !reader.is_broken(KEYS) {
        reader.fault(KEYS, "no key in it", OF_KEY);
    }
    let required = reader.switch("plugins.require-signature");
    if required && !reader.has(KEYS) {
        let cure = "write trusted-keys = [\"RW...\"] beside it, or remove it";
        reader.fault("plugins.require-signature", "no key is trusted, so that no handler could run", cure);
    }
    Trust { keys, required }
}

fn embedded(reader: &mut Reader<'_, '_>, dir: &Path) -> Embedded {
    Embedded {
        dir: folder(reader, "embedded.dir", dir),
        partitions: reader.whole("embedded.partitions"),
        sync_full: reader.choice("embedded.sync", &[("full", true), ("normal", false)]),
    }
}

fn admin_listen(reader: &mut Reader<'_, '_>) -> SocketAddr {
    let example = default(reader, "admin.listen");
    let default = example.parse().unwrap_or_else(|_| reader.key("admin.listen").misread());
    let Some(written) = reader.text("admin.listen", example) else { return default };
    let spelt = match written.text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => written.text.clone(),
    };
    if let Ok(address) = spelt.parse() {
        return address;
    }
    let cure = match spelt.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            format!("write \"0.0.0.0:{port}\" for every interface, or \"127.0.0.1:{port}\"")
        }
        _ => format!("write IP:PORT, as {example:?}; port 0 picks a free one"),
    };
    reader.fault("admin.listen", format!("{:?} is not an address to listen on", written.text), cure);
    default
}

fn logging(reader: &mut Reader<'_, '_>) -> Logging {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let level = reader.choice("logging.level", &levels.map(|level| (level.as_str(), level)));
    let formats = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
    Logging { level, format: reader.choice("logging.format", &formats) }
}
