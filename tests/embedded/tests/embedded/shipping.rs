//! What a handler must show before it serves: that it passes its probe, and who signed it.

use crate::commands::{command, run};
use crate::run::{PARTITIONS, beside, guests, options, written};
use crate::support::{Folder, SOON, WAIT, all, ended, produce, send, text, topic, version};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GIVEN: &str = "plugins/p.fixtures.jsonl";
const EXPECTED: &str = "plugins/p.fixtures.expected.jsonl";

/// `keyrail run`, killed if the test ends before it does.
pub(crate) struct Served {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Served {
    pub(crate) fn start(folder: &Folder) -> Self {
        let log = folder.path().join("log");
        let mut command = command(folder, &["run"]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The first line with all of these that was not there before.
    pub(crate) fn says(&self, before: &str, parts: &[&str]) -> String {
        let end = Instant::now() + SOON;
        loop {
            let log = self.log();
            let new = log.get(before.len()..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "{parts:?} is not said:\n{new}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success());
        let status = ended(&mut self.child, WAIT, &"run");
        assert!(status.success(), "{}", self.log());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A folder whose pipeline `p` runs this handler. `plugins`: more of `[plugins]`.
fn stage(handler: &[u8], plugins: &str) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    let host = format!(
        "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\nlogging.format = \"text\"\n\
         [plugins]\npoll = \"1s\"\n{plugins}"
    );
    put(&folder, "keyrail.toml", host.as_bytes());
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    for name in ["in", "out"] {
        topic(client.as_mut(), name, PARTITIONS, &[]);
    }
    put(&folder, "plugins/p.wasm", handler);
    let manifest = "handler = \"p.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\nlimits.timeout = \"500ms\"\nretry.attempts = 1\n";
    put(&folder, "plugins/p.toml", manifest.as_bytes());
    folder
}

/// Renamed into place.
fn put(folder: &Folder, name: &str, bytes: &[u8]) {
    let path = folder.path().join(name);
    fs::write(path.with_extension("part"), bytes).unwrap();
    fs::rename(path.with_extension("part"), path).unwrap();
}

fn remove(folder: &Folder, name: &str) {
    fs::remove_file(folder.path().join(name)).unwrap();
}

/// A message that is to come out as this id.
fn message(id: &str) -> String {
    format!("{{\"do\":\"done\",\"id\":\"{id}\"}}")
}

/// Sends one, and waits for what comes of it: the last record of the output.
fn comes(client: &mut dyn Client, id: &str) -> String {
    let before = written(client, "out");
    let value = message(id);
    send(client, &[produce("in", "k", &value)]);
    let end = Instant::now() + SOON;
    while written(client, "out") == before {
        assert!(Instant::now() < end, "nothing comes of {id}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let newest = all(client, "out", PARTITIONS).into_iter().max_by_key(|record| record.offset).unwrap();
    text(newest.value()).to_owned()
}

fn update(folder: &Folder) {
    let (code, out, err) = run(folder, &["test", GIVEN, "--update"], "");
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn what_fails_its_probe_is_refused_and_the_old_one_serves_until_one_that_passes_comes() {
    let test = "what_fails_its_probe_is_refused_and_the_old_one_serves_until_one_that_passes_comes";
    let Some(guests) = guests(test) else { return };
    let scripted = fs::read(guests.join("scripted.wasm")).unwrap();
    let folder = stage(&scripted, "");
    let line = serde_json::json!({ "key": "a", "value": message("7") });
    put(&folder, GIVEN, format!("{line}\n").as_bytes());
    update(&folder);
    let served = Served::start(&folder);
    let mut client = beside(&folder, &served.child);
    served.says("", &["INFO", "the handler passes its probe"]);
    assert_eq!(comes(client.as_mut(), "one"), "one");
    // Another handler, which sends whole values on.
    let before = served.log();
    put(&folder, "plugins/p.wasm", &fs::read(guests.join("identity.wasm")).unwrap());
    let told = served.says(&before, &["what ran before goes on"]);
    // Quotes of quotes.
    let told = told.replace('\\', "");
    for part in [
        "a handler is not fit to run",
        "plugins/p.wasm: does not pass its probe: plugins/p.fixtures.expected.jsonl:1: expected {\"message\":\"in/0@0\"",
        ", came {\"message\":\"in/0@0\"",
        "`keyrail test plugins/p.fixtures.jsonl` shows all of it",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert_eq!(comes(client.as_mut(), "two"), "two");
    let (code, out, _) = run(&folder, &["check"], "");
    assert!(code == 1 && out.contains("does not pass its probe: plugins/p.fixtures.expected.jsonl:1: "), "{out}");
    // One that passes.
    let before = served.log();
    put(&folder, "plugins/p.wasm", &version(&scripted, 2));
    served.says(&before, &["the handler is swapped"]);
    assert_eq!(comes(client.as_mut(), "three"), "three");
    let (code, out, _) = run(&folder, &["check"], "");
    assert!(code == 0 && out.contains("p passes it"), "{out}");
    // The probe alone changes: what runs goes on, and who reads the log knows in time.
    let before = served.log();
    let expected = fs::read_to_string(folder.path().join(EXPECTED)).unwrap();
    put(&folder, EXPECTED, expected.replace("\"value\":\"7\"", "\"value\":\"8\"").as_bytes());
    served.says(&before, &["what runs would be refused at its next start", "what ran before goes on", "does not pass"]);
    assert_eq!(comes(client.as_mut(), "four"), "four");
    let before = served.log();
    put(&folder, EXPECTED, expected.as_bytes());
    served.says(&before, &["the folder holds what runs again"]);
    // A handler that was refused is taken once its probe is another, though its own file is the same.
    let before = served.log();
    put(&folder, "plugins/p.wasm", &fs::read(guests.join("identity.wasm")).unwrap());
    served.says(&before, &["what ran before goes on", "does not pass its probe"]);
    update(&folder);
    served.says(&before, &["the handler is swapped"]);
    assert_eq!(comes(client.as_mut(), "five"), message("five"));
    drop(client);
    served.stop();
    // At a start.
    put(&folder, "plugins/p.wasm", &scripted);
    let (code, _, err) = run(&folder, &["run"], "");
    assert!(code == 1 && err.contains("nothing was started") && err.contains("does not pass its probe"), "{err}");
}

#[test]
fn a_probe_that_is_none_is_told_by_check_with_its_place_and_cure() {
    let test = "a_probe_that_is_none_is_told_by_check_with_its_place_and_cure";
    let Some(guests) = guests(test) else { return };
    let folder = stage(&fs::read(guests.join("scripted.wasm")).unwrap(), "");
    let told = |given: &str, expected: &str| {
        put(&folder, GIVEN, given.as_bytes());
        put(&folder, EXPECTED, expected.as_bytes());
        let (code, out, err) = run(&folder, &["check"], "");
        assert_eq!(code, 1, "{given}: {out}{err}");
        let line = out.lines().find(|line| line.starts_with("FAULT")).unwrap_or_else(|| panic!("{out}")).to_owned();
        assert!(out.contains("`keyrail test plugins/p.fixtures.jsonl` shows all of it"), "{out}");
        line
    };
    let fine = format!("{}\n", serde_json::json!({ "key": "a", "value": message("7") }));
    for (given, expected, part) in [
        ("", "", "plugins/p.fixtures.jsonl has no message: a line each, as"),
        ("{\"advance\":\"1h\"}\n", "", "plugins/p.fixtures.jsonl has no message"),
        (&format!("{fine}{{\"value\":}}\n"), "", "plugins/p.fixtures.jsonl:2:10: "),
        (&format!("{fine}{{\"vaule\":\"\"}}\n"), "", "plugins/p.fixtures.jsonl:2: \"value\" is missing"),
        (&format!("{{\"pipeline\":\"q\"}}\n{fine}"), "", "it names the pipeline \"q\", and is that of \"p\""),
        (&fine, "{\"outcome\":\n", "plugins/p.fixtures.expected.jsonl: line 1 of what is expected is no JSON"),
        (&fine, "", "plugins/p.fixtures.expected.jsonl:1: expected no further line, came {\"message\":\"in/0@0\""),
    ] {
        let told = told(given, expected);
        assert!(told.contains("does not pass its probe: ") && told.contains(part), "{part}\n{told}");
    }
    // A handler that never ends, message after message: the probe ends.
    let endless =
        format!("{}\n", serde_json::json!({ "key": "a", "value": "{\"do\":\"loop\",\"id\":\"\"}" })).repeat(200);
    let began = Instant::now();
    let told = told(&endless, "");
    assert!(told.contains("plugins/p.fixtures.jsonl: it is not through after 10 s"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // A name that is no pipeline's.
    for (from, to) in [(GIVEN, "plugins/q.fixtures.jsonl"), (EXPECTED, "plugins/q.fixtures.expected.jsonl")] {
        fs::rename(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    let (code, out, _) = run(&folder, &["check"], "");
    assert!(code == 1 && out.matches("a probe without a pipeline: there is no q.toml beside it").count() == 2, "{out}");
}

#[test]
fn only_what_a_trusted_key_has_signed_serves() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let handler = fs::read(here.join("../guests/frozen/handler-0.1.0.wasm")).unwrap();
    let signature = |name: &str| fs::read(here.join("tests/signed").join(format!("{name}.minisig"))).unwrap();
    let keys =
        "trusted-keys = [\"RWTmQBp4AWocVsISO4epq6Gn0U/Cpw1aAuRwe6cBApiYeasWgjITqEdV\"]\nrequire-signature = true\n";
    let folder = stage(&handler, keys);
    let (code, out, _) = run(&folder, &["check"], "");
    assert!(code == 1 && out.contains("is not signed, and plugins.require-signature asks for it"), "{out}");
    let (code, _, err) = run(&folder, &["run"], "");
    assert!(code == 1 && err.contains("nothing was started") && err.contains("p.wasm: is not signed"), "{err}");
    put(&folder, "plugins/p.wasm.minisig", &signature("first"));
    let served = Served::start(&folder);
    let mut client = beside(&folder, &served.child);
    assert!(comes(client.as_mut(), "one").contains("in/"), "it runs");
    // The next version comes before its signature: what lies there is that of the one before.
    let before = served.log();
    put(&folder, "plugins/p.wasm", &version(&handler, 2));
    served.says(
        &before,
        &["what ran before goes on", "is not what was signed: plugins/p.wasm.minisig, by a trusted key"],
    );
    comes(client.as_mut(), "two");
    for (wrong, said) in [
        (signature("second-by-another"), "is signed by the key 5B3DE25F0899A700"),
        (signature("second")[..150].to_vec(), "is no signature of minisign, or only a part of one"),
    ] {
        let before = served.log();
        put(&folder, "plugins/p.wasm.minisig", &wrong);
        served.says(&before, &["what ran before goes on", said]);
    }
    let before = served.log();
    remove(&folder, "plugins/p.wasm.minisig");
    served.says(&before, &["what ran before goes on", "is not signed"]);
    comes(client.as_mut(), "three");
    assert!(!served.log().contains("the handler is swapped"), "{}", served.log());
    put(&folder, "plugins/p.wasm.minisig", &signature("second"));
    served.says(&before, &["the handler is swapped"]);
    comes(client.as_mut(), "four");
    let (code, out, _) = run(&folder, &["check"], "");
    assert_eq!(code, 0, "{out}");
    drop(client);
    served.stop();
}
