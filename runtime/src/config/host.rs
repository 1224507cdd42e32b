//! keyrail.toml: from the table as written to [`Host`].

use super::client;
use super::document::{Table, Variables, parse, set};
use super::fault::{Fault, Faults};
use super::reader::Reader;
use super::schema::{self, HOST};
use super::{BrokerKind, Embedded, Format, Host, Level, Logging};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;
/// More would be rows and wake-ups without use on one machine; Kafka is for that.
const MOST_PARTITIONS: u32 = 1024;

/// What became of a file.
pub(super) struct Resolved {
    /// The host, whole only without faults; `None` when the file is no TOML.
    pub(super) host: Option<Host>,
    pub(super) faults: Vec<Fault>,
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
        return Resolved { host: None, faults };
    };
    set(&mut table, sets, &free, variables, &mut faults);
    schema::check(&table, HOST, &mut faults);
    let host = Some(read(file, &table, dir, &mut faults));
    Resolved { host, faults }
}

fn read(file: &str, table: &Table, dir: &Path, faults: &mut Vec<Fault>) -> Host {
    let mut reader = Reader::new(file, table, faults);
    let kinds = [("kafka", Ok(BrokerKind::Kafka)), ("embedded", Ok(BrokerKind::Embedded))];
    let broker = reader.choice("broker", BrokerKind::Kafka, &kinds);
    Host {
        broker,
        kafka: client::read(&mut reader, broker == BrokerKind::Kafka),
        embedded: embedded(&mut reader, dir),
        plugins_dir: folder(&mut reader, "plugins.dir", "./plugins", dir),
        plugins_poll: Duration::from_millis(reader.duration("plugins.poll", 5_000, 100..=HOUR_MS)),
        store_dir: folder(&mut reader, "store.dir", "./state", dir),
        records_bytes: reader.size("memory.records", 256 * MIB, 64 * KIB..=MIB * MIB),
        admin_listen: admin_listen(&mut reader),
        logging: logging(&mut reader),
        shutdown_grace: Duration::from_millis(reader.duration("shutdown-grace", 25_000, 1_000..=HOUR_MS)),
    }
}

/// A relative folder starts where it was written: beside the file, or where the command was given.
fn folder(reader: &mut Reader<'_, '_>, key: &str, default: &'static str, dir: &Path) -> PathBuf {
    let Some(written) = reader.text(key, default) else { return dir.join(default.trim_start_matches("./")) };
    let start = if written.place.line > 0 { dir } else { Path::new("") };
    let path = start.join(written.text.strip_prefix("./").unwrap_or(&written.text));
    // An empty path is no folder.
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

fn embedded(reader: &mut Reader<'_, '_>, dir: &Path) -> Embedded {
    let syncs = [("full", Ok(true)), ("normal", Ok(false))];
    Embedded {
        dir: folder(reader, "embedded.dir", "./data", dir),
        partitions: reader.whole("embedded.partitions", 8, 1..=MOST_PARTITIONS),
        sync_full: reader.choice("embedded.sync", true, &syncs),
    }
}

fn admin_listen(reader: &mut Reader<'_, '_>) -> SocketAddr {
    const EXAMPLE: &str = "127.0.0.1:8080";
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let Some(written) = reader.text("admin.listen", EXAMPLE) else { return default };
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
        _ => format!("write IP:PORT, as {EXAMPLE:?}; port 0 picks a free one"),
    };
    reader.fault("admin.listen", format!("{:?} is not an address to listen on", written.text), cure);
    default
}

fn logging(reader: &mut Reader<'_, '_>) -> Logging {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let level = reader.choice("logging.level", Level::Info, &levels.map(|level| (level.as_str(), Ok(level))));
    let formats = [("auto", Ok(Format::Auto)), ("text", Ok(Format::Text)), ("json", Ok(Format::Json))];
    Logging { level, format: reader.choice("logging.format", Format::Auto, &formats) }
}
