//! The routes: one a line, `PATTERN -> OUTPUT`.

use std::collections::BTreeMap;

/// Which output a text goes to: the exact pattern, else the longest prefix.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: BTreeMap<Vec<u8>, String>,
    prefixes: BTreeMap<Vec<u8>, String>,
    longest: usize,
}

impl Table {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut table = Table::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            table.add(line).map_err(|why| format!("line {number}, {line:?}: {why}"))?;
        }
        if table.exact.is_empty() && table.prefixes.is_empty() {
            return Err("there is no route: say PATTERN -> OUTPUT, one a line".to_owned());
        }
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (pattern, output) =
            line.rsplit_once("->").ok_or("`->` is missing: say PATTERN -> OUTPUT, for example order-* -> orders")?;
        let (pattern, output) = (pattern.trim(), output.trim());
        if output.is_empty() || pattern.is_empty() {
            return Err("a pattern stands before `->` and an output's name after it; \"\" is the empty text".to_owned());
        }
        let (text, is_prefix) = match pattern.strip_prefix('"') {
            Some(quoted) => match (quoted.strip_suffix("\"*"), quoted.strip_suffix('"')) {
                (Some(text), _) => (text, true),
                (None, Some(text)) => (text, false),
                (None, None) => return Err("the closing quote is missing".to_owned()),
            },
            None => pattern.strip_suffix('*').map_or((pattern, false), |text| (text, true)),
        };
        if text.contains('*') && !pattern.starts_with('"') {
            return Err(
                "`*` may stand at the end only, for all that starts so; put a text that has one into quotes".to_owned()
            );
        }
        let table = if is_prefix { &mut self.prefixes } else { &mut self.exact };
        if table.insert(text.as_bytes().to_vec(), output.to_owned()).is_some() {
            return Err("this pattern stands there twice: leave one out".to_owned());
        }
        if is_prefix {
            self.longest = self.longest.max(text.len());
        }
        Ok(())
    }

    pub(crate) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.exact.values().chain(self.prefixes.values()).map(String::as_str)
    }

    pub(crate) fn output(&self, text: &[u8]) -> Option<&str> {
        let prefix = || {
            let longest = text.len().min(self.longest);
            (0..=longest).rev().find_map(|end| self.prefixes.get(text.get(..end)?))
        };
        self.exact.get(text).or_else(prefix).map(String::as_str)
    }
}
