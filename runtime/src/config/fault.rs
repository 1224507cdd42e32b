//! What is wrong with a configuration, told so that a person can mend it.

use std::fmt;
use std::sync::Arc;

/// Where something stands: a file with line and column, or an argument of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file as the user named it, or `--set KEY` without the value, which may be a secret.
    pub(super) file: Arc<str>,
    /// From 1; 0 where there are no lines.
    pub(super) line: u32,
    /// From 1, in characters; 0 where there are no lines.
    pub(super) column: u32,
}

impl Place {
    /// The place of a whole file or folder, where no line is to blame.
    pub(super) fn whole(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }

    /// A fault at this place.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>, cure: impl Into<String>) -> Fault {
        Fault {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            key: key.to_owned(),
            problem: problem.into(),
            cure: cure.into(),
        }
    }
}

/// One fault of a configuration. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file as the user named it, a folder, or `--set KEY`.
    pub file: String,
    /// From 1; 0 when no line is to blame.
    pub line: u32,
    /// From 1, counted in characters; 0 when no line is to blame.
    pub column: u32,
    /// The key's path, as TOML would write it; empty when no key is to blame.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it; may be empty.
    pub cure: String,
}

/// What a fault's "file" begins with where an argument is at fault.
pub(super) const ARGUMENT: &str = "--set";

/// Lines longer than this are broken, where a space allows it.
const WIDTH: usize = 80;

impl fmt::Display for Fault {
    /// `FILE:LINE:COLUMN: KEY: PROBLEM; CURE` where that fits into 80 columns, else on indented further lines. `{:#}` is
    /// always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = printable(&self.file);
        if self.line > 0 {
            head += &format!(":{}:{}", self.line, self.column);
        }
        // `--set KEY` holds the key already.
        let named = self.file.strip_prefix("--set ") == Some(self.key.as_str());
        if !self.key.is_empty() && !named {
            head += &format!(": {}", printable(&self.key));
        }
        let (problem, cure) = (printable(&self.problem), printable(&self.cure));
        let told = format!("{head}: {problem}");
        let whole = if cure.is_empty() { told.clone() } else { format!("{told}; {cure}") };
        if f.alternate() || whole.chars().count() <= WIDTH {
            return f.write_str(&whole);
        }
        if told.chars().count() <= WIDTH {
            f.write_str(&told)?;
        } else {
            write!(f, "{head}:")?;
            wrap(f, &problem)?;
        }
        wrap(f, &cure)
    }
}

/// Names of files and keys must not reach the terminal's control sequences.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Writes the text as indented lines of its own.
fn wrap(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    const INDENT: usize = 4;
    let mut column = WIDTH;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column + 1 + length > WIDTH {
            write!(f, "\n{:INDENT$}{word}", "")?;
            column = INDENT + length;
        } else {
            write!(f, " {word}")?;
            column += 1 + length;
        }
    }
    Ok(())
}

/// Every fault that was found, by file, line and column; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` with the value if there are no faults.
    pub(super) fn unless<T>(value: T, faults: Vec<Fault>) -> Result<T, Self> {
        if faults.is_empty() { Ok(value) } else { Err(Self::of(faults)) }
    }

    /// The faults in reading order, each once.
    pub(super) fn of(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        faults.dedup();
        Self(faults)
    }

    /// The faults in reading order.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Whether `--set` arguments alone are at fault, and no file.
    #[must_use]
    pub fn are_of_arguments(&self) -> bool {
        self.0.iter().all(|fault| fault.file.starts_with(ARGUMENT))
    }

    /// Both lots as one, this one first.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    /// One fault after the other, each on a line of its own; `{:#}` breaks none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn control_characters_are_told_not_sent() {
        let told = Place::whole("a\u{1b}[2J.toml").fault("k\n", "p\r", "c\t").to_string();
        assert_eq!(told, "a\\u{1b}[2J.toml: k\\n: p\\r; c\\t");
    }

    #[test]
    fn long_faults_are_wrapped() {
        let place = Place { file: "payments.toml".into(), line: 7, column: 1 };
        assert_eq!(
            place.fault("a.b", "unknown key", "remove it").to_string(),
            "payments.toml:7:1: a.b: unknown key; remove it"
        );
        let fault = place.fault("a.b", "word ".repeat(20), "cure ".repeat(20));
        let lines = format!("{:#}", super::Faults::of(vec![fault.clone(), place.fault("z", "no", "")]));
        assert!(lines.starts_with("payments.toml:7:1: a.b: word ") && lines.ends_with("\npayments.toml:7:1: z: no"));
        assert_eq!(lines.lines().count(), 2);
        let long = fault.to_string();
        assert!(long.lines().all(|line| line.chars().count() <= 80), "{long}");
        assert!(long.lines().skip(1).all(|line| line.starts_with("    ")), "{long}");
        assert_eq!(long.split_whitespace().filter(|word| *word == "cure").count(), 20);
    }
}
