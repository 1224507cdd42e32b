//! The topics that a pipeline needs.

use crate::support::*;
use keyrail::broker::kafka::{NeededTopic, TopicInfo, TopicProblem, TopicRole};
use keyrail_kafka_tests::{Security, shared, unique};
use std::time::Duration;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) fn needed(name: &str, role: TopicRole) -> NeededTopic {
    NeededTopic { name: name.to_owned(), role }
}

pub(crate) fn dead_letter(input: &str) -> TopicRole {
    TopicRole::DeadLetter { input: input.to_owned() }
}

#[test]
fn dead_letter_topics_are_made_and_the_rest_is_asked_for() {
    let Some(rig) = shared("dead_letter_topics_are_made_and_the_rest_is_asked_for") else { return };
    let input = unique("payments");
    rig.create_topic(&input, 5, &[("max.message.bytes", "3000000")]).unwrap();
    let topics = plain(rig).topics().unwrap();
    let dlq = format!("g.{input}.dlq");
    let misspelt = input.replace("payments", "paymnets");
    let all = [
        needed(&input, TopicRole::Input),
        needed(&misspelt, TopicRole::Input),
        needed("receipts", TopicRole::Output),
        needed(&dlq, dead_letter(&input)),
    ];
    let problems = topics.ensure(&all, WAIT).unwrap();
    let [first, second] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(first.topic, misspelt);
    assert!(first.message.contains(&format!("did you mean {input:?}")), "{}", first.message);
    let command = format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic receipts --partitions 1",
        rig.bootstrap(Security::Plain)
    );
    assert_eq!(second.topic, "receipts");
    assert_eq!(second.command.as_deref(), Some(command.as_str()));

    let made = topics.describe(&[&dlq, "receipts"], WAIT).unwrap();
    let info = |name: &str, partitions, replicas| TopicInfo { name: name.to_owned(), partitions, replicas };
    assert_eq!(made, [info(&dlq, Some(5), Some(1)), info("receipts", None, None)]);
    let settings = topics.settings(&dlq, WAIT).unwrap();
    let of = |name: &str| settings.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(of("cleanup.policy"), Some("delete"));
    assert_eq!(of("max.message.bytes"), Some("3065536"), "room for the headers of dead letters");
    assert_eq!(topics.ensure(&all[3..], WAIT).unwrap(), [], "the second time there is nothing to do");
    assert!(topics.create(&dlq, 5, &[], WAIT).is_ok(), "made by another worker meanwhile");
}

fn seen(input: &str, window: Duration) -> TopicRole {
    TopicRole::Seen { input: input.to_owned(), window }
}

#[test]
fn a_topic_of_seen_ids_is_made_for_its_window() {
    let Some(rig) = shared("a_topic_of_seen_ids_is_made_for_its_window") else { return };
    let input = unique("in");
    rig.create_topic(&input, 3, &[]).unwrap();
    let topics = plain(rig).topics().unwrap();
    let name = format!("g.{input}.seen");
    let all = [needed(&input, TopicRole::Input), needed(&name, seen(&input, Duration::from_hours(24)))];
    assert_eq!(topics.ensure(&all, WAIT).unwrap(), []);
    assert_eq!(topics.describe(&[&name], WAIT).unwrap()[0].partitions, Some(3));
    let settings = topics.settings(&name, WAIT).unwrap();
    let of = |name: &str| settings.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(of("cleanup.policy"), Some("delete"));
    assert_eq!(of("retention.ms"), Some("90000000"));
    assert_eq!(of("retention.bytes"), Some("-1"));
    assert_eq!(of("segment.ms"), Some("10800000"));
    assert_eq!(topics.ensure(&all, WAIT).unwrap(), [], "the second time there is nothing to do");
}

#[test]
fn a_topic_of_state_is_made_compacted_and_one_that_does_not_fit_is_refused() {
    let test = "a_topic_of_state_is_made_compacted_and_one_that_does_not_fit_is_refused";
    let Some(rig) = shared(test) else { return };
    let (input, few, many, unfit) = (unique("in"), unique("few"), unique("many"), unique("unfit"));
    rig.create_topic(&input, 3, &[]).unwrap();
    rig.create_topic(&few, 2, &[("cleanup.policy", "compact")]).unwrap();
    rig.create_topic(&many, 4, &[("cleanup.policy", "compact")]).unwrap();
    let wrong =
        [("cleanup.policy", "compact,delete"), ("delete.retention.ms", "86400000"), ("max.message.bytes", "1000")];
    rig.create_topic(&unfit, 3, &wrong).unwrap();
    let topics = plain(rig).topics().unwrap();
    let (name, role) = (format!("g.{input}.state"), TopicRole::State { input: input.clone() });
    let made = [needed(&input, TopicRole::Input), needed(&name, role.clone())];
    for _ in 0..2 {
        assert_eq!(topics.ensure(&made, WAIT).unwrap(), []);
    }
    assert_eq!(topics.describe(&[&name], WAIT).unwrap()[0].partitions, Some(3));
    let settings = topics.settings(&name, WAIT).unwrap();
    let of = |name: &str| settings.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!((of("cleanup.policy"), of("delete.retention.ms")), (Some("compact"), Some("604800000")));
    let mut all = vec![needed(&input, TopicRole::Input)];
    all.extend([&few, &many, &unfit].map(|name| needed(name, role.clone())));
    let problems: Vec<TopicProblem> = topics.ensure(&all, WAIT).unwrap();
    let messages = [
        "has 2 partitions, its input 3: keys have moved to other partitions, and their state has not, so each of those keys \
         would begin with none. Add partitions to accept that",
        "has 4 partitions, its input 3: it is of another input. Delete it to forget what it holds, and it is made anew",
        "has cleanup.policy=compact,delete: retention takes state away that nobody changed for a while",
        "has delete.retention.ms=86400000: what was deleted may come back from a local store",
        "has max.message.bytes=1000: the largest values don't fit",
    ];
    let commands = [
        format!("--alter --topic {few} --partitions 3"),
        format!("--delete --topic {many}"),
        format!("--entity-name {unfit} --add-config cleanup.policy=compact"),
        format!("--entity-name {unfit} --add-config delete.retention.ms=604800000"),
        format!("--entity-name {unfit} --add-config max.message.bytes=1048588"),
    ];
    assert_eq!(problems.len(), messages.len(), "{problems:#?}");
    for ((problem, message), command) in problems.iter().zip(messages).zip(commands) {
        assert_eq!(problem.message, format!("topic of state {:?} {message}", problem.topic));
        assert!(problem.command.as_ref().is_some_and(|told| told.ends_with(&command)), "{problem:#?}\n{command}");
    }
}

#[test]
fn a_topic_of_seen_ids_that_does_not_fit_is_refused_with_the_command_that_mends_it() {
    let test = "a_topic_of_seen_ids_that_does_not_fit_is_refused_with_the_command_that_mends_it";
    let Some(rig) = shared(test) else { return };
    let (input, few, many, unfit) = (unique("in"), unique("few"), unique("many"), unique("unfit"));
    rig.create_topic(&input, 3, &[]).unwrap();
    rig.create_topic(&few, 2, &[]).unwrap();
    rig.create_topic(&many, 4, &[]).unwrap();
    rig.create_topic(&unfit, 3, &[("cleanup.policy", "compact"), ("retention.ms", "3600000")]).unwrap();
    let topics = plain(rig).topics().unwrap();
    let role = seen(&input, Duration::from_hours(2));
    let mut all = vec![needed(&input, TopicRole::Input)];
    all.extend([&few, &many, &unfit].map(|name| needed(name, role.clone())));
    let problems: Vec<TopicProblem> = topics.ensure(&all, WAIT).unwrap();
    let told: Vec<(&str, &str)> =
        problems.iter().map(|p| (p.message.as_str(), p.command.as_deref().unwrap_or_default())).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    let bootstrap = rig.bootstrap(Security::Plain);
    let tool = |name: &str, rest: String| format!("kafka-{name}.sh --bootstrap-server {bootstrap} {rest}");
    assert!(told[0].0.contains("has 2 partitions, its input 3: keys have moved"), "{told:#?}");
    assert_eq!(told[0].1, tool("topics", format!("--alter --topic {few} --partitions 3")));
    assert!(told[1].0.contains("has 4 partitions, its input 3"), "{told:#?}");
    assert_eq!(told[1].1, tool("topics", format!("--delete --topic {many}")));
    let set =
        |what: &str| tool("configs", format!("--alter --entity-type topics --entity-name {unfit} --add-config {what}"));
    assert!(told[2].0.contains("has cleanup.policy=compact"), "{told:#?}");
    assert_eq!(told[2].1, set("cleanup.policy=delete"));
    assert!(told[3].0.contains("has retention.ms=3600000: ids are gone before"), "{told:#?}");
    assert_eq!(told[3].1, set("retention.ms=10800000"));
}

#[test]
fn a_dead_letter_topic_that_does_not_fit_is_refused_with_the_cure() {
    let Some(rig) = shared("a_dead_letter_topic_that_does_not_fit_is_refused_with_the_cure") else { return };
    let (input, few, compacted) = (unique("in"), unique("few"), unique("compacted"));
    rig.create_topic(&input, 4, &[]).unwrap();
    rig.create_topic(&few, 2, &[]).unwrap();
    rig.create_topic(&compacted, 4, &[("cleanup.policy", "compact")]).unwrap();
    let topics = plain(rig).topics().unwrap();
    let all =
        [needed(&input, TopicRole::Input), needed(&few, dead_letter(&input)), needed(&compacted, dead_letter(&input))];
    let problems: Vec<TopicProblem> = topics.ensure(&all, WAIT).unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].message.contains("has 2 partitions, its input 4"), "{}", problems[0].message);
    assert!(problems[0].command.as_ref().unwrap().contains("--alter --topic"), "{problems:?}");
    assert!(problems[1].message.contains("compacted"), "{}", problems[1].message);
}
