//! Which answer is taken for which commit, against librdkafka's own model of a broker.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use crate::broker::kafka::{ConsumerOptions, Kafka};
use crate::broker::{BrokerError, BrokerErrorKind, Commits, Consumer, OffsetCommit};
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// A consumer of a broker that is slow to answer.
fn consumer() -> Box<dyn Consumer> {
    let properties =
        [("bootstrap.servers", "127.0.0.1:1"), ("test.mock.num.brokers", "1"), ("test.mock.broker.rtt", "100")];
    let properties: BTreeMap<String, String> =
        properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let kafka = Kafka::new(&properties).unwrap();
    kafka.consumer("g", &["t".to_owned()], ConsumerOptions::default()).unwrap()
}

fn offset(partition: i32) -> [OffsetCommit; 1] {
    [OffsetCommit { at: TopicPartition { topic: 0, partition }, offset: 7, metadata: "m".to_owned() }]
}

fn finish(commits: &mut dyn Commits) -> Result<(), BrokerError> {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(result) = commits.finished() {
            return result;
        }
        assert!(Instant::now() < until, "no answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The topic was never made, so each commit is refused, and the refusal names its partition.
fn refused(commits: &mut dyn Commits) -> String {
    finish(commits).unwrap_err().message
}

#[test]
fn an_answer_that_comes_late_is_never_the_next_commits() {
    let consumer = consumer();
    let mut commits = consumer.commits();
    assert_eq!(commits.finished(), None);
    commits.start(&offset(0)).unwrap();
    assert!(refused(commits.as_mut()).contains("t [0]"));
    for _ in 0..3 {
        commits.start(&offset(1)).unwrap();
        commits.start(&offset(2)).unwrap();
        assert_eq!(commits.finished(), None, "both answers are on their way");
        assert!(refused(commits.as_mut()).contains("t [2]"));
        assert_eq!(commits.finished(), None, "one answer for one commit");
        // The last commit of a revoke has its own answer, too, and leaves the other one's alone.
        commits.start(&offset(3)).unwrap();
        assert!(commits.now(&offset(4), LIMIT).unwrap_err().message.contains("t [4]"));
        assert!(refused(commits.as_mut()).contains("t [3]"));
    }
}

#[test]
fn a_commit_of_nothing_is_answered_at_once_and_one_of_a_closed_consumer_is_refused() {
    let consumer = consumer();
    let mut commits = consumer.commits();
    commits.start(&offset(1)).unwrap();
    commits.start(&[]).unwrap();
    assert_eq!((commits.finished(), commits.finished()), (Some(Ok(())), None));
    assert_eq!(commits.now(&[], LIMIT), Ok(()));
    commits.start(&offset(0)).unwrap();
    drop(consumer);
    let closed = finish(commits.as_mut()).unwrap_err();
    assert_eq!(closed.kind, BrokerErrorKind::Superseded);
    assert_eq!(commits.start(&offset(0)).unwrap_err().kind, BrokerErrorKind::Superseded);
    assert_eq!(commits.finished(), None);
}
