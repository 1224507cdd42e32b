//! `keyrail check --durability` on Kafka: whether what is acknowledged survives the loss of a disk or a broker.

use super::DURABILITY;
use crate::cli::report::{Report, Verdict};
use keyrail::broker::kafka::{Kafka, Topics};
use keyrail::broker::{BrokerError, BrokerErrorKind};
use keyrail::config::Pipeline;
use keyrail_engine::policy::Guarantee;
use std::time::Duration;

const IN_SYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";
/// Kafka's own: what groups have committed, and what became of transactions.
const OFFSETS: &str = "__consumer_offsets";
const TRANSACTIONS: &str = "__transaction_state";

/// Looks at every topic that the pipelines, with what their patterns stand for, read and write, and at Kafka's own that
/// they rely on. An error means that the broker can't be asked at all.
pub(super) fn check(
    kafka: &Kafka,
    topics: &Topics,
    pipelines: &[Pipeline],
    wait: Duration,
    report: &mut Report,
) -> Result<(), BrokerError> {
    let message = "acks = all and enable.idempotence = true, always".to_owned();
    report.add(Verdict::Ok, DURABILITY, "[kafka]", message);
    let mut all = used(pipelines);
    if !all.is_empty() {
        all.push((OFFSETS, "offsets of groups".to_owned()));
    }
    if pipelines.iter().any(|pipeline| pipeline.policy.guarantee == Guarantee::ExactlyOnce) {
        all.push((TRANSACTIONS, "ends of transactions".to_owned()));
    }
    for (topic, uses) in all {
        match look(kafka, topics, topic, &uses, wait, report) {
            Err(error) if error.kind == BrokerErrorKind::Operator => {
                report.add(Verdict::Warning, DURABILITY, topic, format!("{uses}: not known: {}", error.message));
            }
            other => other?,
        }
    }
    Ok(())
}

fn look(
    kafka: &Kafka,
    topics: &Topics,
    topic: &str,
    uses: &str,
    wait: Duration,
    report: &mut Report,
) -> Result<(), BrokerError> {
    let Some(copies) = topics.describe(&[topic], wait)?.first().and_then(|info| info.replicas) else {
        // That a topic is missing is told elsewhere; Kafka makes its own at their first use.
        return Ok(());
    };
    let settings = match topics.settings(topic, wait) {
        Err(error) if error.kind == BrokerErrorKind::Operator => {
            let message = format!("{uses}: {IN_SYNC} and {UNCLEAN} are not known: {}", error.message);
            report.add(Verdict::Warning, DURABILITY, topic, message);
            Vec::new()
        }
        other => other?,
    };
    let of = |name: &str| settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let in_sync = of(IN_SYNC).and_then(|value| value.parse().ok());
    let unclean = of(UNCLEAN).and_then(|value| value.parse().ok());
    let found = weaknesses(copies, in_sync, unclean);
    if let (true, Some(least)) = (found.is_empty(), in_sync) {
        let message = format!("{uses}: {copies} replicas, {least} of them have a write before it is acknowledged");
        report.add(Verdict::Ok, DURABILITY, topic, message);
    }
    for weakness in found {
        let finding = report.add(weakness.verdict, DURABILITY, topic, format!("{uses}: {}", weakness.what));
        match weakness.cure {
            Cure::Set(name, value) => finding.command = Some(kafka.set_command(topic, name, &value)),
            Cure::Copies => {
                finding.cure = format!(
                    "on a cluster of three brokers or more, write three of them for each partition into replicas.json: \
                     {{\"version\":1,\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":0,\"replicas\":[1,2,3]}}]}}, and \
                     give it {IN_SYNC}=2 then. New topics take default.replication.factor of the brokers{}",
                    match topic {
                        OFFSETS => "; this one offsets.topic.replication.factor",
                        TRANSACTIONS => "; this one transaction.state.log.replication.factor",
                        _ => "",
                    }
                );
                finding.command = Some(kafka.reassign_command("replicas.json"));
            }
        }
    }
    Ok(())
}

/// The topics that these pipelines read and write, each once, and what for.
fn used(pipelines: &[Pipeline]) -> Vec<(&str, String)> {
    let mut all: Vec<(&str, Vec<String>)> = Vec::new();
    let mut add = |topic, role: &str, pipeline: &Pipeline| {
        let told = format!("{role} of {}", pipeline.name);
        match all.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, uses)) if uses.contains(&told) => {}
            Some((_, uses)) => uses.push(told),
            None => all.push((topic, vec![told])),
        }
    };
    for pipeline in pipelines {
        pipeline.input.iter().for_each(|topic| add(topic, "input", pipeline));
        pipeline.outputs.iter().for_each(|(_, topic)| add(topic, "output", pipeline));
        pipeline.dead_letter.topics.iter().for_each(|topic| add(topic, "dead letters", pipeline));
        let seen = pipeline.seen.iter().flat_map(|seen| &seen.topics);
        seen.for_each(|topic| add(topic, "seen ids", pipeline));
    }
    all.into_iter().map(|(topic, uses)| (topic, uses.join(", "))).collect()
}

/// What is wrong with a topic.
#[derive(Debug, PartialEq, Eq)]
struct Weakness {
    verdict: Verdict,
    what: String,
    cure: Cure,
}

/// What puts it right.
#[derive(Debug, PartialEq, Eq)]
enum Cure {
    /// A setting of the topic.
    Set(&'static str, String),
    /// More copies, which are made by moving partitions.
    Copies,
}

/// Judges a topic by its copies (those of the partition that has fewest) and its settings, where they are told.
fn weaknesses(copies: i32, in_sync: Option<i32>, unclean: Option<bool>) -> Vec<Weakness> {
    let mut found = Vec::new();
    let mut add = |verdict, what: String, cure| found.push(Weakness { verdict, what, cure });
    match copies {
        ..=1 => {
            let what = "has one replica: what its broker's disk loses is lost, and while that broker is down nothing can be \
                        read or written";
            add(Verdict::Fault, what.to_owned(), Cure::Copies);
        }
        2 => {
            let what =
                "has 2 replicas: while one of their brokers is down, it either takes no writes or keeps one copy";
            add(Verdict::Warning, what.to_owned(), Cure::Copies);
        }
        _ => {}
    }
    match in_sync {
        // With one replica it would take no writes at all then.
        Some(..=1) if copies >= 2 => {
            let what = format!("{IN_SYNC} is 1: a write is acknowledged when a single broker has it");
            add(Verdict::Fault, what, Cure::Set(IN_SYNC, "2".to_owned()));
        }
        Some(least) if least > copies => {
            let what = format!("{IN_SYNC} is {least}, and it has {copies} replicas: it takes no writes");
            add(Verdict::Fault, what, Cure::Set(IN_SYNC, (copies - 1).max(2).min(copies).to_string()));
        }
        Some(least) if least == copies && copies >= 3 => {
            let what =
                format!("{IN_SYNC} is {least}, as many as its replicas: one broker that is down stops all writes");
            add(Verdict::Fault, what, Cure::Set(IN_SYNC, (copies - 1).to_string()));
        }
        _ => {}
    }
    if unclean == Some(true) {
        let what = format!("{UNCLEAN} is true: a broker that has not all of it may take over, and the rest is lost");
        add(Verdict::Fault, what, Cure::Set(UNCLEAN, "false".to_owned()));
    }
    found
}

#[cfg(test)]
mod tests;
