//! What the test programs said, added up.

use std::fmt::Write;

/// Lines that are kept of what a failed test printed: the panic comes first, what led to it last.
const FIRST_LINES: usize = 15;
const LAST_LINES: usize = 25;

/// The outcome of one test program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Name and reason of each.
    pub(crate) skipped: Vec<(String, String)>,
    failures: Vec<String>,
    /// The tests whose output the harness printed at its end, with that output.
    printed: Vec<(String, Vec<String>)>,
    /// The harness prints the last one's.
    printing: bool,
}

/// What a line of a test program's output is to somebody who waits for the program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// How far it is.
    Progress,
    /// A failure, to be told at once.
    Alarm,
    /// For the log file.
    Detail,
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: Vec<(String, String)>,
    failures: Vec<String>,
}

impl Tally {
    /// Takes one line of a test program's output.
    pub(crate) fn hear(&mut self, line: &str) -> Line {
        let text = line.trim();
        if let Some(result) = text.strip_prefix("test result: ") {
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            self.printing = false;
            return Line::Progress;
        }
        if let Some(name) = text.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.printed.push((name.to_owned(), Vec::new()));
            self.printing = true;
            return Line::Detail;
        }
        if text == "failures:" {
            self.printing = false;
        }
        if self.printing {
            if let Some((_, lines)) = self.printed.last_mut() {
                lines.push(line.to_owned());
            }
            return Line::Detail;
        }
        let outcome = text.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "));
        match outcome {
            Some((name, "FAILED")) => {
                self.failures.push(name.to_owned());
                Line::Alarm
            }
            Some((_, "ok")) => Line::Progress,
            Some((name, outcome)) if outcome.starts_with("ignored") => {
                let why = outcome.trim_start_matches("ignored").trim_start_matches([',', ' ']);
                self.skipped.push((name.to_owned(), if why.is_empty() { "ignored" } else { why }.to_owned()));
                Line::Progress
            }
            _ if text.contains("panicked at ") => Line::Alarm,
            _ => Line::Detail,
        }
    }

    /// What the failed test printed, without its middle if it is long, each line behind a bar.
    fn said(&self, name: &str) -> String {
        let lines = self.printed.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, lines)| lines);
        let left_out = lines.len().saturating_sub(FIRST_LINES + LAST_LINES);
        let mut text = String::new();
        for (at, line) in lines.iter().enumerate() {
            if at == FIRST_LINES && left_out > 0 {
                text.push_str(&format!("\n    | ({left_out} lines, see its log)"));
            }
            if left_out == 0 || at < FIRST_LINES || at >= FIRST_LINES + left_out {
                text.push_str("\n    | ");
                text.push_str(line);
            }
        }
        text
    }

    /// Takes `name: reason` lines of tests that found that they cannot run. libtest counts them as passed.
    pub(crate) fn skipped_by_themselves(&mut self, text: &str) {
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let (name, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
            self.passed = self.passed.saturating_sub(1);
            self.skipped.push((name.to_owned(), reason.to_owned()));
        }
    }
}

impl Report {
    pub(crate) fn add(&mut self, program: &str, tally: Tally) {
        self.passed += tally.passed;
        self.failed += tally.failed;
        self.failures.extend(tally.failures.iter().map(|name| format!("{program}: {name}{}", tally.said(name))));
        self.skipped.extend(tally.skipped.into_iter().map(|(name, reason)| (format!("{program}: {name}"), reason)));
    }

    /// A failure that is no single test's.
    pub(crate) fn fail(&mut self, what: &str, why: &str) {
        self.failed += 1;
        self.failures.push(format!("{what}: {why}"));
    }

    /// A whole program that did not run.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        self.skipped.push((what.to_owned(), reason.to_owned()));
    }

    /// Nothing failed, something ran, and with `all` nothing was skipped.
    pub(crate) fn is_success(&self, all: bool, filtered: bool) -> bool {
        self.failed == 0 && (self.passed > 0 || filtered) && (self.skipped.is_empty() || !all)
    }

    pub(crate) fn summary(&self, all: bool) -> String {
        let mut text = String::new();
        let mut line = |parts: [&str; 2]| {
            // Writing into a String does not fail.
            writeln!(text, "{}{}", parts[0], parts[1]).unwrap_or_default();
        };
        for (name, reason) in &self.skipped {
            line(["skipped: ", &format!("{name}: {reason}")]);
        }
        for failure in &self.failures {
            line(["failed: ", failure]);
        }
        if all && !self.skipped.is_empty() {
            line(["with --all a skip is a failure", ""]);
        }
        line(["", &format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())]);
        text
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; ...`.
fn count(result: &str, word: &str) -> usize {
    let before = result.split(word).next().unwrap_or_default();
    before.rsplit([' ', ';']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Line, Report, Tally};

    const OUTPUT: &str = "
running 4 tests
test a::one ... ok
test a::two ... FAILED
test a::three ... ignored, no network
test a::four ... ignored
test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.01s
";

    fn heard(output: &str) -> Tally {
        let mut tally = Tally::default();
        for line in output.lines() {
            tally.hear(line);
        }
        tally
    }

    #[test]
    fn every_program_is_added_up_and_each_skip_named() {
        let mut report = Report::default();
        report.add("engine", heard(OUTPUT));
        let mut second =
            heard("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        second.skipped_by_themselves("tls: no openssl program\n");
        report.add("kafka", second);
        assert_eq!(
            report.summary(false),
            "skipped: engine: a::three: no network\nskipped: engine: a::four: ignored\nskipped: kafka: tls: no openssl program\n\
             failed: engine: a::two\n12 passed, 1 failed, 3 skipped\n"
        );
    }

    #[test]
    fn a_skip_fails_only_with_all_and_no_test_at_all_fails() {
        let mut report = Report::default();
        assert!(!report.is_success(false, false), "nothing ran");
        assert!(report.is_success(false, true), "a filter may match nothing");
        report.add("engine", heard("test result: ok. 2 passed; 0 failed; 0 ignored"));
        assert!(report.is_success(true, false));
        report.skip("kafka", "no Java");
        assert!(report.is_success(false, false) && !report.is_success(true, false));
        assert!(report.summary(true).ends_with("with --all a skip is a failure\n2 passed, 0 failed, 1 skipped\n"));
    }

    #[test]
    fn only_what_needs_reading_is_shown() {
        let mut tally = Tally::default();
        for progress in ["test a ... ok", "test b ... ignored", "test result: ok. 1 passed; 0 failed"] {
            assert_eq!(tally.hear(progress), Line::Progress, "{progress}");
        }
        for alarm in ["test a ... FAILED", "thread 'a' panicked at src/x.rs:1:1:"] {
            assert_eq!(tally.hear(alarm), Line::Alarm, "{alarm}");
        }
        for detail in
            ["", "running 3 tests", "2026-11-23T15:27:33Z ERROR keyrail: a log line", "test x has been running"]
        {
            assert_eq!(tally.hear(detail), Line::Detail, "{detail}");
        }
    }

    #[test]
    fn a_summary_has_what_each_failed_test_printed_without_the_middle_of_much() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let output = format!(
            "test short ... FAILED\ntest long ... FAILED\n\nfailures:\n\n---- short stdout ----\nwhy\n---- long stdout ----\n{long}\
             failures:\n    long\n    short\n\ntest result: FAILED. 0 passed; 2 failed; 0 ignored\n"
        );
        let mut report = Report::default();
        report.add("kafka", heard(&output));
        let summary = report.summary(true);
        assert!(
            summary.starts_with("failed: kafka: short\n    | why\nfailed: kafka: long\n    | line 0\n"),
            "{summary}"
        );
        assert!(summary.contains("| line 14\n    | (60 lines, see its log)\n    | line 75\n"), "{summary}");
        assert!(summary.ends_with("| line 99\n0 passed, 2 failed, 0 skipped\n"), "{summary}");
    }
}
