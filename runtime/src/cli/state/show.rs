//! State as tables for people and as JSON for programs.

use super::found::{Found, Id, Last};
use super::kept::Kept;
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::{self, Clean};
use crate::cli::{line, place};
use keyrail_engine::state::Entry;
use std::io::{IsTerminal as _, Write as _};

/// So much of a value stands in a table.
const VALUE_CHARACTERS: usize = 80;

/// What is shown: values whose records can't be read are left out, and told elsewhere.
pub(super) struct Shown<'a> {
    pub(super) pipeline: &'a str,
    pub(super) kept: &'a Kept,
    pub(super) found: &'a Found,
    pub(super) all: &'a [(&'a Id, &'a Last)],
    pub(super) more: bool,
}

impl Shown<'_> {
    fn entries(&self) -> impl Iterator<Item = (&Id, &Entry)> {
        self.all.iter().filter_map(|(id, last)| Some((*id, last.entry.as_ref().ok()?)))
    }

    pub(super) fn table(&self) -> Vec<u8> {
        let mut table = Table::new(&[
            Column("key", false),
            Column("name", false),
            Column("value", false),
            Column("ends", false),
            Column("of", false),
        ]);
        for (id, entry) in self.entries() {
            let whose = id.owner.as_ref().map_or_else(|| "(the whole partition)".to_owned(), |key| word(key));
            let [name, value, ends, of] = self.cells(id, entry);
            table.row([(whose, Tone::Plain), name, value, ends, of]);
        }
        table.render(terminal::width(), terminal::colours()).into_bytes()
    }

    /// Without the key, which is known.
    pub(super) fn table_of_one(&self) -> Vec<u8> {
        let mut table =
            Table::new(&[Column("name", false), Column("value", false), Column("ends", false), Column("of", false)]);
        self.entries().for_each(|(id, entry)| table.row(self.cells(id, entry)));
        table.render(terminal::width(), terminal::colours()).into_bytes()
    }

    fn cells(&self, id: &Id, entry: &Entry) -> [(String, Tone); 4] {
        let ends = match entry.expires_ms {
            None => ("-".to_owned(), Tone::Plain),
            Some(end) if self.found.is_over(entry) => (format!("ended {}", place::utc(end)), Tone::Warning),
            Some(end) => (place::utc(end), Tone::Plain),
        };
        let plain = |text: String| (text, Tone::Plain);
        [plain(word(id.name.as_bytes())), plain(cut(&word(&entry.value))), ends, plain(self.kept.at(id.at))]
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let mut out = b"{\"pipeline\":".to_vec();
        line::text(self.pipeline, &mut out);
        out.extend_from_slice(b",\"state\":[");
        for (n, (id, entry)) in self.entries().enumerate() {
            out.extend_from_slice(if n == 0 { b"" } else { b"," });
            self.object(id, entry, &mut out);
        }
        // Writing to memory does not fail.
        drop(writeln!(out, "],\"more\":{}}}", self.more));
        out
    }

    /// One value with all that belongs to it.
    pub(super) fn line_of(&self, id: &Id, last: &Last) -> Vec<u8> {
        let mut out = Vec::new();
        if let Ok(entry) = &last.entry {
            self.object(id, entry, &mut out);
            out.push(b'\n');
        }
        out
    }

    fn object(&self, id: &Id, entry: &Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"topic\":");
        line::text(self.kept.input(id.at), out);
        drop(write!(out, ",\"partition\":{},\"key\":", id.at.partition));
        line::blob(id.owner.as_deref(), out);
        out.extend_from_slice(b",\"name\":");
        line::text(&id.name, out);
        out.extend_from_slice(b",\"value\":");
        line::blob(Some(&entry.value), out);
        let ends = entry.expires_ms.map_or_else(|| "null".to_owned(), |end| end.to_string());
        drop(write!(out, ",\"ends_ms\":{ends},\"ended\":{}}}", self.found.is_over(entry)));
    }
}

/// The value as it stands; on a terminal, which may obey what it is shown, what it can show.
pub(super) fn bare(value: &[u8]) -> Vec<u8> {
    if !std::io::stdout().is_terminal() {
        return value.to_vec();
    }
    let mut text = Clean(&line::told(value)).to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.into_bytes()
}

/// Bytes in a line of a table.
fn word(bytes: &[u8]) -> String {
    line::told(bytes).replace('\n', "\\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARACTERS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_in_a_table_and_no_character_with_it() {
        let long = "\u{e4}".repeat(VALUE_CHARACTERS);
        assert_eq!(cut(&long), long);
        assert_eq!(cut(&format!("{long}x")), format!("{long}..."));
        assert_eq!((word(b"a\nb").as_str(), word(&[0xff, 0]).as_str()), ("a\\nb", "base64:/wA="));
    }
}
