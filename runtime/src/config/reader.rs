//! Reads typed values out of a table, telling each fault and going on with the default, so that all come out at once.

use super::catalogue::{self, Amount, Catalogue, Key, Kind};
use super::document::{Entry, Node, Table, Value, entry, join};
use super::fault::{Fault, Place};
use super::units;
use crate::nearest::nearest;
use std::fmt::Display;

/// A string with where it stood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) place: Place,
    /// Whether a variable went into it.
    pub(super) replaced: bool,
}

/// A file's table, and the faults found so far.
pub(super) struct Reader<'t, 'f> {
    table: &'t Table,
    catalogue: &'static Catalogue,
    /// Where a missing key is missing.
    start: Place,
    pub(super) faults: &'f mut Vec<Fault>,
}

impl<'t, 'f> Reader<'t, 'f> {
    pub(super) fn new(file: &str, table: &'t Table, catalogue: &'static Catalogue, faults: &'f mut Vec<Fault>) -> Self {
        Self { table, catalogue, start: Place { file: file.into(), line: 1, column: 1 }, faults }
    }

    /// What the catalogue says of a key.
    pub(super) fn key(&self, path: &str) -> &'static Key {
        catalogue::find(self.catalogue, path)
    }

    /// The entry at a path of bare names.
    pub(super) fn entry(&self, path: &str) -> Option<&'t Entry> {
        let (sections, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = self.table;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            match &entry(table, section)?.node.value {
                Value::Table(inner) => table = inner,
                _ => return None,
            }
        }
        entry(table, name)
    }

    fn node(&self, path: &str) -> Option<&'t Node> {
        self.entry(path).map(|entry| &entry.node)
    }

    /// Whether the key or section is written at all.
    pub(super) fn has(&self, path: &str) -> bool {
        self.entry(path).is_some()
    }

    /// Whether the value's fault, or that of a part of it, is told already.
    pub(super) fn is_broken(&self, path: &str) -> bool {
        match self.node(path).map(|node| &node.value) {
            Some(Value::List(items)) => items.iter().any(|item| item.value == Value::Broken),
            Some(value) => *value == Value::Broken,
            None => false,
        }
    }

    /// Whether a section can be looked into: if not, its fault is told already.
    pub(super) fn is_table_or_absent(&self, path: &str) -> bool {
        self.node(path).is_none_or(|node| matches!(node.value, Value::Table(_)))
    }

    /// Where the value stands; where it is missing, its section, or else the file.
    pub(super) fn place(&self, path: &str) -> Place {
        let section =
            || path.rsplit_once('.').and_then(|(section, _)| self.entry(section)).map(|entry| entry.place.clone());
        self.node(path).map(|node| node.place.clone()).or_else(section).unwrap_or_else(|| self.start.clone())
    }

    /// Tells a fault of the value at a path.
    pub(super) fn fault(&mut self, path: &str, problem: impl Into<String>, cure: impl Into<String>) {
        let fault = self.place(path).fault(path, problem, cure);
        self.faults.push(fault);
    }

    fn mismatch(&mut self, path: &str, node: &Node, wanted: &str, cure: &str) {
        if let Some(found) = describe(&node.value) {
            self.faults.push(node.place.fault(path, format!("must be {wanted}, not {found}"), cure));
        }
    }

    /// A string that must not be empty. `None` where absent or faulty.
    pub(super) fn text(&mut self, path: &str, example: &str) -> Option<Text> {
        let node = self.node(path)?;
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                self.fault(path, "empty", format!("write it as {path_end} = {example:?}", path_end = last(path)));
                None
            }
            Value::Text(text) => Some(Text { text: text.clone(), place: node.place.clone(), replaced: node.replaced }),
            _ => {
                self.mismatch(path, node, "a string", &format!("write it in quotes, as {example:?}"));
                None
            }
        }
    }

    /// Tells that a required key is missing, if it is.
    pub(super) fn require(&mut self, path: &str, cure: &str) {
        if !self.has(path) {
            self.fault(path, "missing", cure);
        }
    }

    /// One of the words of the catalogue, as what it means.
    pub(super) fn choice<T: Copy>(&mut self, path: &str, meanings: &[(&str, T)]) -> T {
        let key = self.key(path);
        let Kind::Choice { default, words } = key.kind else { key.misread() };
        let meaning = |name: &str| match meanings.iter().find(|(meant, _)| *meant == name) {
            Some((_, value)) => *value,
            None => key.misread(),
        };
        let Some(text) = self.text(path, default) else { return meaning(default) };
        if let Some(word) = words.iter().find(|word| **word == text.text) {
            return meaning(word);
        }
        let cure = cure_of_choice(&text.text, words.iter().copied());
        self.fault(path, format!("{:?} is not known", text.text), cure);
        meaning(default)
    }

    /// True or false.
    pub(super) fn switch(&mut self, path: &str) -> bool {
        let key = self.key(path);
        let Kind::Switch { default } = key.kind else { key.misread() };
        let Some(node) = self.node(path) else { return default };
        if let Value::Bool(yes) = &node.value {
            return *yes;
        }
        self.mismatch(path, node, "true or false", &format!("write it without quotes, as {}", !default));
        default
    }

    /// Milliseconds; `None` where the key is not written and then off.
    pub(super) fn duration_if(&mut self, path: &str) -> Option<u64> {
        let key = self.key(path);
        let Kind::Duration(limits) = key.kind else { key.misread() };
        let parse: Parse = (units::duration, units::show_duration, "a duration", "5s");
        self.amount(path, &parse, &limits).or(limits.default)
    }

    /// Milliseconds.
    pub(super) fn duration(&mut self, path: &str) -> u64 {
        self.duration_if(path).unwrap_or_else(|| self.key(path).misread())
    }

    /// Bytes.
    pub(super) fn size(&mut self, path: &str) -> u64 {
        let key = self.key(path);
        let Kind::Size(limits) = key.kind else { key.misread() };
        let parse: Parse = (units::size, units::show_size, "a size", "64MiB");
        self.amount(path, &parse, &limits).or(limits.default).unwrap_or_else(|| key.misread())
    }

    fn amount(&mut self, path: &str, (parse, show, what, example): &Parse, limits: &Amount) -> Option<u64> {
        let node = self.node(path)?;
        let Value::Text(text) = &node.value else {
            self.mismatch(path, node, what, &format!("write a number and a unit, as {example:?}"));
            return None;
        };
        match parse(text) {
            Ok(amount) if (limits.least..=limits.most).contains(&amount) => Some(amount),
            Ok(_) => {
                self.out_of_range(path, &show(limits.least), &show(limits.most));
                None
            }
            Err((problem, cure)) => {
                self.fault(path, problem, cure);
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn whole(&mut self, path: &str) -> u32 {
        let key = self.key(path);
        let Kind::Whole { default, least, most } = key.kind else { key.misread() };
        let Some(node) = self.node(path) else { return default };
        let Value::Whole(_, number) = &node.value else {
            self.mismatch(path, node, "a whole number", &format!("write it without quotes, as {default}"));
            return default;
        };
        let number =
            number.and_then(|number| u32::try_from(number).ok()).filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.out_of_range(path, &least, &most);
        }
        number.unwrap_or(default)
    }

    /// A list of whole numbers, none twice. Faulty items are left out.
    pub(super) fn wholes(&mut self, path: &str) -> Vec<u32> {
        let key = self.key(path);
        let Kind::Wholes { least, most } = key.kind else { key.misread() };
        let Some(node) = self.node(path) else { return Vec::new() };
        let cure = format!("write a list of whole numbers, as [{least}]");
        let Value::List(items) = &node.value else {
            self.mismatch(path, node, "a list", &cure);
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for item in items {
            let Value::Whole(_, number) = &item.value else {
                self.mismatch(path, item, "a list of whole numbers", &cure);
                continue;
            };
            match number.and_then(|number| u32::try_from(number).ok()).filter(|number| (least..=most).contains(number))
            {
                Some(number) if numbers.contains(&number) => {
                    self.faults.push(item.place.fault(path, format!("{number} stands there twice"), "remove one"));
                }
                Some(number) => numbers.push(number),
                None => {
                    let cure = format!("accepted: {least} to {most}");
                    self.faults.push(item.place.fault(path, "out of range", cure));
                }
            }
        }
        numbers
    }

    /// A number.
    pub(super) fn number(&mut self, path: &str) -> f64 {
        let key = self.key(path);
        let Kind::Number { default, least, most } = key.kind else { key.misread() };
        let Some(node) = self.node(path) else { return default };
        let number = match &node.value {
            Value::Whole(written, _) => written.parse().unwrap_or(f64::NAN),
            Value::Number(_, number) => *number,
            _ => {
                self.mismatch(path, node, "a number", &format!("write it without quotes, as {default}"));
                return default;
            }
        };
        if !(least..=most).contains(&number) {
            self.out_of_range(path, &least, &most);
            return default;
        }
        number
    }

    fn out_of_range(&mut self, path: &str, least: &impl Display, most: &impl Display) {
        self.fault(path, "out of range", format!("accepted: {least} to {most}"));
    }

    /// A list of strings, none of them empty. Faulty items are left out.
    pub(super) fn texts(&mut self, path: &str, example: &str) -> Vec<Text> {
        let Some(node) = self.node(path) else { return Vec::new() };
        let cure = format!("write a list of strings, as [{example:?}]");
        let Value::List(items) = &node.value else {
            self.mismatch(path, node, "a list", &cure);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) if !text.is_empty() => {
                    texts.push(Text { text: text.clone(), place: item.place.clone(), replaced: item.replaced });
                }
                Value::Text(_) => self.faults.push(item.place.fault(path, "an empty string", "remove it")),
                _ => self.mismatch(path, item, "a list of strings", &cure),
            }
        }
        texts
    }

    /// The entries of a free table, each as the string that it stands for. Numbers and booleans are taken as written.
    pub(super) fn strings(&mut self, path: &str) -> Vec<(&'t Entry, String)> {
        let Some(Value::Table(table)) = self.node(path).map(|node| &node.value) else { return Vec::new() };
        let mut strings = Vec::new();
        for entry in table {
            match &entry.node.value {
                Value::Text(text) | Value::Whole(text, _) | Value::Number(text, _) => {
                    strings.push((entry, text.clone()))
                }
                Value::Bool(yes) => strings.push((entry, yes.to_string())),
                _ => {
                    let key = join(path, &entry.name);
                    self.mismatch(&key, &entry.node, "a string", "write it in quotes");
                }
            }
        }
        strings
    }
}

/// How an amount is read and shown, what it is called, and an example.
type Parse = (fn(&str) -> Result<u64, units::Refused>, fn(u64) -> String, &'static str, &'static str);

/// What to write instead of a value that is none of the choices.
pub(super) fn cure_of_choice<'a>(written: &str, choices: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(written, choices.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("accepted: {}", choices.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")),
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// What a value is; `None` when its fault is told already.
fn describe(value: &Value) -> Option<&'static str> {
    match value {
        Value::Text(_) => Some("a string"),
        Value::Whole(..) => Some("a whole number"),
        Value::Number(..) => Some("a number with a fraction"),
        Value::Bool(_) => Some("a boolean"),
        Value::Time(_) => Some("a date or time"),
        Value::List(_) => Some("a list"),
        Value::Table(_) => Some("a table"),
        Value::Broken => None,
    }
}
