//! JSON as spans of the text that it was read from.

use std::borrow::Cow;
use std::fmt;

use keyrail_sdk::{Problem, dead_letter};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
mod tests;

/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 128;
/// The most values, keys included, that one text may hold: they take 16 MB of an instance's memory.
pub const MAX_NODES: usize = 1_000_000;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number, kept as it is written.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `not-utf-8`, `bad-json`, `too-deep` or `too-large`: the code of a dead letter.
    pub code: &'static str,
    /// The byte at which it was noticed, from 0.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl Fault {
    /// The dead letter that it means for a message.
    pub fn problem(&self) -> Problem {
        dead_letter(self.code, self)
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    /// The node after this one and all that is in it.
    next: u32,
    kind: Kind,
    escaped: bool,
}

/// A JSON text (RFC 8259) that was read: spans, in the order of the text. An object's keys stand before their values.
#[derive(Clone, Debug)]
pub struct Doc<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

impl<'a> Doc<'a> {
    /// Reads a whole text: strictly JSON, with repeated keys kept.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|e| Fault {
            code: "not-utf-8",
            at: e.valid_up_to(),
            what: "the text is not UTF-8",
        })?;
        if u32::try_from(text.len()).is_err() {
            return Err(Fault { code: "too-large", at: 0, what: "the text is longer than 4 GiB" });
        }
        let mut scan = Scan { bytes, at: 0, nodes: Vec::with_capacity((bytes.len() / 8).min(1024)), open: Vec::new() };
        scan.document()?;
        Ok(Doc { text, nodes: scan.nodes })
    }

    /// The text as it was given.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { doc: self, at: 0 }
    }

    /// Every value, keys too, in the text's order.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..u32_of(self.nodes.len())).map(|at| Value { doc: self, at })
    }
}

/// One value of a [`Doc`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    doc: &'d Doc<'d>,
    at: u32,
}

impl<'d> Value<'d> {
    fn node(self) -> Node {
        self.doc.nodes[self.at as usize]
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the text, in bytes: first and one past the last.
    pub fn span(self) -> (usize, usize) {
        let node = self.node();
        (node.start as usize, node.end as usize)
    }

    /// It as it is written.
    pub fn raw(self) -> &'d str {
        let (start, end) = self.span();
        self.doc.text.get(start..end).unwrap_or_default()
    }

    /// A string's text with its escapes undone; half a surrogate pair becomes U+FFFD. `None` for what is no string.
    pub fn text(self) -> Option<Cow<'d, str>> {
        let node = self.node();
        let raw = self.raw();
        let inner = raw.get(1..raw.len().saturating_sub(1)).filter(|_| node.kind == Kind::String)?;
        Some(if node.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// Whether it is a string with this text.
    pub fn is_text(self, text: &str) -> bool {
        self.text().is_some_and(|own| own == text)
    }

    /// An array's elements; of anything else none.
    pub fn elements(self) -> impl Iterator<Item = Value<'d>> {
        let is_array = self.kind() == Kind::Array;
        self.children().filter(move |_| is_array)
    }

    /// An object's keys and values, repeated keys too; of anything else none.
    pub fn members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let mut children = self.children();
        let is_object = self.kind() == Kind::Object;
        std::iter::from_fn(move || if is_object { children.next().zip(children.next()) } else { None })
    }

    /// A number that names the value within its text; values in the text's order have rising numbers.
    pub fn index(self) -> usize {
        self.at as usize
    }

    fn children(self) -> impl Iterator<Item = Value<'d>> {
        let (mut at, end) = (self.at + 1, self.node().next);
        std::iter::from_fn(move || {
            let child = (at < end).then_some(Value { doc: self.doc, at })?;
            at = child.node().next;
            Some(child)
        })
    }
}

/// Only for text that was read as a string.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.as_bytes().get(at + 1).copied().unwrap_or_default();
        rest = rest.get(at + 2..).unwrap_or_default();
        match code {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let (first, after) = unit(rest);
                rest = after;
                let low = rest.strip_prefix("\\u").map(unit).filter(|(low, _)| (0xdc00..0xe000).contains(low));
                match (first, low) {
                    (0xd800..0xdc00, Some((low, after))) => {
                        rest = after;
                        out.push(
                            char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'),
                        );
                    }
                    _ => out.push(char::from_u32(first).unwrap_or('\u{fffd}')),
                }
            }
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    out
}

fn unit(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xfffd), rest)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The containers that are open, as indexes into `nodes`.
    open: Vec<usize>,
}

impl Scan<'_> {
    fn document(&mut self) -> Result<(), Fault> {
        loop {
            // Here a value is due.
            self.space();
            if self.opens()? {
                continue;
            }
            if self.closes()? {
                return Ok(());
            }
        }
    }

    /// Reads a value, or a container's beginning: `true` if its first value is due next.
    fn opens(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        let (kind, last) = match self.peek() {
            Some(b'{') => (Kind::Object, b'}'),
            Some(b'[') => (Kind::Array, b']'),
            Some(b'"') => return self.string().map(|()| false),
            Some(b'-' | b'0'..=b'9') => return self.number().map(|()| false),
            Some(b't') => return self.word("true", Kind::True).map(|()| false),
            Some(b'f') => return self.word("false", Kind::False).map(|()| false),
            Some(b'n') => return self.word("null", Kind::Null).map(|()| false),
            Some(_) => return Err(self.fault("a value is expected here")),
            None => return Err(self.fault("the text ends where a value is expected")),
        };
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault { code: "too-deep", at: self.at, what: "nested deeper than 128 levels" });
        }
        self.at += 1;
        self.open.push(self.nodes.len());
        self.node(kind, start, false)?;
        self.space();
        if self.peek() == Some(last) {
            return Ok(false);
        }
        if kind == Kind::Object {
            self.key()?;
        }
        Ok(true)
    }

    /// After a value: closes what ends here. `true` at the end of the text, `false` if another value is due.
    fn closes(&mut self) -> Result<bool, Fault> {
        loop {
            self.space();
            let Some(&top) = self.open.last() else {
                return if self.at == self.bytes.len() {
                    Ok(true)
                } else {
                    Err(self.fault("more text after the value"))
                };
            };
            let is_object = self.nodes[top].kind == Kind::Object;
            match self.peek() {
                Some(b'}') if is_object => self.close(top),
                Some(b']') if !is_object => self.close(top),
                Some(b',') => {
                    self.at += 1;
                    if is_object {
                        self.space();
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(_) if is_object => return Err(self.fault("`,` or `}` is expected here")),
                Some(_) => return Err(self.fault("`,` or `]` is expected here")),
                None => return Err(self.fault("the text ends inside an array or object")),
            }
        }
    }

    fn close(&mut self, top: usize) {
        self.at += 1;
        self.open.pop();
        let next = u32_of(self.nodes.len());
        self.nodes[top].end = u32_of(self.at);
        self.nodes[top].next = next;
    }

    fn key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("a key in double quotes is expected here"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault("`:` is expected here"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.fault("a control character in a string must be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.fault("the text ends inside a string")),
            }
        }
        self.at += 1;
        self.node(Kind::String, start, escaped)
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.fault("\\u needs four hexadecimal digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.fault("no such escape in JSON")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.node(Kind::Number, start, false)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(self.fault("a digit is expected here")) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("a value is expected here"));
        }
        let start = self.at;
        self.at += word.len();
        self.node(kind, start, false)
    }

    /// Adds a node that ends here and holds nothing.
    fn node(&mut self, kind: Kind, start: usize, escaped: bool) -> Result<(), Fault> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Fault { code: "too-large", at: start, what: "more than 1,000,000 values" });
        }
        let next = u32_of(self.nodes.len() + 1);
        self.nodes.push(Node { start: u32_of(start), end: u32_of(self.at), next, kind, escaped });
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { code: "bad-json", at: self.at, what }
    }
}

/// Lossless: the text's length was checked first.
fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Writes text as a JSON string.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
