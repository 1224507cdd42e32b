//! `[kafka]`: librdkafka's properties, passed through but for those that Keyrail must own.

use super::document::{Entry, Value, entry, join};
use super::fault::Place;
use super::properties::{Kind, PROPERTIES, Property, find};
use super::reader::{Reader, cure_of_choice};
use crate::nearest::nearest;
use std::collections::BTreeMap;

/// Properties that Keyrail owns, and what to do instead.
pub(super) const OWNED: [(&str, &str); 37] = [
    ("acks", ALL),
    ("allow.auto.create.topics", "topics are never made by the way; remove it"),
    ("auto.commit.enable", COMMITS),
    ("auto.commit.interval.ms", "set commit.interval in NAME.toml"),
    ("auto.offset.reset", "set `from` and `on-loss` in NAME.toml"),
    ("consume.callback.max.messages", UNUSED),
    ("delivery.report.only.error", "every delivery is waited for; remove it"),
    ("enable.auto.commit", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("enable.gapless.guarantee", "a record refused is its message's failure; remove it"),
    ("enable.idempotence", "always on; remove it"),
    ("enable.partition.eof", UNUSED),
    ("enabled_events", UNUSED),
    ("group.id", "set `group` in NAME.toml"),
    ("group.protocol.type", UNUSED),
    ("internal.termination.signal", UNUSED),
    ("isolation.level", "always read_committed; remove it"),
    ("log.queue", "always on; remove it"),
    ("log_level", "set logging.level"),
    ("offset.store.method", BROKER),
    ("offset.store.path", BROKER),
    ("offset.store.sync.interval.ms", BROKER),
    ("partitioner", "always murmur2_random, as Java clients do; remove it"),
    ("plugin.library.paths", "no code is loaded into the host; remove it"),
    ("produce.offset.report", UNUSED),
    ("queuing.strategy", "always fifo; remove it"),
    ("request.required.acks", ALL),
    ("sasl.kerberos.keytab", KERBEROS),
    ("sasl.kerberos.kinit.cmd", KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", KERBEROS),
    ("sasl.kerberos.principal", KERBEROS),
    ("sasl.kerberos.service.name", KERBEROS),
    ("statistics.interval.ms", "figures are served at /metrics; remove it"),
    ("topic.blacklist", "name the inputs in NAME.toml"),
    ("topic.metadata.refresh.fast.cnt", UNUSED),
    ("transaction.timeout.ms", "always 10 s; remove it"),
    ("transactional.id", "it is made of the group and a name kept in store.dir; remove it"),
];
/// Refused where a pipeline is exactly-once.
pub(super) const STATIC_MEMBER: &str = "group.instance.id";
const ALL: &str = "always all; remove it";
const BROKER: &str = "offsets are kept by the broker; remove it";
const COMMITS: &str = "Keyrail commits what is settled; remove it";
const KERBEROS: &str = "Kerberos is not built in; use SCRAM, PLAIN or OAUTHBEARER";
const UNUSED: &str = "it would do nothing; remove it";

/// Values narrower than librdkafka's own, since the idempotent producer demands it.
const NARROWER: [(&str, Kind); 4] = [
    ("max.in.flight", Kind::Whole(1, 5)),
    ("max.in.flight.requests.per.connection", Kind::Whole(1, 5)),
    ("message.send.max.retries", Kind::Whole(1, 2_147_483_647)),
    ("retries", Kind::Whole(1, 2_147_483_647)),
];

const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
const ASSIGNORS: [&str; 3] = ["cooperative-sticky", "range", "roundrobin"];

/// The property that keeps a group from giving the same partition number of all inputs to one member, what is wrong with it, and
/// the cure.
#[must_use]
pub fn against_range(kafka: &BTreeMap<String, String>) -> Option<(&'static str, &'static str, &'static str)> {
    const ASSIGNOR: &str = "partition.assignment.strategy";
    const PROTOCOL: &str = "group.protocol";
    if kafka.get(PROTOCOL).is_some_and(|value| value == "consumer") {
        let problem = "does not go with order.scope = \"inputs\": with it partitions move one by one, and a member may have one \
                       input's and not yet the others'";
        return Some((PROTOCOL, problem, "remove it, and the classic protocol is used"));
    }
    let other = kafka.get(ASSIGNOR).is_some_and(|value| value != "range");
    let problem = "does not go with order.scope = \"inputs\", which needs the range assignor";
    other.then_some((ASSIGNOR, problem, "remove it: such a pipeline uses range by itself; or set it to \"range\""))
}

/// Whether a librdkafka property's value must never be shown.
#[must_use]
pub fn is_secret(property: &str) -> bool {
    let whole = ["ssl.key.pem", "sasl.oauthbearer.config", "sasl.oauthbearer.assertion.private.key.pem"];
    ["password", "passphrase", "secret"].iter().any(|part| property.contains(part)) || whole.contains(&property)
}

/// Reads the section, which must name the brokers if it is `used`. No value of it is ever repeated in a fault.
pub(super) fn read(reader: &mut Reader<'_, '_>, used: bool) -> BTreeMap<String, String> {
    let written = reader.strings("kafka");
    let mut properties = BTreeMap::new();
    for (entry, value) in &written {
        if let Some((place, problem, cure)) = refuse(entry, value) {
            let key = join("kafka", &entry.name);
            reader.faults.push(place.fault(&key, problem, cure));
        }
        properties.insert(entry.name.clone(), canonical(&entry.name, value));
    }
    for (entry, _) in &written {
        let name = find(&entry.name).and_then(|property| property.alias_of);
        if let Some(name) = name.filter(|name| properties.contains_key(*name)) {
            let key = join("kafka", &entry.name);
            reader.faults.push(entry.place.fault(&key, format!("another name of {name:?}"), "keep one of them"));
        }
    }
    let servers = ["bootstrap.servers", "metadata.broker.list"];
    let misspelt = written.iter().any(|(entry, _)| nearest(&entry.name, servers).is_some());
    if used && !misspelt && !servers.iter().any(|name| mentions(reader, name)) && reader.is_table_or_absent("kafka") {
        let cure = "write it below [kafka], as \"bootstrap.servers\" = \"localhost:9092\"";
        reader.fault("kafka.\"bootstrap.servers\"", "missing", cure);
    }
    check_security(reader, &properties);
    check_group(reader, &properties);
    properties
}

/// What is wrong with one property, if anything.
fn refuse(entry: &Entry, value: &str) -> Option<(Place, String, String)> {
    let name = entry.name.as_str();
    if let Some((_, cure)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some((entry.place.clone(), "Keyrail's own to set".to_owned(), (*cure).to_owned()));
    }
    let Some(property) = find(name) else {
        let usable =
            PROPERTIES.iter().map(|property| property.name).filter(|name| OWNED.iter().all(|(owned, _)| owned != name));
        let cure = match nearest(name, usable) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "see librdkafka's CONFIGURATION.md for its properties".to_owned(),
        };
        return Some((entry.place.clone(), "not a property of librdkafka".to_owned(), cure));
    };
    let (problem, cure) = mismatch(kind_of(property), value)?;
    Some((entry.node.place.clone(), problem, cure))
}

/// What Keyrail takes as the property's value.
pub(super) fn kind_of(property: &Property) -> Kind {
    match property.name {
        "sasl.mechanism" | "sasl.mechanisms" => Kind::One(&MECHANISMS),
        "partition.assignment.strategy" => Kind::One(&ASSIGNORS),
        name => NARROWER.iter().find(|(narrower, _)| *narrower == name).map_or(property.kind, |(_, kind)| *kind),
    }
}

/// The value as librdkafka spells it, which takes some in upper and lower case.
fn canonical(name: &str, value: &str) -> String {
    let known = match find(name).map(kind_of) {
        Some(Kind::One(choices)) => choices.iter().find(|choice| choice.eq_ignore_ascii_case(value)),
        _ => None,
    };
    known.map_or(value, |known| *known).to_owned()
}

fn mismatch(kind: Kind, value: &str) -> Option<(String, String)> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    let (fits, problem, cure) = match kind {
        Kind::Text => (!value.is_empty(), "empty", "give it a value or remove it".to_owned()),
        Kind::Bool => {
            (is(&["true", "t", "1", "false", "f", "0"]), "must be a boolean", "write true or false".to_owned())
        }
        Kind::Whole(least, most) => {
            let fits = value.parse::<i64>().is_ok_and(|number| (least..=most).contains(&number));
            (fits, "must be a whole number in its range", format!("accepted: {least} to {most}"))
        }
        Kind::Number(least, most) => {
            let fits = value.parse::<f64>().is_ok_and(|number| (least..=most).contains(&number));
            (fits, "must be a number in its range", format!("accepted: {least} to {most}"))
        }
        Kind::One(choices) => (is(choices), "not a value it takes", cure_of_choice(value, choices.iter().copied())),
    };
    (!fits).then(|| (problem.to_owned(), cure))
}

/// Whether the property is written, rightly or not.
fn mentions(reader: &Reader<'_, '_>, name: &str) -> bool {
    property(reader, name).is_some()
}

fn property<'t>(reader: &Reader<'t, '_>, name: &str) -> Option<&'t Entry> {
    match &reader.entry("kafka")?.node.value {
        Value::Table(table) => entry(table, name),
        _ => None,
    }
}

/// Tells a fault at the property.
fn fault_at(reader: &mut Reader<'_, '_>, name: &str, problem: String, cure: &str) {
    if let Some(place) = property(reader, name).map(|entry| entry.place.clone()) {
        reader.faults.push(place.fault(&join("kafka", name), problem, cure));
    }
}

/// A password that is never sent and a TLS setting without TLS are mistakes that librdkafka would pass over.
fn check_security(reader: &mut Reader<'_, '_>, properties: &BTreeMap<String, String>) {
    let protocol = properties.get("security.protocol").map_or("plaintext", String::as_str).to_owned();
    if find("security.protocol").is_some_and(|property| mismatch(property.kind, &protocol).is_some()) {
        return;
    }
    for name in properties.keys() {
        let cure = if name.starts_with("sasl.") && !protocol.starts_with("sasl_") {
            "set \"security.protocol\" to \"sasl_ssl\" or \"sasl_plaintext\""
        } else if name.starts_with("ssl.") && !protocol.ends_with("ssl") {
            "set \"security.protocol\" to \"ssl\" or \"sasl_ssl\""
        } else {
            continue;
        };
        // What is refused as such needs no second fault.
        if find(name).is_some() && OWNED.iter().all(|(owned, _)| owned != name) {
            fault_at(reader, name, format!("has no effect while \"security.protocol\" is {protocol:?}"), cure);
        }
    }
    if !protocol.starts_with("sasl_") {
        return;
    }
    let mechanism = properties.get("sasl.mechanism").or_else(|| properties.get("sasl.mechanisms"));
    let Some(mechanism) = mechanism else {
        if mentions(reader, "sasl.mechanism") || mentions(reader, "sasl.mechanisms") {
            return;
        }
        let cure = "set it to SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER";
        fault_at(reader, "security.protocol", "needs \"sasl.mechanism\"".to_owned(), cure);
        return;
    };
    if mechanism != "OAUTHBEARER" && mismatch(Kind::One(&MECHANISMS), mechanism).is_none() {
        for name in ["sasl.username", "sasl.password"] {
            if !mentions(reader, name) {
                let cure = "set it below [kafka], a secret as \"${NAME}\"";
                fault_at(reader, "security.protocol", format!("needs {name:?}"), cure);
            }
        }
    }
}

/// The new group protocol leaves some settings to the broker and refuses them.
fn check_group(reader: &mut Reader<'_, '_>, properties: &BTreeMap<String, String>) {
    let new = properties.get("group.protocol").is_some_and(|value| value == "consumer");
    for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"] {
        if new && properties.contains_key(name) {
            let problem = "not allowed with \"group.protocol\" = \"consumer\"".to_owned();
            fault_at(reader, name, problem, "the broker decides; remove it");
        }
    }
    if !new && properties.contains_key("group.remote.assignor") {
        let problem = "has no effect with the classic group protocol".to_owned();
        fault_at(reader, "group.remote.assignor", problem, "set \"group.protocol\" to \"consumer\" or remove it");
    }
}

#[cfg(test)]
mod tests {
    use super::{NARROWER, OWNED, PROPERTIES, find, is_secret};

    #[test]
    fn every_name_here_is_a_property() {
        for name in OWNED.iter().map(|(name, _)| name).chain(NARROWER.iter().map(|(name, _)| name)) {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(OWNED.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn secrets_are_known_by_name() {
        let secrets: Vec<_> = PROPERTIES.iter().map(|property| property.name).filter(|name| is_secret(name)).collect();
        assert_eq!(
            secrets,
            [
                "sasl.oauthbearer.assertion.private.key.passphrase",
                "sasl.oauthbearer.assertion.private.key.pem",
                "sasl.oauthbearer.client.credentials.client.secret",
                "sasl.oauthbearer.client.secret",
                "sasl.oauthbearer.config",
                "sasl.password",
                "ssl.key.password",
                "ssl.key.pem",
                "ssl.keystore.password",
            ]
        );
    }
}
