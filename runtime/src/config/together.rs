//! What must hold between the pipelines of a folder.

use super::client::STATIC_MEMBER;
use super::document::join;
use super::fault::{Fault, Place};
use super::manifest::Manifest;
use super::{Host, Pipeline, client, topic};
use keyrail_engine::policy::{Guarantee, Scope};

/// Finds what no manifest can know alone.
pub(super) fn check(manifests: &[Manifest], faults: &mut Vec<Fault>) {
    for (index, manifest) in manifests.iter().enumerate() {
        for other in &manifests[..index] {
            shared_group(manifest, other, faults);
            shared_topics(manifest, other, faults);
        }
        dead_letters(manifest, manifests, faults);
        internal_topics(manifest, manifests, faults);
    }
}

/// Of two processes with one static id the older is not told at once that it was replaced; until then it could commit for
/// partitions that are the other's, and with them the effects of a transaction. `place`: where the id is written.
pub(super) fn static_member(place: &Place, pipelines: &[Pipeline]) -> Option<Fault> {
    let exactly = pipelines.iter().find(|pipeline| pipeline.policy.guarantee == Guarantee::ExactlyOnce)?;
    let problem = format!("does not go with guarantee = \"exactly-once\" of {}", exactly.name);
    let cure =
        "remove it: a member that was replaced under its id could still commit. Or set guarantee = \"at-least-once\"";
    Some(place.fault(&join("kafka", STATIC_MEMBER), problem, cure))
}

/// Where inputs share their keys, one member must get the same partition number of all of them. `place`: where it is written what
/// is against that.
pub(super) fn shared_keys(place: &Place, host: &Host, pipelines: &[Pipeline]) -> Option<Fault> {
    let shared = pipelines.iter().find(|pipeline| pipeline.policy.order.scope == Scope::Inputs)?;
    let (name, problem, cure) = client::against_range(&host.kafka)?;
    Some(place.fault(&join("kafka", name), format!("{problem} ({})", shared.name), cure))
}

/// Two pipelines of one group would each get a part of the partitions of an input that both read.
fn shared_group(manifest: &Manifest, other: &Manifest, faults: &mut Vec<Fault>) {
    let (pipeline, earlier) = (&manifest.pipeline, &other.pipeline);
    let Some(shared) = pipeline.input.iter().find(|input| earlier.input.contains(input)) else { return };
    if pipeline.group == earlier.group {
        let problem = format!("{} reads {shared:?} with the group {:?} too", earlier.name, earlier.group);
        faults.push(manifest.group.fault("group", problem, "give each pipeline a group of its own"));
    }
}

/// Group and topic may hold dots, so that two pairs of them make one name; each pipeline would take the other's seen ids,
/// state and parked messages for its own. Whether a handler has state is not known yet.
fn shared_topics(manifest: &Manifest, other: &Manifest, faults: &mut Vec<Fault>) {
    let (pipeline, earlier) = (&manifest.pipeline, &other.pipeline);
    if pipeline.group == earlier.group {
        return;
    }
    let stem = |of: &Pipeline, input: &String| format!("{}.{input}", of.group);
    let before: Vec<String> = earlier.input.iter().map(|input| stem(earlier, input)).collect();
    let shared = pipeline.input.iter().map(|input| stem(pipeline, input)).find(|stem| before.contains(stem));
    if let Some(shared) = shared {
        let problem = format!(
            "its topics of seen ids, state and what is parked, \"{shared}.*\", would be those of {} too",
            earlier.name
        );
        faults.push(manifest.group.fault("group", problem, "name the group so that GROUP.TOPIC differs"));
    }
}

/// Dead letters that come back as input go round for ever.
fn dead_letters(manifest: &Manifest, manifests: &[Manifest], faults: &mut Vec<Fault>) {
    let mut told: Vec<&str> = Vec::new();
    for dead in &manifest.pipeline.dead_letter.topics {
        let reader = manifests.iter().map(|other| &other.pipeline).find(|other| other.input.contains(dead));
        let Some(reader) = reader.filter(|_| !told.contains(&dead.as_str())) else { continue };
        told.push(dead);
        let whose = if reader.name == manifest.pipeline.name { "this pipeline" } else { &reader.name };
        let problem = format!("the dead letters' topic {dead:?} is an input of {whose}");
        faults.push(manifest.dead_letter.fault(
            "dead-letter.topic",
            problem,
            "give the dead letters a topic of their own",
        ));
    }
}

/// Topics that Keyrail makes for itself are nobody's input or output.
fn internal_topics(manifest: &Manifest, manifests: &[Manifest], faults: &mut Vec<Fault>) {
    let pipeline = &manifest.pipeline;
    let inputs = pipeline.input.iter().zip(&manifest.input).map(|(topic, place)| ("input".to_owned(), topic, place));
    let outputs = pipeline.outputs.iter().zip(&manifest.outputs);
    let outputs = outputs.map(|((name, topic), place)| (super::document::join("output", name), topic, place));
    for (key, name, place) in inputs.chain(outputs) {
        if let Some(owner) = manifests.iter().find(|other| is_internal(name, other)) {
            let problem = format!("{name:?} is internal to {}", owner.pipeline.name);
            push(faults, place, &key, problem);
        }
    }
}

fn push(faults: &mut Vec<Fault>, place: &Place, key: &str, problem: String) {
    faults.push(place.fault(key, problem, "name another topic"));
}

fn is_internal(name: &str, manifest: &Manifest) -> bool {
    let Some((stem, end)) = name.rsplit_once('.') else { return false };
    let Some(input) = stem.strip_prefix(manifest.pipeline.group.as_str()).and_then(|rest| rest.strip_prefix('.'))
    else {
        return false;
    };
    topic::INTERNAL.contains(&end) && manifest.pipeline.input.iter().any(|known| known == input)
}
