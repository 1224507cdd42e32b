//! `keyrail plugins` beside a running process: what it shows, who may act, and that a pause loses nothing.

use crate::commands::{command, run};
use crate::run::{PARTITIONS, by_key, guests, options, written};
use crate::support::{Folder, SOON, WAIT, ended, produce, send, topic};
use keyrail::admin::client::ask;
use keyrail::broker::client::Client;
use keyrail::broker::embedded::{self, Embedded};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOKEN: &str = "0123456789abcdef-secret";
const KEYS: usize = 20;

/// `keyrail run`, killed if the test ends before it does.
struct Served<'a> {
    child: Child,
    folder: &'a Folder,
    address: SocketAddr,
}

impl<'a> Served<'a> {
    fn start(folder: &'a Folder) -> Self {
        let log = folder.path().join("log");
        let mut command = command(folder, &["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + SOON;
        let address = loop {
            let text = fs::read_to_string(&log).unwrap();
            let told = text.lines().find_map(|line| line.split_once("/plugins address=")?.1.trim().parse().ok());
            if let Some(address) = told {
                break address;
            }
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < end, "{text}");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { child, folder, address }
    }

    /// `keyrail plugins` of this process.
    fn plugins(&self, arguments: &[&str]) -> (i32, String, String) {
        let address = self.address.to_string();
        run(self.folder, &[&["plugins"][..], arguments, &["--address", &address]].concat(), "")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.plugins(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }

    /// As a program asks.
    fn http(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let answer = ask(method, self.address, path, authorization.as_deref(), SOON).unwrap();
        (answer.status, answer.body)
    }

    fn shown(&self, name: &str) -> Value {
        serde_json::from_str(&self.done(&["show", name, "--json"])).unwrap()
    }

    fn shows(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + SOON;
        loop {
            // Just started, it knows of none.
            let (code, out, err) = self.plugins(&["show", name, "--json"]);
            let now = serde_json::from_str(&out).unwrap_or(Value::Null);
            if code == 0 && wanted(&now) {
                return now;
            }
            assert!(Instant::now() < end, "{what}: {code}: {now}{err}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn stop(mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success());
        let status = ended(&mut self.child, WAIT, &"run");
        assert!(status.success(), "{}", self.log());
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A folder whose pipelines `p` and `q` run the `scripted` handler. `admin`: more of `[admin]`.
fn stage(test: &str, admin: &str) -> Option<(Folder, Vec<u8>)> {
    let handler = fs::read(guests(test)?.join("scripted.wasm")).unwrap();
    let folder = Folder::new();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    let host = format!(
        "broker = \"embedded\"\nembedded.partitions = 4\nlogging.format = \"text\"\nplugins.poll = \"1s\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{admin}"
    );
    put(&folder, "keyrail.toml", host.as_bytes());
    put(&folder, "admin-token", format!("{TOKEN}\n").as_bytes());
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    for name in ["in", "out", "more", "later"] {
        topic(client.as_mut(), name, PARTITIONS, &[]);
    }
    put(&folder, "plugins/p.wasm", &handler);
    put(&folder, "plugins/p.toml", manifest("in", "out").as_bytes());
    put(&folder, "plugins/q.toml", manifest("more", "later").as_bytes());
    Some((folder, handler))
}

fn manifest(input: &str, output: &str) -> String {
    format!("handler = \"p.wasm\"\ninput = [\"{input}\"]\noutput.out = \"{output}\"\n")
}

/// Renamed into place.
fn put(folder: &Folder, name: &str, bytes: &[u8]) {
    let path = folder.path().join(name);
    fs::write(path.with_extension("part"), bytes).unwrap();
    fs::rename(path.with_extension("part"), path).unwrap();
}

/// Messages `from..to`, each of which comes out once.
fn feed(client: &mut dyn Client, topic: &str, from: usize, to: usize) {
    let all: Vec<(String, String)> =
        (from..to).map(|n| (format!("k{}", n % KEYS), format!("{{\"do\":\"done\",\"id\":\"{n:0>8}\"}}"))).collect();
    let records: Vec<_> = all.iter().map(|(key, value)| produce(topic, key, value)).collect();
    send(client, &records);
}

fn expected(count: usize) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for n in 0..count {
        keys.entry(format!("k{}", n % KEYS)).or_default().push(format!("{n:0>8}"));
    }
    keys
}

fn comes_out(client: &mut dyn Client, topic: &str, count: u64) {
    let end = Instant::now() + SOON;
    while written(client, topic) < count {
        assert!(Instant::now() < end, "{topic}: {} of {count}", written(client, topic));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_runs_is_shown_and_so_is_the_version_that_was_refused_while_the_old_one_serves() {
    let test = "what_runs_is_shown_and_so_is_the_version_that_was_refused_while_the_old_one_serves";
    let Some((folder, handler)) = stage(test, "") else { return };
    let served = Served::start(&folder);
    let p = served.shows("p", "it runs", |now| now["state"] == "active");
    let mut client = embedded::client(&options(&folder)).unwrap();
    feed(client.as_mut(), "in", 0, 100);
    comes_out(client.as_mut(), "out", 100);
    let digest = p["digest"].as_str().unwrap();
    let settled = served.shows("p", "they are counted", |now| now["messages"]["settled"] == 100);
    let table = served.done(&["list"]);
    assert!(table.starts_with("PIPELINE  STATE   VERSION") && table.contains(&digest[..12]), "{table}");
    assert_eq!(table, served.done(&[]), "the list is what is shown without a word");
    assert_eq!((&settled["restarts"], &settled["refused"]), (&0.into(), &Value::Null));
    assert!(settled["manifest"].as_str().unwrap().ends_with("plugins/p.toml"), "{settled}");
    // Half a handler is refused; then one that is none of its manifest's.
    put(&folder, "plugins/p.wasm", &handler[..handler.len() / 2]);
    let refused = served.shows("p", "half of one is refused", |now| !now["refused"].is_null());
    assert_eq!((&refused["state"], &refused["digest"]), (&"active".into(), &p["digest"]), "the old one serves");
    assert_eq!(refused["messages"]["settled"], 100, "its numbers go on");
    let bad = refused["refused"]["digest"].as_str().unwrap();
    assert!(bad.len() == 64 && bad != digest, "{refused}");
    let (_, _, remark) = served.plugins(&["list"]);
    let told = format!("keyrail: p: the last change (version {}) is refused: ", &bad[..12]);
    assert!(remark.contains(&told), "{remark}");
    assert!(served.done(&["show", "p"]).contains(&format!("refused       {bad}\n")));
    put(&folder, "plugins/p.wasm", &[&handler[..], &[0, 3, 1, b'v', 1]].concat());
    let next = served.shows("p", "the whole one serves", |now| now["digest"] != p["digest"]);
    assert_eq!((&next["refused"], &next["messages"]["settled"]), (&Value::Null, &0.into()), "a version of its own");
    // What can't be read at all, and nothing of which runs.
    put(&folder, "plugins/r.toml", b"handler = ");
    let r = served.shows("q", "the others go on", |now| now["state"] == "active");
    assert_eq!(r["refused"], Value::Null);
    let (code, _, err) = served.plugins(&["show", "qq"]);
    assert!(code == 2 && err.contains("there is no pipeline \"qq\"; did you mean \"q\"?"), "{code}: {err}");
    let end = Instant::now() + SOON;
    while served.http("GET", "/plugins/r", None).0 == 404 {
        assert!(Instant::now() < end, "r is not told");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(served.shown("r")["state"], "rejected");
    // Nobody has a token: everybody may look, and nobody may act.
    let (code, _, err) = served.plugins(&["pause", "p"]);
    assert!(code == 1 && err.contains("this process has no token. Set [admin] token"), "{code}: {err}");
    assert_eq!(served.http("POST", "/plugins/p/pause", Some(TOKEN)).0, 403);
    served.stop();
}

#[test]
fn only_who_has_the_token_may_look_and_act_and_nobody_sees_it() {
    let test = "only_who_has_the_token_may_look_and_act_and_nobody_sees_it";
    let Some((folder, _)) = stage(test, "token-file = \"admin-token\"\n") else { return };
    let served = Served::start(&folder);
    for token in [None, Some("0123456789abcdef-secreT"), Some("")] {
        assert_eq!(served.http("GET", "/plugins", token).0, 401, "{token:?}");
        assert_eq!(served.http("POST", "/plugins/p/pause", token).0, 401, "{token:?}");
    }
    assert_eq!(served.http("GET", "/plugins", Some(TOKEN)).0, 200);
    // The command takes it from the file that the process took it from.
    served.shows("p", "it runs", |now| now["state"] == "active");
    for action in ["promote", "rollback"] {
        let (code, _, err) = served.plugins(&[action, "p"]);
        assert!(code == 1 && err.contains("is on trial"), "{action}: {code}: {err}");
    }
    put(&folder, "admin-token", b"another-0123456789\n");
    let (code, _, err) = served.plugins(&["pause", "p"]);
    assert!(code == 1 && err.contains("the token is another") && !err.contains("0123456789"), "{code}: {err}");
    put(&folder, "admin-token", b"short\n");
    let (code, _, err) = served.plugins(&[]);
    assert!(code == 1 && err.contains("too short for a token"), "{code}: {err}");
    for command in ["check", "run"] {
        let (code, out, err) = run(&folder, &[command, "--set", "embedded.dir=other"], "");
        assert!(code == 1 && format!("{out}{err}").contains("too short for a token"), "{command}: {code}: {out}{err}");
    }
    assert!(!served.log().contains(TOKEN), "{}", served.log());
    served.stop();
    // Port 0 is another one each time, and a port at which somebody else listens is not asked.
    put(&folder, "admin-token", TOKEN.as_bytes());
    let (code, _, err) = run(&folder, &["plugins"], "");
    assert!(code == 2 && err.contains("give --address HOST:PORT"), "{code}: {err}");
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("admin.listen={}", stranger.local_addr().unwrap());
    let (code, _, err) = run(&folder, &["plugins", "--set", &listen], "");
    assert!(code == 1 && err.contains("does not run by this keyrail.toml, and is not asked"), "{code}: {err}");
    drop(stranger);
    let (code, _, err) = run(&folder, &["plugins", "--set", &listen], "");
    assert!(code == 1 && err.contains("no keyrail runs by this keyrail.toml: nobody listens at"), "{code}: {err}");
}

#[test]
fn a_pause_outlives_changes_and_restarts_and_nothing_is_lost_over_it() {
    let test = "a_pause_outlives_changes_and_restarts_and_nothing_is_lost_over_it";
    let Some((folder, handler)) = stage(test, &format!("token = \"{TOKEN}\"\n")) else { return };
    let served = Served::start(&folder);
    let first = served.shows("p", "it runs", |now| now["state"] == "active");
    served.shows("q", "it runs", |now| now["state"] == "active");
    let mut client = embedded::client(&options(&folder)).unwrap();
    feed(client.as_mut(), "in", 0, 2_000);
    assert_eq!(served.done(&["pause", "p"]), "p is paused: it stays so until `keyrail plugins resume p`\n");
    let (out, probed) = (written(client.as_mut(), "out"), served.http("GET", "/readyz", None));
    assert_eq!(probed, (200, "ok\npipeline p: paused\n".to_owned()));
    feed(client.as_mut(), "in", 2_000, 3_000);
    let paused = served.shown("p");
    assert_eq!((&paused["state"], &paused["paused"]["by"]), (&"paused".into(), &"hand".into()));
    assert!(served.http("GET", "/metrics", None).1.contains("keyrail_pipeline_paused{pipeline=\"p\"} 1\n"));
    assert_eq!(served.http("POST", "/plugins/p/pause", Some(TOKEN)).0, 200, "it is so already");
    // Its files change, and nothing of it runs; what is wrong with them is shown.
    put(&folder, "plugins/p.toml", b"handel = \"p.wasm\"\n");
    let wrong = served.shows("p", "its fault is told", |now| !now["refused"].is_null());
    assert!(wrong["refused"]["why"].as_str().unwrap().contains("did you mean `handler`?"), "{wrong}");
    put(&folder, "plugins/p.wasm", &[&handler[..], &[0, 3, 1, b'v', 1]].concat());
    put(&folder, "plugins/p.toml", format!("{}batch.max-messages = 7\n", manifest("in", "out")).as_bytes());
    let other =
        served.shows("p", "the new one is seen", |now| !now["digest"].is_null() && now["digest"] != first["digest"]);
    assert_eq!((&other["state"], &other["refused"]), (&"paused".into(), &Value::Null));
    drop(client);
    served.stop();
    let served = Served::start(&folder);
    let mut client = embedded::client(&options(&folder)).unwrap();
    served.shows("q", "the others run", |now| now["state"] == "active");
    assert_eq!(served.shown("p")["state"], "paused", "also after a restart");
    feed(client.as_mut(), "more", 0, 100);
    comes_out(client.as_mut(), "later", 100);
    assert_eq!(written(client.as_mut(), "out"), out, "nothing of it ran since");
    assert_eq!(served.http("GET", "/readyz", None).0, 200);
    let told = served.done(&["resume", "p"]);
    assert!(told.starts_with("p runs, version ") && !told.contains(&first["digest"].as_str().unwrap()[..12]), "{told}");
    comes_out(client.as_mut(), "out", 3_000);
    assert_eq!(by_key(client.as_mut(), "out"), expected(3_000), "each once, each key in order");
    // Again and again, under load, also where it is resumed while it drains.
    for n in 0..5 {
        feed(client.as_mut(), "in", 3_000 + 400 * n, 3_400 + 400 * n);
        if n % 2 == 0 {
            assert!(served.http("POST", "/plugins/p/pause", Some(TOKEN)).0 < 300);
        } else {
            served.done(&["pause", "p"]);
        }
        served.done(&["resume", "p"]);
    }
    comes_out(client.as_mut(), "out", 5_000);
    assert_eq!(by_key(client.as_mut(), "out"), expected(5_000), "each once, each key in order");
    served.done(&["pause", "p"]);
    fs::remove_file(folder.path().join("plugins/p.toml")).unwrap();
    served.shows("p", "its manifest is gone", |now| now["manifest"].is_null() && now["state"] == "paused");
    served.done(&["resume", "p"]);
    let end = Instant::now() + SOON;
    while served.http("GET", "/plugins/p", Some(TOKEN)).0 != 404 {
        assert!(Instant::now() < end, "nothing is left of it");
        std::thread::sleep(Duration::from_millis(50));
    }
    served.stop();
}
