//! How `tail` prints a record, beside JSON; and escapes, for `send` too.

use super::line;
use keyrail::record::Record;
use std::io::Write as _;

/// What stands between key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Separator(pub(super) Vec<u8>);

/// Reads `--key-separator`.
pub(super) fn separator(written: &str) -> Result<Separator, String> {
    let bytes = unescape(written)?;
    if bytes.is_empty() || bytes.contains(&b'\n') {
        return Err("it must be there, and hold no end of line".to_owned());
    }
    Ok(Separator(bytes))
}

/// `\n`, `\t`, `\r`, `\0`, `\\` and `\xNN`.
fn unescape(written: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let Some((escape, more)) = rest.split_first() else { return Err("\\ at the end: write \\\\".to_owned()) };
        rest = more;
        out.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.ok_or("after \\x stand two hexadecimal digits")?
            }
            _ => return Err("known are \\n \\t \\r \\0 \\\\ \\xNN".to_owned()),
        });
    }
    Ok(out)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

/// `--format`, as kcat takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format(Vec<Part>);

/// Reads `--format`.
pub(super) fn format(written: &str) -> Result<Format, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let part = match chars.next() {
            Some('%') => {
                text.push('%');
                continue;
            }
            Some('t') => Part::Topic,
            Some('p') => Part::Partition,
            Some('o') => Part::Offset,
            Some('T') => Part::Timestamp,
            Some('k') => Part::Key,
            Some('s') => Part::Value,
            Some('h') => Part::Headers,
            _ => {
                return Err(
                    "known are %t topic %p partition %o offset %T time %k key %s value %h headers %%".to_owned()
                );
            }
        };
        parts.push(Part::Text(unescape(&std::mem::take(&mut text))?));
        parts.push(part);
    }
    parts.push(Part::Text(unescape(&text)?));
    Ok(Format(parts))
}

impl Format {
    /// The value and the end of the line, after the key where there is a separator.
    pub(super) fn raw(separator: Option<&Separator>) -> Self {
        let mut parts = Vec::new();
        if let Some(Separator(bytes)) = separator {
            parts.extend([Part::Key, Part::Text(bytes.clone())]);
        }
        parts.extend([Part::Value, Part::Text(b"\n".to_vec())]);
        Self(parts)
    }

    /// Appends a record. Nothing is printed for null.
    pub(super) fn print(&self, topic: &str, record: &Record, out: &mut Vec<u8>) {
        for part in &self.0 {
            // Writing to memory does not fail.
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Topic => out.extend_from_slice(topic.as_bytes()),
                Part::Partition => drop(write!(out, "{}", record.at.partition)),
                Part::Offset => drop(write!(out, "{}", record.offset)),
                Part::Timestamp => drop(write!(out, "{}", record.timestamp_ms)),
                Part::Key => out.extend_from_slice(record.key().unwrap_or_default()),
                Part::Value => out.extend_from_slice(record.value().unwrap_or_default()),
                Part::Headers if record.header_count() == 0 => out.extend_from_slice(b"{}"),
                Part::Headers => line::headers(record, out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use keyrail::record::{RecordBuilder, TopicPartition};

    fn printed(format: &Format) -> String {
        let mut builder = RecordBuilder::new(Some(b"k"), None);
        builder.header(b"h", Some(b"1"));
        let record = builder.build(TopicPartition { topic: 0, partition: 3 }, 7, 99);
        let mut out = Vec::new();
        format.print("t", &record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_letters_that_kcat_has() {
        let all = format(r"%t [%p] at %o %T: key %k\t%s|%h 100%%\n").unwrap();
        assert_eq!(printed(&all), "t [3] at 7 99: key k\t|{\"h\":\"1\"} 100%\n");
        assert_eq!(printed(&Format::raw(None)), "\n");
        assert_eq!(printed(&Format::raw(Some(&Separator(b"::".to_vec())))), "k::\n");
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (written, why) in [("%x", "%t topic"), ("%", "%t topic"), (r"\q", r"\xNN"), (r"a\", r"\\"), (r"\x1", "two")]
        {
            assert!(format(written).is_err_and(|told| told.contains(why)), "{written}");
        }
        assert_eq!(separator(r"\x00\t"), Ok(Separator(vec![0, 9])));
        assert!(separator("").is_err() && separator(r"\n").is_err());
    }
}
