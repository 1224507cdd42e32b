//! Code and manifests that change while two workers of a group run.

use crate::client::read_all;
use crate::feed::{Chance, Feed, plan};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const VERSIONS: u8 = 4;
const ROLLOUTS: &str = "keyrail_rollouts_total";

/// The same handler with another digest: a custom section, as tools add them, changes nothing else.
fn version(base: &[u8], number: u8) -> Vec<u8> {
    let mut bytes = base.to_vec();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}

#[test]
fn swaps_and_restarts_under_load_lose_and_repeat_nothing_and_keep_order() {
    let test = "swaps_and_restarts_under_load_lose_and_repeat_nothing_and_keep_order";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";
    let setup = Setup { tables, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    let handler = stage.dir.join("plugins/scripted.wasm");
    let base = fs::read(&handler).unwrap();
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(kafka, &stage.input, plan(100, 1_000, 0), Chance::new(test));
    let wait = |result: &str, count: u8| {
        let label = format!("result=\"{result}\"");
        workers.iter().for_each(|worker| worker.wait_metric(ROLLOUTS, &[&label], |n| n == f64::from(count)));
    };
    for number in 1..=VERSIONS {
        let sent = feed.sent();
        while feed.sent() < sent + 500 {
            std::thread::sleep(Duration::from_millis(20));
        }
        // As tools write it: beside, then in its place.
        fs::write(handler.with_extension("part"), version(&base, number)).unwrap();
        fs::rename(handler.with_extension("part"), &handler).unwrap();
        wait("swapped", number);
        if number == 2 {
            fs::write(&handler, b"no handler").unwrap();
            wait("refused", 1);
            fs::write(&handler, version(&base, number)).unwrap();
        }
    }
    stage.say(&format!("{VERSIONS} versions were swapped in at {} messages", feed.sent()));
    // Another manifest: both workers drain and join anew.
    stage.write_manifest(&Setup { top: "batch.max-messages = 50", ..setup });
    wait("restarted", 1);
    workers.iter().for_each(Worker::wait_ready);
    let (outputs, letters) = feed.settle(&stage, &mut workers, LIMIT);
    outputs.must_hold_strictly(0);
    letters.must_hold_strictly(0);
    let versions: BTreeSet<String> =
        read_all(kafka, &stage.letters).iter().map(|l| l.told("keyrail-handler")).collect();
    // Which ones is chance: few messages fail for good. That each names its own is tested on the embedded broker.
    stage.say(&format!("dead letters name {versions:?}"));
    assert!(versions.iter().all(|version| version.starts_with("p@") && version.len() == 14), "{versions:?}");
}
