//! JSON Schemas (draft 2020-12) of both files, for editors: written from the catalogue.
//!
//! They say less than `keyrail check`: what holds between keys and the limits of durations and sizes can't be told there.
//! What the loader takes, they take too.

use super::catalogue::{Absent, Catalogue, Form, HOST, Key, Kind, PIPELINE, Values};
use super::client::{self, is_secret};
use super::properties::{self, PROPERTIES};
use super::units::{duration_pattern, show_duration, show_size, size_pattern};
use super::{tell, topic};
use crate::alerts::Kind as AlertKind;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A string that holds a variable of the environment may stand for any other.
const VARIABLE: &str = "\\$\\{";

/// JSON whose objects keep their order.
#[derive(Debug, Clone)]
enum Json {
    Bool(bool),
    Text(String),
    Whole(i64),
    Number(f64),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(yes) => to.serialize_bool(*yes),
            Self::Text(text) => to.serialize_str(text),
            Self::Whole(number) => to.serialize_i64(*number),
            Self::Number(number) => to.serialize_f64(*number),
            Self::List(list) => list.serialize(to),
            Self::Object(members) => {
                let mut map = to.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// The JSON Schema of keyrail.toml.
#[must_use]
pub fn host() -> String {
    page("Keyrail: keyrail.toml", "The host: where the broker is, and what the process may use.", HOST)
}

/// The JSON Schema of a pipeline's NAME.toml.
#[must_use]
pub fn pipeline() -> String {
    page(
        "Keyrail: NAME.toml",
        "A pipeline: a handler, the topics it reads, and what becomes of its messages.",
        PIPELINE,
    )
}

fn page(title: &str, description: &str, catalogue: &Catalogue) -> String {
    let mut members = vec![
        ("$schema", text("https://json-schema.org/draft/2020-12/schema")),
        ("title", text(title)),
        ("description", text(description)),
    ];
    members.extend(section(catalogue, ""));
    let below = any(vec![scalar(), object([("$ref", text("#/$defs/nested"))])]);
    let nested = object([("type", text("object")), ("additionalProperties", below)]);
    members.push(("$defs", object([("nested", nested)])));
    // Writing to memory does not fail, and every key is a string.
    serde_json::to_string_pretty(&object(members)).unwrap_or_default() + "\n"
}

/// What is said of a table of known keys.
fn section(catalogue: &Catalogue, path: &str) -> Vec<(&'static str, Json)> {
    let keys: Vec<&Key> = catalogue.iter().filter(|key| key.apart().0 == path && !key.is_later()).collect();
    let required: Vec<Json> = keys.iter().filter(|key| is_required(key)).map(|key| text(key.apart().1)).collect();
    let properties = keys.iter().map(|key| (key.apart().1.to_owned(), property(catalogue, key))).collect();
    let mut members = vec![("type", text("object")), ("properties", Json::Object(properties))];
    if !required.is_empty() {
        members.push(("required", Json::List(required)));
    }
    members.push(("additionalProperties", Json::Bool(false)));
    members
}

fn is_required(key: &Key) -> bool {
    let (Kind::Text { default, .. } | Kind::Origin { default, .. } | Kind::List { default, .. }) = key.kind else {
        return key.kind == Kind::Topics;
    };
    default == Absent::Required
}

fn property(catalogue: &Catalogue, key: &Key) -> Json {
    let mut members = vec![("description", text(&description(key)))];
    match key.kind {
        Kind::Section => members.extend(section(catalogue, key.path)),
        Kind::Later(_) => members.push(("not", object([]))),
        Kind::Free(values) => members.extend(table(values)),
        Kind::Duration(limits) => {
            members.extend(string(&duration_pattern()));
            members.extend(limits.default.map(|default| ("default", text(&show_duration(default)))));
        }
        Kind::Size(limits) => {
            members.extend(string(&size_pattern()));
            members.extend(limits.default.map(|default| ("default", text(&show_size(default)))));
        }
        Kind::Whole { default, least, most } => {
            members.push(("type", text("integer")));
            members.extend([("minimum", least), ("maximum", most), ("default", default)].map(|(k, n)| (k, whole(n))));
        }
        Kind::Wholes { least, most } => {
            let limits = [("minimum", whole(least)), ("maximum", whole(most))];
            let item = object([("type", text("integer"))].into_iter().chain(limits));
            members.extend([("type", text("array")), ("items", item), ("uniqueItems", Json::Bool(true))]);
        }
        Kind::Number { default, least, most } => {
            members.push(("type", text("number")));
            let numbers = [("minimum", least), ("maximum", most), ("default", default)];
            members.extend(numbers.map(|(name, number)| (name, Json::Number(number))));
        }
        Kind::Switch { default } => {
            members.extend([("type", text("boolean")), ("default", Json::Bool(default))]);
        }
        Kind::Choice { default, words } => {
            members.push(("anyOf", Json::List(vec![one_of(words.iter().copied()), variable()])));
            members.push(("default", text(default)));
        }
        Kind::Origin { default, words } => {
            let other = object(string("^header:.+$"));
            members.push(("anyOf", Json::List(vec![one_of(words.iter().copied()), other])));
            members.extend(of_absent(default));
        }
        Kind::Text { default, form } => {
            members.extend(string(&pattern(form)));
            members.extend(of_absent(default));
        }
        Kind::List { form, .. } => {
            let item = match form {
                Form::AlertKind => any(vec![one_of(AlertKind::ALL.iter().map(|kind| kind.as_str())), variable()]),
                form => object(string(&pattern(form))),
            };
            members.extend([("type", text("array")), ("items", item), ("minItems", whole(1))]);
        }
        Kind::Topics => {
            members.extend([
                ("type", text("array")),
                ("items", object(string(&format!("{}|^\\^.", pattern(Form::Topic))))),
            ]);
            members.extend([("minItems", whole(1)), ("uniqueItems", Json::Bool(true))]);
        }
    }
    object(members)
}

fn description(key: &Key) -> String {
    let mut chars = key.meaning.chars();
    let mut told = chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default();
    told.push('.');
    let accepted = tell::accepted(key);
    if !accepted.is_empty() {
        told += &format!("\n\nAccepted: {accepted}.");
    }
    // A value stands in `default`, and what must be written in `required`.
    let default = tell::default(key);
    if !default.is_empty() && !default.starts_with('`') && !is_required(key) {
        told += &format!("\n\nDefault: {default}.");
    }
    told
}

fn of_absent(default: Absent) -> Option<(&'static str, Json)> {
    match default {
        Absent::Is(value) => Some(("default", text(value))),
        Absent::Told(_) | Absent::Required => None,
    }
}

fn pattern(form: Form) -> String {
    match form {
        Form::Path => ".".to_owned(),
        Form::Address => "^(?:[0-9.]+|\\[[0-9A-Fa-f:.]+\\]|localhost):[0-9]{1,5}$".to_owned(),
        Form::Digest => "^[0-9A-Fa-f]{64}$".to_owned(),
        Form::PublicKey => "^RW[A-Za-z0-9+/]{54}$".to_owned(),
        Form::Group => "^[A-Za-z0-9._-]+$".to_owned(),
        Form::Topic => format!("^[A-Za-z0-9._-]{{1,{}}}$", topic::LONGEST),
        Form::Url => "^[Hh][Tt][Tt][Pp][Ss]?://[^@\\s]+$".to_owned(),
        Form::Server => "^[^\\s]+$".to_owned(),
        Form::Reached => "^(\\*\\.)?[^\\s/*]+:[0-9]+$".to_owned(),
        Form::Mailbox => "@".to_owned(),
        Form::AlertKind | Form::Secret | Form::Any => ".".to_owned(),
    }
}

/// What is said of a table of the user's own keys. TOML takes a dot in a bare key for a table, and so do these.
fn table(values: Values) -> Vec<(&'static str, Json)> {
    let nested = || object([("$ref", text("#/$defs/nested"))]);
    let mut members = vec![("type", text("object"))];
    let rest = match values {
        Values::Strings => any(vec![scalar(), nested()]),
        Values::Topics => any(vec![object(string(&pattern(Form::Topic))), nested()]),
        Values::Properties => {
            let is_owned = |name: &str| client::OWNED.iter().any(|(owned, _)| *owned == name);
            let usable = PROPERTIES.iter().filter(|property| !is_owned(property.name));
            let usable = usable.map(|property| (property.name.to_owned(), of_librdkafka(property))).collect();
            let owned = object([("not", one_of(client::OWNED.iter().map(|(name, _)| *name)))]);
            members.extend([("properties", Json::Object(usable)), ("propertyNames", owned)]);
            nested()
        }
    };
    members.push(("additionalProperties", rest));
    members
}

/// A property of librdkafka: numbers and booleans may stand in quotes too.
fn of_librdkafka(property: &properties::Property) -> Json {
    use properties::Kind::{Bool, Number, One, Text, Whole};
    let mut members = Vec::new();
    if is_secret(property.name) {
        members.push(("description", text("Secret: never shown. Write it as \"${NAME}\".")));
    } else if let Some(of) = property.alias_of {
        members.push(("description", text(&format!("Another name of `{of}`."))));
    }
    let in_quotes = |pattern: &str| object(string(pattern));
    members.push(match client::kind_of(property) {
        Text => ("type", Json::List(["string", "number", "boolean"].map(text).to_vec())),
        Bool => {
            let words = ["true", "false", "t", "f", "1", "0"];
            let bare = object([("type", text("boolean"))]);
            let number = object([("enum", Json::List(vec![Json::Whole(0), Json::Whole(1)]))]);
            ("anyOf", Json::List(vec![bare, number, in_quotes(&in_any_case(&words))]))
        }
        Whole(least, most) => {
            let limits = [("minimum", Json::Whole(least)), ("maximum", Json::Whole(most))];
            let number = object([("type", text("integer"))].into_iter().chain(limits));
            ("anyOf", Json::List(vec![number, in_quotes("^[+-]?[0-9]+$")]))
        }
        Number(least, most) => {
            let limits = [("minimum", Json::Number(least)), ("maximum", Json::Number(most))];
            let number = object([("type", text("number"))].into_iter().chain(limits));
            ("anyOf", Json::List(vec![number, in_quotes("^[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?$")]))
        }
        One(words) => ("anyOf", Json::List(vec![one_of(words.iter().copied()), in_quotes(&in_any_case(words))])),
    });
    object(members)
}

fn in_any_case(words: &[&str]) -> String {
    let each = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    let words: Vec<String> = words.iter().map(|word| word.chars().map(each).collect()).collect();
    format!("^(?:{})$", words.join("|"))
}

/// A string of this pattern, or one with a variable.
fn string(pattern: &str) -> [(&'static str, Json); 2] {
    let pattern = if pattern == "." { pattern.to_owned() } else { format!("{pattern}|{VARIABLE}") };
    [("type", text("string")), ("pattern", text(&pattern))]
}

fn variable() -> Json {
    object([("type", text("string")), ("pattern", text(VARIABLE))])
}

fn scalar() -> Json {
    object([("type", Json::List(["string", "number", "boolean"].map(text).to_vec()))])
}

fn any(of: Vec<Json>) -> Json {
    object([("anyOf", Json::List(of))])
}

fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> Json {
    object([("enum", Json::List(words.map(text).collect()))])
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn whole(number: u32) -> Json {
    Json::Whole(i64::from(number))
}

fn object(members: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
