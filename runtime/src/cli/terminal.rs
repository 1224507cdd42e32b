//! What a terminal changes: width, colours, progress.

use super::WrongUse;
use anyhow::Context as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How often progress is shown anew.
const EVERY: Duration = Duration::from_millis(500);

/// Columns of the terminal that standard output is; `None` where it is none.
pub(super) fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    columns(out.as_raw_fd()).filter(|columns| *columns > 0)
}

#[allow(unsafe_code, reason = "the standard library does not tell a terminal's size")]
fn columns(fd: i32) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes one `winsize`, which lives through it; a closed descriptor is an error.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0).then_some(usize::from(size.ws_col))
}

/// Writes to standard output, at once. `false`: nobody reads it any more, as after `| head`. That is no failure: who went
/// away has seen enough, and the command's exit code stays what it found. `what`: for the error, as in "the report".
pub(super) fn print(text: &[u8], what: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    still_read(out.write_all(text).and_then(|()| out.flush())).with_context(|| format!("can't write {what}"))
}

/// The same for what was written in another way.
pub(super) fn still_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether standard output may be coloured: a terminal, and nobody said no (<https://no-color.org>).
pub(super) fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb && std::io::stdout().is_terminal()
}

/// One line on standard error that is written over, on a terminal only.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    next: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let next = std::io::stderr().is_terminal().then(|| Instant::now() + EVERY);
        Self { shown: false, next }
    }

    /// Shows `text`, if it is time to.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + EVERY);
        self.shown = true;
        // Who can't be shown progress loses nothing but that.
        drop(write!(std::io::stderr(), "\r{}\x1b[K", text()));
    }

    /// Makes room for other lines.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A line on standard error. Where nobody can read it there is no other place to say so.
pub(super) fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", Clean(text)));
}

/// Whether somebody can be asked before something is done.
pub(super) fn can_ask(json: bool) -> Result<(), WrongUse> {
    if json || !io::stdin().is_terminal() {
        let why = "nobody can be asked here: say --yes, or --dry-run to see what would be done";
        return Err(WrongUse(why.to_owned()));
    }
    Ok(())
}

/// Asks on standard error; what is typed follows on its line. Nothing but yes is yes.
pub(super) fn confirmed(question: &str) -> anyhow::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "{}", Clean(question)).and_then(|()| err.flush()).context("can't ask")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("can't read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Text without control characters but line ends: words of brokers and records must not reach the terminal's controls.
pub(super) struct Clean<'a>(pub(super) &'a str);

impl std::fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        for c in self.0.chars() {
            if c.is_control() && c != '\n' {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    if number < 0 {
        out.push('-');
    }
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `2,000 records`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {what}{ending}", grouped(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// The line in parts of at most `room` columns, broken between words. A longer word stays whole, so that it can be copied.
pub(super) fn broken(line: &str, room: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match parts.last_mut() {
            Some(part) if part.chars().count() + 1 + word.chars().count() <= room => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    parts
}
