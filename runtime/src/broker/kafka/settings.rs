//! Which librdkafka properties are the user's, which are defaults here, and which are not to be changed.

use super::native::{self, ClientKind};
use super::{Assignor, Place};
use crate::broker::{BrokerError, operator};
use std::collections::BTreeMap;

/// Properties that the user may not set, and why or what to use instead.
const OWNED: &[(&str, &str)] = &[
    ("group.id", "set `group` in the pipeline's file"),
    ("auto.offset.reset", "set `from` and `on-loss` in the pipeline's file"),
    ("enable.auto.commit", "offsets are committed when their messages are settled, see `[commit]`"),
    ("auto.commit.enable", "offsets are committed when their messages are settled, see `[commit]`"),
    ("auto.commit.interval.ms", "set `interval` in `[commit]` of the pipeline's file"),
    ("enable.auto.offset.store", "offsets are committed when their messages are settled, see `[commit]`"),
    ("offset.store.method", "offsets are kept by the broker"),
    ("enable.partition.eof", "nothing reads the ends of partitions"),
    ("isolation.level", "only committed records are read"),
    ("enable.idempotence", "the producer is always idempotent: without it a retry would write twice"),
    ("acks", "a record counts as written when all in-sync replicas have it"),
    ("request.required.acks", "a record counts as written when all in-sync replicas have it"),
    ("transactional.id", "it is made from the group and the instance"),
    ("transaction.timeout.ms", "a transaction that is open for 10 s is given up, and its messages run again"),
    ("delivery.report.only.error", "every record's report is needed"),
    ("allow.auto.create.topics", "a topic made by reading it would have the wrong settings"),
    ("log.queue", "log lines go to `[logging]`"),
];

/// What both kinds of client start from; the user's properties come after and win.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "keyrail"),
    // The default of 10 s would leave a worker idle that long after a broker came back.
    ("reconnect.backoff.max.ms", "2000"),
];

const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    // After a full local queue a fetch waits this long; the default of 1000 starves a fast consumer.
    ("fetch.queue.backoff.ms", "10"),
    // The prefetch, beside the record budget: in bytes, and in messages, as each costs about 350 B on top.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "30000"),
    // One answer of one broker; a larger single record is still given, whatever this says.
    ("fetch.max.bytes", "16777216"),
    // A byte flipped on the way is an error, not a message.
    ("check.crcs", "true"),
];

const CONSUMER_OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // A position outside the log is for the pipeline to decide on: it must not jump in silence.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
];

/// Over [`CONSUMER_OWNED`], for a client that belongs to no group.
const READER_OWNED: &[(&str, &str)] = &[
    // What retention took is passed over.
    ("auto.offset.reset", "earliest"),
    ("enable.partition.eof", "true"),
];

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // Keys land where Java clients put them; librdkafka's own default is another hash.
    ("partitioner", "murmur2_random"),
    // Java's default as well (KIP-1030). One batch of a partition is under way at a time, and librdkafka's thread spins
    // while more waits for its answer: with the smaller batches of 2 ms a message costs 0.5 us of CPU more.
    ("linger.ms", "5"),
    // 0: for ever. In an outage records wait in order; given up and sent again they would overtake each other.
    ("message.timeout.ms", "0"),
    // Never more than a topic takes, where its limit can be asked for (`KafkaProducer`): a batch above it is refused
    // as a whole. Below the usual limit all the same, for those that may not ask.
    ("batch.size", "262144"),
    // The broker's limit decides, not the client's default of 1 MB.
    ("message.max.bytes", "33554432"),
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "100000"),
];

const PRODUCER_OWNED: &[(&str, &str)] = &[("enable.idempotence", "true"), ("acks", "all")];

/// How long a transaction may be open before the broker ends it: readers of what it writes wait that long after a crash.
pub(super) const TRANSACTION_MS: u64 = 10_000;

/// The user's properties, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    user: BTreeMap<String, String>,
    pub(super) place: Place,
}

impl Settings {
    /// Checks names and values; all faults come back at once.
    pub(super) fn new(user: &BTreeMap<String, String>) -> Result<Self, Vec<BrokerError>> {
        let mut faults: Vec<_> = user.iter().filter_map(|(name, value)| fault(name, value)).map(operator).collect();
        let get = |name: &str| user.get(name).cloned();
        let bootstrap = get("bootstrap.servers").or_else(|| get("metadata.broker.list")).unwrap_or_default();
        if bootstrap.trim().is_empty() {
            faults.push(operator(
                "[kafka]: \"bootstrap.servers\" is missing: set it to the address of a broker, as in \"localhost:9092\""
                    .to_owned(),
            ));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let place = Place {
            bootstrap,
            security_protocol: get("security.protocol").unwrap_or_else(|| "plaintext".to_owned()),
            user: get("sasl.username").or_else(|| get("sasl.user")),
            group: None,
        };
        Ok(Self { user: user.clone(), place })
    }

    /// Properties of a group's consumer.
    pub(super) fn consumer(&self, group: &str, assignor: Assignor) -> Vec<(String, String)> {
        let mut all = self.start(CONSUMER_DEFAULTS);
        // The next protocol (KIP-848) leaves the assignment to the broker and refuses this property.
        if self.user.get("group.protocol").is_none_or(|p| p != "consumer") {
            all.push(("partition.assignment.strategy".to_owned(), assignor.name().to_owned()));
        }
        self.finish(all, CONSUMER_OWNED, ClientKind::Consumer, &[("group.id", group)])
    }

    /// Whether a group can be made to share out partitions by range. The new group protocol moves each partition by itself, so for
    /// a while a member may have one of a number and not the others.
    ///
    /// # Errors
    /// The user's properties are against it; for people.
    pub(super) fn shares_by_range(&self) -> Result<(), String> {
        crate::config::against_range(&self.user)
            .map_or(Ok(()), |(name, problem, cure)| Err(format!("kafka.{name:?} {problem}: {cure}")))
    }

    /// Properties of a producer.
    pub(super) fn producer(&self, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = self.start(PRODUCER_DEFAULTS);
        // A record larger than the whole queue would be told "queue full" for ever.
        let number = |name: &str| self.user.get(name).and_then(|v| v.trim().parse::<u64>().ok());
        if let (Some(bytes), None) = (number("message.max.bytes"), number("queue.buffering.max.kbytes")) {
            let kbytes = (bytes.div_ceil(1024) * 2).clamp(65_536, 2_147_483_647);
            all.push(("queue.buffering.max.kbytes".to_owned(), kbytes.to_string()));
        }
        self.finish(all, PRODUCER_OWNED, ClientKind::Producer, extra)
    }

    /// Properties of a producer that writes in transactions.
    pub(super) fn transactional(&self, id: &str, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = self.producer(extra);
        let limit = TRANSACTION_MS.to_string();
        // librdkafka refuses times longer than the transaction's; 0 is for ever.
        let within = |names: &[&str]| {
            let set = names.iter().filter_map(|n| self.user.get(*n)?.trim().parse().ok());
            set.filter(|ms| (1..=TRANSACTION_MS).contains(ms)).min().unwrap_or(TRANSACTION_MS).to_string()
        };
        all.extend([
            ("transactional.id".to_owned(), id.to_owned()),
            ("transaction.timeout.ms".to_owned(), limit),
            ("message.timeout.ms".to_owned(), within(&["message.timeout.ms", "delivery.timeout.ms"])),
            ("socket.timeout.ms".to_owned(), within(&["socket.timeout.ms"])),
        ]);
        // While the end of the last transaction is written the broker asks to come again, for some milliseconds; the
        // default of 100 doubles with each time as well.
        if !self.user.contains_key("retry.backoff.ms") {
            all.push(("retry.backoff.ms".to_owned(), "20".to_owned()));
        }
        all
    }

    /// Why no transactions can go with these properties. Of two processes with one static id the older is not told at once
    /// that it was replaced, and until then the broker may take its offsets for partitions that are the other's.
    pub(super) fn no_transactions(&self) -> Option<BrokerError> {
        self.user.contains_key("group.instance.id").then(|| {
            operator(
                "[kafka]: \"group.instance.id\" does not go with guarantee = \"exactly-once\": a member that was replaced \
                 under its id could still commit; remove it, or set guarantee = \"at-least-once\""
                    .to_owned(),
            )
        })
    }

    /// The largest batch of a producer, before its topics' own limits.
    pub(super) fn batch_bytes(&self) -> u64 {
        let default = PRODUCER_DEFAULTS.iter().find(|(n, _)| *n == "batch.size").map(|(_, v)| *v);
        let set = self.user.get("batch.size").map(String::as_str).or(default);
        set.and_then(|v| v.trim().parse().ok()).unwrap_or(u64::from(u16::MAX))
    }

    /// Properties of a client that reads without a group.
    pub(super) fn reader(&self) -> Vec<(String, String)> {
        self.finish(self.start(CONSUMER_DEFAULTS), CONSUMER_OWNED, ClientKind::Consumer, READER_OWNED)
    }

    /// Properties of a client that asks about topics.
    pub(super) fn admin(&self) -> Vec<(String, String)> {
        self.finish(self.start(&[]), &[], ClientKind::Producer, &[])
    }

    fn start(&self, defaults: &[(&str, &str)]) -> Vec<(String, String)> {
        DEFAULTS.iter().chain(defaults).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn finish(
        &self,
        mut all: Vec<(String, String)>,
        owned: &[(&str, &str)],
        kind: ClientKind,
        extra: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        // librdkafka names one property in two ways: only the order given decides between a default and the user's.
        all.extend(self.user.iter().filter(|(n, _)| concerns(n, kind)).map(|(n, v)| (n.clone(), v.clone())));
        all.extend(owned.iter().chain(extra).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        all
    }
}

/// Whether a property means something to that kind of client; the other kind would warn of it at each start.
fn concerns(name: &str, kind: ClientKind) -> bool {
    const PRODUCER: &[&str] = &[
        "linger.ms",
        "queue.buffering.",
        "batch.",
        "compression.",
        "partitioner",
        "message.send.max.retries",
        "retries",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "request.timeout.ms",
        "transaction.",
        "sticky.partitioning.",
        "enable.gapless.guarantee",
        "queuing.strategy",
        "retry.backoff.",
    ];
    const CONSUMER: &[&str] = &[
        "fetch.",
        "queued.",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "group.",
        "partition.assignment.strategy",
        "check.crcs",
        "client.rack",
        "coordinator.query.interval.ms",
        "consume.",
    ];
    let foreign = match kind {
        ClientKind::Consumer => PRODUCER,
        ClientKind::Producer => CONSUMER,
    };
    !foreign.iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "retry.backoff.ms" | "retry.backoff.max.ms")
}

/// What librdkafka leaves out of its list: second names, topic properties and what has no default.
const COMMON: &[&str] = &[
    "bootstrap.servers",
    "linger.ms",
    "compression.type",
    "compression.codec",
    "partitioner",
    "retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "max.in.flight",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.config",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "group.instance.id",
    "client.rack",
    "debug",
];

fn fault(name: &str, value: &str) -> Option<String> {
    if let Some((_, why)) = OWNED.iter().find(|(n, _)| *n == name) {
        return Some(format!("[kafka]: {name:?} can't be set here: {why}"));
    }
    let why = native::try_property(name, value).err()?;
    let why = why.trim_end_matches(['.', ' ']);
    if !why.contains("No such configuration property") {
        return Some(format!("[kafka]: {name:?} = {value:?}: {why}"));
    }
    let names = native::property_names();
    let names = names.iter().map(String::as_str).chain(COMMON.iter().copied());
    Some(match crate::broker::topics::nearest(name, names) {
        Some(near) => format!("[kafka]: no librdkafka property {name:?}: did you mean {near:?}?"),
        None => format!("[kafka]: no librdkafka property {name:?}: see librdkafka's CONFIGURATION.md"),
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
