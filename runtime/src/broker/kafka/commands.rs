//! The commands of Kafka's own tools that put topics right, for who may.

use super::Kafka;
use super::errors::Place;

impl Place {
    /// `partitions`: `None` takes the broker's default.
    pub(super) fn create_command(&self, name: &str, partitions: Option<i32>, settings: &[(String, String)]) -> String {
        let mut rest = format!("--create --topic {name}");
        if let Some(partitions) = partitions {
            rest.push_str(&format!(" --partitions {partitions}"));
        }
        for (key, value) in settings {
            rest.push_str(&format!(" --config {key}={value}"));
        }
        self.command("kafka-topics.sh", &rest)
    }

    pub(super) fn add_partitions_command(&self, name: &str, partitions: &str) -> String {
        self.command("kafka-topics.sh", &format!("--alter --topic {name} --partitions {partitions}"))
    }

    pub(super) fn delete_command(&self, name: &str) -> String {
        self.command("kafka-topics.sh", &format!("--delete --topic {name}"))
    }

    pub(super) fn set_command(&self, topic: &str, name: &str, value: &str) -> String {
        // A list needs brackets, or its commas would part settings.
        let value = if value.contains(',') { format!("[{value}]") } else { value.to_owned() };
        let rest = format!("--alter --entity-type topics --entity-name {topic} --add-config {name}={value}");
        self.command("kafka-configs.sh", &rest)
    }

    fn command(&self, tool: &str, rest: &str) -> String {
        // Logins and certificates are the person's own; they stand in a file that Kafka's tools read.
        let secured = !self.security_protocol.eq_ignore_ascii_case("plaintext");
        let config = if secured { " --command-config client.properties" } else { "" };
        format!("{tool} --bootstrap-server {}{config} {rest}", self.bootstrap)
    }
}

impl Kafka {
    /// The command that creates a topic. `partitions`: `None` takes the broker's default.
    #[must_use]
    pub fn create_command(&self, name: &str, partitions: Option<i32>, settings: &[(String, String)]) -> String {
        self.settings.place.create_command(name, partitions, settings)
    }

    /// The command that gives a topic so many partitions in all.
    #[must_use]
    pub fn add_partitions_command(&self, name: &str, partitions: &str) -> String {
        self.settings.place.add_partitions_command(name, partitions)
    }

    /// The command that moves partitions to the brokers that a file names, as Kafka's tools read it.
    #[must_use]
    pub fn reassign_command(&self, file: &str) -> String {
        let rest = format!("--reassignment-json-file {file} --execute");
        self.settings.place.command("kafka-reassign-partitions.sh", &rest)
    }

    /// The command that changes one setting of a topic.
    #[must_use]
    pub fn set_command(&self, topic: &str, name: &str, value: &str) -> String {
        self.settings.place.set_command(topic, name, value)
    }

    /// The command that deletes a topic.
    #[must_use]
    pub fn delete_command(&self, name: &str) -> String {
        self.settings.place.delete_command(name)
    }
}
