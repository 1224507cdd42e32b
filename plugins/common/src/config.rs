//! `[config]`: strings, read once in `open`. Whatever is not understood is refused there.

use std::fmt;
use std::ops::RangeInclusive;

use keyrail_sdk::Setup;

use crate::path::Path;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;

/// What is wrong in a manifest: the key, the problem and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// What becomes of a message that a handler can't look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It goes on as it is.
    Keep,
    /// It is skipped.
    Drop,
    /// It goes to the dead letters.
    DeadLetter,
}

/// A manifest's `[config]`, each key of which is known.
pub struct Config<'a> {
    setup: &'a Setup,
}

impl<'a> Config<'a> {
    /// Refuses keys that are not among `known`, where `name.*` stands for every key that starts with `name.`.
    ///
    /// # Errors
    /// The unknown key, with the nearest known one.
    pub fn new(setup: &'a Setup, known: &[&str]) -> Result<Self, Wrong> {
        let is_known = |key: &str| {
            known.iter().any(|known| match known.strip_suffix('*') {
                Some(start) => key.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
                None => *known == key,
            })
        };
        for (key, _) in setup.config_all() {
            if !is_known(key) {
                let all = known.join(", ");
                return Err(Wrong(format!(
                    "[config] {key}: unknown key{}; the keys are {all}",
                    did_you_mean(key, known.iter().copied())
                )));
            }
        }
        Ok(Config { setup })
    }

    /// The value as it stands; an empty one is refused.
    ///
    /// # Errors
    /// The key, if the value is empty or blank.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Wrong> {
        match self.setup.config(key) {
            Some(value) if value.trim().is_empty() => {
                Err(Wrong(format!("[config] {key} is empty: fill it in, or leave it out")))
            }
            value => Ok(value),
        }
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// The key, and an example as the cure.
    pub fn required(&self, key: &str, example: &str) -> Result<&'a str, Wrong> {
        self.text(key)?.ok_or_else(|| {
            Wrong(format!("[config] {key} is missing: set it in the manifest, for example {key} = {example}"))
        })
    }

    /// One of some words.
    ///
    /// # Errors
    /// The value, and the words that it may be.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> Result<T, Wrong> {
        let Some(value) = self.text(key)? else { return Ok(default) };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value) {
            return Ok(*choice);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let near = did_you_mean(value, words.iter().copied());
        Err(wrong(key, value, &format!("no such choice{near}; it is one of {}", words.join(", "))))
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// The value and the bounds.
    pub fn number(&self, key: &str, bounds: RangeInclusive<u64>, default: u64) -> Result<u64, Wrong> {
        let Some(value) = self.text(key)? else { return Ok(default) };
        value.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            wrong(key, value, &format!("it must be a whole number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    /// A length of time in milliseconds, within bounds: `500ms`, `10s`, `5m`, `1h`, `1d`, or `0s`.
    ///
    /// # Errors
    /// The value and how to write one.
    pub fn duration_ms(&self, key: &str, bounds: RangeInclusive<u64>, default: u64) -> Result<u64, Wrong> {
        let Some(value) = self.text(key)? else { return Ok(default) };
        let duration_ms = duration_ms(value)
            .ok_or_else(|| wrong(key, value, "it must be a whole number with its unit: 500ms, 10s, 5m, 1h or 1d"))?;
        if bounds.contains(&duration_ms) {
            return Ok(duration_ms);
        }
        Err(wrong(key, value, &format!("it must lie between {} ms and {} ms", bounds.start(), bounds.end())))
    }

    /// A list of paths, separated by commas or line breaks; none if it is absent.
    ///
    /// # Errors
    /// The path that is wrong, and why.
    pub fn paths(&self, key: &str) -> Result<Vec<Path>, Wrong> {
        let mut paths = Vec::new();
        let mut rest = self.text(key)?.unwrap_or_default().trim_start();
        while !rest.is_empty() {
            let (path, after) = Path::read(rest).map_err(|why| Wrong(format!("[config] {key}: {why}")))?;
            let spaced = after.trim_start_matches([' ', '\t']);
            let next = spaced.strip_prefix([',', '\n', '\r']);
            if next.is_none() && !spaced.is_empty() {
                return Err(Wrong(format!(
                    "[config] {key}: {spaced:?} follows the path {path}: separate paths by commas, put odd names into double quotes"
                )));
            }
            paths.push(path);
            rest = next.unwrap_or_default().trim_start();
        }
        Ok(paths)
    }

    /// What becomes of a message that the handler can't look into.
    ///
    /// # Errors
    /// As [`choice`](Self::choice).
    pub fn otherwise(&self, key: &str, default: Otherwise) -> Result<Otherwise, Wrong> {
        use Otherwise::{DeadLetter, Drop, Keep};
        self.choice(key, &[("dead-letter", DeadLetter), ("keep", Keep), ("drop", Drop)], default)
    }

    /// The name under `key`, which must be one of the manifest's `[output]`; `default` if it is absent.
    ///
    /// # Errors
    /// The output that the manifest does not name.
    pub fn output(&self, key: &str, default: &str) -> Result<String, Wrong> {
        let name = self.text(key)?.unwrap_or(default);
        self.is_output(key, name)?;
        Ok(name.to_owned())
    }

    /// Whether the manifest's `[output]` has this name, which stands under `key`.
    ///
    /// # Errors
    /// The output that the manifest does not name.
    pub fn is_output(&self, key: &str, name: &str) -> Result<(), Wrong> {
        let outputs = self.setup.outputs();
        if outputs.iter().any(|output| output == name) {
            return Ok(());
        }
        let near = did_you_mean(name, outputs.iter().map(String::as_str));
        Err(wrong(key, name, &format!("[output] has no such name{near}; add {name} = \"a topic\" under [output]")))
    }
}

/// A fault of one value.
pub fn wrong(key: &str, value: &str, why: &str) -> Wrong {
    Wrong(format!("[config] {key} = {value:?}: {why}"))
}

fn duration_ms(text: &str) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

/// `; did you mean ...?` if something is near.
pub fn did_you_mean<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> String {
    let near = names.map(|name| (distance(word, name), name)).min();
    match near {
        Some((steps, name)) if steps <= name.chars().count().div_ceil(3) => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// How many letters must be changed, added, left out or swapped with the next. Of long words only the beginning counts.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut steps = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                steps = steps.min(before[j - 1] + 1);
            }
            row.push(steps);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
