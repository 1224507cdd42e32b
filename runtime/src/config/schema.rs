//! Which keys there are. What they mean and which values they take is for `host.rs` and `manifest.rs`.

use super::document::{Table, Value, join};
use super::fault::Fault;
use crate::nearest::nearest;

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A value.
    Key,
    /// A table of known keys.
    Section,
    /// A table whose keys are the user's own.
    Free,
    /// A key or section that does nothing yet: what works instead.
    Later(&'static str),
}

use Rule::{Free, Key, Later, Section};

/// The known keys of a kind of file, by path.
pub(super) type Schema = [(&'static str, Rule)];

const IN_PLACE: &str = "retries wait in memory for now; remove it";

/// Keys of keyrail.toml.
pub(super) static HOST: &Schema = &[
    ("broker", Key),
    ("shutdown-grace", Key),
    ("kafka", Free),
    ("embedded", Section),
    ("embedded.dir", Key),
    ("embedded.partitions", Key),
    ("embedded.sync", Key),
    ("plugins", Section),
    ("plugins.dir", Key),
    ("plugins.poll", Key),
    ("store", Section),
    ("store.dir", Key),
    ("memory", Section),
    ("memory.records", Key),
    ("admin", Section),
    ("admin.listen", Key),
    ("logging", Section),
    ("logging.level", Key),
    ("logging.format", Key),
];

/// Keys of a pipeline's NAME.toml.
pub(super) static PIPELINE: &Schema = &[
    ("handler", Key),
    ("sha256", Key),
    ("input", Key),
    ("group", Key),
    ("guarantee", Key),
    ("from", Key),
    ("on-loss", Key),
    ("expires-after", Key),
    ("partitions-added", Later("nothing is kept by key for now, so new partitions are just taken; remove it")),
    ("output", Free),
    ("order", Section),
    ("order.by", Key),
    ("order.null-key", Key),
    ("order.scope", Key),
    ("batch", Section),
    ("batch.max-messages", Key),
    ("batch.max-bytes", Key),
    ("batch.max-wait", Key),
    ("batch.max-time", Key),
    ("dedup", Section),
    ("dedup.id", Key),
    ("dedup.window", Key),
    ("dedup.absent", Key),
    ("retry", Section),
    ("retry.attempts", Key),
    ("retry.backoff", Section),
    ("retry.backoff.first", Key),
    ("retry.backoff.factor", Key),
    ("retry.backoff.max", Key),
    ("retry.backoff.jitter", Key),
    ("retry.in-place", Later(IN_PLACE)),
    ("retry.max-age", Key),
    ("retry.then", Key),
    ("dead-letter", Section),
    ("dead-letter.topic", Key),
    ("dead-letter.headers", Key),
    ("dead-letter.record", Later("dead letters carry the whole record; remove it")),
    ("breaker", Later("a service that is down is met by retry.backoff for now; remove it")),
    ("limits", Section),
    ("limits.timeout", Key),
    ("limits.memory", Key),
    ("limits.outputs", Key),
    ("limits.output-bytes", Key),
    ("commit", Section),
    ("commit.interval", Key),
    ("capabilities", Later("handlers reach nothing but their outputs for now; remove it")),
    ("rollout", Later("a new handler needs a restart for now; remove it")),
    ("state", Later("handlers keep no state for now; remove it")),
    ("config", Free),
];

/// The names of the free tables of a schema.
pub(super) fn free(schema: &Schema) -> Vec<&'static str> {
    schema.iter().filter(|(_, rule)| *rule == Free).map(|(path, _)| *path).collect()
}

/// Finds keys that are not known, not there yet, or no table where there should be one.
pub(super) fn check(table: &Table, schema: &Schema, faults: &mut Vec<Fault>) {
    check_under(table, "", schema, faults);
}

fn check_under(table: &Table, prefix: &str, schema: &Schema, faults: &mut Vec<Fault>) {
    for entry in table {
        let path = join(prefix, &entry.name);
        match (rule(schema, &path), &entry.node.value) {
            (None, _) => {
                let cure = cure_of_unknown(&entry.name, prefix, schema);
                faults.push(entry.place.fault(&path, "unknown key", cure));
            }
            (Some(Later(cure)), _) => faults.push(entry.place.fault(&path, "not there yet", cure)),
            (Some(Section), Value::Table(inner)) => check_under(inner, &path, schema, faults),
            (Some(Free), Value::Table(_)) | (Some(_), Value::Broken) | (Some(Key), _) => {}
            (Some(Section | Free), Value::List(_)) => {
                faults.push(entry.place.fault(&path, "a list, not one table", format!("write [{path}] once")));
            }
            (Some(Section | Free), _) => {
                faults.push(entry.place.fault(&path, "not a table", format!("write [{path}] and its keys below")));
            }
        }
    }
}

fn rule(schema: &Schema, path: &str) -> Option<Rule> {
    schema.iter().find(|(known, _)| *known == path).map(|(_, rule)| *rule)
}

/// The name's last part and the section that it is in.
fn apart(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn cure_of_unknown(name: &str, prefix: &str, schema: &Schema) -> String {
    let usable = |schema: &'static Schema| schema.iter().filter(|(_, rule)| !matches!(rule, Later(_)));
    let siblings =
        || schema.iter().map(|(path, _)| apart(path)).filter(|(section, _)| *section == prefix).map(|(_, name)| name);
    let part = || siblings().find(|known| known.split('-').any(|part| part == name));
    if let Some(near) = nearest(name, siblings()).or_else(part) {
        return format!("did you mean `{near}`?");
    }
    let (other, file) =
        if std::ptr::eq(schema, HOST) { (PIPELINE, "a pipeline's NAME.toml") } else { (HOST, "keyrail.toml") };
    let elsewhere = join(prefix, name);
    if usable(other).any(|(path, _)| *path == elsewhere) {
        return format!("`{elsewhere}` belongs in {file}");
    }
    let elsewhere = schema.iter().map(|(path, _)| apart(path)).filter(|(section, _)| *section != prefix);
    let near = nearest(name, elsewhere.clone().map(|(_, name)| name));
    if let Some((section, name)) = elsewhere.into_iter().find(|(_, name)| Some(*name) == near) {
        return match section {
            "" => format!("did you mean `{name}` at the top, before any [section]?"),
            section => format!("did you mean `{name}` in [{section}]?"),
        };
    }
    let known =
        siblings().filter(|name| !matches!(rule(schema, &join(prefix, name)), Some(Later(_)))).collect::<Vec<_>>();
    format!("known here: {}", known.join(", "))
}
