//! `keyrail dev` as its user sees it: a folder, a screen, and the commands beside it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const MANIFEST: &str = "handler = \"copy.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n";

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn guest(name: &str) -> Vec<u8> {
    wat::parse_file(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/guests/wat/{name}.wat"))).unwrap()
}

/// The same handler with another digest: a custom section changes nothing else.
fn another(mut wasm: Vec<u8>) -> Vec<u8> {
    wasm.extend([0, 3, 1, b'v', 1]);
    wasm
}

/// A process of `keyrail dev` and what it prints.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Dev {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = command(folder, &[&["dev"], arguments].concat()).stdin(Stdio::null()).spawn().unwrap();
        let (tell, lines) = sync_channel(1_000);
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in out {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines() {
                    if tell.send(line.unwrap()).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line with all of these words.
    fn expect(&mut self, words: &[&str]) -> String {
        let until = Instant::now() + SOON;
        loop {
            if let Some(at) = self.seen.iter().position(|line| words.iter().all(|word| line.contains(word))) {
                return self.seen.remove(at);
            }
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line with {words:?} in:\n{}", self.seen.join("\n")),
            }
        }
    }

    fn interrupt(mut self) -> Option<i32> {
        let done = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyrail"));
    command.args(arguments).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn keyrail(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command(folder, arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn an_empty_folder_becomes_a_running_pipeline_that_follows_its_files() {
    let folder = folder("empty");
    let mut dev = Dev::start(&folder, &["--set", "admin.listen=127.0.0.1:0"]);
    dev.expect(&["made ./keyrail.toml"]);
    dev.expect(&["pipelines  ./plugins, watched"]);
    dev.expect(&["There is no pipeline yet"]);
    let plugins = folder.join("plugins");
    std::fs::write(plugins.join("copy.toml"), MANIFEST).unwrap();
    dev.expect(&["not fit", "there is no file", "copy.wasm"]);
    std::fs::write(plugins.join("many.toml"), "handel = \"copy.wasm\"\ninput = [\"in\"]\n[retry]\natempts = 3\n")
        .unwrap();
    dev.expect(&["not fit", "nothing of it runs pipeline=\"many\" why:"]);
    for fault in
        ["many.toml:1:1: handel: unknown key; did you mean", "many.toml:4:1: retry.atempts: unknown key; did you"]
    {
        assert!(dev.expect(&[fault]).starts_with("    "), "{fault}");
    }
    std::fs::remove_file(plugins.join("many.toml")).unwrap();
    std::fs::write(plugins.join("copy.wasm"), guest("identity")).unwrap();
    dev.expect(&["the pipeline starts", "pipeline=\"copy\""]);
    let sent = keyrail(&folder, &["send", "in"], "{\"key\":\"k1\",\"value\":\"one\"}\n");
    assert!(sent.status.success(), "{sent:?}");
    let line = dev.expect(&["  copy  in/", "  k1  "]);
    assert!(line.ends_with("  k1  done -> out") && !line.contains('\x1b'), "{line:?}");
    std::fs::write(plugins.join("copy.wasm"), "garbage").unwrap();
    dev.expect(&["not fit", "this is no WebAssembly"]);
    std::fs::write(plugins.join("copy.wasm"), another(guest("identity"))).unwrap();
    dev.expect(&["the handler is swapped"]);
    let sent = keyrail(&folder, &["send", "in"], "{\"key\":\"k2\",\"value\":\"two\"}\n");
    assert!(sent.status.success(), "{sent:?}");
    dev.expect(&["  k2  done -> out"]);
    // A fate is told when it is decided; a moment later it is on the disk.
    let until = Instant::now() + SOON;
    loop {
        let read = keyrail(&folder, &["tail", "out", "--from", "earliest", "--raw"], "");
        let mut values: Vec<&str> = std::str::from_utf8(&read.stdout).unwrap().lines().collect();
        values.sort_unstable();
        if values == ["one", "two"] {
            break;
        }
        assert!(Instant::now() < until && values.len() < 2, "{values:?}");
    }
    std::fs::remove_file(plugins.join("copy.toml")).unwrap();
    dev.expect(&["the pipeline is drained"]);
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn handlers_of_the_folder_itself_run_whatever_broker_it_names_and_a_taken_port_is_no_obstacle() {
    let folder = folder("here");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let host = format!(
        "broker = \"kafka\"\nplugins.dir = \".\"\nadmin.listen = \"{address}\"\n[kafka]\n\"bootstrap.servers\" = \
         \"127.0.0.1:1\"\n"
    );
    std::fs::write(folder.join("keyrail.toml"), host).unwrap();
    std::fs::write(folder.join("copy.toml"), MANIFEST).unwrap();
    std::fs::write(folder.join("copy.wasm"), guest("identity")).unwrap();
    let parent = folder.parent().unwrap().to_owned();
    let mut dev = Dev::start(&parent, &["here"]);
    dev.expect(&[&address.to_string(), "another process listens there", "A free port of 127.0.0.1 is used"]);
    dev.expect(&["broker     embedded, in here/data"]);
    dev.expect(&["keyrail send TOPIC lines.json -c here/keyrail.toml --set broker=embedded"]);
    dev.expect(&["the pipeline starts"]);
    let sent =
        keyrail(&parent, &["send", "in", "-c", "here/keyrail.toml", "--set", "broker=embedded"], "{\"value\":\"x\"}\n");
    assert!(sent.status.success(), "{sent:?}");
    dev.expect(&["  (no key)  done -> out"]);
    let mut second = Dev::start(&parent, &["here"]);
    let pid = format!("process {}, holds this folder", dev.child.id());
    second.expect(&["here/data: keyrail, ", &pid, "stop it, or choose another folder"]);
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    // The other one is the cause, and not the port that it may hold too; nothing else is said of a start that is none.
    second.lines.iter().for_each(|line| second.seen.push(line));
    assert!(
        second.seen.iter().all(|line| !line.contains("pipelines  ") && !line.contains("port")),
        "{:?}",
        second.seen
    );
    let run = keyrail(&parent, &["run", "-c", "here/keyrail.toml", "--set", "broker=embedded"], "");
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(1) && told.contains(&pid) && !told.contains("listen"), "{told}");
    assert_eq!(dev.interrupt(), Some(0));
    let nowhere = keyrail(&parent, &["dev", "nowhere"], "");
    assert_eq!(nowhere.status.code(), Some(2));
    let told = String::from_utf8(nowhere.stderr).unwrap();
    assert!(told.contains("there is no folder nowhere: make it, or name another"), "{told}");
}

#[test]
fn a_folder_of_pipelines_runs_by_the_keyrail_toml_that_names_it() {
    let folder = folder("above");
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(folder.join("keyrail.toml"), "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\n").unwrap();
    std::fs::write(plugins.join("copy.toml"), MANIFEST).unwrap();
    std::fs::write(plugins.join("copy.wasm"), guest("identity")).unwrap();
    for (place, argument, send) in [(&folder, "plugins", " lines.json"), (&plugins, ".", "above/keyrail.toml")] {
        let mut dev = Dev::start(place, &[argument]);
        dev.expect(&["holds the pipelines of", "keyrail.toml: that says the rest"]);
        assert!(dev.expect(&["send       keyrail send TOPIC"]).ends_with(send));
        dev.expect(&["the pipeline starts"]);
        assert_eq!(dev.interrupt(), Some(0));
    }
    assert!(folder.join("data/keyrail.db").exists() && !plugins.join("keyrail.toml").exists());
    // A folder that it does not name is a deployment of its own, and that is said.
    std::fs::create_dir(folder.join("other")).unwrap();
    let mut dev = Dev::start(&folder, &["other", "--set", "admin.listen=127.0.0.1:0"]);
    dev.expect(&["made other/keyrail.toml, a deployment of its own: ./keyrail.toml runs ./plugins"]);
    dev.expect(&["-c other/keyrail.toml"]);
    assert_eq!(dev.interrupt(), Some(0));
    // Which one is meant can't be told from a file with faults.
    std::fs::remove_dir_all(folder.join("other")).unwrap();
    std::fs::create_dir(folder.join("other")).unwrap();
    std::fs::write(folder.join("keyrail.toml"), "brocker = 1\n").unwrap();
    let refused = keyrail(&folder, &["dev", "other"], "");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && told.contains("did you mean `broker`?"), "{told}");
    assert!(!folder.join("other/keyrail.toml").exists());
}

#[test]
fn a_check_beside_it_warns_of_no_port() {
    let (folder, other) = (folder("beside"), folder("beside-other"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let set = format!("admin.listen={free}");
    for folder in [&folder, &other] {
        std::fs::create_dir(folder.join("plugins")).unwrap();
        std::fs::write(folder.join("plugins/copy.toml"), MANIFEST).unwrap();
        std::fs::write(folder.join("plugins/copy.wasm"), guest("identity")).unwrap();
        std::fs::write(folder.join("keyrail.toml"), "broker = \"embedded\"\n").unwrap();
    }
    let mut dev = Dev::start(&folder, &["--set", &set]);
    dev.expect(&[&format!("admin      http://{free}/metrics")]);
    dev.expect(&["the pipeline starts", "pipeline=\"copy\""]);
    let check = |folder: &Path| {
        let done = keyrail(folder, &["check", "--set", &set], "");
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{text}");
        text
    };
    let own = check(&folder);
    let line = own.lines().find(|line| line.contains(&free.to_string())).unwrap_or_default();
    assert!(line.starts_with("ok ") && line.ends_with("  taken by the keyrail that runs by this file"), "{own}");
    assert!(own.ends_with("0 faults, 0 warnings\n"), "{own}");
    // To another deployment it is a stranger.
    let strange = check(&other);
    assert!(strange.contains("warning  admin") && strange.contains("another process listens there"), "{strange}");
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn a_file_is_no_folder() {
    let folder = folder("file");
    std::fs::write(folder.join("orders.json"), "").unwrap();
    let refused = keyrail(&folder, &["dev", "orders.json"], "");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("orders.json is a file") && told.contains("`keyrail send TOPIC orders.json`"), "{told}");
}
