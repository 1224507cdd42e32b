//! Apache Kafka itself, from Maven Central: its jars and a configuration that logs into files.

use super::maven;
use crate::place::{Place, read, write};
use crate::say::say;
use std::path::{Path, PathBuf};

/// The newest 4.x release of which every part can be fetched: 4.4.0 lists a `kafka-tools-api` that is not published.
const VERSION: &str = "4.3.1";
/// Kafka speaks to SLF4J 1; this hands its lines to the Log4j that Kafka brings, in the same version.
const LOG4J: &str = "2.25.4";

/// The folder of Kafka's `libs` and `config`, made if it is not there.
pub(crate) fn home(place: &Place, java: &Path) -> Result<PathBuf, String> {
    let home = place.target.join("kafka").join(VERSION);
    let artifacts =
        [("org.apache.kafka", "kafka_2.13", VERSION), ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J)];
    maven::have(&home, &format!("Apache Kafka {VERSION} with its libraries, 44 MB,"), &artifacts)?;
    write_if_new(&home.join("config/log4j2.properties"), LOGGING)?;
    say(&format!("Apache Kafka {VERSION}, {}", java.display()));
    Ok(home)
}

fn write_if_new(path: &Path, text: &str) -> Result<(), String> {
    if read(path).is_ok_and(|there| there == text) { Ok(()) } else { write(path, text) }
}

/// Into `server.log` of the folder that the system property `kafka.logs.dir` names, and warnings to stderr.
const LOGGING: &str = "\
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = ${sys:kafka.logs.dir:-.}/server.log
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c)%n
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
rootLogger.appenderRef.err.ref = err
rootLogger.appenderRef.err.level = error
";
