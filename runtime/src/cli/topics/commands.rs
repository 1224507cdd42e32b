//! The commands that put topics right, for who may.

#[cfg(feature = "kafka")]
use super::needs::Difference;
use super::needs::{Need, State};
use keyrail::config::{BrokerKind, Host};

/// See the module.
pub(super) enum Commands {
    #[cfg(feature = "kafka")]
    Kafka(keyrail::broker::kafka::Kafka),
    /// The embedded broker's topics are made by this very command.
    Embedded,
}

impl Commands {
    pub(super) fn of(host: &Host) -> anyhow::Result<Self> {
        match host.broker {
            BrokerKind::Embedded => Ok(Self::Embedded),
            #[cfg(feature = "kafka")]
            BrokerKind::Kafka => Ok(Self::Kafka(super::broker::kafka(host)?)),
            #[cfg(not(feature = "kafka"))]
            BrokerKind::Kafka => anyhow::bail!(super::broker::NO_KAFKA),
        }
    }

    /// All commands, one a line.
    pub(super) fn print(&self, needs: &[Need], partitions: Option<i32>) -> String {
        let lines: Vec<String> = match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => needs.iter().flat_map(|need| of_kafka(kafka, need)).collect(),
            Self::Embedded => {
                let missing = needs.iter().any(|need| need.state == State::Missing);
                let partitions = partitions.map_or_else(String::new, |n| format!(" --partitions {n}"));
                let create = missing.then(|| format!("keyrail topics --create{partitions}"));
                let differs = needs.iter().filter(|need| need.state == State::Differs);
                let told = differs.map(|need| format!("# no command changes {}: {}", need.topic, need.settings_told()));
                create.into_iter().chain(told).collect()
            }
        };
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[cfg(feature = "kafka")]
fn of_kafka(kafka: &keyrail::broker::kafka::Kafka, need: &Need) -> Vec<String> {
    match need.state {
        State::Exists | State::Created => Vec::new(),
        State::Missing | State::Unused => {
            vec![kafka.create_command(&need.topic, need.make_partitions, &need.make_settings())]
        }
        State::Differs => {
            let fewer = |d: &Difference| d.needs.parse::<i32>().is_ok_and(|needs| Some(needs) < need.partitions);
            let mend = need.differs.iter().map(|d| match d.setting {
                // No command takes partitions away: it is made anew.
                "partitions" if fewer(d) => kafka.delete_command(&need.topic),
                "partitions" => kafka.add_partitions_command(&need.topic, &d.needs),
                name => kafka.set_command(&need.topic, name, &d.needs),
            });
            mend.collect()
        }
    }
}
