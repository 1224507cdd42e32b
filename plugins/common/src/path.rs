//! Paths to fields: `customer.address.zip`, `items[0].card`, `items[*].card`, `"odd name".x`.

use std::fmt;

use crate::json::{Kind, Value};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;

/// The most steps of one path. Following a path recurses over its steps.
const MAX_STEPS: usize = 32;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An object's field.
    Field(String),
    /// An array's element, from 0.
    Index(usize),
    /// Every element of an array.
    Each,
}

/// Which fields of a message are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, and the cure.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, rest) = Self::read(text.trim())?;
        match rest.chars().next() {
            None => Ok(path),
            Some(c) => Err(format!("`{c}` can't stand in the path {text:?}: put the name into double quotes")),
        }
    }

    /// Reads a path at the start of a text and gives what follows it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn read(text: &str) -> Result<(Self, &str), String> {
        let (mut steps, mut rest) = (Vec::new(), text);
        loop {
            if steps.len() >= MAX_STEPS {
                return Err(format!("a path has at most {MAX_STEPS} steps"));
            }
            if let Some(inner) = rest.strip_prefix('[') {
                let (index, after) =
                    inner.split_once(']').ok_or_else(|| format!("`]` is missing in the path {text:?}"))?;
                steps.push(match index.trim() {
                    "*" => Step::Each,
                    number => Step::Index(number.parse().map_err(|_| {
                        format!("[{index}] in the path {text:?}: say [*] for every element, or a number from 0")
                    })?),
                });
                rest = after;
            } else {
                let name;
                (name, rest) = name_at(rest, text)?;
                steps.push(Step::Field(name));
            }
            if rest.starts_with('[') {
                continue;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => return Ok((Path(steps), rest)),
            }
            if rest.starts_with('[') {
                return Err(format!("a `.` stands before `[` in the path {text:?}: leave it out"));
            }
        }
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Calls `found` for each value that the path leads to, until it answers `false`. A key that stands twice is found twice.
    pub fn each<'d>(&self, root: Value<'d>, found: &mut dyn FnMut(Value<'d>) -> bool) {
        follow(&self.0, root, found);
    }

    /// The first value that the path leads to.
    pub fn first<'d>(&self, root: Value<'d>) -> Option<Value<'d>> {
        let mut first = None;
        self.each(root, &mut |value| {
            first = Some(value);
            false
        });
        first
    }
}

fn follow<'d>(steps: &[Step], value: Value<'d>, found: &mut dyn FnMut(Value<'d>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return found(value) };
    match step {
        Step::Field(name) if value.kind() == Kind::Object => {
            value.members().filter(|(key, _)| key.is_text(name)).all(|(_, value)| follow(rest, value, found))
        }
        Step::Index(index) => value.elements().nth(*index).is_none_or(|value| follow(rest, value, found)),
        Step::Each => value.elements().all(|value| follow(rest, value, found)),
        Step::Field(_) => true,
    }
}

fn name_at<'a>(text: &'a str, whole: &str) -> Result<(String, &'a str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || "_-@$".contains(c))).unwrap_or(text.len());
        if end == 0 {
            return Err(format!("a field's name is missing in the path {whole:?}: say a.b, a[*].b or \"odd name\".b"));
        }
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((name, &quoted[at + 1..])),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    Err(format!("the closing quote of a name is missing in the path {whole:?}"))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) => {
                    let dot = if at == 0 { "" } else { "." };
                    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-@$".contains(c));
                    if plain { write!(f, "{dot}{name}") } else { write!(f, "{dot}{name:?}") }?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Each => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}
