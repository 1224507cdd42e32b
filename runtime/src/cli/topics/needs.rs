//! The topics that pipelines need, each once, and how it stands.

use keyrail::broker::client::Client;
use keyrail::broker::topics::{Kept, dead_letter_settings};
use keyrail::broker::{BrokerError, BrokerErrorKind};
use keyrail::config::Pipeline;
use serde::Serialize;

const LARGEST: &str = "max.message.bytes";
const POLICY: &str = "cleanup.policy";

/// How a topic stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// There, and fit.
    Exists,
    /// Made by this command.
    Created,
    /// Not there.
    Missing,
    /// Not there, and not needed before it is used: a retry topic, before the first message is parked.
    Unused,
    /// There, and something about it does not fit.
    Differs,
}

impl State {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Created => "created",
            Self::Missing => "missing",
            Self::Unused => "unused",
            Self::Differs => "differs",
        }
    }
}

/// What a pipeline uses a topic for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Use {
    pub(super) pipeline: String,
    /// `input`, `output`, `audit`, `dead letters`, `seen ids`, `state` or `parked messages`.
    pub(super) role: &'static str,
    /// Of dead letters, seen ids, state and parked messages: the topic that they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<String>,
    /// Of seen ids, state and parked messages.
    #[serde(skip)]
    kept: Option<Kept>,
}

/// Something about a topic that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// `partitions`, or a setting by Kafka's name.
    pub(super) setting: &'static str,
    pub(super) has: String,
    pub(super) needs: String,
}

/// A topic that pipelines need.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Need {
    pub(super) topic: String,
    pub(super) state: State,
    /// `None` while it is missing.
    pub(super) partitions: Option<i32>,
    pub(super) needed_by: Vec<Use>,
    /// What does not fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differs: Vec<Difference>,
    /// What it is made with: partitions (`None`: the broker's default) and settings.
    #[serde(skip)]
    pub(super) make_partitions: Option<i32>,
    #[serde(rename = "settings")]
    pub(super) make: Vec<Setting>,
    #[serde(skip)]
    pub(super) made: bool,
}

/// A setting that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
}

impl Need {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            state: State::Missing,
            partitions: None,
            needed_by: Vec::new(),
            differs: Vec::new(),
            make_partitions: None,
            make: Vec::new(),
            made: false,
        }
    }

    /// The input whose dead letters, seen ids, state or parked messages go here.
    fn own_of(&self) -> Option<&str> {
        self.needed_by.iter().find_map(|other| other.input.as_deref())
    }

    fn kept(&self) -> Option<Kept> {
        self.needed_by.iter().find_map(|other| other.kept)
    }

    pub(super) fn make_settings(&self) -> Vec<(String, String)> {
        self.make.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect()
    }

    pub(super) fn uses(&self) -> String {
        let told = self.needed_by.iter().map(|one| format!("{} of {}", one.role, one.pipeline));
        told.collect::<Vec<_>>().join(", ")
    }

    /// What differs, or what it would be made with.
    pub(super) fn settings_told(&self) -> String {
        let differs = self.differs.iter().map(|d| format!("{} is {}, needs {}", d.setting, d.has, d.needs));
        let made = self.make.iter().map(|setting| format!("{}={}", setting.name, setting.value));
        if self.differs.is_empty() { made.collect::<Vec<_>>() } else { differs.collect() }.join(", ")
    }
}

/// Each topic once, inputs before outputs before dead letters before seen ids before state before what is parked.
pub(super) fn collect(pipelines: &[Pipeline]) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let mut add = |topic: &str, pipeline: &Pipeline, role, input: Option<(&String, Option<Kept>)>| {
        let kept = input.and_then(|(_, kept)| kept);
        let one = Use { pipeline: pipeline.name.clone(), role, input: input.map(|(input, _)| input.clone()), kept };
        let place = needs.iter().position(|need| need.topic == topic).unwrap_or_else(|| {
            needs.push(Need::new(topic));
            needs.len() - 1
        });
        if !needs[place].needed_by.contains(&one) {
            needs[place].needed_by.push(one);
        }
    };
    for pipeline in pipelines {
        pipeline.input.iter().for_each(|topic| add(topic, pipeline, "input", None));
    }
    for pipeline in pipelines {
        pipeline.outputs.iter().for_each(|(_, topic)| add(topic, pipeline, "output", None));
        pipeline.audit.iter().for_each(|topic| add(topic, pipeline, "audit", None));
    }
    for pipeline in pipelines {
        for (input, topic) in pipeline.input.iter().zip(&pipeline.dead_letter.topics) {
            add(topic, pipeline, "dead letters", Some((input, None)));
        }
    }
    for pipeline in pipelines {
        let Some(seen) = &pipeline.seen else { continue };
        let kept = Some(Kept::Ids { window: seen.window });
        pipeline
            .input
            .iter()
            .zip(&seen.topics)
            .for_each(|(input, t)| add(t, pipeline, "seen ids", Some((input, kept))));
    }
    for pipeline in pipelines {
        let Some(state) = &pipeline.state else { continue };
        let kept = Some(Kept::State);
        pipeline.input.iter().zip(&state.topics).for_each(|(input, t)| add(t, pipeline, "state", Some((input, kept))));
    }
    for pipeline in pipelines {
        let Some(parked) = &pipeline.parked else { continue };
        let kept = Some(Kept::Parked);
        let all = pipeline.input.iter().zip(&parked.topics);
        all.for_each(|(input, t)| add(t, pipeline, "parked messages", Some((input, kept))));
    }
    needs
}

/// What topics are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Make {
    /// Partitions of inputs and outputs; `None`: the broker's default.
    pub(super) partitions: Option<i32>,
    /// The broker keeps its logs in segments.
    pub(super) segments: bool,
}

/// Looks at each topic.
pub(super) fn examine(client: &mut dyn Client, needs: &mut [Need], make: Make) -> Result<(), BrokerError> {
    let all = client.topics()?;
    let count = |name: &str| all.iter().find(|topic| topic.name == name).map(|topic| topic.partitions);
    for need in needs {
        need.partitions = count(&need.topic);
        need.differs.clear();
        need.make_partitions = make.partitions;
        if let Some(input) = need.own_of().map(str::to_owned) {
            let needed = need.needed_by.iter().filter_map(|one| count(one.input.as_deref()?)).max();
            need.make_partitions = needed.or(make.partitions);
            let has = match need.partitions {
                Some(has) => Some((has, settings(client, &need.topic)?)),
                None => None,
            };
            let limit = match count(&input) {
                Some(_) => largest(client, &input)?,
                None => None,
            };
            let wanted = if let Some(kept) = need.kept() {
                need.differs = has.map_or_else(Vec::new, |(has, settings)| of_kept(has, needed, &settings, kept));
                kept.settings(make.segments, limit)
            } else {
                need.differs = has.map_or_else(Vec::new, |(has, settings)| differences(has, needed, &settings, limit));
                dead_letter_settings(limit)
            };
            need.make = wanted.into_iter().map(|(name, value)| Setting { name, value }).collect();
        }
        need.state = match need.partitions {
            None if need.kept() == Some(Kept::Parked) => State::Unused,
            None => State::Missing,
            Some(_) if !need.differs.is_empty() => State::Differs,
            Some(_) if need.made => State::Created,
            Some(_) => State::Exists,
        };
    }
    Ok(())
}

/// The largest batch that a topic takes, where that is known.
pub(in crate::cli) fn largest(client: &mut dyn Client, topic: &str) -> Result<Option<i64>, BrokerError> {
    Ok(number(&settings(client, topic)?, LARGEST))
}

type Settings = Vec<(String, String)>;

/// Nothing without the right to ask: what is not known is not called wrong.
fn settings(client: &mut dyn Client, topic: &str) -> Result<Settings, BrokerError> {
    match client.settings(topic) {
        Err(error) if error.kind == BrokerErrorKind::Operator => Ok(Vec::new()),
        other => other,
    }
}

fn number(settings: &Settings, name: &str) -> Option<i64> {
    settings.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.parse().ok())
}

/// Where a topic for seen ids, state or parked messages does not fit its input, or loses what counts.
fn of_kept(has: i32, needed: Option<i32>, settings: &Settings, kept: Kept) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(needed) = needed.filter(|needed| has != *needed) {
        found.push(Difference { setting: "partitions", has: has.to_string(), needs: needed.to_string() });
    }
    let unfit = kept.unfit(settings).into_iter();
    found.extend(unfit.map(|u| Difference { setting: u.setting, has: u.has, needs: u.needs }));
    found
}

/// Where a topic for dead letters does not fit its input.
fn differences(has: i32, needed: Option<i32>, settings: &Settings, input_limit: Option<i64>) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(needed) = needed.filter(|needed| has < *needed) {
        found.push(Difference { setting: "partitions", has: has.to_string(), needs: needed.to_string() });
    }
    if let Some((_, policy)) = settings.iter().find(|(name, value)| name == POLICY && value.contains("compact")) {
        found.push(Difference { setting: POLICY, has: policy.clone(), needs: "delete".to_owned() });
    }
    let (limit, input_limit) = (number(settings, LARGEST), input_limit);
    if let (Some(limit), Some(input_limit)) = (limit, input_limit)
        && limit < input_limit
    {
        found.push(Difference { setting: LARGEST, has: limit.to_string(), needs: input_limit.to_string() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Settings {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn dead_letters_need_as_many_partitions_no_compaction_and_room() {
        let told = |has, settings: &Settings| {
            let all = differences(has, Some(6), settings, Some(1000));
            all.into_iter().map(|d| format!("{} {} {}", d.setting, d.has, d.needs)).collect::<Vec<_>>()
        };
        let fit = pairs(&[("cleanup.policy", "delete"), ("max.message.bytes", "1000")]);
        assert_eq!(told(6, &fit), [""; 0]);
        assert_eq!(told(7, &fit), [""; 0]);
        let unfit = pairs(&[("cleanup.policy", "compact,delete"), ("max.message.bytes", "999")]);
        assert_eq!(
            told(1, &unfit),
            ["partitions 1 6", "cleanup.policy compact,delete delete", "max.message.bytes 999 1000"]
        );
        // What may not be asked is not called wrong.
        assert_eq!(told(6, &Vec::new()), [""; 0]);
    }

    #[test]
    fn seen_ids_need_as_many_partitions_and_their_time() {
        let kept = Kept::Ids { window: std::time::Duration::from_secs(3600) };
        let told = |has, settings: &Settings| {
            let all = of_kept(has, Some(6), settings, kept);
            all.into_iter().map(|d| format!("{} {} {}", d.setting, d.has, d.needs)).collect::<Vec<_>>()
        };
        let fit = kept.settings(true, None);
        assert_eq!(told(6, &fit), [""; 0]);
        assert_eq!(told(7, &fit), ["partitions 7 6"]);
        let unfit = pairs(&[("cleanup.policy", "delete"), ("retention.ms", "60000")]);
        assert_eq!(told(5, &unfit), ["partitions 5 6", "retention.ms 60000 7200000"]);
    }
}
