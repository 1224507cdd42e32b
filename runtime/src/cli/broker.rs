//! The client that a command speaks through, by the configuration.

use super::terminal;
use anyhow::Context as _;
use keyrail::broker::client::{Client, Topic};
use keyrail::broker::embedded::{self, Embedded};
use keyrail::broker::topics::nearest;
use keyrail::config::{BrokerKind, Faults, Found, Host, Pipeline, find_manifests};
use std::collections::BTreeMap;

#[cfg(not(feature = "kafka"))]
pub(super) const NO_KAFKA: &str =
    "this build has no Kafka: build it with the cargo feature \"kafka\", or set broker = \"embedded\"";

/// Connects to the broker that the configuration names. `create`: the embedded broker's folder is made if it is not there.
pub(super) fn open(host: &Host, create: bool) -> anyhow::Result<Box<dyn Client>> {
    match host.broker {
        BrokerKind::Embedded => {
            let options = keyrail::pipeline::embedded_options(host);
            // Making it takes the folder; where a process holds it already, it is there.
            let made = if create && !embedded::exists(&options) { Some(Embedded::open(&options)?) } else { None };
            Ok(match made {
                Some(made) => made.client()?,
                None => embedded::client(&options)?,
            })
        }
        #[cfg(feature = "kafka")]
        BrokerKind::Kafka => Ok(kafka(host)?.commands()?),
        #[cfg(not(feature = "kafka"))]
        BrokerKind::Kafka => anyhow::bail!(NO_KAFKA),
    }
}

/// `[kafka]`.
#[cfg(feature = "kafka")]
pub(super) fn kafka(host: &Host) -> anyhow::Result<keyrail::broker::kafka::Kafka> {
    keyrail::broker::kafka::Kafka::new(&host.kafka)
        .map_err(|errors| anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// keyrail.toml, without the pipelines.
pub(super) fn host(config: &super::Config) -> anyhow::Result<Host> {
    keyrail::config::load_host(&config.config, &config.set, &super::variable)
        .map_err(|faults| super::faulty("the configuration has faults", &faults))
}

/// keyrail.toml and the manifests of its folder, without a look at handlers. What is wrong with one manifest does not touch
/// the others.
pub(super) fn manifests(config: &super::Config) -> anyhow::Result<(Host, Found)> {
    let host = host(config)?;
    let found = find_manifests(&host.plugins_dir, &super::variable)
        .map_err(|faults| super::faulty("the configuration has faults", &faults))?;
    Ok((host, found))
}

/// Tells which pipelines were left out, and why.
pub(super) fn tell_unfit(unfit: &BTreeMap<String, Faults>) {
    for (name, faults) in unfit {
        terminal::say(&format!("keyrail: {name} is left out: its manifest has faults\n{faults}"));
    }
}

/// The same for programs.
pub(super) fn unfit_lines(unfit: &BTreeMap<String, Faults>) -> BTreeMap<&str, Vec<String>> {
    unfit.iter().map(|(name, faults)| (name.as_str(), faults.iter().map(ToString::to_string).collect())).collect()
}

/// Pipelines with the topics that their patterns stand for now; one that matches none is as it was, without inputs.
pub(super) fn with_topics(pipelines: Vec<Pipeline>, all: &[Topic]) -> Vec<Pipeline> {
    let names = all.iter().map(|topic| topic.name.clone()).collect();
    pipelines.into_iter().map(|pipeline| pipeline.with_topics(&names).unwrap_or(pipeline)).collect()
}

/// Why a topic that is not there may be meant to be another one.
pub(super) fn missing(name: &str, place: &str, all: &[Topic], cure: &str) -> String {
    let near = nearest(name, all.iter().map(|topic| topic.name.as_str()).filter(|other| *other != name));
    let cure = match near {
        Some(near) => {
            format!("did you mean {near:?}?{}", if cure.is_empty() { String::new() } else { format!(" Or {cure}") })
        }
        None if cure.is_empty() => "`keyrail topics` shows what the pipelines need".to_owned(),
        None => cure.to_owned(),
    };
    format!("there is no topic {name:?} at {place}; {cure}")
}

/// The topics named, all of which must be there.
pub(super) fn topics(client: &mut dyn Client, names: &[String], cure: &str) -> anyhow::Result<Vec<Topic>> {
    let place = client.place();
    let all = client.topics().with_context(|| format!("can't ask {place} for its topics"))?;
    let found = |name: &String| {
        let found = all.iter().find(|topic| topic.name == *name);
        found.cloned().ok_or_else(|| anyhow::anyhow!(missing(name, &place, &all, cure)))
    };
    names.iter().map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_there_names_the_nearest() {
        let all = ["orders", "payments"].map(|name| Topic { name: name.to_owned(), partitions: 1 });
        assert_eq!(
            missing("ordres", "h:9092", &all, ""),
            "there is no topic \"ordres\" at h:9092; did you mean \"orders\"?"
        );
        assert_eq!(
            missing("ordres", "h:9092", &all, "--create makes it"),
            "there is no topic \"ordres\" at h:9092; did you mean \"orders\"? Or --create makes it"
        );
        assert!(
            missing("x", "h:9092", &all, "").ends_with("at h:9092; `keyrail topics` shows what the pipelines need")
        );
    }
}
