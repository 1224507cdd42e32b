//! Does a value fit?

use std::collections::BTreeSet;
use std::fmt::Write as _;

use plugin_common::number::Decimal;
use plugin_common::{Kind, Value};

use crate::canonical::canonical;
use crate::model::{Id, Rule, Schema, Schemas};

/// Violations that are told; more don't help.
const MOST_TOLD: usize = 10;
/// How deep checking may recurse: schemas within schemas, not only values within values.
const MAX_DEPTH: u32 = 256;
/// Schemas applied to values for one message, and values compared.
const MAX_STEPS: u64 = 5_000_000;

/// What became of a value.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It fits.
    Fits,
    /// The first violations: a JSON pointer and what is wrong there.
    Violates(Vec<String>),
    /// It is not known: to check it would take too much.
    Stopped(Limit),
}

/// What a check would take too much of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// More than 256 schemas within each other.
    Depth,
    /// More than 5,000,000 schemas applied and values compared.
    Steps,
}

/// Checks a value against the first of the schemas.
#[must_use]
pub fn check(schemas: &Schemas, value: Value<'_>) -> Verdict {
    let mut run = Run { schemas, told: Vec::new(), quiet: 0, depth: 0, steps: 0, stopped: None };
    let fits = run.fits(0, value, &At::Root, &mut Seen::new());
    match run.stopped {
        Some(limit) => Verdict::Stopped(limit),
        None if fits => Verdict::Fits,
        None => Verdict::Violates(run.told),
    }
}

/// Where a value stands, innermost step first.
enum At<'a> {
    Root,
    Field(&'a At<'a>, Value<'a>),
    Item(&'a At<'a>, usize),
}

impl At<'_> {
    fn pointer(&self, out: &mut String) {
        match self {
            At::Root => {}
            At::Field(up, key) => {
                up.pointer(out);
                out.push('/');
                out.push_str(&key.text().unwrap_or_default().replace('~', "~0").replace('/', "~1"));
            }
            At::Item(up, index) => {
                up.pointer(out);
                // Writing to a string can't fail.
                let _infallible = write!(out, "/{index}");
            }
        }
    }
}

/// The fields and elements of one value that some rule has looked at, by their numbers.
type Seen = BTreeSet<usize>;

struct Run<'s> {
    schemas: &'s Schemas,
    told: Vec<String>,
    /// Above 0 a failure is none of the message's: an alternative is tried.
    quiet: u32,
    depth: u32,
    steps: u64,
    stopped: Option<Limit>,
}

impl Run<'_> {
    fn fits(&mut self, id: Id, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        if !self.step(1) {
            return false;
        }
        if self.depth >= MAX_DEPTH {
            self.stopped = Some(Limit::Depth);
            return false;
        }
        let schemas = self.schemas;
        match schemas.list.get(id) {
            None | Some(Schema::Always(true)) => true,
            Some(Schema::Always(false)) => self.fail(at, || "is not allowed here".to_owned()),
            Some(Schema::Rules(rules)) => {
                self.depth += 1;
                let mut own = Seen::new();
                let mut fits = true;
                for rule in rules {
                    fits &= self.holds(rule, value, at, &mut own);
                    if self.stopped.is_some() || (!fits && self.is_enough()) {
                        fits = false;
                        break;
                    }
                }
                self.depth -= 1;
                if fits {
                    seen.append(&mut own);
                }
                fits
            }
        }
    }

    fn step(&mut self, steps: u64) -> bool {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            self.stopped.get_or_insert(Limit::Steps);
        }
        self.stopped.is_none()
    }

    /// Whether further violations would not be told.
    fn is_enough(&self) -> bool {
        self.quiet > 0 || self.told.len() >= MOST_TOLD
    }

    fn fail(&mut self, at: &At<'_>, what: impl FnOnce() -> String) -> bool {
        if !self.is_enough() && self.stopped.is_none() {
            let mut pointer = String::new();
            at.pointer(&mut pointer);
            let place = if pointer.is_empty() { "the message".to_owned() } else { shortened(&pointer) };
            self.told.push(format!("{place} {}", what()));
        }
        false
    }

    /// As `fits`, telling nothing.
    fn tries(&mut self, id: Id, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        self.quiet += 1;
        let fits = self.fits(id, value, at, seen);
        self.quiet -= 1;
        fits
    }

    fn holds(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        match rule {
            Rule::Types(types) => types.hold(value) || self.fail(at, || format!("must be of type {}", types.names())),
            Rule::OneOfValues(values, text) => {
                self.step(size(value))
                    && (values.contains(&canonical(value)) || self.fail(at, || format!("must be {text}")))
            }
            Rule::MultipleOf(..) | Rule::Least { .. } | Rule::Most { .. } => self.number(rule, value, at),
            Rule::Length(_) | Rule::Pattern(_) => self.text(rule, value, at),
            Rule::Items { .. } | Rule::Contains { .. } | Rule::ItemCount(_) | Rule::Unique
                if value.kind() == Kind::Array =>
            {
                self.array(rule, value, at, seen)
            }
            Rule::Properties { .. } | Rule::Names(_) | Rule::Required(_) | Rule::PropertyCount(_)
                if value.kind() == Kind::Object =>
            {
                self.object(rule, value, at, seen)
            }
            Rule::RequiredWith(..) | Rule::SchemaWith(..) if value.kind() == Kind::Object => {
                self.dependent(rule, value, at, seen)
            }
            Rule::Unevaluated { properties, items } => self.unevaluated(*properties, *items, value, at, seen),
            Rule::Ref(id) => self.fits(*id, value, at, seen),
            Rule::All(ids) => {
                // Each is asked, so that the violations of all are told.
                let failed = ids.iter().filter(|id| !self.fits(**id, value, at, seen)).count();
                failed == 0
            }
            Rule::Any(_) | Rule::One(_) | Rule::Not(_) | Rule::If { .. } => self.alternatives(rule, value, at, seen),
            _ => true,
        }
    }

    fn number(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>) -> bool {
        if value.kind() != Kind::Number {
            return true;
        }
        let Some(number) = Decimal::parse(value.raw()) else { return true };
        match rule {
            Rule::MultipleOf(by, text) => {
                number.is_multiple_of(by) == Some(true) || self.fail(at, || format!("must be a multiple of {text}"))
            }
            Rule::Least { bound, exclusive, text } => {
                let than = if *exclusive { "greater than" } else { "at least" };
                number > *bound
                    || (!exclusive && number == *bound)
                    || self.fail(at, || format!("must be {than} {text}"))
            }
            Rule::Most { bound, exclusive, text } => {
                let than = if *exclusive { "less than" } else { "at most" };
                number < *bound
                    || (!exclusive && number == *bound)
                    || self.fail(at, || format!("must be {than} {text}"))
            }
            _ => true,
        }
    }

    fn text(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>) -> bool {
        let Some(text) = value.text() else { return true };
        match rule {
            Rule::Length(bounds) => {
                bounds.hold(text.chars().count())
                    || self.fail(at, || format!("must have {} characters", bounds.words()))
            }
            Rule::Pattern(regex) => {
                regex.is_match(&text) || self.fail(at, || format!("must match {}", shortened(regex.as_str())))
            }
            _ => true,
        }
    }

    fn array(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        match rule {
            Rule::ItemCount(bounds) => {
                bounds.hold(value.elements().count())
                    || self.fail(at, || format!("must have {} elements", bounds.words()))
            }
            Rule::Items { first, rest } => {
                let mut fits = true;
                for (index, element) in value.elements().enumerate() {
                    let Some(id) = first.get(index).copied().or(*rest) else { break };
                    fits &= self.fits(id, element, &At::Item(at, index), &mut Seen::new());
                    if self.stopped.is_some() || (!fits && self.is_enough()) {
                        return false;
                    }
                    self.mark(element, seen);
                }
                fits
            }
            Rule::Contains { schema, bounds } => {
                let mut found = 0;
                for (index, element) in value.elements().enumerate() {
                    if self.tries(*schema, element, &At::Item(at, index), &mut Seen::new()) {
                        found += 1;
                        self.mark(element, seen);
                    }
                }
                bounds.hold(found)
                    || self
                        .fail(at, || format!("must have {} elements that fit `contains`, not {found}", bounds.words()))
            }
            _ => {
                let mut values = BTreeSet::new();
                self.step(size(value))
                    && (value.elements().all(|element| values.insert(canonical(element)))
                        || self.fail(at, || format!("must have no element twice, and element {} is", values.len())))
            }
        }
    }

    fn object(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        let mut fits = true;
        match rule {
            Rule::PropertyCount(bounds) => {
                fits = bounds.hold(value.members().count())
                    || self.fail(at, || format!("must have {} fields", bounds.words()));
            }
            Rule::Required(names) => {
                for name in names.iter().filter(|name| !has(value, name)) {
                    fits = self.fail(at, || format!("lacks the field `{name}`"));
                }
            }
            Rule::Names(id) => {
                for (key, _) in value.members() {
                    if !self.tries(*id, key, at, &mut Seen::new()) {
                        let name = key.text().unwrap_or_default();
                        fits = self.fail(at, || format!("has a field whose name does not fit: `{}`", shortened(&name)));
                    }
                }
            }
            Rule::Properties { named, patterns, rest } => {
                for (key, member) in value.members() {
                    let (name, place) = (key.text().unwrap_or_default(), At::Field(at, key));
                    let by_name = named.get(&*name);
                    let by_pattern = patterns.iter().filter(|(regex, _)| regex.is_match(&name)).map(|(_, id)| id);
                    let mut ids = by_name.into_iter().chain(by_pattern).peekable();
                    let rest = if ids.peek().is_none() { rest.as_ref() } else { None };
                    for id in ids.chain(rest) {
                        fits &= self.fits(*id, member, &place, &mut Seen::new());
                        self.mark(member, seen);
                    }
                    if self.stopped.is_some() || (!fits && self.is_enough()) {
                        return false;
                    }
                }
            }
            _ => {}
        }
        fits
    }

    fn dependent(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        match rule {
            Rule::RequiredWith(name, others) if has(value, name) => {
                let missing = others.iter().filter(|other| !has(value, other));
                missing.fold(true, |_, other| self.fail(at, || format!("has `{name}` and so must have `{other}`")))
            }
            Rule::SchemaWith(name, id) if has(value, name) => self.fits(*id, value, at, seen),
            _ => true,
        }
    }

    fn alternatives(&mut self, rule: &Rule, value: Value<'_>, at: &At<'_>, seen: &mut Seen) -> bool {
        match rule {
            Rule::Any(ids) => {
                let mut fits = false;
                for id in ids {
                    // What every alternative has looked at counts, not only what the first has.
                    if !fits || self.schemas.tracks {
                        fits |= self.tries(*id, value, at, seen);
                    }
                }
                fits || self.fail(at, || "fits none of `anyOf`".to_owned())
            }
            Rule::One(ids) => {
                let fitting = ids.iter().filter(|id| self.tries(**id, value, at, seen)).count();
                fitting == 1 || self.fail(at, || format!("must fit one of `oneOf`, and fits {fitting}"))
            }
            Rule::Not(id) => {
                let fits = self.tries(*id, value, at, &mut Seen::new());
                (!fits && self.stopped.is_none()) || self.fail(at, || "fits what `not` forbids".to_owned())
            }
            Rule::If { test, then, otherwise } => {
                let branch = if self.tries(*test, value, at, seen) { then } else { otherwise };
                branch.is_none_or(|id| self.fits(id, value, at, seen))
            }
            _ => true,
        }
    }

    fn unevaluated(
        &mut self,
        fields: Option<Id>,
        items: Option<Id>,
        value: Value<'_>,
        at: &At<'_>,
        seen: &mut Seen,
    ) -> bool {
        let mut fits = true;
        if let Some(id) = fields {
            for (key, member) in
                value.members().filter(|(_, member)| !seen.contains(&member.index())).collect::<Vec<_>>()
            {
                fits &= self.fits(id, member, &At::Field(at, key), &mut Seen::new());
                self.mark(member, seen);
            }
        }
        if let Some(id) = items {
            for (index, element) in value.elements().enumerate() {
                if !seen.contains(&element.index()) {
                    fits &= self.fits(id, element, &At::Item(at, index), &mut Seen::new());
                    self.mark(element, seen);
                }
            }
        }
        fits
    }

    fn mark(&self, value: Value<'_>, seen: &mut Seen) {
        if self.schemas.tracks {
            seen.insert(value.index());
        }
    }
}

fn has(object: Value<'_>, name: &str) -> bool {
    object.members().any(|(key, _)| key.is_text(name))
}

/// What comparing a value costs.
fn size(value: Value<'_>) -> u64 {
    let (start, end) = value.span();
    (end - start) as u64 / 8
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
