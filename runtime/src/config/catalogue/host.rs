//! The keys of keyrail.toml.

use super::{
    Absent, Catalogue, Form, GIB, HOUR, KIB, Key, Kind, MIB, SECOND, Values, choice, duration, section, size, text,
    whole,
};

/// More would be rows and wake-ups without use on one machine; Kafka is for that.
const MOST_PARTITIONS: u32 = 1024;

/// Keys of keyrail.toml.
pub(in super::super) static HOST: &Catalogue = &[
    choice(
        "broker",
        "kafka",
        &["kafka", "embedded"],
        "what stands behind the topics: Apache Kafka, or one folder of this machine, for one process",
    ),
    duration(
        "shutdown-grace",
        25 * SECOND,
        SECOND,
        HOUR,
        "how long a stop may take: drain, commit, leave the group. Then it is forced; a stop that could not finish or \
         commit what ran exits 1 and says why",
    ),
    Key::new(
        "kafka",
        Kind::Free(Values::Properties),
        "librdkafka's properties, see below. `\"bootstrap.servers\"` is required unless `broker` is `\"embedded\"`",
    ),
    section("embedded", "the embedded broker"),
    text(
        "embedded.dir",
        Absent::Is("./data"),
        Form::Path,
        "the folder of the embedded broker: topics, groups and their offsets, private to the user that runs Keyrail. Made \
         if it is not there. A relative one starts at this file's folder",
    ),
    whole(
        "embedded.partitions",
        8,
        1,
        MOST_PARTITIONS,
        "partitions of a topic that is made because a manifest names it",
    ),
    choice(
        "embedded.sync",
        "full",
        &["full", "normal"],
        "`\"full\"`: what is acknowledged survives a loss of power. `\"normal\"`: it survives the end of the process, \
         however it ends; a loss of power may take the last moments",
    ),
    section("plugins", "where the pipelines are"),
    text(
        "plugins.dir",
        Absent::Is("./plugins"),
        Form::Path,
        "the folder of the pipelines: each NAME.toml in it is one. A relative one starts at this file's folder",
    ),
    duration(
        "plugins.poll",
        5 * SECOND,
        100,
        HOUR,
        "between two looks at the folder, beside those that events of the file system ask for: they may be missing, as on \
         network folders",
    ),
    section("store", "what can be made anew"),
    text(
        "store.dir",
        Absent::Is("./state"),
        Form::Path,
        "the folder of what can be made anew: compiled handlers, an index of the ids seen, and the names of this machine's \
         processes, each held by one of them, which exactly-once pipelines write under. Private to the user that runs Keyrail, not to be copied to \
         another machine. A relative one starts at this file's folder; safe to delete while stopped",
    ),
    section("memory", "what the process may hold"),
    size(
        "memory.records",
        256 * MIB,
        64 * KIB,
        1024 * GIB,
        "bytes of records fetched and not yet settled, all pipelines together. Half of it is guaranteed to them in equal \
         parts, half is whoever's comes first; a pipeline that has used up both stops fetching until half of all, or of \
         its own part, is settled",
    ),
    section("admin", "the page for probes and metrics"),
    text(
        "admin.listen",
        Absent::Is("127.0.0.1:8080"),
        Form::Address,
        "where `/livez`, `/readyz` and `/metrics` are served. Port 0 picks a free one and logs it",
    ),
    section("logging", "what is logged, and how"),
    choice("logging.level", "info", &["error", "warn", "info", "debug", "trace"], "the least level that is logged"),
    choice(
        "logging.format",
        "auto",
        &["auto", "text", "json"],
        "how a line looks; `\"auto\"` is text on a terminal and JSON elsewhere",
    ),
];
