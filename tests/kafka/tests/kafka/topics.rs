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
