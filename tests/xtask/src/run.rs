//! Runs other programs: always with a time limit, never silent for long, and with an error that says what to look at.

use crate::say::say;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A line of progress at least this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Lines of output kept for an error message.
const TAIL_LINES: usize = 30;
/// A program has ended, but something that it started holds its output open: wait this long for more.
const LINGER: Duration = Duration::from_secs(2);
/// Lines read ahead of the one who handles them.
const LINES_AHEAD: usize = 256;

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Stdout,
    Stderr,
}

/// What became of a program that was started.
#[derive(Debug)]
pub(crate) enum End {
    Exited(ExitStatus),
    /// Killed by us after its limit.
    TimedOut,
}

/// Runs `command` to its end and hands every line of output to `line`, which returns what to show in the next line of
/// progress, if that changed.
pub(crate) fn stream(
    name: &str,
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(From, &str) -> Option<String>,
) -> Result<End, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", command.get_program().to_string_lossy()))?;
    let (to, lines) = sync_channel(LINES_AHEAD);
    forward(From::Stdout, child.stdout.take(), to.clone());
    forward(From::Stderr, child.stderr.take(), to);
    let began = Instant::now();
    let (mut beat, mut heard, mut now) = (Instant::now(), Instant::now(), String::new());
    loop {
        match next(&lines) {
            Some(Ok((from, text))) => {
                heard = Instant::now();
                if let Some(progress) = line(from, &text) {
                    now = progress;
                }
            }
            // Both outputs are closed: the program has ended or is about to.
            Some(Err(())) => return wait(&mut child, limit.saturating_sub(began.elapsed())),
            None => {}
        }
        if began.elapsed() > limit {
            kill(name, &mut child);
            return Ok(End::TimedOut);
        }
        if heard.elapsed() > LINGER
            && let Some(status) = child.try_wait().map_err(|e| format!("{name}: {e}"))?
        {
            return Ok(End::Exited(status));
        }
        if beat.elapsed() > HEARTBEAT {
            beat = Instant::now();
            say(&format!("  {name}: {} s{}{now}", began.elapsed().as_secs(), if now.is_empty() { "" } else { ", " }));
        }
    }
}

/// Runs `command`, silent but for a line of progress now and then, and returns its stdout.
pub(crate) fn quiet(name: &str, command: &mut Command, limit: Duration) -> Result<String, String> {
    let mut out = String::new();
    let mut tail = Tail::default();
    let end = stream(name, command, limit, |from, text| {
        tail.push(text);
        if from == From::Stdout {
            out.push_str(text);
            out.push('\n');
        }
        cargo_status(text)
    })?;
    match end {
        End::Exited(status) if status.success() => Ok(out),
        End::Exited(status) => Err(format!("{name} failed ({status}): {}\n{}", line_of(command), tail.text())),
        End::TimedOut => {
            Err(format!("{name} took more than {} s: {}\n{}", limit.as_secs(), line_of(command), tail.text()))
        }
    }
}

/// The first lines of a quick question, such as `cc --version`; `None` when the program is not there or says no.
pub(crate) fn ask(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    // `java -version` answers on stderr.
    let text = if out.stdout.is_empty() { out.stderr } else { out.stdout };
    out.status.success().then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

/// `Compiling serde v1.0.0` and the like: Cargo's account of what it does, worth a heartbeat but not a line each.
pub(crate) fn cargo_status(text: &str) -> Option<String> {
    const WORDS: [&str; 12] = [
        "Compiling",
        "Checking",
        "Downloading",
        "Downloaded",
        "Fresh",
        "Dirty",
        "Running",
        "Updating",
        "Locking",
        "Adding",
        "Installing",
        "Blocking",
    ];
    let text = text.trim();
    WORDS.contains(&text.split(' ').next()?).then(|| text.to_owned())
}

/// The last lines of an output.
#[derive(Debug, Default)]
pub(crate) struct Tail(std::collections::VecDeque<String>);

impl Tail {
    pub(crate) fn push(&mut self, line: &str) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(format!("    | {line}"));
    }

    pub(crate) fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// A command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn next(lines: &Receiver<(From, String)>) -> Option<Result<(From, String), ()>> {
    match lines.recv_timeout(Duration::from_millis(500)) {
        Ok(found) => Some(Ok(found)),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(())),
    }
}

/// A thread that hands on the lines of one output. It ends with the output, or when nobody listens any more.
fn forward(from: From, output: Option<impl Read + Send + 'static>, to: SyncSender<(From, String)>) {
    let Some(output) = output else { return };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if to.send((from, text)).is_err() {
                return;
            }
        }
    });
}

fn wait(child: &mut Child, limit: Duration) -> Result<End, String> {
    let began = Instant::now();
    while began.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(End::Exited(status)),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(format!("cannot wait for a program's end: {e}")),
        }
    }
    kill("program", child);
    Ok(End::TimedOut)
}

fn kill(name: &str, child: &mut Child) {
    say(&format!("  {name}: over its time, killing it"));
    if let Err(e) = child.kill().and_then(|()| child.wait().map(|_| ())) {
        say(&format!("  {name}: cannot kill it: {e}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_comes_back_and_failure_shows_its_last_lines() {
        assert_eq!(quiet("echo", &mut shell("echo a; echo b"), Duration::from_secs(20)).unwrap(), "a\nb\n");
        let error = quiet("bad", &mut shell("echo why >&2; exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(error.contains("bad failed") && error.contains("| why") && error.contains("exit 3"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_its_limit() {
        let began = Instant::now();
        let error = quiet("sleeper", &mut shell("exec sleep 60"), Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("took more than 1 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_that_outlives_its_parent_does_not_hold_us() {
        let began = Instant::now();
        quiet("parent", &mut shell("sleep 30 & echo done"), Duration::from_secs(60)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn cargo_s_account_is_told_from_its_messages() {
        assert_eq!(cargo_status("   Compiling serde v1.0").as_deref(), Some("Compiling serde v1.0"));
        assert_eq!(cargo_status("error: no such thing"), None);
        assert_eq!(cargo_status(""), None);
    }
}
