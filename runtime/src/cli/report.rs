//! What `keyrail check` found, as a table for people and as JSON for programs.

use serde::Serialize;
use std::fmt;

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
    /// `configuration`, `pipeline`, `handler`, `topic`, `broker` or `admin`.
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

/// The table: aligned columns, each cure under its fault, the sum at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: fn(&Finding) -> &str| self.findings.iter().map(|f| column(f).chars().count()).max().unwrap_or(0);
        let (subject, name) = (width(|f| f.subject), width(|f| &f.name));
        let indent = " ".repeat(9 + subject + 2 + name + 2);
        for finding in &self.findings {
            let Finding { verdict, message, cure, command, .. } = finding;
            let mut row = format!("{:<9}{:<subject$}  {:<name$}  ", verdict.text(), finding.subject, finding.name);
            // Messages carry words of broker and guest: they must not reach the terminal's control sequences.
            let mut lines = message.lines();
            put(&mut row, lines.next().unwrap_or_default());
            for line in lines.chain(cure.lines()) {
                row.push('\n');
                row.push_str(&indent);
                put(&mut row, line);
            }
            if let Some(command) = command {
                row.push('\n');
                row.push_str(&indent);
                row.push_str("$ ");
                put(&mut row, command);
            }
            writeln!(f, "{}", row.trim_end())?;
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (faults, warnings) = (self.count(Verdict::Fault), self.count(Verdict::Warning));
        writeln!(f, "{}, {}", counted(faults, "fault"), counted(warnings, "warning"))
    }
}

fn put(row: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            row.extend(c.escape_default());
        } else {
            row.push(c);
        }
    }
}
