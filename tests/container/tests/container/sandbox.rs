//! A container as Docker and Kubernetes would run it, by runc: the image's own user and command as process 1, a root that
//! can't be written to, no capabilities, no new privileges, the usual filter of system calls, and a network of its own.

use crate::image::Image;
use crate::seccomp;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);

/// A host's file or folder at a place in the container.
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) to: &'static str,
    pub(crate) writable: bool,
}

/// What differs from the image's own configuration.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    pub(crate) mounts: Vec<Mount>,
    /// `NAME=VALUE`, beside the image's.
    pub(crate) env: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Sandbox {
    id: String,
    /// runc's own state.
    state: PathBuf,
    bundle: PathBuf,
    child: Child,
}

impl Sandbox {
    pub(crate) fn start(image: &Image, spec: &Spec) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!("keyrail-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (state, bundle) = (image.folder.join("runc"), image.folder.join("bundles").join(&id));
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), config(image, spec).to_string()).unwrap();
        let log = File::create(bundle.join("log")).unwrap();
        let child = runc(&state)
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg("--pid-file")
            .arg(bundle.join("pid"))
            .arg(&id)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { id, state, bundle, child }
    }

    /// Runs a command in the container, as its user, with these lines as its input.
    pub(crate) fn exec(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = runc(&self.state);
        command.args(["exec", &self.id]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // Beside the reading of its output: neither must wait for the other. A command that ends early reads no input.
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).is_ok());
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap();
        out
    }

    /// The same, of a command that must succeed: its output.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> String {
        let out = self.exec(arguments, input);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{arguments:?}: {}{errors}\n{}", out.status, self.log());
        String::from_utf8(out.stdout).unwrap()
    }

    /// Waits until a command in the container succeeds, or says something.
    pub(crate) fn wait(&mut self, arguments: &[&str], until: impl Fn(&Output) -> bool) {
        let deadline = Instant::now() + WAIT;
        loop {
            let out = self.exec(arguments, "");
            if until(&out) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{arguments:?}: {out:?} {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What `/proc` says of process 1, seen from the host.
    pub(crate) fn proc(&self, file: &str) -> String {
        let pid = std::fs::read_to_string(self.bundle.join("pid")).unwrap();
        std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join(file)).unwrap()
    }

    /// Sends process 1 a signal and waits for its end, which must come within `grace`.
    pub(crate) fn stop(mut self, signal: &str, grace: Duration) -> (ExitStatus, String) {
        let began = Instant::now();
        assert!(runc(&self.state).args(["kill", &self.id, signal]).status().unwrap().success());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(began.elapsed() < grace, "{signal} was not enough within {grace:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the container wrote to its standard output and standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.bundle.join("log")).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have ended long since, and nothing can be done about the rest.
        drop(runc(&self.state).args(["delete", "--force", &self.id]).output());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.bundle));
    }
}

/// runc, with its state where only these tests have theirs.
pub(crate) fn runc(state: &Path) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(state);
    command
}

/// The words of the OCI runtime specification.
fn config(image: &Image, spec: &Spec) -> Value {
    let words = |key: &str| image.config[key].as_array().unwrap().clone();
    let (user, group) = image.config["User"].as_str().unwrap().split_once(':').unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    let mut env = words("Env");
    env.extend(spec.env.iter().map(|e| json!(e)));
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}),
    ];
    mounts.extend(spec.mounts.iter().map(|mount| {
        let access = if mount.writable { "rw" } else { "ro" };
        json!({"destination": mount.to, "type": "bind", "source": mount.from,
            "options": ["bind", access, "nosuid", "nodev"]})
    }));
    let args = [words("Entrypoint"), words("Cmd")].concat();
    let namespaces: Vec<_> =
        ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": number(user), "gid": number(group)},
            "args": args,
            "env": env,
            "cwd": image.config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": {"path": image.rootfs, "readonly": true},
        "hostname": "keyrail",
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "seccomp": seccomp::profile()},
    })
}
