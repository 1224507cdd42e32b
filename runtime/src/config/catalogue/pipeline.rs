//! The keys of a pipeline's NAME.toml.

use super::{
    Absent, Amount, Catalogue, DAY, Form, GIB, HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Values, choice, duration,
    later, list, number, section, size, switch, text, whole,
};

/// Keys of a pipeline's NAME.toml.
pub(in super::super) static PIPELINE: &Catalogue = &[
    text("handler", Absent::Required, Form::Path, "the handler's file, from this file's folder on")
        .also("of a file that is there"),
    text("sha256", Absent::Told("any content"), Form::Digest, "the only content that the handler's file may have"),
    Key::new(
        "input",
        Kind::Topics,
        "the topics that are read: names, and patterns, which are regular expressions that start with `^`. Which topics a \
         pattern stands for is asked at every other `plugins.poll`; when that changes, the pipeline drains and starts anew \
         with all of them, and what came to be meanwhile is read from its start. Internal topics never match (`__...`, and \
         GROUP.TOPIC.dlq, .retry, .state, .seen, .inbox of any group), nor do the pipeline's own outputs and dead letters",
    )
    .also("none twice, and patterns"),
    text("group", Absent::Told("the pipeline's name"), Form::Group, "the consumer group"),
    choice(
        "guarantee",
        "exactly-once",
        &["exactly-once", "at-least-once"],
        "what holds after a crash. `\"exactly-once\"`: outputs, dead letters and offsets are written in one transaction, so \
         who reads `read_committed` sees the effects of each message once; outputs become visible with the commit, \
         `commit.interval` apart. `\"at-least-once\"`: outputs are visible at once, and what was not committed is repeated",
    ),
    choice(
        "from",
        "earliest",
        &["earliest", "latest"],
        "where a group without committed offsets starts: at the first record there is, or at the next to come",
    ),
    choice(
        "on-loss",
        "stop",
        &["stop", "continue"],
        "when input was lost to retention or truncation, or with a topic that was deleted and made anew: stop the pipeline \
         or go on behind the gap. It is reported either way",
    ),
    Key::new(
        "expires-after",
        Kind::Duration(Amount { default: None, least: 1, most: 3_650 * DAY }),
        "older messages go to the dead letters unrun, reason `expired`",
    ),
    later(
        "partitions-added",
        "new partitions are just taken, unless ids are kept (`[dedup]`), or state, or messages were parked: then the pipeline stops \
         with the cure; remove it",
    ),
    Key::new("output", Kind::Free(Values::Topics), "name in the handler = topic")
        .also("none an input of this pipeline"),
    section("order", "which messages wait for each other"),
    Key::new(
        "order.by",
        Kind::Origin { default: Absent::Is("key"), words: &["key", "partition", "none"] },
        "which messages wait for each other: those of the same key, of the same value of a header, of the same partition, \
         or none",
    ),
    choice(
        "order.null-key",
        "none",
        &["none", "partition"],
        "a message without that key or header waits for none, or for the others of its partition without one",
    )
    .also("only where `order.by` is `\"key\"` or `\"header:NAME\"`"),
    choice(
        "order.scope",
        "topic",
        &["topic", "inputs"],
        "where a key is the same key: in one topic, or in all inputs, whose partitions of the same number then share keys, seen \
         ids and state; they must have equally many",
    ),
    section("batch", "what one call of the handler is given"),
    whole("batch.max-messages", 256, 1, 65_536, "messages of one call"),
    size("batch.max-bytes", MIB, 1, GIB, "bytes of one call's messages; a larger message runs alone"),
    duration("batch.max-wait", 2, 0, HOUR, "how long a message may wait for others to share its call")
        .also("at most `batch.max-time`"),
    duration(
        "batch.max-time",
        30 * SECOND,
        1,
        HOUR,
        "one call's deadline is `limits.timeout` times its messages, at most this",
    ),
    whole(
        "batch.concurrency",
        8,
        1,
        256,
        "calls under way at the same time, each in an instance of its own, among which the keys are shared out: while one waits for \
         answers, others run. At least one for each core",
    )
    .also("only with `capabilities.http`"),
    section("dedup", "messages that came before are suppressed; off without this section"),
    Key::new(
        "dedup.id",
        Kind::Origin { default: Absent::Required, words: &["key", "digest"] },
        "where a message's id comes from; `\"digest\"` is of key, value and headers. Without `[dedup]` no id is looked at",
    ),
    duration(
        "dedup.window",
        DAY,
        1,
        365 * DAY,
        "how long an id is remembered: it is kept in `GROUP.TOPIC.seen`, through restarts and moves",
    ),
    choice(
        "dedup.absent",
        "process",
        &["process", "digest", "dead-letter"],
        "a message without an id: run it, take its digest, or send it to the dead letters",
    )
    .also("not with `id = \"digest\"`"),
    section("retry", "what follows a failed run"),
    whole("retry.attempts", 16, 1, 1_000_000, "runs in all, the first included"),
    section("retry.backoff", "the waits between runs"),
    duration("retry.backoff.first", SECOND, 1, DAY, "the wait before the second run").also("at most `max`"),
    number("retry.backoff.factor", 1.618, 1.0, 100.0, "each further wait is this much longer"),
    duration("retry.backoff.max", 10 * MINUTE, 1, DAY, "no wait is longer"),
    number("retry.backoff.jitter", 0.1, 0.0, 1.0, "share of the wait that chance adds or takes"),
    duration(
        "retry.in-place",
        2 * SECOND,
        0,
        DAY,
        "what is due sooner waits in memory; what is due later is parked in `GROUP.TOPIC.retry`, and with it what comes \
         behind it with its order key, so that the offset moves on. With `guarantee = \"at-least-once\"` only where this is written, since \
         commits have more steps then; else, and with `order.scope = \"inputs\"`, all waits in memory",
    ),
    duration(
        "retry.max-age",
        7 * DAY,
        1,
        3_650 * DAY,
        "a message that first failed longer ago is given up, whatever its attempts",
    ),
    choice(
        "retry.then",
        "dead-letter",
        &["dead-letter", "dead-letter-key", "discard", "hold"],
        "what becomes of a message given up. With `\"dead-letter-key\"` all that waits behind it with its order key becomes dead \
         letters with it, in order and unrun, and what comes later runs; one discarded is logged and counted; one held stays \
         parked, with all that comes behind it with its order key, until `keyrail parked retry` or `drop`. The key's dead letters \
         and holding need `guarantee = \"exactly-once\"` and `order.scope = \"topic\"`",
    ),
    section("dead-letter", "what can't be processed"),
    text(
        "dead-letter.topic",
        Absent::Told("GROUP.TOPIC.dlq, one for each input"),
        Form::Topic,
        "where messages go that can't be processed, for all inputs",
    )
    .also("read by no pipeline"),
    choice(
        "dead-letter.headers",
        "keyrail",
        &["keyrail", "spring"],
        "which headers tell the origin: `keyrail-*` as text, or Spring's `kafka_dlt-*` with binary numbers",
    ),
    switch(
        "dead-letter.record",
        false,
        "a dead letter of a message that failed also keeps what its last run read: state, time and chance, 48 KiB at most, in \
         the header `keyrail-record`, for `keyrail replay`. It copies state into the topic of dead letters, whose readers may not \
         be those of state",
    ),
    section(
        "breaker",
        "a service that is down: while failures are broad the messages wait, so that the outage costs no attempts",
    ),
    number(
        "breaker.failures",
        0.5,
        0.0,
        1.0,
        "it opens when so great a share of the order keys that ran over `window` failed when they ran last, of at least ten that \
         failed; `0` turns it off. While it is open neither new nor due messages run, but for single ones that show whether the \
         service is back: these cost no attempt",
    ),
    duration(
        "breaker.window",
        15 * SECOND,
        SECOND,
        HOUR,
        "what it looks back on. The share must hold for a tenth of it. A run that was out of time counts for ten `limits.timeout`, if \
         that is longer",
    ),
    duration("breaker.pause", 30 * SECOND, 100, HOUR, "how long it is open before a message is tried; a failure opens it for as long again"),
    section("limits", "what a message and an instance may use"),
    duration("limits.timeout", 5 * SECOND, 1, HOUR, "one message's run").also("at most `batch.max-time`"),
    size("limits.memory", 64 * MIB, 64 * KIB, 4 * GIB, "linear memory of one instance"),
    whole("limits.outputs", 1_000, 1, 1_000_000, "sends of one message"),
    size("limits.output-bytes", 4 * MIB, 1, GIB, "bytes sent, and of state changed, by one message"),
    Key::new(
        "limits.delay",
        Kind::Duration(Amount { default: None, least: 1, most: 366 * DAY }),
        "the longest delay of a send. What is delayed waits in `GROUP.TOPIC.state`; without this key only handlers that import `state` \
         or `timers` have that topic: they may delay by 366 days, others not at all",
    )
    .also("with `guarantee = \"exactly-once\"` and `order.scope = \"topic\"`"),
    whole("limits.requests", 1_024, 1, 65_536, "HTTP requests under way at the same time; others wait for their turn, for as long as their call lasts")
        .also("only with `capabilities.http`"),
    size("limits.response-bytes", MIB, 1, GIB, "the body of an HTTP answer").also("only with `capabilities.http`"),
    section("commit", "when offsets are committed"),
    duration(
        "commit.interval",
        100,
        1,
        MINUTE,
        "least time between two commits; a transaction ends after 5s and with 16 MiB in any case",
    ),
    section("capabilities", "what handlers may reach beside their outputs"),
    list(
        "capabilities.http",
        Absent::Told("none"),
        Form::Reached,
        "the hosts to which handlers may send HTTP requests, as in `[\"api.example.com:443\"]`. A call then holds one message of a key \
         at most, since requests are made while it runs, and so again when it runs again",
    ),
    section(
        "rollout",
        "a new handler is tried on a part of the order keys first, and rolled back by itself when it fails more; off without this section",
    ),
    number(
        "rollout.share",
        0.05,
        0.0,
        1.0,
        "the part of the order keys that run on a new handler while it is on trial: by hash, so a key sees one version, in all \
         processes of the group. What fails on it costs no attempt and runs at once on the handler that serves, whose answer counts",
    )
    .also("above 0"),
    duration(
        "rollout.for",
        10 * MINUTE,
        SECOND,
        30 * DAY,
        "how long; then it serves all keys. Each process judges by the keys that it has",
    ),
    whole("rollout.least-messages", 100, 1, 1_000_000_000, "the trial goes on until it has run so many messages"),
    number(
        "rollout.failures",
        0.01,
        0.0,
        1.0,
        "it is rolled back when so great a part of its messages fails on it and not on the handler that serves, of at least three",
    ),
    number(
        "rollout.slower",
        3.0,
        1.0,
        1_000.0,
        "it is rolled back when most of its messages cost more than so many times what they cost on the handler that serves, and 1ms \
         more, once each has run a hundred",
    ),
    text(
        "rollout.audit",
        Absent::Told("none"),
        Form::Topic,
        "a topic that gets a record for each version that is tried, promoted or rolled back, with the evidence",
    ),
    section(
        "state",
        "the form of what a handler keeps, where it changed once: a version that can't read what is there is refused before it serves",
    ),
    whole(
        "state.schema",
        1,
        1,
        1_000,
        "the number of the form in which this handler writes its state, and what its timers bring along. Another handler that writes \
         another form gets another number",
    ),
    Key::new(
        "state.accepts",
        Kind::Wholes { least: 1, most: 1_000 },
        "numbers of other forms that it reads. Values of an old form stay until they are written anew, so it goes on reading them",
    ),
    Key::new(
        "config",
        Kind::Free(Values::Strings),
        "handed to the handler's `open`, as strings. Values that hold a `${NAME}` are never shown",
    ),
];
