//! A `keyrail` process.

use crate::stage::Stage;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Of a log, a report shows so many lines, and so many characters of each.
const LINES: usize = 15;
const LINE: usize = 300;

/// The binary under test: `KEYRAIL_BIN`, or that of this build.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("KEYRAIL_BIN")
        .map_or_else(|| std::env::current_exe().unwrap().parent().unwrap().with_file_name("keyrail"), PathBuf::from);
    assert!(path.is_file(), "{} is not there: cargo build -p keyrail", path.display());
    path
}

/// A worker; killed on drop, and by the broker's janitor when the test process dies.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Option<Child>,
    log: PathBuf,
    /// Where this start's lines begin.
    from: u64,
    pid_file: PathBuf,
}

/// What a page of the admin server said.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Worker {
    /// Starts `keyrail run` in the stage's folder. Starts with the same number share a log and a code cache.
    pub(crate) fn start(stage: &Stage<'_>, number: usize) -> Self {
        Self::start_with(stage, number, &[])
    }

    pub(crate) fn start_with(stage: &Stage<'_>, number: usize, set: &[&str]) -> Self {
        Self::spawn(stage, number, set, &[])
    }

    /// A worker that kills itself at a point, see [`keyrail::fail`].
    pub(crate) fn start_armed(stage: &Stage<'_>, number: usize, point: &str) -> Self {
        Self::spawn(stage, number, &[], &[(keyrail::fail::VARIABLE, point)])
    }

    fn spawn(stage: &Stage<'_>, number: usize, set: &[&str], env: &[(&str, &str)]) -> Self {
        let log = stage.dir.join(format!("worker-{number}.log"));
        let out = fs::File::options().create(true).append(true).open(&log).unwrap();
        let from = out.metadata().unwrap().len();
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(stage.dir.join("keyrail.toml"));
        command.arg("--set").arg(format!("store.dir=\"{}\"", stage.dir.join(format!("state-{number}")).display()));
        for set in set {
            command.arg("--set").arg(set);
        }
        command
            .envs(env.iter().copied())
            .current_dir(&stage.dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let child = command.spawn().unwrap();
        let pid_file = stage.pid_file(number);
        fs::write(&pid_file, child.id().to_string()).unwrap();
        Self { child: Some(child), log, from, pid_file }
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the worker has ended").id();
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
        assert!(status.success(), "kill -{signal} {pid}: {status}\n{}", self.tail());
    }

    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.wait(Duration::from_secs(10));
    }

    /// SIGTERM, and it must end with 0 in time.
    pub(crate) fn stop(&mut self, limit: Duration) -> Duration {
        let started = Instant::now();
        self.signal("TERM");
        let status = self.wait(limit);
        assert!(status.success(), "SIGTERM: {status}\n{}", self.tail());
        started.elapsed()
    }

    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < until, "the worker runs on after {limit:?}\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut().expect("the worker has ended").try_wait().unwrap()?;
        self.child = None;
        drop(fs::remove_file(&self.pid_file));
        Some(status)
    }

    /// What this start logged.
    pub(crate) fn log(&self) -> String {
        log_from(&self.log, self.from)
    }

    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        // What matters is at the end; a report of several workers is cut somewhere.
        let lines: Vec<String> = log.lines().map(|line| line.chars().take(LINE).collect()).collect();
        format!("--- {}\n{}", self.log.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }

    pub(crate) fn wait_log(&self, words: &str, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.log().contains(words) {
            assert!(Instant::now() < until, "the log says nothing of {words:?} within {limit:?}\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the admin server; `None` while it does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<Page> {
        let log = self.log();
        let line = log.lines().find(|l| l.contains("admin server listens"))?;
        let address = line.split('"').find(|w| w.starts_with("127.0.0.1:"))?;
        let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Page { status: head.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|p| p.status == 200)
    }

    pub(crate) fn wait_ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.is_ready() {
            assert!(Instant::now() < until, "not ready: {:?}\n{}", self.get("/readyz"), self.tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The sum of a metric's series whose labels hold all of these words.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.get("/metrics").unwrap_or_else(|| panic!("no metrics\n{}", self.tail()));
        sum(&page.body, name, labels)
    }

    pub(crate) fn wait_metric(&self, name: &str, labels: &[&str], is: impl Fn(f64) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            // `None` right after the start.
            let value = self.get("/metrics").map(|page| sum(&page.body, name, labels));
            if value.is_some_and(&is) {
                return;
            }
            assert!(Instant::now() < until, "{name}{labels:?} is {value:?}\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_file(&self.pid_file));
    }
}

fn log_from(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).unwrap().min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines()
        .filter(of_name)
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
