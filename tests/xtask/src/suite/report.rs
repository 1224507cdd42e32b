//! What the test programs said, added up.

use std::fmt::Write;

/// The outcome of one test program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Name and reason of each.
    pub(crate) skipped: Vec<(String, String)>,
    failures: Vec<String>,
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
    /// Takes one line of a test program's output; true if the line says nothing that a reader needs.
    pub(crate) fn hear(&mut self, line: &str) -> bool {
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            return true;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            return line.is_empty() || (line.starts_with("running ") && line.contains(" test"));
        };
        match outcome {
            "FAILED" => self.failures.push(name.to_owned()),
            "ok" => {}
            _ => match outcome.strip_prefix("ignored") {
                Some(why) => {
                    let why = why.trim_start_matches([',', ' ']);
                    self.skipped.push((name.to_owned(), if why.is_empty() { "ignored" } else { why }.to_owned()));
                }
                None => return false,
            },
        }
        outcome != "FAILED"
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
        self.skipped.extend(tally.skipped.into_iter().map(|(name, reason)| (format!("{program}: {name}"), reason)));
        self.failures.extend(tally.failures.into_iter().map(|name| format!("{program}: {name}")));
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
    use super::{Report, Tally};

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
        for dull in ["", "running 3 tests", "test a ... ok", "test result: ok. 1 passed; 0 failed"] {
            assert!(tally.hear(dull), "{dull}");
        }
        for telling in ["test a ... FAILED", "thread 'a' panicked at src/x.rs:1:1:", "---- a stdout ----"] {
            assert!(!tally.hear(telling), "{telling}");
        }
    }
}
