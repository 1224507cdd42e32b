//! A schema as it is checked.

use std::collections::{BTreeMap, BTreeSet};

use plugin_common::number::Decimal;
use plugin_common::{Kind, Value};
use regex_lite::Regex;

/// The place of a schema in [`Schemas`].
pub(crate) type Id = usize;

/// All schemas; the first is the one that messages must fit.
#[derive(Debug, Default)]
pub struct Schemas {
    pub(crate) list: Vec<Schema>,
    /// Some schema asks what others have looked at (`unevaluated...`), so it must be kept.
    pub(crate) tracks: bool,
}

#[derive(Debug)]
pub(crate) enum Schema {
    /// `true` or `false`
    Always(bool),
    /// All of these.
    Rules(Vec<Rule>),
}

#[derive(Debug)]
pub(crate) enum Rule {
    Types(Types),
    /// One of these, in canonical form; the text is for people.
    OneOfValues(BTreeSet<String>, String),
    MultipleOf(Decimal, String),
    Least {
        bound: Decimal,
        exclusive: bool,
        text: String,
    },
    Most {
        bound: Decimal,
        exclusive: bool,
        text: String,
    },
    Length(Bounds),
    Pattern(Regex),
    Items {
        first: Vec<Id>,
        rest: Option<Id>,
    },
    Contains {
        schema: Id,
        bounds: Bounds,
    },
    ItemCount(Bounds),
    Unique,
    Properties {
        named: BTreeMap<String, Id>,
        patterns: Vec<(Regex, Id)>,
        rest: Option<Id>,
    },
    Names(Id),
    Required(Vec<String>),
    PropertyCount(Bounds),
    /// With the first of them the others are required.
    RequiredWith(String, Vec<String>),
    SchemaWith(String, Id),
    All(Vec<Id>),
    Any(Vec<Id>),
    One(Vec<Id>),
    Not(Id),
    If {
        test: Id,
        then: Option<Id>,
        otherwise: Option<Id>,
    },
    Ref(Id),
    /// What no other rule of this schema has looked at. Stands last.
    Unevaluated {
        properties: Option<Id>,
        items: Option<Id>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Bounds {
    pub(crate) fn hold(self, number: usize) -> bool {
        (self.least..=self.most).contains(&(number as u64))
    }

    pub(crate) fn words(self) -> String {
        match (self.least, self.most) {
            (least, u64::MAX) => format!("at least {least}"),
            (0, most) => format!("at most {most}"),
            (least, most) if least == most => format!("exactly {least}"),
            (least, most) => format!("{least} to {most}"),
        }
    }
}

/// A set of JSON Schema's types.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Types(u8);

pub(crate) const TYPES: [&str; 7] = ["null", "boolean", "number", "string", "array", "object", "integer"];

impl Types {
    /// `false` if there is no such type.
    pub(crate) fn add(&mut self, name: &str) -> bool {
        let at = TYPES.iter().position(|known| *known == name);
        self.0 |= at.map_or(0, |at| 1 << at);
        at.is_some()
    }

    pub(crate) fn hold(self, value: Value<'_>) -> bool {
        let at = match value.kind() {
            Kind::Null => 0,
            Kind::True | Kind::False => 1,
            Kind::Number => 2,
            Kind::String => 3,
            Kind::Array => 4,
            Kind::Object => 5,
        };
        let is_whole = || at == 2 && Decimal::parse(value.raw()).is_some_and(|number| number.is_integer());
        self.0 & (1 << at) != 0 || (self.0 & (1 << 6) != 0 && is_whole())
    }

    pub(crate) fn names(self) -> String {
        let names = TYPES.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(" or ")
    }
}

impl Rule {
    /// The schemas that it applies to the same value, for finding endless loops.
    pub(crate) fn in_place(&self) -> Vec<Id> {
        match self {
            Rule::All(ids) | Rule::Any(ids) | Rule::One(ids) => ids.clone(),
            Rule::Not(id) | Rule::Ref(id) | Rule::SchemaWith(_, id) => vec![*id],
            Rule::If { test, then, otherwise } => [Some(*test), *then, *otherwise].into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }
}
