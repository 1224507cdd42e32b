//! From the text of a schema to what is checked. All that can be wrong is refused here, with the place.

mod rules;

use std::collections::BTreeMap;

use plugin_common::config::Wrong;
use plugin_common::{Doc, Kind, Value};

use crate::keywords;
use crate::locate::{Place, Places, id_of, join, member};
use crate::model::{Id, Rule, Schema, Schemas};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Draft {
    D7,
    D2020,
}

/// A text of a schema: its key in `[config]` and what stands there.
pub type Source<'d> = (&'d str, Doc<'d>);

/// Compiles the first text; the others are there to be referred to.
///
/// # Errors
/// What is wrong, with its place, or what is not understood: nothing is passed over.
pub fn compile(docs: &[Source<'_>]) -> Result<Schemas, String> {
    let mut compiler = Compiler {
        docs,
        drafts: Vec::new(),
        places: Places::default(),
        known: BTreeMap::new(),
        refs: Vec::new(),
        out: Schemas::default(),
    };
    let mut roots = Vec::new();
    for (number, (key, doc)) in docs.iter().enumerate() {
        compiler.drafts.push(draft(key, doc.root())?);
        // `schema.address` can be referred to as `address`, and by its own `$id`.
        let name = key.strip_prefix("schema.").unwrap_or_default();
        let base = id_of(doc.root()).map_or_else(|| name.to_owned(), |id| join(name, &id));
        let place = Place { doc: number, value: doc.root(), base };
        compiler.places.resources.insert(name.to_owned(), place.clone());
        compiler.places.resources.insert(place.base.clone(), place.clone());
        roots.push(place);
    }
    for place in roots {
        compiler.schema(&place)?;
    }
    compiler.follow_refs()?;
    let loops = endless(&compiler.out);
    if let Some(id) = loops {
        let place = compiler.known.iter().find(|(_, known)| **known == id).map(|((doc, _), _)| docs[*doc].0);
        return Err(format!(
            "[config] {}: a schema refers to itself without going deeper into the message, which never ends: take the circle of $ref apart",
            place.unwrap_or("schema")
        ));
    }
    Ok(compiler.out)
}

fn draft(key: &str, root: Value<'_>) -> Result<Draft, String> {
    let Some(text) = member(root, "$schema").and_then(Value::text) else { return Ok(Draft::D2020) };
    if text.contains("/2020-12/") {
        Ok(Draft::D2020)
    } else if text.contains("/draft-07/") {
        Ok(Draft::D7)
    } else {
        Err(format!(
            "[config] {key}: $schema {text:?} is not supported: use https://json-schema.org/draft/2020-12/schema or http://json-schema.org/draft-07/schema#"
        ))
    }
}

/// A `$ref` that is still to be followed.
struct Pending {
    from: Id,
    rule: usize,
    doc: usize,
    base: String,
    reference: String,
}

struct Compiler<'d> {
    docs: &'d [Source<'d>],
    drafts: Vec<Draft>,
    places: Places<'d>,
    /// What was compiled already, by text and value.
    known: BTreeMap<(usize, usize), Id>,
    refs: Vec<Pending>,
    out: Schemas,
}

impl<'d> Compiler<'d> {
    /// Recurses as deep as the text nests, which its reader bounds.
    fn schema(&mut self, place: &Place<'d>) -> Result<Id, String> {
        let key = (place.doc, place.value.index());
        if let Some(id) = self.known.get(&key) {
            return Ok(*id);
        }
        let id = self.out.list.len();
        self.known.insert(key, id);
        let always = match place.value.kind() {
            Kind::Object => None,
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => return Err(self.fault(place, "a schema is an object, true or false")),
        };
        self.out.list.push(Schema::Always(always.unwrap_or(true)));
        if always.is_none() {
            let rules = self.object(id, place)?;
            self.out.list[id] = Schema::Rules(rules);
        }
        Ok(id)
    }

    fn object(&mut self, id: Id, place: &Place<'d>) -> Result<Vec<Rule>, String> {
        let mut place = place.clone();
        let is_d7 = self.drafts[place.doc] == Draft::D7;
        let reference = member(place.value, "$ref");
        if let Some(own) = id_of(place.value).filter(|_| !is_d7 || reference.is_none()) {
            place.base = join(&place.base, &own);
            self.places.resources.entry(place.base.clone()).or_insert_with(|| place.clone());
        }
        self.name(&place);
        let mut rules = Vec::new();
        if let Some(reference) = reference {
            let text = reference.text().ok_or_else(|| self.fault(&place, "$ref must be a text"))?;
            self.refs.push(Pending {
                from: id,
                rule: rules.len(),
                doc: place.doc,
                base: place.base.clone(),
                reference: text.into_owned(),
            });
            rules.push(Rule::All(Vec::new()));
        }
        // Up to draft-07 nothing counts beside $ref but what others refer to.
        let only_definitions = is_d7 && reference.is_some();
        for (key, value) in place.value.members() {
            let key = key.text().unwrap_or_default();
            if let Some(why) = keywords::refused(&key) {
                return Err(self.fault(&place, &why));
            }
            if matches!(&*key, "$defs" | "definitions") {
                self.named(&place, value)?;
            } else if !only_definitions {
                self.keyword(&key, &place, value, &mut rules)?;
            }
        }
        if !only_definitions {
            self.combined(&place, &mut rules)?;
        }
        Ok(rules)
    }

    fn name(&mut self, place: &Place<'d>) {
        let anchor = member(place.value, "$anchor").and_then(Value::text);
        let old =
            member(place.value, "$id").and_then(Value::text).and_then(|id| id.strip_prefix('#').map(str::to_owned));
        for name in anchor.map(|name| name.into_owned()).into_iter().chain(old) {
            let address = place.base.split_once('#').map_or(place.base.as_str(), |(address, _)| address).to_owned();
            self.places.anchors.entry((address, name)).or_insert_with(|| place.clone());
        }
    }

    fn follow_refs(&mut self) -> Result<(), String> {
        while let Some(pending) = self.refs.pop() {
            let Some(place) = self.places.find(&pending.base, &pending.reference) else {
                return Err(format!(
                    "[config] {}: $ref {:?} leads nowhere: nothing is fetched, so put the schema in as [config] \"schema.NAME\" and refer to it as NAME or by its $id",
                    self.docs[pending.doc].0, pending.reference
                ));
            };
            let to = self.schema(&place)?;
            if let Some(Schema::Rules(rules)) = self.out.list.get_mut(pending.from)
                && let Some(rule) = rules.get_mut(pending.rule)
            {
                *rule = Rule::Ref(to);
            }
        }
        Ok(())
    }

    /// A schema within another one.
    fn inner(&mut self, place: &Place<'d>, value: Value<'d>) -> Result<Id, String> {
        self.schema(&Place { doc: place.doc, value, base: place.base.clone() })
    }

    /// A list of schemas.
    fn list(&mut self, place: &Place<'d>, key: &str, value: Value<'d>) -> Result<Vec<Id>, String> {
        let ids: Vec<Id> = value.elements().map(|value| self.inner(place, value)).collect::<Result<_, _>>()?;
        if ids.is_empty() { Err(self.fault(place, &format!("`{key}` must be a list of schemas"))) } else { Ok(ids) }
    }

    /// Schemas by name.
    fn named(&mut self, place: &Place<'d>, value: Value<'d>) -> Result<BTreeMap<String, Id>, String> {
        let mut named = BTreeMap::new();
        for (key, value) in value.members() {
            named.insert(key.text().unwrap_or_default().into_owned(), self.inner(place, value)?);
        }
        Ok(named)
    }

    fn fault(&self, place: &Place<'_>, why: &str) -> String {
        let (key, doc) = &self.docs[place.doc];
        let before = doc.text().get(..place.value.span().0).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Wrong(format!("[config] {key}: line {line}: {why}")).to_string()
    }
}

/// A schema that would be applied to the same value for ever.
fn endless(schemas: &Schemas) -> Option<Id> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let next = |id: Id| match schemas.list.get(id) {
        Some(Schema::Rules(rules)) => rules.iter().flat_map(Rule::in_place).collect(),
        _ => Vec::new(),
    };
    let mut marks = vec![Mark::New; schemas.list.len()];
    for start in 0..marks.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        let mut stack = vec![(start, next(start))];
        while let Some((id, left)) = stack.last_mut() {
            match left.pop() {
                None => {
                    marks[*id] = Mark::Done;
                    stack.pop();
                }
                Some(to) if marks[to] == Mark::Open => return Some(to),
                Some(to) if marks[to] == Mark::Done => {}
                Some(to) => {
                    marks[to] = Mark::Open;
                    stack.push((to, next(to)));
                }
            }
        }
    }
    None
}
