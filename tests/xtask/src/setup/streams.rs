//! Kafka Streams from Maven Central, and the bench's program on it: what the stateful count is compared with.

use super::{maven, system};
use crate::place::{Place, make, read, remove, write};
use crate::run::quiet;
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The last of the 4.1 releases, which the target names.
const VERSION: &str = "4.1.2";
/// Its warnings go to stderr; Kafka speaks to SLF4J 1.
const SLF4J: &str = "1.7.36";
/// The oldest Java that Kafka Streams runs on.
const RELEASE: &str = "17";
const SOURCE: &str = "tests/bench/streams/Count.java";
const COMPILE_LIMIT: Duration = Duration::from_secs(120);

/// The folder of Kafka Streams' `libs` and the program's `classes`, made if it is not there.
pub(crate) fn home(place: &Place, java: &Path) -> Result<PathBuf, String> {
    let home = place.target.join("kafka-streams").join(VERSION);
    let artifacts = [("org.apache.kafka", "kafka-streams", VERSION), ("org.slf4j", "slf4j-simple", SLF4J)];
    maven::have(&home, &format!("Kafka Streams {VERSION} with RocksDB, 93 MB,"), &artifacts)?;
    compile(&place.root.join(SOURCE), &home, java)?;
    say(&format!("Kafka Streams {VERSION}"));
    Ok(home)
}

fn compile(source: &Path, home: &Path, java: &Path) -> Result<(), String> {
    let text = read(source)?;
    let classes = home.join("classes");
    let compiled = classes.join("Count.java");
    if read(&compiled).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let javac = system::javac(java)?;
    remove(&classes)?;
    make(&classes)?;
    let mut compiler = Command::new(javac);
    compiler.args(["--release", RELEASE, "-Xlint:all", "-Werror", "-cp"]).arg(home.join("libs/*"));
    quiet("javac", compiler.arg("-d").arg(&classes).arg(source), COMPILE_LIMIT)?;
    // IMPORTANT: last, because it says of what the classes are.
    write(&compiled, &text)
}
