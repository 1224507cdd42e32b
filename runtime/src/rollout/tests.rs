use super::*;
use crate::config;
use std::path::Path;

/// Resolves a manifest; its handler counts as there.
fn manifest(name: &str, more: &str) -> Pipeline {
    config::for_tests(name, &format!("handler = \"h.wasm\"\ninput = [\"in\"]\n{more}"))
}

fn version<'a>(manifest: &'a Pipeline, digest: &'a str) -> Version<'a> {
    Version { manifest, digest }
}

#[test]
fn what_changed_decides_what_is_done() {
    let (a, b) = (manifest("p", ""), manifest("p", "[batch]\nmax-messages = 7\n"));
    assert_ne!(a, b);
    assert_eq!(a.manifest, Path::new("plugins").join("p.toml"));
    let step = |known: Option<(&Pipeline, &str, bool)>, present: Option<Present<'_>>| {
        let known = known.map(|(m, d, failed)| ("p", Known { version: version(m, d), failed })).into_iter().collect();
        let present = present.map(|present| ("p", present)).into_iter().collect();
        steps(&known, &present).first().map(|(_, step)| *step)
    };
    let fit = |m, d| Some(Present::Fit(version(m, d)));
    let pinned = |digit: &str| manifest("p", &format!("sha256 = \"{}\"\n", digit.repeat(64)));
    let (one, two) = (pinned("1"), pinned("2"));
    assert_eq!(step(Some((&one, "1", false)), fit(&two, "2")), Some(Step::Swap), "its digest goes with the handler");
    assert_eq!(step(Some((&a, "1", false)), fit(&one, "1")), None);
    assert_eq!(step(None, fit(&a, "1")), Some(Step::Start));
    assert_eq!(step(Some((&a, "1", false)), fit(&a, "1")), None);
    assert_eq!(step(Some((&a, "1", false)), fit(&a, "2")), Some(Step::Swap));
    assert_eq!(step(Some((&a, "1", false)), fit(&b, "1")), Some(Step::Restart));
    assert_eq!(step(Some((&a, "1", false)), fit(&b, "2")), Some(Step::Restart));
    assert_eq!(step(Some((&a, "1", false)), None), Some(Step::Drain));
    assert_eq!(step(Some((&a, "1", false)), Some(Present::Unfit)), None, "what runs goes on");
    assert_eq!(step(None, Some(Present::Unfit)), None);
    assert_eq!(step(Some((&a, "1", true)), fit(&a, "1")), None, "nothing changed: it would fail again");
    assert_eq!(step(Some((&a, "1", true)), fit(&a, "2")), Some(Step::Start), "nothing runs that could be swapped");
    assert_eq!(step(Some((&a, "1", true)), fit(&b, "1")), Some(Step::Start));
}

#[test]
fn what_goes_is_told_to_before_what_comes_is_started() {
    let a = manifest("a", "");
    let known = [("z", Known { version: version(&a, "1"), failed: false })].into_iter().collect();
    let present = [("a", Present::Fit(version(&a, "1")))].into_iter().collect();
    assert_eq!(steps(&known, &present), [("z", Step::Drain), ("a", Step::Start)]);
}

#[test]
fn one_group_on_one_input_is_one_pipeline_s() {
    let (a, other, elsewhere) = (manifest("a", "group = \"g\""), manifest("b", "group = \"g\""), manifest("c", ""));
    let found = |name: &str, found: &Pipeline, leaving: bool, file: Option<&Pipeline>| {
        let running = [("a", Runner { manifest: &a, leaving, file })].into_iter().collect();
        rival(name, found, &running).map(|(other, leaving)| (other.to_owned(), leaving))
    };
    assert_eq!(found("b", &other, false, None), Some(("a".to_owned(), false)), "its file is at fault: it goes on");
    assert_eq!(found("b", &other, false, Some(&a)), Some(("a".to_owned(), false)));
    assert_eq!(found("b", &other, false, Some(&elsewhere)), None, "it is about to take another group");
    assert_eq!(found("b", &other, true, None), Some(("a".to_owned(), true)), "renamed: it drains first");
    assert_eq!(found("a", &other, false, None), None, "itself");
    assert_eq!(found("c", &elsewhere, false, None), None);
}

#[test]
fn how_a_pipeline_ended_decides_how_the_process_does() {
    use crate::pipeline::{Ended, Failure};
    let why = || "why".to_owned();
    let ends = [Ok(()), Err(Failure::Person(why())), Err(Failure::Stop(why())), Err(Failure::Fenced(why()))];
    let ends: Vec<Ended> = ends.iter().map(Ended::of).collect();
    assert_eq!(ends, [Ended::Stopped, Ended::Failed, Ended::Failed, Ended::Fenced]);
    assert_eq!(ends.into_iter().max(), Some(Ended::Fenced), "of several ends the worst counts");
}
