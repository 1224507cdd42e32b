//! Versions of a handler whose state has other forms: one that can't read what is there does not serve.

use super::{AT_LEAST_ONCE, Counting, RETRY, TOPIC};
use crate::commands::run;
use crate::run::PARTITIONS;
use crate::shipping::Served;
use crate::support::{all, text, version};
use std::collections::BTreeSet;
use std::fs;

/// Another manifest takes its place: `tables` are all that follows what is always there.
fn rewrite(counting: &Counting, tables: &str) {
    let path = counting.play.folder.path().join("plugins/p.toml");
    let top = "handler = \"p.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n";
    fs::write(path.with_extension("part"), format!("{top}{tables}")).unwrap();
    fs::rename(path.with_extension("part"), path).unwrap();
}

/// The marks that stand, in whatever partition.
fn marks(counting: &Counting) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    for record in all(counting.play.client().as_mut(), TOPIC, PARTITIONS) {
        let Some((0, name)) = record.key().and_then(|key| key.split_first()) else { continue };
        let name = text(Some(name)).to_owned();
        if record.value().is_some() {
            marks.insert(name)
        } else {
            marks.remove(&name)
        };
    }
    marks
}

#[test]
fn a_version_that_can_t_read_the_state_is_refused_and_one_that_can_goes_on_with_it() {
    others(Counting::new("a_version_that_can_t_read_the_state_is_refused_and_one_that_can_goes_on_with_it", ""), "");
}

#[test]
fn so_it_is_with_at_least_once() {
    others(Counting::new("so_it_is_with_at_least_once", AT_LEAST_ONCE), AT_LEAST_ONCE);
}

fn others(counting: Option<Counting>, guarantee: &str) {
    let Some(mut counting) = counting else { return };
    let tables = |state: &str| format!("{RETRY}{guarantee}{state}");
    let served = Served::start(&counting.play.folder);
    counting.say(&served.child, "k", &["a", "b"]);
    let before = served.log();
    rewrite(&counting, &tables("state.schema = 2\n"));
    served.says(&before, &["what ran before goes on", "what runs has state of schema 1, and the manifest's is 2: "]);
    counting.say(&served.child, "k", &["c"]);
    let before = served.log();
    rewrite(&counting, &tables("state = { schema = 2, accepts = [1] }\n"));
    served.says(&before, &["the manifest changed: the pipeline drains and starts anew"]);
    counting.say(&served.child, "k", &["d", "fail 1 e"]);
    // Below the schema that runs: what it has written itself counts, too.
    let before = served.log();
    rewrite(&counting, &tables(""));
    served.says(&before, &["what ran before goes on", "what runs has state of schema 2, and the manifest's is 1: "]);
    counting.say(&served.child, "other", &["a"]);
    served.stop();
    assert_eq!(marks(&counting), ["1", "2"].map(str::to_owned).into());
    for (state, missing, own) in [
        ("", "2", "1"),
        ("state.schema = 3\n", "1", "3"),
        ("state = { schema = 3, accepts = [2] }\n", "1", "3 and accepts 2"),
    ] {
        rewrite(&counting, &tables(state));
        let (code, _, err) = run(&counting.play.folder, &["run"], "");
        assert_ne!(code, 0, "{state}: {err}");
        for part in [format!("holds state of schema {missing}"), format!("and the manifest's is {own}: ")] {
            assert!(err.contains(&part), "{state}: {part}\n{err}");
        }
    }
    rewrite(&counting, &tables("state = { schema = 3, accepts = [1, 2] }\n"));
    let served = Served::start(&counting.play.folder);
    counting.say(&served.child, "k", &["f"]);
    counting.say(&served.child, "other", &["b"]);
    served.stop();
    counting.judge();
    assert_eq!(marks(&counting), ["1", "2", "3"].map(str::to_owned).into());
    // Without the state anybody may begin.
    let forget = ["rewind", "p", "--to", "here", "--state", "forget"];
    let (code, out, err) = run(&counting.play.folder, &forget, "");
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(marks(&counting), BTreeSet::new());
    counting.counts.clear();
    rewrite(&counting, &tables(""));
    let served = Served::start(&counting.play.folder);
    counting.say(&served.child, "k", &["g", "h"]);
    served.stop();
    counting.judge();
}

/// The one before would write its own form under the new number.
#[test]
fn a_version_of_another_schema_is_not_tried_beside_the_one_before() {
    const ROLLOUT: &str = "[rollout]\nshare = 0.5\nfor = \"1h\"\n";
    let test = "a_version_of_another_schema_is_not_tried_beside_the_one_before";
    let Some(mut counting) = Counting::new(test, ROLLOUT) else { return };
    let plugins = counting.play.folder.path().join("plugins");
    let served = Served::start(&counting.play.folder);
    counting.say(&served.child, "k", &["a", "b"]);
    let base = fs::read(plugins.join("p.wasm")).unwrap();
    fs::write(plugins.join("p2.wasm"), version(&base, 1)).unwrap();
    let before = served.log();
    let manifest = fs::read_to_string(plugins.join("p.toml")).unwrap().replace("p.wasm", "p2.wasm");
    let manifest = manifest.replace(ROLLOUT, &format!("state = {{ schema = 2, accepts = [1] }}\n{ROLLOUT}"));
    fs::write(plugins.join("p.part"), manifest).unwrap();
    fs::rename(plugins.join("p.part"), plugins.join("p.toml")).unwrap();
    served.says(&before, &["the folder's serves at once", "its state is of schema 1, and the manifest's is 2"]);
    for key in ["k", "l", "m", "n"] {
        counting.say(&served.child, key, &["c", "fail 1 d"]);
    }
    assert!(!served.log().contains("a version is on trial"), "{}", served.log());
    served.stop();
    counting.judge();
    assert_eq!(marks(&counting), ["1", "2"].map(str::to_owned).into());
}
