//! Code and manifests that change while two workers of a group run.

use crate::client::read_all;
use crate::feed::{Chance, Feed, plan};
use crate::kills::SHORT;
use crate::stage::{Setup, Stage, broker, guests};
use crate::worker::Worker;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const VERSIONS: u8 = 4;
const ROLLOUTS: &str = "keyrail_rollouts_total";

const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";
/// Each new version runs a third of the keys for a second before it serves.
const ROLLOUT: &str = "[rollout]\nshare = 0.34\nfor = \"1s\"\nleast-messages = 300";
/// What the scripted handler says of itself.
const MARK: &[u8] = b"scripted version: does well";
/// Marks of bad ones, as long.
const VICES: [&[u8]; 4] = [
    b"scripted version: does trap",
    b"scripted version: does fail",
    b"scripted version: does some",
    b"scripted version: does slow",
];
/// A version has so long to be promoted, or found out.
const TRIAL: Duration = Duration::from_secs(30);

/// The same handler with another digest: a custom section, as tools add them, changes nothing else.
fn version(base: &[u8], number: u32) -> Vec<u8> {
    [base, &[0, 6, 1, b'v'], &number.to_be_bytes()].concat()
}

/// As tools write it: beside, then in its place.
fn ship(handler: &Path, bytes: &[u8]) {
    fs::write(handler.with_extension("part"), bytes).unwrap();
    fs::rename(handler.with_extension("part"), handler).unwrap();
}

#[test]
fn swaps_and_restarts_under_load_lose_and_repeat_nothing_and_keep_order() {
    let test = "swaps_and_restarts_under_load_lose_and_repeat_nothing_and_keep_order";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { tables: RETRY, ..Setup::default() };
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
        ship(&handler, &version(&base, u32::from(number)));
        wait("swapped", number);
        if number == 2 {
            fs::write(&handler, b"no handler").unwrap();
            wait("refused", 1);
            fs::write(&handler, version(&base, u32::from(number))).unwrap();
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

/// `KEYRAIL_SWAPS=200 cargo xtask test versions_good_and_bad` for a longer run.
fn swaps() -> u32 {
    std::env::var("KEYRAIL_SWAPS").ok().map_or(24, |n| n.parse().expect("KEYRAIL_SWAPS is a number"))
}

/// The versions that come, one after the other.
struct Versions<'a> {
    base: &'a [u8],
    no_config: Vec<u8>,
    shipped: u32,
}

impl Versions<'_> {
    fn next(&mut self, base: &[u8]) -> Vec<u8> {
        self.shipped += 1;
        version(base, self.shipped)
    }

    fn good(&mut self) -> Vec<u8> {
        self.next(self.base)
    }

    /// One that loads, and does badly.
    fn bad(&mut self, vice: &[u8]) -> Vec<u8> {
        let at = self.base.windows(MARK.len()).position(|bytes| bytes == MARK).expect("the handler has its mark");
        let mut bytes = self.base.to_vec();
        bytes[at..at + MARK.len()].copy_from_slice(vice);
        assert!(!bytes.windows(MARK.len()).any(|bytes| bytes == MARK), "the mark is there once");
        self.next(&bytes)
    }

    /// One that can't serve at all: half a file, or one that opens with an error.
    fn broken(&mut self, chance: &mut Chance) -> Vec<u8> {
        if chance.below(2) == 0 {
            return self.base[..self.base.len() / 2].to_vec();
        }
        let bytes = self.no_config.clone();
        self.next(&bytes)
    }
}

/// How often the workers have said this, before they were killed and since.
fn said(stage: &Stage<'_>, words: &str) -> usize {
    let log = |number: usize| fs::read_to_string(stage.dir.join(format!("worker-{number}.log"))).unwrap_or_default();
    (0..2).map(|number| log(number).matches(words).count()).sum()
}

/// The version that serves all keys of a worker; `None` while one is on trial.
fn serves(worker: &Worker) -> Option<String> {
    let page = worker.get("/plugins")?.body;
    let digest = page.split("\"digest\":\"").nth(1)?.split('"').next()?.to_owned();
    page.contains("\"state\":\"active\"").then_some(digest)
}

fn wait_said(stage: &Stage<'_>, words: &str, more_than: usize) {
    let until = Instant::now() + TRIAL;
    while said(stage, words) <= more_than {
        assert!(Instant::now() < until, "nobody has said {words:?} within {TRIAL:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn versions_good_and_bad_with_kills_between_lose_and_repeat_nothing_and_keep_order() {
    const PROMOTED: &str = "the version on trial serves all keys now";
    const ROLLED_BACK: &str = "the version on trial is rolled back";
    const REFUSED: &str = "what ran before goes on";
    let test = "versions_good_and_bad_with_kills_between_lose_and_repeat_nothing_and_keep_order";
    let Some(kafka) = broker(test) else { return };
    let mut chance = Chance::new(test);
    let tables = &format!("{RETRY}\n{ROLLOUT}");
    let stage = Stage::new(test, kafka, &Setup { tables, kafka: SHORT, ..Setup::default() });
    let handler = stage.dir.join("plugins/scripted.wasm");
    let base = fs::read(&handler).unwrap();
    let no_config = fs::read(guests(test).unwrap().join("payments.wasm")).unwrap();
    let mut versions = Versions { base: &base, no_config, shipped: 0 };
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(kafka, &stage.input, plan(200, 1_000, 0), chance.clone());
    let (swaps, mut kills, mut refused) = (swaps(), 0, false);
    for swap in 1..=swaps {
        // What is refused twice for the same reason is told once.
        let kind = chance.below(if refused { 8 } else { 9 });
        refused = kind == 8;
        let expected = match kind {
            0..4 => PROMOTED,
            4..8 => ROLLED_BACK,
            _ => REFUSED,
        };
        let before = said(&stage, expected);
        let bytes = match kind {
            0..4 => versions.good(),
            4..8 => versions.bad(VICES[kind as usize - 4]),
            _ => versions.broken(&mut chance),
        };
        if expected == REFUSED {
            // A process that starts on a file that is no handler has nothing to run.
            workers.iter().for_each(Worker::wait_ready);
        }
        ship(&handler, &bytes);
        // At any moment of the load, of the trial, or after it.
        if expected != REFUSED && chance.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(chance.below(1_500)));
            let number = chance.below(2) as usize;
            workers[number].kill();
            workers[number] = Worker::start(&stage, number);
            kills += 1;
        }
        if chance.below(3) > 0 {
            wait_said(&stage, expected, before);
        }
        if swap % 10 == 0 {
            stage.say(&format!("{swap} of {swaps} versions, {kills} kills, {} messages sent", feed.sent()));
        }
    }
    let [promoted, rolled_back, refusals] = [PROMOTED, ROLLED_BACK, REFUSED].map(|words| said(&stage, words));
    stage.say(&format!("{promoted} times promoted, {rolled_back} times rolled back, {refusals} times refused"));
    assert!(promoted > 0 && rolled_back > 0, "both verdicts were reached");
    // A good one at last, and all is well.
    let before = [serves(&workers[0]), serves(&workers[1])];
    ship(&handler, &versions.good());
    let until = Instant::now() + TRIAL;
    loop {
        let now = [serves(&workers[0]), serves(&workers[1])];
        if now[0].is_some() && now[0] == now[1] && !before.contains(&now[0]) {
            break;
        }
        assert!(Instant::now() < until, "not both serve the last version: {now:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (outputs, letters) = feed.settle(&stage, &mut workers, LIMIT);
    outputs.must_hold_strictly(0);
    letters.must_hold_strictly(0);
}
