//! What each keyword becomes.

use std::collections::BTreeSet;

use plugin_common::number::Decimal;
use plugin_common::{Kind, Value};
use regex_lite::Regex;

use super::{Compiler, Draft};
use crate::canonical::canonical;
use crate::locate::{Place, member};
use crate::model::{Bounds, Id, Rule, TYPES, Types};

impl<'d> Compiler<'d> {
    /// A keyword that stands for itself.
    pub(super) fn keyword(
        &mut self,
        key: &str,
        place: &Place<'d>,
        value: Value<'d>,
        rules: &mut Vec<Rule>,
    ) -> Result<(), String> {
        rules.push(match key {
            "type" => Rule::Types(self.types(place, value)?),
            "enum" if value.kind() == Kind::Array => {
                Rule::OneOfValues(value.elements().map(canonical).collect(), format!("one of {}", excerpt(value)))
            }
            "const" => Rule::OneOfValues(BTreeSet::from([canonical(value)]), excerpt(value)),
            "multipleOf" => {
                let by = self.number(place, key, value)?;
                if !by.is_positive() || by.is_multiple_of(&by).is_none() {
                    return Err(self.fault(place, "`multipleOf` must be above 0 and have at most 18 digits"));
                }
                Rule::MultipleOf(by, value.raw().to_owned())
            }
            "minimum" | "exclusiveMinimum" => Rule::Least {
                bound: self.number(place, key, value)?,
                exclusive: key == "exclusiveMinimum",
                text: value.raw().to_owned(),
            },
            "maximum" | "exclusiveMaximum" => Rule::Most {
                bound: self.number(place, key, value)?,
                exclusive: key == "exclusiveMaximum",
                text: value.raw().to_owned(),
            },
            "pattern" => Rule::Pattern(self.regex(place, value)?),
            "uniqueItems" => match value.kind() {
                Kind::True => Rule::Unique,
                Kind::False => return Ok(()),
                _ => return Err(self.fault(place, "`uniqueItems` must be true or false")),
            },
            "propertyNames" => Rule::Names(self.inner(place, value)?),
            "required" => Rule::Required(self.names(place, key, value)?),
            "allOf" => Rule::All(self.list(place, key, value)?),
            "anyOf" => Rule::Any(self.list(place, key, value)?),
            "oneOf" => Rule::One(self.list(place, key, value)?),
            "not" => Rule::Not(self.inner(place, value)?),
            "dependentRequired" | "dependentSchemas" | "dependencies" => {
                return self.dependent(key, place, value, rules);
            }
            "enum" => return Err(self.fault(place, "`enum` must be a list")),
            _ => return Ok(()),
        });
        Ok(())
    }

    /// Keywords that mean something together.
    pub(super) fn combined(&mut self, place: &Place<'d>, rules: &mut Vec<Rule>) -> Result<(), String> {
        let get = |name: &str| member(place.value, name);
        for (least, most, make) in [
            ("minLength", "maxLength", Rule::Length as fn(Bounds) -> Rule),
            ("minItems", "maxItems", Rule::ItemCount),
            ("minProperties", "maxProperties", Rule::PropertyCount),
        ] {
            rules.extend(self.bounds(place, least, most)?.map(make));
        }
        if let Some(value) = get("contains") {
            let schema = self.inner(place, value)?;
            let modern = self.drafts[place.doc] == Draft::D2020;
            let bounds = self.bounds(place, "minContains", "maxContains")?.filter(|_| modern);
            let mut bounds = bounds.unwrap_or(Bounds { least: 1, most: u64::MAX });
            if get("minContains").is_none() {
                bounds.least = 1;
            }
            rules.push(Rule::Contains { schema, bounds });
        }
        self.items(place, rules)?;
        let named = get("properties").map(|value| self.named(place, value)).transpose()?.unwrap_or_default();
        let mut patterns = Vec::new();
        for (key, value) in get("patternProperties").into_iter().flat_map(Value::members) {
            patterns.push((self.regex(place, key)?, self.inner(place, value)?));
        }
        let rest = self.optional(place, "additionalProperties")?;
        if !named.is_empty() || !patterns.is_empty() || rest.is_some() {
            rules.push(Rule::Properties { named, patterns, rest });
        }
        let (then, otherwise) = (self.optional(place, "then")?, self.optional(place, "else")?);
        if let Some(test) = self.optional(place, "if")? {
            rules.push(Rule::If { test, then, otherwise });
        }
        if self.drafts[place.doc] == Draft::D2020 {
            let properties = self.optional(place, "unevaluatedProperties")?;
            let items = self.optional(place, "unevaluatedItems")?;
            if properties.is_some() || items.is_some() {
                self.out.tracks = true;
                rules.push(Rule::Unevaluated { properties, items });
            }
        }
        Ok(())
    }

    fn items(&mut self, place: &Place<'d>, rules: &mut Vec<Rule>) -> Result<(), String> {
        let is_d7 = self.drafts[place.doc] == Draft::D7;
        let items = member(place.value, "items");
        let is_list = items.is_some_and(|value| value.kind() == Kind::Array);
        if is_list && !is_d7 {
            return Err(self.fault(place, "`items` is one schema since 2020-12: use prefixItems, or say \"$schema\": \"http://json-schema.org/draft-07/schema#\""));
        }
        let (mut first, mut rest) = (Vec::new(), None);
        if is_list {
            for value in items.into_iter().flat_map(Value::elements) {
                first.push(self.inner(place, value)?);
            }
            rest = self.optional(place, "additionalItems")?;
        } else {
            if let Some(value) = member(place.value, "prefixItems").filter(|_| !is_d7) {
                first = self.list(place, "prefixItems", value)?;
            }
            rest = self.optional(place, "items")?.or(rest);
        }
        if !first.is_empty() || rest.is_some() {
            rules.push(Rule::Items { first, rest });
        }
        Ok(())
    }

    fn dependent(
        &mut self,
        key: &str,
        place: &Place<'d>,
        value: Value<'d>,
        rules: &mut Vec<Rule>,
    ) -> Result<(), String> {
        for (name, value) in value.members() {
            let name = name.text().unwrap_or_default().into_owned();
            let is_list = value.kind() == Kind::Array && key != "dependentSchemas";
            rules.push(if is_list || key == "dependentRequired" {
                Rule::RequiredWith(name, self.names(place, key, value)?)
            } else {
                Rule::SchemaWith(name, self.inner(place, value)?)
            });
        }
        Ok(())
    }

    fn optional(&mut self, place: &Place<'d>, key: &str) -> Result<Option<Id>, String> {
        member(place.value, key).map(|value| self.inner(place, value)).transpose()
    }

    fn types(&self, place: &Place<'_>, value: Value<'_>) -> Result<Types, String> {
        let mut types = Types::default();
        let one = (value.kind() == Kind::String).then_some(value);
        let mut found = false;
        for name in one.into_iter().chain(value.elements()) {
            found = name.text().is_some_and(|name| types.add(&name));
            if !found {
                break;
            }
        }
        let why =
            || format!("`type` {} is unknown: it is one of {}, or a list of them", excerpt(value), TYPES.join(", "));
        if found { Ok(types) } else { Err(self.fault(place, &why())) }
    }

    fn number(&self, place: &Place<'_>, key: &str, value: Value<'_>) -> Result<Decimal, String> {
        let number = if value.kind() == Kind::Number { Decimal::parse(value.raw()) } else { None };
        number.ok_or_else(|| self.fault(place, &format!("`{key}` must be a number")))
    }

    fn bounds(&self, place: &Place<'_>, least: &str, most: &str) -> Result<Option<Bounds>, String> {
        let read = |key: &str| {
            let Some(value) = member(place.value, key) else { return Ok(None) };
            let number = self.number(place, key, value)?.to_u64();
            number
                .map(Some)
                .ok_or_else(|| self.fault(place, &format!("`{key}` must be a whole number from 0 to 18 digits")))
        };
        let (least, most) = (read(least)?, read(most)?);
        Ok((least.is_some() || most.is_some())
            .then(|| Bounds { least: least.unwrap_or(0), most: most.unwrap_or(u64::MAX) }))
    }

    fn names(&self, place: &Place<'_>, key: &str, value: Value<'_>) -> Result<Vec<String>, String> {
        let names: Option<Vec<String>> =
            value.elements().map(|name| name.text().map(|name| name.into_owned())).collect();
        names
            .filter(|_| value.kind() == Kind::Array)
            .ok_or_else(|| self.fault(place, &format!("`{key}` must be a list of names")))
    }

    fn regex(&self, place: &Place<'_>, value: Value<'_>) -> Result<Regex, String> {
        let Some(pattern) = value.text() else { return Err(self.fault(place, "`pattern` must be a text")) };
        Regex::new(&pattern).map_err(|why| {
            self.fault(
                place,
                &format!(
                    "the pattern {pattern:?}: {why}; look-around, back-references and \\p{{...}} are not supported"
                ),
            )
        })
    }
}

fn excerpt(value: Value<'_>) -> String {
    match value.raw().char_indices().nth(200) {
        Some((at, _)) => format!("{}...", &value.raw()[..at]),
        None => value.raw().to_owned(),
    }
}
