//! Kafka, through librdkafka. What is known of its behaviour stands beside the code that depends on it.

mod client;
mod commands;
mod commits;
mod consumer;
mod errors;
mod leaving;
mod log;
#[allow(unsafe_code, reason = "librdkafka is C; all calls into it are in this module")]
mod native;
mod pace;
mod producer;
mod reader;
mod sender;
mod session;
mod settings;
mod topics;
mod transactions;
mod watch;

pub use crate::broker::topics::{NeededTopic, TopicProblem, TopicRole};
pub use topics::{TopicInfo, Topics};

use crate::broker::{Broker, BrokerError, BrokerErrorKind, Consumer, Producer};
use errors::Place;
use native::{Client, ClientKind, Requests};
use settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The question how large a batch may be, which may stay without an answer.
const LIMITS: Duration = Duration::from_secs(5);

/// How a group shares out partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Assignor {
    /// A rebalance takes away only what moves.
    #[default]
    CooperativeSticky,
    /// The same partition number of all topics goes to the same member, which `order.scope = "inputs"` needs; a
    /// rebalance takes all partitions away and gives them anew.
    Range,
}

impl Assignor {
    fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
        }
    }
}

/// What a consumer is made with, beside its group and topics.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumerOptions {
    /// How partitions are shared out; `partition.assignment.strategy` of the user's properties wins, but where a pipeline needs
    /// [`Assignor::Range`].
    pub assignor: Assignor,
}

/// A Kafka cluster, by the properties of `[kafka]`. Nothing is connected before a client is made.
#[derive(Debug, Clone)]
pub struct Kafka {
    settings: Settings,
}

impl Kafka {
    /// Checks the properties: unknown ones, bad values, those that Keyrail owns. All faults come back at once.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Self, Vec<BrokerError>> {
        Ok(Self { settings: Settings::new(properties)? })
    }

    /// The address of the brokers, as configured.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.settings.place.bootstrap
    }

    /// librdkafka's version, as linked.
    #[must_use]
    pub fn library_version() -> String {
        native::version()
    }

    /// A member of `group`, subscribed to `topics`. [`crate::record::TopicPartition::topic`] is the index into them.
    pub fn consumer(
        &self,
        group: &str,
        topics: &[String],
        options: ConsumerOptions,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let place = Place { group: Some(group.to_owned()), ..self.settings.place.clone() };
        let client = self.client(ClientKind::Consumer, &self.settings.consumer(group, options.assignor))?;
        Ok(Box::new(consumer::KafkaConsumer::new(self.clone(), client, topics, place)?))
    }

    /// What [`Kafka::consumer`] gives to librdkafka, later entries winning: for comparison with a client of one's own.
    #[must_use]
    pub fn consumer_properties(&self, group: &str, options: ConsumerOptions) -> Vec<(String, String)> {
        self.settings.consumer(group, options.assignor)
    }

    /// As [`Kafka::consumer_properties`], of [`Kafka::producer`].
    #[must_use]
    pub fn producer_properties(&self) -> Vec<(String, String)> {
        self.settings.producer(&[])
    }

    /// An idempotent producer for these topics. Their limits are asked for, at most for `wait`, so that no batch is
    /// larger than one of them takes; a topic that is not named may refuse whole batches, which then go one by one.
    pub fn producer(&self, topics: &[&str], wait: Duration) -> Result<Box<dyn Producer>, BrokerError> {
        let limit = self.smallest_limit(topics, wait)?;
        Ok(Box::new(producer::KafkaProducer::new(self.clone(), limit)?))
    }

    /// How large a batch these topics take, where they tell.
    fn smallest_limit(&self, topics: &[&str], wait: Duration) -> Result<Option<u64>, BrokerError> {
        Ok(if topics.is_empty() { None } else { self.topics()?.smallest_limit(topics, wait) })
    }

    /// Questions about topics, and their creation.
    pub fn topics(&self) -> Result<Topics, BrokerError> {
        Ok(Topics::new(self.client(ClientKind::Producer, &self.settings.admin())?, self.settings.place.clone()))
    }

    /// For commands.
    pub fn commands(&self) -> Result<Box<dyn crate::broker::client::Client>, BrokerError> {
        Ok(Box::new(client::KafkaClient::new(self.clone())?))
    }

    fn client(&self, kind: ClientKind, properties: &[(String, String)]) -> Result<Arc<Client>, BrokerError> {
        made(Client::new(kind, properties, None))
    }

    fn watched_client(
        &self,
        properties: &[(String, String)],
        requests: &Arc<Requests>,
    ) -> Result<Arc<Client>, BrokerError> {
        made(Client::new(ClientKind::Producer, properties, Some(Arc::clone(requests))))
    }
}

fn made(client: Result<Arc<Client>, String>) -> Result<Arc<Client>, BrokerError> {
    client.map_err(|why| BrokerError { kind: BrokerErrorKind::Operator, message: format!("[kafka]: {why}") })
}

impl Broker for Kafka {
    fn place(&self) -> String {
        self.bootstrap().to_owned()
    }

    fn consumer(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError> {
        self.consumer(group, topics, ConsumerOptions::default())
    }

    fn consumer_of_all(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError> {
        self.settings.shares_by_range().map_err(super::operator)?;
        self.consumer(group, topics, ConsumerOptions { assignor: Assignor::Range })
    }

    fn producer(&self, topics: &[&str]) -> Result<Box<dyn Producer>, BrokerError> {
        self.producer(topics, LIMITS)
    }

    fn client(&self) -> Result<Box<dyn super::client::Client>, BrokerError> {
        self.commands()
    }

    fn topic_names(&self, wait: Duration) -> Result<BTreeSet<String>, BrokerError> {
        Ok(self.topics()?.names(wait)?.into_iter().collect())
    }

    fn ensure(&self, needed: &[NeededTopic], wait: Duration) -> Result<Vec<TopicProblem>, BrokerError> {
        self.topics()?.ensure(needed, wait)
    }
}
