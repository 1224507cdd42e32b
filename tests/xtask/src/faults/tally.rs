//! What the rounds of one kind of fault came to, read from the lines that the tests print.

/// Sums over all rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rounds: u64,
    /// Tests.
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// Workers that were killed.
    pub(super) kills: u64,
    /// Requests whose fate nobody knew.
    pub(super) doubts: u64,
    pub(super) seeds: u64,
    /// Messages that a judge followed.
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) overtaken: u64,
    pub(super) twice: u64,
    pub(super) seconds: u64,
}

const NAMES: [&str; 11] =
    ["rounds", "passed", "failed", "kills", "doubts", "seeds", "messages", "lost", "overtaken", "twice", "seconds"];

impl Tally {
    const fn numbers(&self) -> [u64; 11] {
        let Self { rounds, passed, failed, kills, doubts, seeds, messages, lost, overtaken, twice, seconds } = *self;
        [rounds, passed, failed, kills, doubts, seeds, messages, lost, overtaken, twice, seconds]
    }

    const fn of(numbers: [u64; 11]) -> Self {
        let [rounds, passed, failed, kills, doubts, seeds, messages, lost, overtaken, twice, seconds] = numbers;
        Self { rounds, passed, failed, kills, doubts, seeds, messages, lost, overtaken, twice, seconds }
    }

    /// Takes one line of a test program.
    pub(super) fn hear(&mut self, line: &str) {
        if let Some(result) = line.trim().strip_prefix("test result: ") {
            self.passed += before(result, " passed").unwrap_or(0);
            self.failed += before(result, " failed").unwrap_or(0);
        }
        self.seeds += before(line, " seeds held").unwrap_or(0);
        self.doubts += before(line, " ends in doubt").unwrap_or(0);
        // The last line of a run; those before it say how far it is.
        self.kills += before(line, " deaths, ").unwrap_or(0);
        if line.contains("; settled ") {
            self.kills += before(line, " kills, ").unwrap_or(0);
        }
        let Some(ids) = before(line, " ids, ") else { return };
        self.messages += ids;
        self.lost += before(line, " lost").unwrap_or(0);
        self.overtaken += before(line, " overtook").unwrap_or(0);
        // Without transactions what was not committed may come again.
        if !line.contains("at_least_once") {
            self.twice += before(line, " duplicates").unwrap_or(0);
        }
    }

    /// A round came to no good end, though no test says so.
    pub(super) fn fail(&mut self, why: &str) {
        if self.failed == 0 {
            eprintln!("faults: {why}");
            self.failed = 1;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let (mut sums, more) = (self.numbers(), other.numbers());
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        *self = Self::of(sums);
    }

    pub(super) const fn is_good(&self) -> bool {
        self.failed == 0 && self.lost == 0 && self.overtaken == 0 && self.twice == 0
    }

    /// In the order of the table's columns; what does not apply is left empty.
    pub(super) fn cells(&self) -> Vec<String> {
        let all = |n: u64| n.to_string();
        let some = |n: u64| if n == 0 { String::new() } else { n.to_string() };
        let judged = |n: u64| if self.messages == 0 { String::new() } else { n.to_string() };
        vec![
            all(self.rounds),
            some(self.passed),
            all(self.failed),
            some(self.kills),
            some(self.doubts),
            some(self.seeds),
            some(self.messages),
            judged(self.lost),
            judged(self.overtaken),
            judged(self.twice),
            all(self.seconds),
        ]
    }

    /// As [`Tally::read`] reads it.
    pub(super) fn line(&self) -> String {
        self.numbers().map(|n| n.to_string()).join(" ")
    }

    pub(super) fn read(line: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| <[u64; 11]>::try_from(numbers).ok());
        numbers.map(Self::of).ok_or_else(|| format!("faults: can't read {line:?}; --fresh begins anew"))
    }

    pub(super) fn json(&self, fault: &str) -> String {
        let numbers: Vec<String> =
            NAMES.iter().zip(self.numbers()).map(|(name, number)| format!("\"{name}\":{number}")).collect();
        format!("{{\"fault\":\"{}\",{}}}", fault.replace('"', "\\\""), numbers.join(","))
    }
}

/// The number right before these words.
fn before(line: &str, words: &str) -> Option<u64> {
    let (front, _) = line.split_once(words)?;
    let digits = front.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn heard(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.hear(line));
        tally
    }

    #[test]
    fn what_the_tests_say_is_added_up() {
        let tally = heard(&[
            "    three_workers 3.0 s: 10 of 50 kills, 7000 messages sent",
            "    three_workers 90.1 s: 50 kills, 100000 messages, 0 sent again; settled 2.1 s after the last",
            "    three_workers 91.0 s: outputs: 99900 ids, 99900 records, 0 lost, 0 strangers, 0 overtook, 0 left out in a \
             replay, 0 duplicates, 0 steps back",
            "    with_at_least_once_x 16.2 s: Settling: 5 deaths, 3396 messages, at most 1788 repeats",
            "    with_at_least_once_x 16.2 s: outputs: 3396 ids, 5215 records, 1 lost, 0 strangers, 2 overtook, 0 left out \
             in a replay, 1819 duplicates, 265 steps back",
            "test result: ok. 2 passed; 1 failed; 0 ignored; 0 measured; 69 filtered out",
            "40 ends in doubt",
            "1000 seeds held, 2285000 messages, 48 steps, 20.1 s",
        ]);
        let expected = Tally {
            passed: 2,
            failed: 1,
            kills: 55,
            doubts: 40,
            seeds: 1_000,
            messages: 103_296,
            lost: 1,
            overtaken: 2,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
        assert!(!tally.is_good());
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let tally = Tally { rounds: 1, kills: 7, twice: 3, seconds: 9, ..Tally::default() };
        assert_eq!(Tally::read(&tally.line()), Ok(tally.clone()));
        assert!(Tally::read("1 2 x").is_err_and(|e| e.contains("--fresh")));
        assert!(tally.json("a \"b\"").starts_with("{\"fault\":\"a \\\"b\\\"\",\"rounds\":1,"));
        let mut twice = tally.clone();
        twice.add(&tally);
        assert_eq!((twice.kills, twice.rounds, twice.is_good()), (14, 2, false));
    }
}
