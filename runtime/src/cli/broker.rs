//! The client that a command speaks through, by the configuration.

use super::{WrongUse, lag, meant, terminal};
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
    keyrail::config::load_host(config.file(), &config.set, &super::variable)
        .map_err(|faults| config.faulty("the configuration has faults", &faults))
}

/// keyrail.toml and the manifests of its folder, without a look at handlers. What is wrong with one manifest does not touch
/// the others.
pub(super) fn manifests(config: &super::Config) -> anyhow::Result<(Host, Found)> {
    let host = host(config)?;
    let found = find_manifests(&host.plugins_dir, &super::variable)
        .map_err(|faults| super::faulty("the configuration has faults", &faults))?;
    Ok((host, found))
}

/// One pipeline that an argument names, with the topics that its patterns stand for, and the broker to ask of it.
pub(super) struct One {
    pub(super) host: Host,
    pub(super) pipeline: Pipeline,
    pub(super) client: Box<dyn Client>,
    /// All topics that are there.
    pub(super) all: Vec<Topic>,
}

impl One {
    /// `fits` refuses a pipeline by its manifest: wrong use is told before anybody is asked.
    pub(super) fn open(
        config: &super::Config,
        name: &str,
        fits: impl FnOnce(&Pipeline) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let (host, Found { fit: pipelines, unfit }) = manifests(config)?;
        if let Some(faults) = unfit.get(name) {
            anyhow::bail!("the manifest of {name} has faults\n{faults}");
        }
        fits(lag::choose(&pipelines, Some(name), &unfit)?.remove(0))?;
        let mut client = open(&host, false)?;
        let place = client.place();
        let all = client.topics().with_context(|| format!("can't ask {place} for its topics"))?;
        let pipelines = with_topics(pipelines, &all);
        let pipeline = lag::choose(&pipelines, Some(name), &unfit)?.remove(0).clone();
        Ok(Self { host, pipeline, client, all })
    }

    /// After an outage a reader goes on by itself.
    pub(super) fn comes_back(&self) -> bool {
        self.host.broker == BrokerKind::Kafka
    }
}

/// Refuses inputs that an argument names and the pipeline does not have.
pub(super) fn check_inputs(pipeline: &Pipeline, named: &[String]) -> Result<(), WrongUse> {
    let Some(wrong) = named.iter().find(|input| !pipeline.input.contains(input)) else { return Ok(()) };
    let known = pipeline.input.join(", ");
    Err(WrongUse(format!("{wrong:?} is no input of {}: they are {known}", pipeline.name)))
}

/// Tells which pipelines were left out, and why. `all`: no other is there.
pub(super) fn tell_unfit(unfit: &BTreeMap<String, Faults>, all: bool) {
    if all && !unfit.is_empty() {
        terminal::say("keyrail: there is no pipeline to show: the manifests of all have faults");
    }
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

/// Why a topic of a manifest, which is not there, may be meant to be another one.
pub(super) fn missing(name: &str, place: &str, all: &[Topic]) -> String {
    let near = nearest(name, all.iter().map(|topic| topic.name.as_str()).filter(|other| *other != name));
    let cure = near.map_or_else(
        || "`keyrail topics` shows what the pipelines need".to_owned(),
        |near| format!("did you mean {near:?}?"),
    );
    format!("there is no topic {name:?} at {place}; {cure}")
}

/// The topics that arguments name, all of which must be there.
pub(super) fn topics(client: &mut dyn Client, names: &[String], cure: Option<&str>) -> anyhow::Result<Vec<Topic>> {
    let place = client.place();
    let all = client.topics().with_context(|| format!("can't ask {place} for its topics"))?;
    let found = |name: &String| {
        let found = all.iter().find(|topic| topic.name == *name);
        found.cloned().ok_or_else(|| WrongUse(unknown(name, &place, &all, cure)).into())
    };
    names.iter().map(found).collect()
}

/// What an argument may have meant that names no topic. `cure`: what else can be done.
fn unknown(name: &str, place: &str, all: &[Topic], cure: Option<&str>) -> String {
    let told = meant(name, all.iter().map(|topic| topic.name.as_str()));
    let told = told.unwrap_or_else(|| "there is none yet".to_owned());
    let or = if told.ends_with('?') { " Or " } else { "; " };
    let cure = cure.map_or_else(String::new, |cure| format!("{or}{cure}"));
    format!("there is no topic {name:?} at {place}; {told}{cure}")
}

/// That an argument names a partition which the topic does not have.
pub(super) fn no_partition(number: i32, topic: &str, partitions: i32) -> WrongUse {
    WrongUse(format!("there is no partition {number}: the topic {topic:?} has {partitions}, from 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_there_names_the_nearest_or_all() {
        let all = ["orders", "payments"].map(|name| Topic { name: name.to_owned(), partitions: 1 });
        let nearest = "there is no topic \"ordres\" at h:9092; did you mean \"orders\"?";
        assert_eq!(missing("ordres", "h:9092", &all), nearest);
        assert!(missing("x", "h:9092", &all).ends_with("at h:9092; `keyrail topics` shows what the pipelines need"));
        let create = Some("--create makes it");
        assert_eq!(unknown("ordres", "h:9092", &all, None), nearest);
        assert_eq!(unknown("ordres", "h:9092", &all, create), format!("{nearest} Or --create makes it"));
        assert!(unknown("x", "h:9092", &all, create).ends_with("; there are orders, payments; --create makes it"));
        assert!(unknown("x", "h:9092", &[], None).ends_with("h:9092; there is none yet"));
    }
}
