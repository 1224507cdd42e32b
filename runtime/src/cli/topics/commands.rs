//! The commands that put topics right, for who may.

use super::needs::{Need, State};
use keyrail::config::Host;

/// See the module.
pub(super) enum Commands {
    #[cfg(feature = "kafka")]
    Kafka(keyrail::broker::kafka::Kafka),
    /// Everything else is made by this very command.
    Own,
}

impl Commands {
    pub(super) fn of(host: &Host) -> anyhow::Result<Self> {
        match host.broker {
            #[cfg(feature = "kafka")]
            keyrail::config::BrokerKind::Kafka => Ok(Self::Kafka(super::broker::kafka(host)?)),
            _ => Ok(Self::Own),
        }
    }

    /// The commands for one topic; none where nothing is to be done.
    pub(super) fn of_need(&self, need: &Need) -> Vec<String> {
        match (self, need.state) {
            (_, State::Exists | State::Created) => Vec::new(),
            #[cfg(feature = "kafka")]
            (Self::Kafka(kafka), State::Missing) => {
                vec![kafka.create_command(&need.topic, need.make_partitions, &need.make_settings())]
            }
            #[cfg(feature = "kafka")]
            (Self::Kafka(kafka), State::Differs) => {
                let mend = need.differs.iter().map(|d| match d.setting {
                    "partitions" => kafka.add_partitions_command(&need.topic, &d.needs),
                    name => kafka.set_command(&need.topic, name, &d.needs),
                });
                mend.collect()
            }
            (Self::Own, State::Missing) => vec!["keyrail topics --create".to_owned()],
            (Self::Own, State::Differs) => {
                vec![format!("# {}: {}", need.topic, need.settings_told())]
            }
        }
    }
}
