//! The image at work, on the embedded broker: everything that it writes lies in its volume, and a stop loses nothing.

use crate::deployments::health_check;
use crate::given;
use crate::image::image;
use crate::sandbox::Sandbox;
use crate::stage::{Stage, USER, spec};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const HOST: &str = r#"
broker = "embedded"
shutdown-grace = "25s"
[embedded]
dir = "/var/lib/keyrail/data"
partitions = 4
[plugins]
dir = "/etc/keyrail/plugins"
[store]
dir = "/var/lib/keyrail/state"
[admin]
listen = "0.0.0.0:8080"
"#;
const MANIFEST: &str = r#"
handler = "copy.wasm"
input = ["in"]
[output]
out = "out"
"#;
/// What `HOST` says, and what it takes to start and end a process on a busy machine.
const GRACE: Duration = Duration::from_secs(25 + 5);
const KEYS: usize = 50;
const RECORDS: usize = 5_000;
const KEYRAIL: &str = "/usr/local/bin/keyrail";
const LAG: [&str; 5] = [KEYRAIL, "lag", "--json", "-c", "/etc/keyrail/keyrail.toml"];

#[test]
fn records_go_through_a_stop_in_good_order_and_a_restart_on_the_same_volume() {
    let name = "records_go_through_a_stop_in_good_order_and_a_restart_on_the_same_volume";
    let (Some(image), Some(guests)) = (image(name), given(name, "KEYRAIL_GUESTS")) else { return };
    let stage = Stage::new(image);
    let mounts =
        [stage.volume(), stage.configuration(HOST), stage.plugins("copy", &guests.join("identity.wasm"), MANIFEST)];
    let spec = spec(mounts, &[]);
    let check = health_check();
    let check: Vec<&str> = check.iter().map(String::as_str).collect();

    let mut first = Sandbox::start(image, &spec);
    first.wait(&check, |out| out.status.success());
    is_confined(&first);
    send(&first, 0..RECORDS);
    // Told to stop while it works.
    let (status, log) = first.stop("TERM", GRACE);
    assert_eq!(status.code(), Some(0), "{log}");

    let mut second = Sandbox::start(image, &spec);
    second.wait(&check, |out| out.status.success());
    send(&second, RECORDS..2 * RECORDS);
    let all = (2 * RECORDS).to_string();
    second.wait(&LAG, |out| lag(&out.stdout) == Some(0));
    let printed = second
        .run(&[KEYRAIL, "tail", "out", "--from", "earliest", "--count", &all, "-c", "/etc/keyrail/keyrail.toml"], "");
    let (status, log) = second.stop("TERM", GRACE);
    assert_eq!(status.code(), Some(0), "{log}");
    let expected: BTreeMap<_, _> = (0..KEYS)
        .map(|key| (format!("k{key}"), (key..2 * RECORDS).step_by(KEYS).map(|n| n.to_string()).collect::<Vec<_>>()))
        .collect();
    assert_eq!(by_key(&printed), expected);
}

#[test]
fn a_config_map_that_kubernetes_swaps_is_taken_up_without_a_restart() {
    let name = "a_config_map_that_kubernetes_swaps_is_taken_up_without_a_restart";
    let (Some(image), Some(guests)) = (image(name), given(name, "KEYRAIL_GUESTS")) else { return };
    let (stage, wasm) = (Stage::new(image), guests.join("identity.wasm"));
    let mounts = [stage.empty_dir(), stage.configuration(HOST), stage.plugins("copy", &wasm, MANIFEST)];
    let mut sandbox = Sandbox::start(image, &spec(mounts, &[]));
    let check = health_check();
    sandbox.wait(&check.iter().map(String::as_str).collect::<Vec<_>>(), |out| out.status.success());
    send(&sandbox, 0..KEYS);

    stage.change_plugins("copy", &wasm, &MANIFEST.replace("out = \"out\"", "out = \"changed\""));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut sent = KEYS;
    while values(&sandbox, "changed").is_empty() {
        assert!(Instant::now() < deadline, "the change is not taken up\n{}", sandbox.log());
        send(&sandbox, sent..sent + 1);
        sent += 1;
    }
    sandbox.wait(&LAG, |out| lag(&out.stdout) == Some(0));
    let (before, after) = (values(&sandbox, "out"), values(&sandbox, "changed"));
    assert!(!before.is_empty());
    // The one drained and committed before the other began.
    let mut all = [before, after].concat();
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>());
    let (status, log) = sandbox.stop("TERM", GRACE);
    assert_eq!(status.code(), Some(0), "{log}");
}

/// The numbers in a topic, which may not be there yet.
fn values(sandbox: &Sandbox, topic: &str) -> Vec<usize> {
    let tail = [KEYRAIL, "tail", topic, "--from", "earliest", "--raw", "-c", "/etc/keyrail/keyrail.toml"];
    let out = sandbox.exec(&tail, "");
    String::from_utf8(out.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

/// What the deployments promise of the process, as the kernel sees it.
fn is_confined(sandbox: &Sandbox) {
    let status = sandbox.proc("status");
    let says = |line: &str| assert!(status.lines().any(|l| l == line), "{line:?} is not in\n{status}");
    says(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}"));
    says(&format!("Gid:\t{USER}\t{USER}\t{USER}\t{USER}"));
    says("CapEff:\t0000000000000000");
    says("CapBnd:\t0000000000000000");
    says("NoNewPrivs:\t1");
    says("Seccomp:\t2");
    // Not even root could write anywhere else: all that is mounted for writing is the volume, and what is no disk.
    let mounts = sandbox.proc("mountinfo");
    let writable = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(4);
        let (at, options) = (words.next()?, words.next()?);
        options.split(',').any(|o| o == "rw").then_some(at)
    });
    assert_eq!(writable.collect::<Vec<_>>(), ["/proc", "/dev", "/var/lib/keyrail"], "{mounts}");
}

fn send(sandbox: &Sandbox, numbers: std::ops::Range<usize>) {
    let mut lines = String::new();
    for number in numbers {
        writeln!(lines, "k{}:{number}", number % KEYS).unwrap();
    }
    sandbox.run(&[KEYRAIL, "send", "in", "--raw", "--key-separator", ":", "-c", "/etc/keyrail/keyrail.toml"], &lines);
}

fn lag(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(json).ok()?["pipelines"][0]["lag"].as_u64()
}

/// By key, the values in the order of the log.
fn by_key(lines: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        keys.entry(text("key")).or_default().push(text("value"));
    }
    keys
}
