//! What is hidden and how: spans of the text are replaced, all else is copied.

use std::collections::BTreeSet;

use plugin_common::json::quote;
use plugin_common::{Doc, Kind, Path, Value};
use sha2::{Digest as _, Sha256};

/// What is done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Remove,
    Replace,
    Hash,
    Partial,
}

/// How it is done.
pub(crate) struct Style {
    pub(crate) secret: Secret,
    /// What stands for a replaced value.
    pub(crate) with: String,
    /// How many characters `partial` shows.
    pub(crate) show: usize,
}

/// HMAC-SHA256 (RFC 2104) under one key.
pub(crate) struct Secret {
    inner: Sha256,
    outer: Sha256,
}

impl Secret {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = [0_u8; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let padded = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
        Secret { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// In hexadecimal, 64 digits.
    pub(crate) fn hash(&self, text: &[u8]) -> String {
        let inner = self.inner.clone().chain_update(text).finalize();
        let hash = self.outer.clone().chain_update(inner).finalize();
        hash.iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }
}

/// A span of the text and what stands there instead.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

/// The text with what the rules name hidden.
pub(crate) fn hide(doc: &Doc<'_>, rules: &[(Action, Path)], style: &Style) -> Vec<u8> {
    let mut edits = Vec::new();
    let mut removed = BTreeSet::new();
    // Of several rules for one value the first wins: it hides most.
    let mut done = BTreeSet::new();
    for (action, path) in rules {
        path.each(doc.root(), &mut |value| {
            if done.insert(value.index()) {
                if *action == Action::Remove {
                    removed.insert(value.index());
                } else {
                    edits.extend(edit(*action, value, style));
                }
            }
            true
        });
    }
    if !removed.is_empty() {
        doc.values().for_each(|value| remove_members(value, &removed, &mut edits));
    }
    edits.sort_by_key(|edit| edit.start);
    let text = doc.text().as_bytes();
    let mut out = Vec::with_capacity(text.len() + edits.len() * 16);
    let mut copied = 0;
    for edit in edits {
        // What lies inside a value that is hidden whole went with it.
        if let Some(between) = text.get(copied..edit.start) {
            out.extend_from_slice(between);
            out.extend_from_slice(edit.text.as_bytes());
            copied = edit.end;
        }
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
    out
}

/// Each removed member takes a comma with it: the one before it, or the one behind it if all before it are removed too.
fn remove_members(object: Value<'_>, removed: &BTreeSet<usize>, edits: &mut Vec<Edit>) {
    let mut members = object.members().peekable();
    let (mut previous_end, mut kept) = (0, false);
    while let Some((key, value)) = members.next() {
        let end = value.span().1;
        if !removed.contains(&value.index()) {
            kept = true;
        } else if kept {
            edits.push(Edit { start: previous_end, end, text: String::new() });
        } else {
            let end = members.peek().map_or(end, |(next, _)| next.span().0);
            edits.push(Edit { start: key.span().0, end, text: String::new() });
        }
        previous_end = end;
    }
}

fn edit(action: Action, value: Value<'_>, style: &Style) -> Option<Edit> {
    let hidden = match action {
        Action::Remove => return None,
        Action::Replace => style.with.clone(),
        // There is nothing to hide.
        _ if value.kind() == Kind::Null => return None,
        Action::Hash => style.secret.hash(value.text().as_deref().unwrap_or(value.raw()).as_bytes()),
        Action::Partial => match value.kind() {
            Kind::String => partial(&value.text()?, style.show),
            Kind::Number => partial(value.raw(), style.show),
            // Part of these is no less than all of them.
            _ => style.with.clone(),
        },
    };
    let (start, end) = value.span();
    let mut text = String::with_capacity(hidden.len() + 2);
    quote(&hidden, &mut text);
    Some(Edit { start, end, text })
}

/// A star for each character but the last few; all stars if that would show half of it or more.
fn partial(text: &str, show: usize) -> String {
    let length = text.chars().count();
    let hidden = if length > show * 2 { length - show } else { length };
    std::iter::repeat_n('*', hidden).chain(text.chars().skip(hidden)).collect()
}
