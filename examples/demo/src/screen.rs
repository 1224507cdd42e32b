//! What is shown while the demo runs: one line that is drawn anew on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);
const EVERY_WITHOUT_TERMINAL: Duration = Duration::from_secs(2);
const BAR: usize = 24;

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) duplicates: u64,
    pub(crate) retries: u64,
    pub(crate) dead: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            done: self.done + more.done,
            duplicates: self.duplicates + more.duplicates,
            retries: self.retries + more.retries,
            dead: self.dead + more.dead,
        }
    }
}

/// The terminal, or whatever stdout is.
pub(crate) struct Screen {
    terminal: bool,
    drawn: bool,
    next: Instant,
    began: Instant,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { terminal, drawn: false, next: Instant::now(), began: Instant::now() }
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.wipe();
        println!("[{:5.1} s] {text}", self.began.elapsed().as_secs_f64());
    }

    /// A line as it stands.
    pub(crate) fn print(&mut self, text: &str) {
        self.wipe();
        println!("{text}");
    }

    /// The line of progress, if its time has come.
    pub(crate) fn progress(&mut self, counts: Counts, expected: u64) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + if self.terminal { EVERY } else { EVERY_WITHOUT_TERMINAL };
        let line = line(counts, expected);
        if self.terminal {
            // What can't be shown is no reason to stop.
            print!("\r\x1b[K{line}");
            drop(std::io::stdout().flush());
            self.drawn = true;
        } else {
            self.say(&line);
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            print!("\r\x1b[K");
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Short enough for a terminal of 80 columns.
fn line(counts: Counts, expected: u64) -> String {
    let Counts { done, duplicates, retries, dead } = counts;
    let all = done + duplicates + dead;
    let filled = (all.min(expected) as usize * BAR).checked_div(expected as usize).unwrap_or(0);
    format!(
        "{}{} {done} done, {duplicates} duplicates, {retries} retries, {dead} dead",
        "#".repeat(filled),
        ".".repeat(BAR - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_and_its_bar_never_overflows() {
        let counts = Counts { done: 29_000, duplicates: 1_200, retries: 700, dead: 130 };
        let text = line(counts, 20_000);
        assert!(text.starts_with(&format!("{} 29000 done", "#".repeat(BAR))), "{text}");
        assert!(text.len() < 80, "{text}");
        assert!(line(Counts::default(), 0).starts_with('.'));
    }
}
