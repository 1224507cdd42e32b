//! Reads lines on a thread of its own, since nothing else can be done while standard input is waited for.

use crate::cli::format::Separator;
use crate::cli::line::{self, Line, Wrong};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// A line longer than that is no record: brokers take far less.
const LONGEST: u64 = 128 << 20;
const BUFFER: usize = 1 << 18;

/// Where a line stands.
#[derive(Debug, Clone)]
pub(super) struct At {
    file: Arc<str>,
    line: u64,
    /// 0: the whole line.
    column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            0 => write!(f, "{}:{}", self.file, self.line),
            column => write!(f, "{}:{}:{column}", self.file, self.line),
        }
    }
}

/// One line.
#[derive(Debug)]
pub(super) enum Item {
    Record(At, Line),
    Wrong(At, String),
}

/// What a line is.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Json,
    /// A value, or key and value with this between them.
    Raw(Option<Separator>),
}

/// What is read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
    pub(super) shape: Shape,
}

/// Nobody takes lines any more.
struct Unwanted;

pub(super) fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

impl Source {
    /// Reads to the end, or until nobody takes lines any more.
    pub(super) fn run(&self, to: &SyncSender<Item>) {
        let stdin = [PathBuf::from("-")];
        let files = if self.files.is_empty() { &stdin } else { self.files.as_slice() };
        for file in files {
            let done = if is_stdin(file) {
                self.read("stdin", &mut BufReader::with_capacity(BUFFER, std::io::stdin()), to)
            } else {
                let name = file.display().to_string();
                match File::open(file) {
                    Ok(opened) => self.read(&name, &mut BufReader::with_capacity(BUFFER, opened), to),
                    Err(error) => {
                        let at = At { file: name.into(), line: 0, column: 0 };
                        to.send(Item::Wrong(at, format!("can't be read: {error}"))).map_err(|_| Unwanted)
                    }
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn read(&self, name: &str, from: &mut impl BufRead, to: &SyncSender<Item>) -> Result<(), Unwanted> {
        let mut at = At { file: name.into(), line: 0, column: 0 };
        let mut bytes = Vec::new();
        loop {
            at.line += 1;
            bytes.clear();
            let item = match (&mut *from).take(LONGEST).read_until(b'\n', &mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => self.item(&at, &mut bytes, from),
                Err(error) => Err(error),
            };
            match item {
                Ok(Some(item)) => to.send(item).map_err(|_| Unwanted)?,
                Ok(None) => {}
                Err(error) => {
                    let item = Item::Wrong(at, format!("can't be read further: {error}"));
                    return to.send(item).map_err(|_| Unwanted);
                }
            }
        }
    }

    /// What a line is; `None` if it says nothing.
    fn item(&self, at: &At, bytes: &mut Vec<u8>, from: &mut impl BufRead) -> io::Result<Option<Item>> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if bytes.len() as u64 == LONGEST {
            from.skip_until(b'\n')?;
            return Ok(Some(Item::Wrong(at.clone(), format!("longer than {} MiB", LONGEST >> 20))));
        }
        Ok(match &self.shape {
            Shape::Raw(separator) => Some(raw(at, bytes, separator.as_ref())),
            Shape::Json => json(at, bytes),
        })
    }
}

fn raw(at: &At, bytes: &[u8], separator: Option<&Separator>) -> Item {
    let Some(Separator(separator)) = separator else {
        return Item::Record(at.clone(), Line { value: Some(bytes.to_vec()), ..Line::default() });
    };
    match bytes.windows(separator.len()).position(|window| window == separator) {
        Some(place) => {
            let (key, value) = (bytes[..place].to_vec(), bytes[place + separator.len()..].to_vec());
            Item::Record(at.clone(), Line { key: Some(key), value: Some(value), ..Line::default() })
        }
        None => {
            let told = String::from_utf8_lossy(separator).into_owned();
            Item::Wrong(at.clone(), format!("no key: {told:?} is not in the line; {told:?} in front is an empty key"))
        }
    }
}

fn json(at: &At, bytes: &[u8]) -> Option<Item> {
    // What some editors put before the text.
    let mark: &[u8] = if at.line == 1 { b"\xef\xbb\xbf" } else { b"" };
    let text = bytes.strip_prefix(mark).unwrap_or(bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    Some(match line::parse(text) {
        Ok(record) => Item::Record(at.clone(), record),
        Err(Wrong { column, why }) => Item::Wrong(At { column, ..at.clone() }, why),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn read(text: &[u8], shape: Shape) -> Vec<Item> {
        let (to, from) = sync_channel(100);
        let source = Source { files: Vec::new(), shape };
        assert!(source.read("f", &mut BufReader::with_capacity(3, text), &to).is_ok());
        drop(to);
        from.iter().collect()
    }

    fn told(item: &Item) -> String {
        match item {
            Item::Record(at, line) => format!("{at} {:?}", String::from_utf8_lossy(line.value.as_deref().unwrap())),
            Item::Wrong(at, why) => format!("{at} {why}"),
        }
    }

    #[test]
    fn an_error_names_line_and_column_and_the_next_line_is_read() {
        let text = b"\xef\xbb\xbf{\"value\":\"a\"}\r\n\n  \n{\"value\":tru}\n{\"value\":\"b\"}";
        let items = read(text, Shape::Json);
        assert_eq!(items.iter().map(told).collect::<Vec<_>>(), ["f:1 \"a\"", "f:4:13 expected ident", "f:5 \"b\""]);
    }

    #[test]
    fn raw_lines_are_values_byte_for_byte() {
        let items = read(b"a\r\n\n\xff", Shape::Raw(None));
        let values: Vec<_> = items
            .iter()
            .map(|item| match item {
                Item::Record(_, line) => (line.key.clone(), line.value.clone().unwrap()),
                Item::Wrong(..) => panic!("{item:?}"),
            })
            .collect();
        assert_eq!(values, [(None, b"a\r".to_vec()), (None, vec![]), (None, vec![0xff])]);
    }

    #[test]
    fn the_first_separator_ends_the_key() {
        let items = read(b"k::v::w\n::v\nnone\n", Shape::Raw(Some(Separator(b"::".to_vec()))));
        let Item::Record(_, first) = &items[0] else { panic!("{items:?}") };
        assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"v::w"[..])));
        let Item::Record(_, second) = &items[1] else { panic!("{items:?}") };
        assert_eq!(second.key.as_deref(), Some(&b""[..]));
        assert!(told(&items[2]).starts_with("f:3 no key: \"::\" is not in the line"), "{}", told(&items[2]));
    }
}
