//! `keyrail check`: every fault that `keyrail run` would find, all at once, each with its cure. It changes nothing, here
//! or at the broker.

#[cfg(feature = "kafka")]
mod durability;

use super::report::{Report, Verdict};
use super::{CheckArgs, Config, Exit, terminal, variable};
use keyrail::admin::deployment::Deployment;
use keyrail::admin::http::check_address;
use keyrail::broker::embedded;
use keyrail::config::{self, BrokerKind, Faults, Host, Pipeline, Token, load};
use keyrail::pipeline::{self, Instance};
use keyrail::signature::Trust;
use keyrail::wasm::{self, Handler, HostOptions};
use keyrail_engine::policy::{Guarantee, OrderBy};
use std::collections::BTreeSet;

/// What findings of `--durability` are about.
const DURABILITY: &str = "durability";

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let CheckArgs { config, json, resolved: show, durability } = args;
    let mut report = Report::default();
    let mut wrong_use = false;
    if let Some((host, pipelines)) = configuration(config, &mut report, &mut wrong_use) {
        if *show {
            let text = resolved(config, &host, &pipelines);
            terminal::print(text.as_bytes(), "the configuration")?;
        }
        admin(config, &host, &mut report);
        let pipelines = handlers(pipelines, &host.trust, &mut report);
        store(&host, &pipelines, &mut report);
        match host.broker {
            #[cfg(feature = "kafka")]
            BrokerKind::Kafka => topics::check(&host, &pipelines, *durability, &mut report),
            #[cfg(not(feature = "kafka"))]
            BrokerKind::Kafka => {
                let message = "this build does not know Kafka".to_owned();
                report.add(Verdict::Fault, "broker", "kafka", message).cure =
                    "build it with the cargo feature \"kafka\", or set broker = \"embedded\"".to_owned();
            }
            BrokerKind::Embedded => {
                embedded(&host, &pipelines, &mut report);
                if *durability {
                    synced(&host, &mut report);
                }
            }
        }
    }
    let text = if *json { report.json()? + "\n" } else { report.render(terminal::width()) };
    terminal::print(text.as_bytes(), "the report")?;
    Ok(if wrong_use { Exit::WrongUse } else { Exit::of(report.is_ok()) })
}

/// `None`: too faulty to look further. `wrong_use`: the arguments alone are at fault.
fn configuration(config: &Config, report: &mut Report, wrong_use: &mut bool) -> Option<(Host, Vec<Pipeline>)> {
    let (host, pipelines) = match load(config.file(), &config.set, &variable) {
        Ok(loaded) => loaded,
        Err(faults) => {
            add_faults(&faults, report);
            *wrong_use = config.is_at_fault(&faults);
            return None;
        }
    };
    report.add(Verdict::Ok, "configuration", &config.file().display().to_string(), String::new());
    for pipeline in &pipelines {
        let patterns = pipeline.patterns.iter().map(config::Pattern::text);
        let inputs: Vec<&str> = pipeline.input.iter().map(String::as_str).chain(patterns).collect();
        let message = format!("group {}: {}", pipeline.group, inputs.join(", "));
        report.add(Verdict::Ok, "pipeline", &pipeline.name, message);
    }
    Some((host, pipelines))
}

/// The configuration as it is taken: each default filled in, secrets hidden.
fn resolved(config: &Config, host: &Host, pipelines: &[Pipeline]) -> String {
    let mut text = format!("# {}\n{}\n", config.file().display(), host.resolved());
    for pipeline in pipelines {
        text += &format!("# {}\n{}\n", pipeline.manifest.display(), pipeline.resolved());
    }
    text
}

fn add_faults(faults: &Faults, report: &mut Report) {
    for fault in faults {
        let at = if fault.line > 0 { format!(":{}:{}", fault.line, fault.column) } else { String::new() };
        let key = if fault.key.is_empty() { String::new() } else { format!("{}: ", fault.key) };
        let name = format!("{}{at}", fault.file);
        report.add(Verdict::Fault, "configuration", &name, format!("{key}{}", fault.problem)).cure = fault.cure.clone();
    }
}

/// The token must be there. Of the port only a warning, and none where it is this deployment itself, running, that holds it.
fn admin(config: &Config, host: &Host, report: &mut Report) {
    if let Some(Err(why)) = host.admin_token.as_ref().map(Token::read) {
        report.add(Verdict::Fault, "admin", "token-file", why);
    }
    let name = host.admin_listen.to_string();
    match check_address(host.admin_listen) {
        Ok(()) => report.add(Verdict::Ok, "admin", &name, "free".to_owned()),
        Err(error) if error.is_taken() && Deployment::of(config.file()).answers_at(host.admin_listen) => {
            report.add(Verdict::Ok, "admin", &name, "taken by the keyrail that runs by this file".to_owned())
        }
        Err(error) => report.add(Verdict::Warning, "admin", &name, error.to_string()),
    };
}

/// Exactly-once pipelines write under a name that is kept there, and what is known of ids and of state is.
fn store(host: &Host, pipelines: &[Pipeline], report: &mut Report) {
    let uses = |pipeline: &Pipeline| {
        pipeline.policy.guarantee == Guarantee::ExactlyOnce || pipeline.seen.is_some() || pipeline.state.is_some()
    };
    if !pipelines.iter().any(uses) {
        return;
    }
    let name = host.store_dir.display().to_string();
    match Instance::check(&host.store_dir) {
        Ok(()) => report.add(Verdict::Ok, "store", &name, "can be written".to_owned()),
        Err(error) => report.add(Verdict::Fault, "store", &name, error.message),
    };
}

/// Loads them, and gives the manifests with what the handlers show.
fn handlers(pipelines: Vec<Pipeline>, trust: &Trust, report: &mut Report) -> Vec<Pipeline> {
    let host = match wasm::Host::new(HostOptions::default()) {
        Ok(host) => host,
        Err(error) => {
            report.add(Verdict::Fault, "handler", "", error.to_string());
            return pipelines;
        }
    };
    let mut all = Vec::with_capacity(pipelines.len());
    for pipeline in pipelines {
        let name = pipeline.handler.display().to_string();
        match pipeline::load(&host, pipeline.clone(), trust) {
            Ok((pipeline, handler)) => {
                report.add(Verdict::Ok, "handler", &name, format!("sha256 {}", handler.digest()));
                let probe = pipeline::probe_file(&pipeline);
                if probe.is_file() {
                    report.add(
                        Verdict::Ok,
                        "probe",
                        &probe.display().to_string(),
                        format!("{} passes it", pipeline.name),
                    );
                }
                unsupported(&handler, &pipeline, &name, report);
                all.push(pipeline);
            }
            Err(unfit) => {
                report.add(Verdict::Fault, "handler", &name, unfit.problem).cure = unfit.cure;
                all.push(pipeline);
            }
        }
    }
    all
}

/// What the handler may ask for and would be refused. No fault: some toolchains import everything, used or not.
fn unsupported(handler: &Handler, pipeline: &Pipeline, name: &str, report: &mut Report) {
    let facts = handler.facts();
    let never = |what: &str| format!("nothing, if the handler never uses {what}; else it fails wherever it does");
    let keyless = pipeline.policy.order.by == OrderBy::None;
    if facts.uses_state() && (pipeline.state.is_none() || keyless) {
        let (why, cure) = if keyless {
            ("needs an order key, and order.by is \"none\"", "set another, or ")
        } else {
            ("needs guarantee = \"exactly-once\" where order.scope is \"inputs\"", "set that, or ")
        };
        let message = format!("imports state, which {why}: each call of it answers with an error");
        report.add(Verdict::Warning, "handler", name, message).cure = format!("{cure}{}", never("state"));
    }
    if facts.uses_timers() && !pipeline.policy.has_timers() {
        let (why, cure) = if keyless {
            ("need an order key, and order.by is \"none\"", "set another, or ")
        } else {
            ("need guarantee = \"exactly-once\" and order.scope = \"topic\"", "set those, or ")
        };
        let message = format!("imports timers, which {why}: each call of them answers with an error");
        report.add(Verdict::Warning, "handler", name, message).cure = format!("{cure}{}", never("timers"));
    }
}

/// Looks into the folder if there is one; what is missing in it `run` makes.
fn embedded(host: &Host, pipelines: &[Pipeline], report: &mut Report) {
    let options = pipeline::embedded_options(host);
    let name = options.dir.display().to_string();
    let known = if embedded::exists(&options) {
        match embedded::client(&options).and_then(|mut client| client.topics()) {
            Ok(topics) => {
                report.add(Verdict::Ok, "broker", &name, format!("answers, {} topics", topics.len()));
                topics
            }
            Err(error) => {
                report.add(Verdict::Fault, "broker", &name, error.message);
                return;
            }
        }
    } else {
        report.add(Verdict::Ok, "broker", &name, "not there yet: `keyrail run` makes it".to_owned());
        Vec::new()
    };
    let names = known.iter().map(|topic| topic.name.clone()).collect();
    for pipeline in pipelines {
        let expanded = expand(pipeline, &names, report);
        let pipeline = expanded.as_ref().unwrap_or(pipeline);
        let outputs = pipeline.outputs.iter().map(|(_, topic)| (topic, "output"));
        let outputs = outputs.chain(pipeline.audit.iter().map(|topic| (topic, "audit")));
        let letters = pipeline.dead_letter.topics.iter().map(|topic| (topic, "dead letters"));
        let seen = pipeline.seen.iter().flat_map(|seen| &seen.topics).map(|topic| (topic, "seen ids"));
        let state = pipeline.state.iter().flat_map(|state| &state.topics).map(|topic| (topic, "state"));
        let there = |topic: &&String| known.iter().any(|known| known.name == **topic);
        let parked = pipeline.parked.iter().flat_map(|parked| &parked.topics).filter(there);
        let parked = parked.map(|topic| (topic, "parked messages"));
        let inputs = pipeline.input.iter().map(|topic| (topic, "input"));
        for (topic, role) in inputs.chain(outputs).chain(letters).chain(seen).chain(state).chain(parked) {
            let there = known.iter().any(|known| known.name == *topic);
            let missing = if there { "" } else { "; not there yet: `keyrail run` makes it" };
            report.add(Verdict::Ok, "topic", topic, format!("{role} of {}{missing}", pipeline.name));
        }
        let count = |name: &String| known.iter().find(|known| known.name == *name).map(|known| known.partitions);
        shared_keys(pipeline, count, report);
    }
}

/// Whether the embedded broker syncs its disk.
fn synced(host: &Host, report: &mut Report) {
    if host.embedded.sync_full {
        let message = "sync = \"full\": what is acknowledged is on the disk, which has the only copy of it".to_owned();
        report.add(Verdict::Ok, DURABILITY, "[embedded]", message);
    } else {
        let message = "sync = \"normal\": a loss of power takes what was acknowledged last".to_owned();
        report.add(Verdict::Fault, DURABILITY, "[embedded]", message).cure =
            "write sync = \"full\" below [embedded], or leave it out".to_owned();
    }
}

/// Inputs that share their keys must have equally many partitions. One that is not there yet is told of elsewhere.
fn shared_keys(pipeline: &Pipeline, count: impl Fn(&String) -> Option<i32>, report: &mut Report) {
    if pipeline.owners().len() == pipeline.input.len() {
        return;
    }
    let counts: Vec<(String, i32)> =
        pipeline.input.iter().filter_map(|input| Some((input.clone(), count(input)?))).collect();
    if let Some(why) = keyrail::pipeline::unequal(&counts) {
        report.add(Verdict::Fault, "pipeline", &pipeline.name, why);
    }
}

/// What the pipeline's patterns stand for now. That nothing matches is no fault: `run` waits for a topic that does.
fn expand(pipeline: &Pipeline, names: &BTreeSet<String>, report: &mut Report) -> Option<Pipeline> {
    for pattern in &pipeline.patterns {
        let count = names.iter().filter(|name| pattern.matches(name)).count();
        let verdict = if count == 0 { Verdict::Warning } else { Verdict::Ok };
        let message =
            format!("input of {}: matches {count} {}", pipeline.name, if count == 1 { "topic" } else { "topics" });
        report.add(verdict, "pattern", pattern.text(), message);
    }
    pipeline.with_topics(names)
}

#[cfg(feature = "kafka")]
mod topics {
    use super::super::report::{Report, Verdict};
    use keyrail::broker::kafka::{Kafka, NeededTopic, TopicRole, Topics};
    use keyrail::broker::{BrokerError, BrokerErrorKind};
    use keyrail::config::{Host, Pipeline};
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// How long one question to the broker may take.
    const WAIT: Duration = Duration::from_secs(10);

    pub(super) fn check(host: &Host, pipelines: &[Pipeline], durability: bool, report: &mut Report) {
        let kafka = match Kafka::new(&host.kafka) {
            Ok(kafka) => kafka,
            Err(errors) => {
                for error in errors {
                    report.add(Verdict::Fault, "broker", "[kafka]", error.message);
                }
                return;
            }
        };
        let answered = kafka.topics().and_then(|topics| {
            let names = if pipelines.iter().all(|pipeline| pipeline.patterns.is_empty()) {
                BTreeSet::new()
            } else {
                topics.names(WAIT)?.into_iter().collect()
            };
            let mut all = Vec::new();
            for pipeline in pipelines {
                let pipeline = super::expand(pipeline, &names, report).unwrap_or_else(|| pipeline.clone());
                look(&topics, &pipeline, report)?;
                count_inputs(&topics, &pipeline, report)?;
                all.push(pipeline);
            }
            if durability { super::durability::check(&kafka, &topics, &all, WAIT, report) } else { Ok(()) }
        });
        let bootstrap = kafka.bootstrap();
        match answered {
            Ok(()) => report.add(Verdict::Ok, "broker", bootstrap, "answers".to_owned()),
            Err(error) => report.add(Verdict::Fault, "broker", bootstrap, error.message),
        };
    }

    /// An error means that the broker can't be asked at all.
    fn look(topics: &Topics, pipeline: &Pipeline, report: &mut Report) -> Result<(), BrokerError> {
        let mut needed: Vec<NeededTopic> = Vec::new();
        for topic in keyrail::pipeline::needed(pipeline) {
            let (TopicRole::DeadLetter { input } | TopicRole::Seen { input, .. } | TopicRole::State { input }) =
                &topic.role
            else {
                needed.push(topic);
                continue;
            };
            match (partitions(topics, &topic.name)?, partitions(topics, input)?) {
                // `ensure` would create what is missing, and a check changes nothing.
                (Some(None), Some(Some(count))) => to_be_created(topics, &topic, count, report),
                (Some(None), _) => {}
                _ => needed.push(topic),
            }
        }
        for topic in keyrail::pipeline::needed_to_park(pipeline) {
            match partitions(topics, &topic.name)? {
                Some(None) => {
                    let message = format!(
                        "{} of {}; `keyrail run` makes it when the first message is parked",
                        role(&topic.role),
                        pipeline.name
                    );
                    report.add(Verdict::Ok, "topic", &topic.name, message);
                }
                _ => needed.push(topic),
            }
        }
        let problems = topics.ensure(&needed, WAIT)?;
        for topic in &needed {
            let mut found = problems.iter().filter(|p| p.topic == topic.name).peekable();
            if found.peek().is_none() {
                report.add(Verdict::Ok, "topic", &topic.name, format!("{} of {}", role(&topic.role), pipeline.name));
            }
            for problem in found {
                report.add(Verdict::Fault, "topic", &topic.name, problem.message.clone()).command =
                    problem.command.clone();
            }
        }
        Ok(())
    }

    fn count_inputs(topics: &Topics, pipeline: &Pipeline, report: &mut Report) -> Result<(), BrokerError> {
        let mut counts = Vec::new();
        if pipeline.owners().len() < pipeline.input.len() {
            for input in &pipeline.input {
                counts.push((input, partitions(topics, input)?.flatten()));
            }
        }
        let count = |name: &String| counts.iter().find(|(input, _)| *input == name).and_then(|(_, count)| *count);
        super::shared_keys(pipeline, count, report);
        Ok(())
    }

    fn to_be_created(topics: &Topics, topic: &NeededTopic, partitions: i32, report: &mut Report) {
        let (what, settings) = match topic.role.kept() {
            Some((kept, input)) => (kept.topic(), kept.settings(true, topics.limit(input, WAIT))),
            None => ("dead-letter topic", vec![("cleanup.policy".to_owned(), "delete".to_owned())]),
        };
        let message = format!("{what} does not exist yet: `keyrail run` creates it, if its user may");
        report.add(Verdict::Warning, "topic", &topic.name, message).command =
            Some(topics.create_command(&topic.name, partitions, &settings));
    }

    /// `None`: this user may not know, which `ensure` tells; `Some(None)`: there is no such topic.
    fn partitions(topics: &Topics, name: &str) -> Result<Option<Option<i32>>, BrokerError> {
        match topics.describe(&[name], WAIT) {
            Ok(found) => Ok(Some(found.first().and_then(|info| info.partitions))),
            Err(error) if error.kind == BrokerErrorKind::Operator => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn role(role: &TopicRole) -> &'static str {
        match role {
            TopicRole::Input => "input",
            TopicRole::Output => "output",
            TopicRole::DeadLetter { .. } => "dead letters",
            TopicRole::Seen { .. } => "seen ids",
            TopicRole::State { .. } => "state",
            TopicRole::Parked { .. } => "parked messages",
            TopicRole::Inbox { .. } => "commands",
        }
    }
}
