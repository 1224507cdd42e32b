//! What an expression means.

use std::borrow::Cow;
use std::cmp::Ordering;

use keyrail_sdk::{Context, Message};
use plugin_common::number::Decimal;
use plugin_common::{Doc, Kind, Path, Value};
use regex_lite::Regex;

/// What a test looks at.
#[derive(Debug)]
pub(crate) enum Operand {
    /// A field of the value.
    Field(Path),
    /// The message's key, as text.
    Key,
    /// The last header of this name, as text.
    Header(String),
    /// The topic that it came from.
    Topic,
    /// The partition's number.
    Partition,
    /// Milliseconds since the Unix epoch.
    Timestamp,
}

/// What a test compares with.
#[derive(Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
}

/// How a test compares.
#[derive(Debug)]
pub(crate) enum Test {
    Exists,
    /// One of these.
    In(Vec<Literal>),
    Below(Literal),
    AtMost(Literal),
    Above(Literal),
    AtLeast(Literal),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Matches(Regex),
}

/// A condition on a message.
#[derive(Debug)]
pub(crate) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Test(Operand, Test),
}

/// A message as an expression sees it.
pub(crate) struct Record<'a> {
    pub(crate) message: &'a Message,
    pub(crate) ctx: &'a Context<'a>,
    pub(crate) doc: Option<&'a Doc<'a>>,
}

/// One value that an operand stands for.
enum Seen<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// An array or object, or a key or header that is no UTF-8: it is there, and equals nothing.
    Other,
}

impl Expression {
    /// Whether any test looks into the value.
    pub(crate) fn reads_fields(&self) -> bool {
        match self {
            Expression::All(parts) | Expression::Any(parts) => parts.iter().any(Expression::reads_fields),
            Expression::Not(inner) => inner.reads_fields(),
            Expression::Test(operand, _) => matches!(operand, Operand::Field(_)),
        }
    }

    /// Whether the message fits. The reader bounds how deep this recurses.
    pub(crate) fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(record)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Expression::Not(inner) => !inner.holds(record),
            Expression::Test(operand, test) => record.any(operand, test),
        }
    }
}

impl Record<'_> {
    /// Whether one of the values that the operand stands for passes the test.
    fn any(&self, operand: &Operand, test: &Test) -> bool {
        let bytes = |bytes: Option<&[u8]>| {
            bytes.is_some_and(|bytes| {
                test.passes(&std::str::from_utf8(bytes).map_or(Seen::Other, |text| Seen::Text(Cow::Borrowed(text))))
            })
        };
        let number = |number: String| test.passes(&Seen::Number(Cow::Owned(number)));
        match operand {
            Operand::Field(path) => {
                let mut passed = false;
                if let Some(doc) = self.doc {
                    path.each(doc.root(), &mut |value| {
                        passed = test.passes(&seen(value));
                        !passed
                    });
                }
                passed
            }
            Operand::Key => bytes(self.message.key()),
            Operand::Header(name) => bytes(self.ctx.header(name).as_deref()),
            Operand::Topic => bytes(self.ctx.topic().map(str::as_bytes)),
            Operand::Partition => number(self.message.partition().to_string()),
            Operand::Timestamp => number(self.message.timestamp_ms().to_string()),
        }
    }
}

fn seen(value: Value<'_>) -> Seen<'_> {
    match value.kind() {
        Kind::Null => Seen::Null,
        Kind::True => Seen::Bool(true),
        Kind::False => Seen::Bool(false),
        Kind::Number => Seen::Number(Cow::Borrowed(value.raw())),
        Kind::String => value.text().map_or(Seen::Other, Seen::Text),
        Kind::Array | Kind::Object => Seen::Other,
    }
}

impl Test {
    fn passes(&self, seen: &Seen<'_>) -> bool {
        let text = |holds: &dyn Fn(&str) -> bool| matches!(seen, Seen::Text(text) if holds(text));
        let order = |literal: &Literal, holds: fn(Ordering) -> bool| seen.order(literal).is_some_and(holds);
        match self {
            Test::Exists => true,
            Test::In(literals) => literals.iter().any(|literal| seen.equals(literal)),
            Test::Below(literal) => order(literal, Ordering::is_lt),
            Test::AtMost(literal) => order(literal, Ordering::is_le),
            Test::Above(literal) => order(literal, Ordering::is_gt),
            Test::AtLeast(literal) => order(literal, Ordering::is_ge),
            Test::StartsWith(part) => text(&|text| text.starts_with(part.as_str())),
            Test::EndsWith(part) => text(&|text| text.ends_with(part.as_str())),
            Test::Contains(part) => text(&|text| text.contains(part.as_str())),
            Test::Matches(regex) => text(&|text| regex.is_match(text)),
        }
    }
}

impl Seen<'_> {
    fn equals(&self, literal: &Literal) -> bool {
        match (self, literal) {
            (Seen::Null, Literal::Null) => true,
            (Seen::Bool(mine), Literal::Bool(other)) => mine == other,
            _ => self.order(literal).is_some_and(Ordering::is_eq),
        }
    }

    /// `None`: a number and a text, say, have no order.
    fn order(&self, literal: &Literal) -> Option<Ordering> {
        match (self, literal) {
            (Seen::Number(mine), Literal::Number(other)) => Some(Decimal::parse(mine)?.cmp(other)),
            (Seen::Text(mine), Literal::Text(other)) => Some(mine.as_ref().cmp(other.as_str())),
            _ => None,
        }
    }
}
