//! Standard output and error of a guest: lines of the log, and what is kept of the error stream in case the call traps.

use crate::wasm::call::Ctx;
use crate::wasm::contract::WireLevel;
use crate::wasm::logging;

/// Longest line, in bytes; what is beyond is left out.
const LINE_BYTES: usize = 8192;
/// Of what a call writes to its standard error so much is kept from the beginning, and so much from the end: languages
/// name the cause of a failure first or last.
const HEAD_BYTES: usize = 1024;
const TAIL_BYTES: usize = 2048;

/// A stream that a guest can write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wasm) enum Stream {
    Output,
    Error,
}

/// What a guest has written, as far as it is still needed.
#[derive(Debug, Default)]
pub(in crate::wasm) struct Console {
    /// The line that each stream is at.
    output: Vec<u8>,
    error: Vec<u8>,
    said: Said,
}

/// Beginning and end of what a call wrote to its standard error.
#[derive(Debug, Default)]
struct Said {
    head: Vec<u8>,
    /// At most twice [`TAIL_BYTES`], so that it need not be moved with each piece.
    tail: Vec<u8>,
    left_out: bool,
}

impl Said {
    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(head);
        for piece in rest.chunks(TAIL_BYTES) {
            self.tail.extend_from_slice(piece);
            if self.tail.len() > 2 * TAIL_BYTES {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.left_out |= surplus > 0;
        self.tail.drain(..surplus);
    }

    fn clear(&mut self) {
        self.head.clear();
        self.tail.clear();
        self.left_out = false;
    }

    fn words(&mut self) -> String {
        self.cut();
        if self.left_out {
            let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
            return format!("{} ... {}", head.trim(), tail.trim());
        }
        let whole = [&*self.head, &*self.tail].concat();
        String::from_utf8_lossy(&whole).trim().to_owned()
    }
}

impl Console {
    /// A call begins: what was said before it is no cause of what becomes of it.
    pub(in crate::wasm) fn begin(&mut self) {
        self.said.clear();
    }

    /// What the call has written to its standard error, not cleaned; nothing, as a rule.
    pub(in crate::wasm) fn said(&mut self) -> Option<String> {
        Some(self.said.words()).filter(|words| !words.is_empty())
    }

    fn line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

impl Ctx {
    /// Takes what a guest writes. Each line that is whole goes to the log.
    pub(in crate::wasm) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Error {
            self.console.said.push(bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = self.console.line(stream);
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line(stream);
            }
        }
    }

    /// The call is over: what has no line break yet is a line, too.
    pub(in crate::wasm) fn end_lines(&mut self) {
        self.end_line(Stream::Output);
        self.end_line(Stream::Error);
    }

    fn end_line(&mut self, stream: Stream) {
        let mut line = std::mem::take(self.console.line(stream));
        if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
            let level = match stream {
                Stream::Output => WireLevel::Info,
                Stream::Error => WireLevel::Warn,
            };
            logging::line(self, level, &String::from_utf8_lossy(&line));
        }
        // Its memory is for the next one.
        line.clear();
        *self.console.line(stream) = line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pieces: &[&str]) -> Option<String> {
        let mut console = Console::default();
        for piece in pieces {
            console.said.push(piece.as_bytes());
        }
        console.said()
    }

    #[test]
    fn of_a_long_text_beginning_and_end_are_kept() {
        assert_eq!(words(&[]), None);
        assert_eq!(words(&["\n", " "]), None);
        assert_eq!(words(&["Trace", "back:\n", "boom\n"]), Some("Traceback:\nboom".to_owned()));
        let whole = format!("{}{}", "a".repeat(HEAD_BYTES), "b".repeat(TAIL_BYTES));
        assert_eq!(words(&[&whole]), Some(whole.clone()));
        let cut = format!("{} ... {}", "a".repeat(HEAD_BYTES), "b".repeat(TAIL_BYTES));
        let middle = "x".repeat(100_000);
        let (head, tail) = ("a".repeat(HEAD_BYTES), "b".repeat(TAIL_BYTES));
        assert_eq!(words(&[&head, &middle, &tail]), Some(cut.clone()));
        let small: Vec<_> = middle.as_bytes().chunks(7).map(|c| str::from_utf8(c).unwrap_or_default()).collect();
        assert_eq!(words(&[&[&*head][..], &small, &[&*tail]].concat()), Some(cut));
    }

    #[test]
    fn a_letter_that_lies_on_the_border_stays_whole() {
        let text = format!("{}ä and more", "a".repeat(HEAD_BYTES - 1));
        assert_eq!(words(&[&text]), Some(text.clone()));
    }
}
