//! The worker that is watched and killed: `keyrail run` as a process of its own, and the commands beside it.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const UP: Duration = Duration::from_secs(30);
const DOWN: Duration = Duration::from_secs(30);
/// What the workers say.
const LOG: &str = "worker.log";

/// Where everything of the demo lies.
pub(crate) struct Place {
    pub(crate) keyrail: PathBuf,
    pub(crate) folder: PathBuf,
    port: u16,
}

impl Place {
    /// Makes the folder anew, with the handler and its manifest in it.
    pub(crate) fn new(keyrail: &Path, guests: &Path, folder: &Path) -> Result<Self> {
        for old in ["data", "plugins", "state"].map(|name| folder.join(name)).iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).with_context(|| format!("removing what the last demo left: {}", old.display()))?;
        }
        let log = folder.join(LOG);
        if log.exists() {
            fs::remove_file(&log).with_context(|| format!("removing the last demo's log: {}", log.display()))?;
        }
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins).with_context(|| format!("making {}", plugins.display()))?;
        let wasm = guests.join("payments.wasm");
        fs::copy(&wasm, plugins.join("payments.wasm"))
            .with_context(|| format!("the handler {} (`cargo xtask guests` builds it)", wasm.display()))?;
        fs::write(plugins.join("payments.toml"), include_str!("../payments.toml"))?;
        // Free now; whoever takes it in the next moment makes the worker say so.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let host = include_str!("../keyrail.toml").replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
        fs::write(folder.join("keyrail.toml"), host)?;
        Ok(Self { keyrail: keyrail.to_owned(), folder: folder.to_owned(), port })
    }

    /// What the workers say.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("keyrail.toml")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.keyrail);
        command.args(words).arg("-c").arg(self.config());
        command
    }

    /// Runs a command with these lines as its input. `Err` is its own account of what went wrong.
    pub(crate) fn send<'a>(&self, topic: &str, lines: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut child = self
            .command(&["send", topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting keyrail send")?;
        let mut input: String = lines.flat_map(|line| [line, "\n"]).collect();
        input.shrink_to_fit();
        let fed = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let out = child.wait_with_output()?;
        ensure!(out.status.success(), "keyrail send: {}", String::from_utf8_lossy(&out.stderr).trim());
        fed.context("keyrail send has no input")?.context("feeding keyrail send")
    }

    /// All records of a topic, each as the JSON that `keyrail tail` prints.
    pub(crate) fn records(&self, topic: &str) -> Result<Vec<serde_json::Value>> {
        let mut child = self
            .command(&["tail", topic, "--from", "earliest"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting keyrail tail")?;
        let mut records = Vec::new();
        for line in BufReader::new(child.stdout.take().context("keyrail tail has no output")?).lines() {
            records.push(serde_json::from_str(&line?).context("a line of keyrail tail")?);
        }
        let mut why = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut why)?;
        }
        ensure!(child.wait()?.success(), "keyrail tail {topic}: {}", why.trim());
        Ok(records)
    }

    /// The page of `/metrics`, summed by name and the one label that is asked for; `None` while nobody answers.
    pub(crate) fn metrics(&self) -> Option<BTreeMap<String, u64>> {
        let (_, body) = self.get("/metrics")?;
        Some(sums(&body))
    }

    fn get(&self, path: &str) -> Option<(bool, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.starts_with("HTTP/1.1 200"), body.to_owned()))
    }
}

/// Sums a metrics page: `NAME` over all its labels, and `NAME.FATE` for those that have one.
fn sums(page: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let fate = labels.split("fate=\"").nth(1).and_then(|rest| rest.split('"').next());
        *sums.entry(name.to_owned()).or_default() += value as u64;
        if let Some(fate) = fate {
            *sums.entry(format!("{name}.{fate}")).or_default() += value as u64;
        }
    }
    sums
}

/// A running worker; killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
}

impl Worker {
    /// Starts it and waits until it is ready; tells how long that took.
    pub(crate) fn start(place: &Place) -> Result<(Self, Duration)> {
        let began = Instant::now();
        let log = File::options().create(true).append(true).open(place.log())?;
        let child = place
            .command(&["run"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", place.keyrail.display()))?;
        let mut worker = Self { child };
        while place.get("/readyz").is_none_or(|(ready, _)| !ready) {
            if let Some(status) = worker.child.try_wait()? {
                bail!("the worker ended ({status}); its log is {}", place.log().display());
            }
            ensure!(began.elapsed() < UP, "the worker is not ready after {UP:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((worker, began.elapsed()))
    }

    /// SIGKILL: no farewell, nothing is flushed.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the worker")?;
        self.child.wait().context("waiting for the killed worker").map(drop)
    }

    /// SIGTERM: it must finish what runs, commit, and exit 0.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill -TERM {pid} failed");
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the worker was asked to stop and ended with {status}");
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < DOWN, "the worker did not stop within {DOWN:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::sums;

    #[test]
    fn a_metrics_page_is_summed_by_name_and_fate() {
        let page = "# HELP x y\nkeyrail_messages_settled_total{pipeline=\"p\",fate=\"done\"} 5\n\
                    keyrail_messages_settled_total{pipeline=\"q\",fate=\"done\"} 2\nkeyrail_messages_settled_total{fate=\"dead\"} 1\n\
                    keyrail_up 1\nnonsense\n";
        let sums = sums(page);
        let of = |name: &str| sums.get(name).copied();
        assert_eq!(of("keyrail_messages_settled_total"), Some(8));
        assert_eq!(
            (of("keyrail_messages_settled_total.done"), of("keyrail_messages_settled_total.dead")),
            (Some(7), Some(1))
        );
        assert_eq!((of("keyrail_up"), of("nonsense")), (Some(1), None));
    }
}
