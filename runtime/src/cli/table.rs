//! Tables for people: aligned columns, or one block a row where they don't fit.

use super::terminal::{Clean, broken};

/// How a cell stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

#[derive(Debug, Clone)]
struct Cell {
    text: String,
    tone: Tone,
}

/// A column's name, and whether it holds numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column(pub(super) &'static str, pub(super) bool);

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into_iter().map(|(text, tone)| Cell { text: Clean(&text).to_string(), tone }).collect());
    }

    /// The table in at most `width` columns, where it is known. A word that is longer stays whole, so that it can be
    /// copied.
    pub(super) fn render(&self, width: Option<usize>, colours: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|n| {
                let cells = self.rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.text.chars().count());
                cells.max().unwrap_or(0).max(self.columns[n].0.chars().count())
            })
            .collect();
        let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        match width {
            Some(width) if total > width => self.stacked(width, colours),
            _ => self.aligned(&widths, colours),
        }
    }

    fn aligned(&self, widths: &[usize], colours: bool) -> String {
        let mut out = String::new();
        let heads: Vec<Cell> =
            self.columns.iter().map(|c| Cell { text: c.0.to_uppercase(), tone: Tone::Plain }).collect();
        for (n, row) in std::iter::once(&heads).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for ((cell, width), Column(_, number)) in row.iter().zip(widths).zip(&self.columns) {
                let room = " ".repeat(width.saturating_sub(cell.text.chars().count()));
                let code = if n == 0 { "\x1b[1m" } else { cell.tone.code() };
                let text = painted(&cell.text, code, colours);
                let (before, after) = if *number { (room.as_str(), "") } else { ("", room.as_str()) };
                line.extend([before, &text, after, "  "]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// The first column as the heading of a block, the others below it, broken between words.
    fn stacked(&self, width: usize, colours: bool) -> String {
        let mut out = String::new();
        let names = self.columns.iter().skip(1).map(|c| c.0.chars().count()).max().unwrap_or(0);
        let room = width.saturating_sub(names + 3);
        let mut last = None;
        for row in &self.rows {
            let Some((head, rest)) = row.split_first() else { continue };
            if last != Some(&head.text) {
                out.extend([painted(&head.text, "\x1b[1m", colours).as_str(), "\n"]);
            }
            last = Some(&head.text);
            for (n, (cell, Column(name, _))) in rest.iter().zip(self.columns.iter().skip(1)).enumerate() {
                for (part, text) in broken(&cell.text, room).iter().enumerate() {
                    let (mark, name) = if part == 0 { (if n == 0 { "- " } else { "  " }, *name) } else { ("  ", "") };
                    let line = format!("{mark}{name:<names$} {}", painted(text, cell.tone.code(), colours));
                    out.extend([line.trim_end(), "\n"]);
                }
            }
        }
        out
    }
}

pub(super) fn painted(text: &str, code: &str, colours: bool) -> String {
    if colours && !code.is_empty() && !text.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[Column("pipeline", false), Column("partition", true), Column("lag", true)]);
        let plain = |text: &str| (text.to_owned(), Tone::Plain);
        table.row([plain("payments"), plain("0"), ("1,234,567".to_owned(), Tone::Bad)]);
        table.row([plain("payments"), plain("10"), plain("\x1b[2J")]);
        table
    }

    #[test]
    fn columns_are_aligned_where_they_fit() {
        let expected =
            "PIPELINE  PARTITION        LAG\npayments          0  1,234,567\npayments         10  \\u{1b}[2J\n";
        assert_eq!(table().render(None, false), expected);
        assert_eq!(table().render(Some(30), false), expected);
    }

    #[test]
    fn a_narrow_terminal_gets_one_block_a_row() {
        let expected = "payments\n- partition 0\n  lag       1,234,567\n- partition 10\n  lag       \\u{1b}[2J\n";
        assert_eq!(table().render(Some(29), false), expected);
        assert!(expected.lines().all(|line| line.len() <= 40));
        let mut table = Table::new(&[Column("topic", false), Column("settings", false)]);
        table.row([("orders".to_owned(), Tone::Plain), ("one=1, two=2, three=3".to_owned(), Tone::Plain)]);
        assert_eq!(table.render(Some(25), false), "orders\n- settings one=1, two=2,\n           three=3\n");
    }

    #[test]
    fn colours_change_nothing_else() {
        let coloured = table().render(None, true);
        assert!(coloured.contains("\x1b[31m1,234,567\x1b[0m"));
        let codes = ["\x1b[31m", "\x1b[1m", "\x1b[0m"];
        let bare = codes.iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(bare, table().render(None, false));
    }
}
