//! Apache Kafka itself, from Maven Central: its jars and a configuration that logs into files.

use super::system;
use crate::place::{Place, make, read, remove, write};
use crate::run::quiet;
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The newest 4.x release of which every part can be fetched: 4.4.0 lists a `kafka-tools-api` that is not published.
const VERSION: &str = "4.3.1";
/// Kafka speaks to SLF4J 1; this hands its lines to the Log4j that Kafka brings, in the same version.
const LOG4J: &str = "2.25.4";
const FETCH_LIMIT: Duration = Duration::from_secs(900);

/// The folder of Kafka's `libs` and `config`, made if it is not there.
pub(crate) fn home(place: &Place, java: &Path) -> Result<PathBuf, String> {
    let home = place.target.join("kafka").join(VERSION);
    if !is_whole(&home) {
        fetch(place, &home)?;
    }
    write_if_new(&home.join("config/log4j2.properties"), LOGGING)?;
    say(&format!("Apache Kafka {VERSION}, {}", java.display()));
    Ok(home)
}

fn fetch(place: &Place, home: &Path) -> Result<(), String> {
    system::maven()?;
    say(&format!("fetching Apache Kafka {VERSION} with its libraries, 44 MB, through Maven"));
    remove(home)?;
    let libs = home.join("libs");
    let project = place.target.join("kafka/pom.xml");
    write(&project, &pom())?;
    make(&libs)?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--file"])
        .arg(&project)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", libs.display()));
    quiet("mvn", &mut maven, FETCH_LIMIT)?;
    let count = jars(&libs);
    for part in [format!("kafka_2.13-{VERSION}.jar"), format!("log4j-slf4j-impl-{LOG4J}.jar")] {
        if !libs.join(&part).is_file() {
            return Err(format!("Maven succeeded, but {} is not in {}", part, libs.display()));
        }
    }
    // IMPORTANT: last, because it says that all the rest is there.
    write(&home.join("complete"), &count.to_string())
}

fn is_whole(home: &Path) -> bool {
    let expected = read(&home.join("complete")).ok().and_then(|text| text.trim().parse().ok());
    expected.is_some_and(|count: usize| count > 0 && jars(&home.join("libs")) == count)
}

fn jars(libs: &Path) -> usize {
    let entries = std::fs::read_dir(libs).into_iter().flatten().flatten();
    entries.filter(|e| e.path().extension().is_some_and(|x| x == "jar")).count()
}

fn write_if_new(path: &Path, text: &str) -> Result<(), String> {
    if read(path).is_ok_and(|there| there == text) { Ok(()) } else { write(path, text) }
}

fn pom() -> String {
    let dependency = |group: &str, name: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>\n"
        )
    };
    let kafka = dependency("org.apache.kafka", "kafka_2.13", VERSION);
    let log4j = dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J);
    format!(
        "<project>\n<modelVersion>4.0.0</modelVersion>\n<groupId>keyrail</groupId>\n<artifactId>kafka-home</artifactId>\n\
         <version>1</version>\n<packaging>pom</packaging>\n<dependencies>\n{kafka}{log4j}</dependencies>\n</project>\n"
    )
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
