//! NAME.toml: from the table as written to [`Pipeline`].

use super::catalogue::{Kind, PIPELINE};
use super::document::{Variables, join, parse};
use super::fault::{Fault, Place};
use super::reader::{Reader, Text};
use super::schema;
use super::{DeadLetter, From, HeaderStyle, Http, Limits, OnLoss, Parked, Pattern, Pipeline, Seen, topic, versions};
use crate::http::HostFault;
use crate::nearest::nearest;
use keyrail_engine::policy::{
    Absent, Breaker, Dedup, Guarantee, IdFrom, NullKey, Order, OrderBy, Policy, Retry, Scope, Spent,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The breaker opens for so many order keys at least: below that a few messages that can't be processed would look like an outage.
const BREAKER_LANES: u32 = 10;
/// How many ids one shard remembers at most.
const DEDUP_CAPACITY: usize = 1_000_000;

/// A manifest's file and what lies around it.
pub(super) struct Source<'a> {
    /// The file as the user names it.
    pub(super) file: &'a str,
    /// The pipeline's name.
    pub(super) name: &'a str,
    /// Its content.
    pub(super) text: &'a str,
    /// The folder it is in.
    pub(super) dir: &'a Path,
    /// Names of the folder's files.
    pub(super) beside: &'a [String],
    /// Whether there is such a file.
    pub(super) is_file: &'a dyn Fn(&Path) -> bool,
}

/// A pipeline, whole only if nothing in its file is at fault, and where stands what is compared with others.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) pipeline: Pipeline,
    /// Places of the inputs, in their order.
    pub(super) input: Vec<Place>,
    /// Where the group is told, or would be.
    pub(super) group: Place,
    /// Places of the outputs, in their order.
    pub(super) outputs: Vec<Place>,
    /// Where the dead-letter topic is told, or would be.
    pub(super) dead_letter: Place,
}

/// Resolves a manifest. `None` when it is no TOML; any fault is added to `faults`.
pub(super) fn resolve(source: &Source<'_>, variables: Variables<'_>, faults: &mut Vec<Fault>) -> Option<Manifest> {
    check_name(source, faults);
    let table = parse(source.file, source.text, &schema::free(PIPELINE), variables, faults)?;
    schema::check(&table, PIPELINE, faults);
    let mut reader = Reader::new(source.file, &table, PIPELINE, faults);
    let group = group(&mut reader, source.name);
    let (input, patterns) = input(&mut reader);
    let outputs = outputs(&mut reader, &input);
    let dead_letter = dead_letter(&mut reader, &group, &input);
    let mut policy = policy(&mut reader);
    let http = http(&mut reader);
    policy.batch.apart = http.is_some();
    shared_keys(&mut reader, &policy, &patterns);
    let seen = seen(&mut reader, &policy, &group, &input);
    let parked = parked(&mut reader, &policy, &group, &input);
    let (config, config_hidden) = handler_config(&mut reader);
    let pipeline = Pipeline {
        name: source.name.to_owned(),
        manifest: source.dir.join(format!("{}.toml", source.name)),
        handler: source.dir.join(handler(&mut reader, source)),
        sha256: sha256(&mut reader),
        input: input.iter().map(|input| input.text.clone()).collect(),
        patterns,
        group,
        from: reader.choice("from", &[("earliest", From::Earliest), ("latest", From::Latest)]),
        on_loss: reader.choice("on-loss", &[("stop", OnLoss::Stop), ("continue", OnLoss::Continue)]),
        outputs: outputs.iter().map(|(name, topic)| (name.clone(), topic.text.clone())).collect(),
        limits: limits(&mut reader, &policy),
        http,
        policy,
        rollout: versions::rollout(&mut reader),
        audit: versions::audit(&mut reader, &input),
        schemas: versions::schemas(&mut reader),
        dead_letter,
        seen,
        state: None,
        parked,
        config,
        config_hidden,
    };
    Some(Manifest {
        pipeline,
        input: input.into_iter().map(|input| input.place).collect(),
        group: reader.place("group"),
        outputs: outputs.into_iter().map(|(_, topic)| topic.place).collect(),
        dead_letter: reader.place("dead-letter.topic"),
    })
}

/// The name stands in metrics, headers and the default group.
fn check_name(source: &Source<'_>, faults: &mut Vec<Fault>) {
    if source.name.is_empty() || !topic::legal(source.name) {
        let problem = format!("{:?} can't be a pipeline's name", source.name);
        faults.push(Place::whole(source.file).fault(
            "",
            problem,
            "rename the file: letters, digits and . _ - are allowed",
        ));
    }
}

fn handler(reader: &mut Reader<'_, '_>, source: &Source<'_>) -> String {
    let example = format!("{}.wasm", source.name);
    reader.require("handler", &format!("write handler = {example:?}, the file beside this one"));
    let Some(written) = reader.text("handler", &example) else { return String::new() };
    let path = written.text.strip_prefix("./").unwrap_or(&written.text).to_owned();
    if !(source.is_file)(&source.dir.join(&path)) {
        let wasm = source.beside.iter().map(String::as_str).filter(|name| name.ends_with(".wasm"));
        let cure = match nearest(&path, wasm) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "put the handler beside this file".to_owned(),
        };
        reader.fault("handler", format!("there is no file {:?}", written.text), cure);
    }
    path
}

fn sha256(reader: &mut Reader<'_, '_>) -> Option<[u8; 32]> {
    let written = reader.text("sha256", "e3b0c442...")?.text;
    let mut digest = [0; 32];
    let hex = written.len() == 64 && written.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (index, byte) in digest.iter_mut().enumerate().filter(|_| hex) {
        *byte = u8::from_str_radix(&written[index * 2..index * 2 + 2], 16).unwrap_or_default();
    }
    if !hex {
        reader.fault("sha256", "not a SHA-256 digest", "64 hexadecimal digits, as `sha256sum` prints them");
        return None;
    }
    Some(digest)
}

fn group(reader: &mut Reader<'_, '_>, name: &str) -> String {
    let Some(written) = reader.text("group", name) else { return name.to_owned() };
    // Topics are named after the group.
    if !topic::legal(&written.text) {
        let cure = "letters, digits and . _ - are allowed, since topics are named after it";
        reader.fault("group", format!("{:?} can't be a group", written.text), cure);
    }
    written.text
}

/// Names, and patterns of names.
fn input(reader: &mut Reader<'_, '_>) -> (Vec<Text>, Vec<Pattern>) {
    reader.require("input", "write input = [\"TOPIC\"]");
    let before = reader.faults.len();
    let texts = reader.texts("input", "payments");
    if texts.is_empty() && reader.has("input") && reader.faults.len() == before && !reader.is_broken("input") {
        reader.fault("input", "no topic", "write input = [\"TOPIC\"]");
    }
    let (mut input, mut patterns): (Vec<Text>, Vec<Pattern>) = (Vec::new(), Vec::new());
    for text in texts {
        let (problem, cure) = if text.text.starts_with('^') {
            match Pattern::new(&text.text) {
                Ok(pattern) => {
                    patterns.push(pattern);
                    continue;
                }
                Err(refused) => refused,
            }
        } else if let Err(refused) = topic::check(&text.text) {
            refused
        } else if text.text.starts_with("__") {
            (format!("{:?} is internal to Kafka", text.text), "remove it".to_owned())
        } else if input.iter().any(|earlier| earlier.text == text.text) {
            (format!("{:?} is there twice", text.text), "keep one of them".to_owned())
        } else {
            input.push(text);
            continue;
        };
        reader.faults.push(text.place.fault("input", problem, cure));
    }
    (input, patterns)
}

fn outputs(reader: &mut Reader<'_, '_>, input: &[Text]) -> Vec<(String, Text)> {
    let mut outputs = Vec::new();
    for (entry, topic) in reader.strings("output") {
        let key = join("output", &entry.name);
        let place = entry.node.place.clone();
        if let Err((problem, cure)) = topic::check(&topic) {
            reader.faults.push(place.fault(&key, problem, cure));
        } else if topic.is_empty() {
            reader.faults.push(place.fault(&key, "empty", "name a topic"));
        } else if input.iter().any(|input| input.text == topic) {
            let problem = format!("{topic:?} is an input too: a loop");
            reader.faults.push(place.fault(&key, problem, "send to another topic"));
        }
        outputs.push((entry.name.clone(), Text { text: topic, place, replaced: entry.node.replaced }));
    }
    outputs
}

fn dead_letter(reader: &mut Reader<'_, '_>, group: &str, input: &[Text]) -> DeadLetter {
    const KEY: &str = "dead-letter.topic";
    let written = reader.text(KEY, "payments.payments.dlq");
    if let Some(Err((problem, cure))) = written.as_ref().map(|written| topic::check(&written.text)) {
        reader.fault(KEY, problem, cure);
    }
    let mut topics = Vec::new();
    for input in input {
        let name = written.as_ref().map_or_else(|| topic::dead_letters(group, &input.text), |text| text.text.clone());
        if written.is_none() && name.len() > topic::LONGEST {
            let problem = format!("the default, GROUP.TOPIC.dlq, has {} characters", name.len());
            let cure = format!("name a topic of at most {}", topic::LONGEST);
            reader.faults.push(input.place.fault(KEY, problem, cure));
        }
        topics.push(name);
    }
    let styles = [("keyrail", HeaderStyle::Keyrail), ("spring", HeaderStyle::Spring)];
    DeadLetter {
        topics,
        given: written.map(|written| written.text),
        headers: reader.choice("dead-letter.headers", &styles),
        record: reader.switch("dead-letter.record"),
    }
}

fn policy(reader: &mut Reader<'_, '_>) -> Policy {
    let mut policy = Policy::default();
    let guarantees = [("exactly-once", Guarantee::ExactlyOnce), ("at-least-once", Guarantee::AtLeastOnce)];
    policy.guarantee = reader.choice("guarantee", &guarantees);
    order(reader, &mut policy.order);
    batch(reader, &mut policy);
    retry(reader, &mut policy.retry);
    policy.breaker = breaker(reader);
    // Without transactions parking has a price: each commit in rounds. So it is for those who ask for it.
    let asked = policy.guarantee == Guarantee::ExactlyOnce || reader.has("retry.in-place");
    if policy.order.scope == Scope::Inputs || !asked {
        policy.retry.in_place_ms = None;
    }
    if matches!(policy.retry.then, Spent::Hold | Spent::DeadLetterKey) && !policy.takes_commands() {
        let problem = match (policy.retry.then, policy.parks()) {
            (Spent::Hold, true) => "nobody could let run what is held: commands are obeyed in transactions",
            (Spent::Hold, false) => "what is held is parked, and this pipeline parks nothing",
            (_, true) => "who goes along with a message that is given up is decided in a transaction",
            (_, false) => "what waits behind a message given up is parked, and this pipeline parks nothing",
        };
        let cure =
            "set guarantee = \"exactly-once\" and order.scope = \"topic\", or write \"dead-letter\" or \"discard\"";
        reader.fault("retry.then", problem, cure);
    }
    policy.dedup = dedup(reader);
    policy.expires_after_ms = reader.duration_if("expires-after");
    policy.commit.interval_ms = reader.duration("commit.interval");
    policy
}

fn order(reader: &mut Reader<'_, '_>, order: &mut Order) {
    match origin(reader, "order.by") {
        Some(Origin::Header(name)) => order.by = OrderBy::Header(name),
        Some(Origin::Named("partition")) => order.by = OrderBy::Partition,
        Some(Origin::Named("none")) => order.by = OrderBy::None,
        _ => order.by = OrderBy::Key,
    }
    let nulls = [("none", NullKey::None), ("partition", NullKey::Partition)];
    order.null_key = reader.choice("order.null-key", &nulls);
    if reader.has("order.null-key") && matches!(order.by, OrderBy::Partition | OrderBy::None) {
        reader.fault("order.null-key", "has no effect with this order.by", "remove it");
    }
    order.scope = reader.choice("order.scope", &[("topic", Scope::Topic), ("inputs", Scope::Inputs)]);
}

/// What does not go with keys that all inputs share.
fn shared_keys(reader: &mut Reader<'_, '_>, policy: &Policy, patterns: &[Pattern]) {
    if policy.order.scope == Scope::Topic {
        return;
    }
    if let Some(pattern) = patterns.first() {
        let problem = format!(
            "does not go with the pattern {:?} as an input: the first input names the topics of state and seen ids, and which \
             topics share a key would change with those that there are",
            pattern.text()
        );
        reader.fault("order.scope", problem, "name each input");
    }
    if reader.has("retry.in-place") {
        let problem =
            "has no effect with order.scope = \"inputs\": what fails waits in memory there, with its key behind it";
        reader.fault("retry.in-place", problem, "remove it");
    }
    if policy.guarantee == Guarantee::AtLeastOnce && policy.dedup.is_some() {
        let problem = "\"inputs\" does not go with [dedup] and guarantee = \"at-least-once\": what inputs share is kept by \
                       transactions alone";
        reader.fault("order.scope", problem, "set guarantee = \"exactly-once\", or remove one of them");
    }
    let by_key = policy.order.by == OrderBy::Key;
    if by_key && policy.dedup.as_ref().is_some_and(|dedup| dedup.id == IdFrom::Key) {
        let problem = "\"key\" would make messages of different inputs with the same key duplicates of each other, since \
                       order.scope is \"inputs\"";
        reader.fault("dedup.id", problem, "take the id from a header, or \"digest\"");
    }
}

/// `header:NAME` or one of a few names.
enum Origin {
    Header(String),
    Named(&'static str),
}

fn origin(reader: &mut Reader<'_, '_>, path: &str) -> Option<Origin> {
    let Kind::Origin { words, .. } = reader.key(path).kind else { reader.key(path).misread() };
    let written = reader.text(path, "key")?.text;
    if let Some(header) = written.strip_prefix("header:") {
        if header.is_empty() {
            reader.fault(path, "the header has no name", "write \"header:NAME\"");
            return None;
        }
        return Some(Origin::Header(header.to_owned()));
    }
    let named = words.iter().find(|name| **name == written);
    if named.is_none() {
        let all = words.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        reader.fault(path, format!("{written:?} is not known"), format!("accepted: \"header:NAME\", {all}"));
    }
    named.map(|name| Origin::Named(name))
}

fn batch(reader: &mut Reader<'_, '_>, policy: &mut Policy) {
    let batch = &mut policy.batch;
    batch.max_messages = reader.whole("batch.max-messages");
    batch.max_bytes = reader.size("batch.max-bytes");
    batch.max_wait_ms = reader.duration("batch.max-wait");
    batch.max_time_ms = reader.duration("batch.max-time");
    policy.timeout_ms = reader.duration("limits.timeout");
    if batch.max_wait_ms > batch.max_time_ms {
        let problem = "longer than batch.max-time, one call's deadline";
        reader.fault("batch.max-wait", problem, "lower it or raise batch.max-time");
    }
    if policy.timeout_ms > batch.max_time_ms {
        if reader.has("limits.timeout") {
            let problem = "longer than batch.max-time, one call's deadline";
            reader.fault("limits.timeout", problem, "lower it or raise batch.max-time");
        } else {
            let problem = "shorter than limits.timeout, one message's run";
            reader.fault("batch.max-time", problem, "raise it or lower limits.timeout");
        }
    }
}

fn retry(reader: &mut Reader<'_, '_>, retry: &mut Retry) {
    const FIRST: &str = "retry.backoff.first";
    retry.attempts = reader.whole("retry.attempts");
    retry.first_ms = reader.duration(FIRST);
    retry.factor = reader.number("retry.backoff.factor");
    retry.max_ms = reader.duration("retry.backoff.max");
    retry.jitter = reader.number("retry.backoff.jitter");
    retry.in_place_ms = Some(reader.duration("retry.in-place"));
    retry.max_age_ms = reader.duration("retry.max-age");
    if retry.first_ms > retry.max_ms {
        let path = if reader.has(FIRST) { FIRST } else { "retry.backoff.max" };
        reader.fault(path, "the first wait is longer than the longest", "keep `first` at or below `max`");
    }
    let ends = [
        ("dead-letter", Spent::DeadLetter),
        ("dead-letter-key", Spent::DeadLetterKey),
        ("discard", Spent::Discard),
        ("hold", Spent::Hold),
    ];
    retry.then = reader.choice("retry.then", &ends);
}

fn breaker(reader: &mut Reader<'_, '_>) -> Option<Breaker> {
    let failures = reader.number("breaker.failures");
    let (window_ms, pause_ms) = (reader.duration("breaker.window"), reader.duration("breaker.pause"));
    for key in ["breaker.window", "breaker.pause"] {
        if failures == 0.0 && reader.has(key) {
            reader.fault(key, "has no effect: breaker.failures = 0 turns it off", "remove it");
        }
    }
    (failures > 0.0).then_some(Breaker { failures, window_ms, pause_ms, least_lanes: BREAKER_LANES })
}

fn dedup(reader: &mut Reader<'_, '_>) -> Option<Dedup> {
    if !reader.has("dedup") {
        return None;
    }
    reader.require("dedup.id", "write id = \"header:NAME\", \"key\" or \"digest\"");
    let id = match origin(reader, "dedup.id") {
        Some(Origin::Header(name)) => Some(IdFrom::Header(name)),
        Some(Origin::Named("key")) => Some(IdFrom::Key),
        Some(Origin::Named(_)) => Some(IdFrom::Digest),
        None => None,
    };
    let choices = [("process", Absent::Process), ("digest", Absent::Digest), ("dead-letter", Absent::DeadLetter)];
    let absent = reader.choice("dedup.absent", &choices);
    if id == Some(IdFrom::Digest) && reader.has("dedup.absent") {
        reader.fault("dedup.absent", "has no effect: every message has a digest", "remove it");
    }
    let window_ms = reader.duration("dedup.window");
    Some(Dedup { id: id.unwrap_or(IdFrom::Digest), window_ms, absent, kept: true, capacity: DEDUP_CAPACITY })
}

/// Written with, or behind, what their messages did, ids outlive the process.
fn seen(reader: &mut Reader<'_, '_>, policy: &Policy, group: &str, input: &[Text]) -> Option<Seen> {
    let dedup = policy.dedup.as_ref().filter(|_| policy.keeps_ids())?;
    let input = &input[..policy.order.scope.owners(input.len())];
    let topics = input.iter().map(|input| topic::seen(group, &input.text)).collect::<Vec<_>>();
    for (input, name) in input.iter().zip(&topics).filter(|(_, name)| name.len() > topic::LONGEST) {
        let problem = format!("the topic of its ids, GROUP.TOPIC.seen, has {} characters", name.len());
        let cure = format!("give the group a shorter name: a topic's has at most {}", topic::LONGEST);
        reader.faults.push(input.place.fault("dedup", problem, cure));
    }
    Some(Seen { topics, window: Duration::from_millis(dedup.window_ms) })
}

/// With their offsets, or before these are committed, messages are written to a topic that is read again at each start.
fn parked(reader: &mut Reader<'_, '_>, policy: &Policy, group: &str, input: &[Text]) -> Option<Parked> {
    if !policy.parks() {
        return None;
    }
    let topics = input.iter().map(|input| topic::retry(group, &input.text)).collect::<Vec<_>>();
    for (input, name) in input.iter().zip(&topics).filter(|(_, name)| name.len() > topic::LONGEST) {
        let problem = format!("the topic of messages that wait, GROUP.TOPIC.retry, has {} characters", name.len());
        let cure = format!("give the group a shorter name: a topic's has at most {}", topic::LONGEST);
        reader.faults.push(input.place.fault("input", problem, cure));
    }
    let inboxes = input.iter().map(|input| topic::inbox(group, &input.text)).collect();
    Some(Parked { topics, inboxes })
}

fn limits(reader: &mut Reader<'_, '_>, policy: &Policy) -> Limits {
    const DELAY: &str = "limits.delay";
    if reader.has(DELAY) && (policy.guarantee != Guarantee::ExactlyOnce || policy.order.scope != Scope::Topic) {
        let problem = "what is delayed is kept by transactions of one input, and this pipeline has none";
        reader.fault(DELAY, problem, "set guarantee = \"exactly-once\" and order.scope = \"topic\", or remove it");
    }
    Limits {
        memory_bytes: reader.size("limits.memory"),
        outputs: reader.whole("limits.outputs"),
        output_bytes: reader.size("limits.output-bytes"),
        timeout: Duration::from_millis(policy.timeout_ms),
        delay: reader.duration_if(DELAY).map(Duration::from_millis),
    }
}

fn http(reader: &mut Reader<'_, '_>) -> Option<Http> {
    const KEY: &str = "capabilities.http";
    let mut hosts = Vec::new();
    for text in reader.texts(KEY, "api.example.com:443") {
        match text.text.parse() {
            Ok(host) => hosts.push(host),
            Err(HostFault { problem, cure }) => reader.faults.push(text.place.fault(KEY, problem, cure)),
        }
    }
    let http = Http {
        hosts,
        requests: reader.whole("limits.requests"),
        response_bytes: reader.size("limits.response-bytes"),
        concurrency: reader.whole("batch.concurrency"),
    };
    if reader.has(KEY) {
        return Some(http).filter(|http| !http.hosts.is_empty());
    }
    for key in ["limits.requests", "limits.response-bytes", "batch.concurrency"] {
        if reader.has(key) {
            let cure = "remove it, or grant hosts: capabilities.http = [\"HOST:PORT\"]";
            reader.fault(key, "has no effect: the handler may make no HTTP requests", cure);
        }
    }
    None
}

fn handler_config(reader: &mut Reader<'_, '_>) -> (Vec<(String, String)>, BTreeSet<String>) {
    let strings = reader.strings("config");
    let hidden = strings.iter().filter(|(entry, _)| entry.node.replaced).map(|(entry, _)| entry.name.clone()).collect();
    (strings.into_iter().map(|(entry, value)| (entry.name.clone(), value)).collect(), hidden)
}
