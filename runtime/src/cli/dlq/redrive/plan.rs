//! What would be sent back, by cause and by where to.

use crate::cli::dlq::letter::Letter;
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::grouped;
use serde::Serialize;
use std::collections::BTreeMap;

/// So many rows are told apart; the rest is one.
const MOST: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Row {
    reason: String,
    code: String,
    letters: String,
    /// `None`: nobody knows.
    to: Option<String>,
}

/// See the module.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plan {
    /// How many would be sent back.
    pub(super) letters: u64,
    /// How many stay because they were sent back too often already.
    pub(super) too_often: u64,
    /// Of how many the broker may have forgotten that they were sent back.
    pub(super) doubtful: u64,
    #[serde(serialize_with = "rows")]
    rows: BTreeMap<Row, u64>,
    /// Letters of further rows.
    others: u64,
}

fn rows<S: serde::Serializer>(rows: &BTreeMap<Row, u64>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Counted<'a> {
        #[serde(flatten)]
        row: &'a Row,
        count: u64,
    }
    to.collect_seq(rows.iter().map(|(row, count)| Counted { row, count: *count }))
}

impl Plan {
    pub(super) fn take(&mut self, letters: &str, letter: &Letter, to: Option<String>) {
        self.letters += 1;
        let (reason, code) = (Letter::cut(letter.reason()), Letter::cut(letter.code()));
        let to = to.as_deref().map(Letter::cut);
        let row = Row { reason, code, letters: letters.to_owned(), to };
        let room = self.rows.len() < MOST;
        match self.rows.get_mut(&row) {
            Some(count) => *count += 1,
            None if room => drop(self.rows.insert(row, 1)),
            None => self.others += 1,
        }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            Column("reason", false),
            Column("code", false),
            Column("from", false),
            Column("to", false),
            Column("letters", true),
        ]);
        let known = |text: &str| (if text.is_empty() { "-" } else { text }.replace('\n', " "), Tone::Plain);
        let number = |n: u64| (grouped(i64::try_from(n).unwrap_or(i64::MAX)), Tone::Plain);
        for (row, count) in &self.rows {
            let to = row.to.as_deref().map_or_else(|| ("?".to_owned(), Tone::Bad), known);
            table.row([known(&row.reason), known(&row.code), known(&row.letters), to, number(*count)]);
        }
        if self.others > 0 {
            table.row([known("others"), known(""), known(""), known(""), number(self.others)]);
        }
        table
    }
}
