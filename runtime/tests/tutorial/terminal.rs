//! The reader's two terminals.

use crate::page::{is_line, is_output};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Long enough for what should take a second, on any machine.
const SOON: Duration = Duration::from_secs(30);
/// A handler and all it stands on, from nothing.
const BUILD: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Commands that may be asked again until they show what is awaited: what the screen tells is on the disk a moment later.
const READS: [&str; 2] = ["keyrail tail", "keyrail lag"];

/// Where the page is followed.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) variables: Vec<(String, String)>,
}

impl Place {
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(&self.folder).stdin(Stdio::null());
        // What Cargo tells the program that it tests is not for another Cargo.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("KEYRAIL_") || name == "CARGO_MANIFEST_DIR" {
                command.env_remove(&*name);
            }
        }
        command.env_remove("CARGO_TARGET_DIR").envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a script's lines in the second terminal and compares what they print.
    pub(crate) fn run(&self, at: usize, script: &str, shown: &[String]) {
        let mut printed = Vec::new();
        for line in script.lines() {
            printed.push(self.output(at, line));
        }
        let last = script.lines().last().unwrap_or_default();
        let until = Instant::now() + SOON;
        while !is_output(shown, &printed.concat().lines().collect::<Vec<_>>()) {
            let may = READS.iter().any(|read| last.starts_with(read)) && Instant::now() < until;
            let all = printed.concat();
            assert!(may, "line {at}: {script}prints\n{all}and the page shows\n{}", shown.join("\n"));
            std::thread::sleep(LOOK);
            printed.pop();
            printed.push(self.output(at, last));
        }
    }

    /// What a command prints; it must end well.
    fn output(&self, at: usize, command: &str) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut shell = self.command(command);
        let mut child = shell.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        // The pipe ends when nobody has its other end any more, and `shell` has it.
        drop(shell);
        let read = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let until = Instant::now() + BUILD;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                drop(child.kill());
                panic!("line {at}: this does not end: {command}");
            }
            std::thread::sleep(LOOK);
        };
        let printed = read.join().unwrap().unwrap();
        assert!(status.success(), "line {at}: {command}\nends with {status}:\n{printed}");
        printed
    }
}

/// What runs in the first terminal, and what of its output the page has not shown yet.
pub(crate) struct Screen {
    child: Child,
    lines: Receiver<String>,
    unseen: Vec<String>,
}

impl Screen {
    pub(crate) fn start(place: &Place, script: &str) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = place.command(&format!("exec {script}"));
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        let (tell, lines) = sync_channel(1_000);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                if tell.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, unseen: Vec::new() }
    }

    /// Waits for each of the lines; `...` alone is whatever came besides.
    pub(crate) fn see(&mut self, at: usize, shown: &[String]) {
        let until = Instant::now() + SOON;
        for line in shown.iter().filter(|line| *line != "..." && !line.is_empty()) {
            loop {
                if let Some(found) = self.unseen.iter().position(|unseen| is_line(line, unseen)) {
                    self.unseen.remove(found);
                    break;
                }
                match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(line) => self.keep(line),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        panic!("line {at}: the first terminal does not show\n{line}\nbut\n{}", self.unseen.join("\n"))
                    }
                }
            }
        }
        if shown.iter().any(|line| line == "...") {
            self.unseen.clear();
        }
    }

    fn keep(&mut self, line: String) {
        if !line.is_empty() {
            self.unseen.push(line);
        }
    }

    /// Ctrl-C, and a good end.
    pub(crate) fn interrupt(&mut self, at: usize) {
        let sent = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        let until = Instant::now() + SOON;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "line {at}: what runs in the first terminal does not end"),
            }
            std::thread::sleep(LOOK);
        };
        while let Ok(line) = self.lines.recv() {
            self.keep(line);
        }
        assert!(status.success(), "line {at}: it ends with {status}:\n{}", self.unseen.join("\n"));
    }

    /// The page has shown all that it showed.
    pub(crate) fn end(mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line);
        }
        let unseen = self.unseen.join("\n");
        assert!(unseen.is_empty(), "the page does not show that the first terminal shows\n{unseen}");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program of that name before all others in PATH.
pub(crate) fn shadow(bin: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(bin).unwrap();
    let path = bin.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
