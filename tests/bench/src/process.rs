//! A process under measurement: its CPU time and memory by the kernel's account, and its end.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A tick of `/proc/PID/stat`: 1/100 s on Linux, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);
/// A stop in good order takes no longer than `shutdown-grace`.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A child process; killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output in `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }

    /// User and system time of all its threads, those that have ended included; exact to 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        // The name, in parentheses, may hold anything; state is the first field behind it, utime the 12th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| -> Result<u32> { Ok(fields.get(n).context("a short /proc stat")?.parse()?) };
        Ok(TICK * (ticks(11)? + ticks(12)?))
    }

    /// A memory line of `/proc/PID/status`, in bytes: `VmRSS`, `VmHWM`, `RssAnon`, `RssFile`.
    pub(crate) fn memory(&self, line: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        let kib = found.and_then(|v| v.split_whitespace().next()).with_context(|| format!("no {line} in status"))?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// An error, with the end of its log, if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}:\n{}", self.story()),
        }
    }

    /// The last of what it said.
    pub(crate) fn story(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What it said first behind these words, up to the next space.
    pub(crate) fn word_behind(&self, words: &str) -> Option<String> {
        let text = fs::read_to_string(&self.log).ok()?;
        let word = text.split_once(words)?.1.split_whitespace().next()?;
        Some(word.trim_matches('"').to_owned())
    }

    /// SIGTERM, and waits for exit code 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill -TERM {pid} failed");
        let until = Instant::now() + STOP_LIMIT;
        loop {
            match self.child.try_wait()? {
                Some(status) if ExitStatus::success(&status) => return Ok(()),
                Some(status) => bail!("it ended with {status}:\n{}", self.story()),
                None if Instant::now() > until => bail!("it did not stop within {STOP_LIMIT:?}:\n{}", self.story()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failure means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
