//! The keys of keyrail.toml.

use super::{
    Absent, Catalogue, DAY, Form, GIB, HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Values, choice, duration, list,
    section, size, switch, text, whole,
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
    list(
        "plugins.trusted-keys",
        Absent::Told("none: signatures are not looked at"),
        Form::PublicKey,
        "who may sign handlers, by minisign. HANDLER.minisig beside a handler, if it is there, must be the signature of one of them",
    ),
    switch("plugins.require-signature", false, "`true`: a handler without a signature is refused, too"),
    section("store", "what can be made anew"),
    text(
        "store.dir",
        Absent::Is("./state"),
        Form::Path,
        "the folder of what can be made anew: compiled handlers, an index of the ids seen, and the names of this machine's \
         processes, each held by one of them, which exactly-once pipelines write under. Private to the user that runs Keyrail, not to be copied to \
         another machine. A relative one starts at this file's folder; safe to delete while stopped, but that pipelines are paused, and \
         which versions served and were rolled back, is forgotten with it",
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
        "where `/livez`, `/readyz`, `/metrics` and `/plugins` are served. Port 0 picks a free one and logs it",
    ),
    text(
        "admin.token",
        Absent::Told("none: `/plugins` only shows"),
        Form::Secret,
        "lets `keyrail plugins` pause and resume pipelines: `/plugins` asks for `Authorization: Bearer TOKEN` then, to look as \
         well. At least 16 letters, digits and signs. Never shown",
    ),
    text(
        "admin.token-file",
        Absent::Told("none"),
        Form::Path,
        "the same, from a file that holds nothing else. A relative one starts at this file's folder. Read when a process starts",
    ),
    section("logging", "what is logged, and how"),
    choice("logging.level", "info", &["error", "warn", "info", "debug", "trace"], "the least level that is logged"),
    choice(
        "logging.format",
        "auto",
        &["auto", "text", "json"],
        "how a line looks; `\"auto\"` is text on a terminal and JSON elsewhere",
    ),
    section("alerts", "what a person should know of, told to a webhook or by mail; off without either"),
    list(
        "alerts.kinds",
        Absent::Told("all"),
        Form::AlertKind,
        "what is told of: dead letters, an open breaker, messages parked for long, messages held, input lost, a pipeline \
         that can't go on, a new version that was rolled back",
    ),
    duration(
        "alerts.parked-age",
        HOUR,
        SECOND,
        365 * DAY,
        "a parked message is told of when it failed for the first time so long ago",
    ),
    choice(
        "alerts.keys",
        "shown",
        &["shown", "hidden"],
        "whether an alert's example shows the message's key; `\"hidden\"` where keys are personal data",
    ),
    duration(
        "alerts.group-wait",
        10 * SECOND,
        100,
        HOUR,
        "how long the first news wait for others, so that one message holds them; the least time between two messages",
    ),
    duration(
        "alerts.group-interval",
        5 * MINUTE,
        100,
        30 * DAY,
        "between two messages of the same pipeline and kind. What happens meanwhile is counted, and told by the next one",
    ),
    duration("alerts.repeat-interval", 4 * HOUR, SECOND, 30 * DAY, "what still stands is told again after this time"),
    duration(
        "alerts.timeout",
        10 * SECOND,
        100,
        5 * MINUTE,
        "how long a receiver may take for a message, with mail for each step of one. One that takes longer is tried again",
    ),
    section("alerts.webhook", "alerts by HTTP"),
    text(
        "alerts.webhook.url",
        Absent::Required,
        Form::Url,
        "where each message is sent by POST. Never logged: with many services it is a secret. Redirects are not followed",
    ),
    choice(
        "alerts.webhook.format",
        "keyrail",
        &["keyrail", "alertmanager"],
        "the body: see [ALERTS.md](ALERTS.md). `\"keyrail\"` does for Slack and its likes, too; `\"alertmanager\"` is what \
         `/api/v2/alerts` takes",
    ),
    text(
        "alerts.webhook.secret",
        Absent::Told("none"),
        Form::Secret,
        "signs each body: `X-Hub-Signature-256`, as GitHub does. Never shown",
    ),
    text(
        "alerts.webhook.authorization",
        Absent::Told("none"),
        Form::Secret,
        "the header `Authorization`, as `\"Bearer ${TOKEN}\"`. Never shown",
    ),
    section("alerts.mail", "alerts by mail"),
    text(
        "alerts.mail.server",
        Absent::Required,
        Form::Server,
        "the SMTP server. Without a port it is 587, 465 with `security = \"tls\"`, 25 with `\"none\"`",
    ),
    choice(
        "alerts.mail.security",
        "starttls",
        &["starttls", "tls", "none"],
        "`\"starttls\"`: the server must offer it. `\"tls\"` from the first byte. `\"none\"`: in the clear, and with a password to this \
         machine alone",
    ),
    text("alerts.mail.from", Absent::Required, Form::Mailbox, "the sender"),
    list("alerts.mail.to", Absent::Required, Form::Mailbox, "the recipients; all of them see each other"),
    text("alerts.mail.user", Absent::Told("none"), Form::Any, "who logs in. With it stands `password`"),
    text("alerts.mail.password", Absent::Told("none"), Form::Secret, "never shown"),
];
