//! What `keyrail check` found, as a table for people and as JSON for programs.

use super::terminal::{Clean, broken};
use serde::Serialize;

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Allowed, and may surprise.
    Warning,
    /// `keyrail run` would refuse it or stop at it.
    Fault,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// One thing that was looked at, or one fault of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// `configuration`, `pipeline`, `handler`, `probe`, `topic`, `broker`, `store`, `durability` or `admin`.
    pub(super) subject: &'static str,
    /// Which one; of a configuration `FILE`, or `FILE:LINE:COLUMN`.
    pub(super) name: String,
    /// What was found.
    pub(super) message: String,
    /// What to do; empty where there is nothing to do or the message says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cure: String,
    /// A command that puts it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Json<'a> {
    ok: bool,
    faults: usize,
    warnings: usize,
    findings: &'a [Finding],
}

impl Report {
    pub(super) fn add(&mut self, verdict: Verdict, subject: &'static str, name: &str, message: String) -> &mut Finding {
        let finding = Finding { verdict, subject, name: name.to_owned(), message, cure: String::new(), command: None };
        let at = self.findings.len();
        self.findings.push(finding);
        &mut self.findings[at]
    }

    /// Nothing keeps `keyrail run` from running.
    pub(super) fn is_ok(&self) -> bool {
        self.count(Verdict::Fault) == 0
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        let (faults, warnings) = (self.count(Verdict::Fault), self.count(Verdict::Warning));
        serde_json::to_string(&Json { ok: faults == 0, faults, warnings, findings: &self.findings })
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|f| f.verdict == verdict).count()
    }
}

/// Columns that a message is given at least beside the other columns; with less of them, it stands below.
const LEAST: usize = 24;
/// How far what stands below is moved in.
const INDENT: usize = 2;

impl Report {
    /// The table: aligned columns, each cure under its fault, the sum at the end. Lines are broken between words where they
    /// would be wider than `width`; where that leaves no room for a column of messages, they stand below.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let widest =
            |column: fn(&Finding) -> &str| self.findings.iter().map(|f| column(f).chars().count()).max().unwrap_or(0);
        let (subject, name) = (widest(|f| f.subject), widest(|f| &f.name));
        let column = 9 + subject + 2 + name + 2;
        let is_aligned = width.is_none_or(|width| column + LEAST <= width);
        let indent = if is_aligned { column } else { INDENT };
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(1));
        let mut out = String::new();
        for finding in &self.findings {
            let Finding { verdict, message, cure, command, .. } = finding;
            let mut lines: Vec<String> = message.lines().chain(cure.lines()).flat_map(|l| broken(l, room)).collect();
            // A command is copied as it stands.
            lines.extend(command.iter().map(|command| format!("$ {command}")));
            let mut lines = lines.iter();
            let mut row = if is_aligned {
                let head = format!("{:<9}{:<subject$}  {:<name$}  ", verdict.text(), finding.subject, finding.name);
                head + lines.next().map_or("", String::as_str)
            } else {
                format!("{} {} {}", verdict.text(), finding.subject, finding.name)
            };
            row.truncate(row.trim_end().len());
            push(&mut out, &row);
            lines.for_each(|line| push(&mut out, &format!("{}{line}", " ".repeat(indent))));
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (faults, warnings) = (self.count(Verdict::Fault), self.count(Verdict::Warning));
        push(&mut out, &format!("{}, {}", counted(faults, "fault"), counted(warnings, "warning")));
        out
    }
}

/// Messages carry words of broker and guest: they must not reach the terminal's control sequences.
fn push(out: &mut String, line: &str) {
    *out += &Clean(line).to_string();
    out.push('\n');
}
