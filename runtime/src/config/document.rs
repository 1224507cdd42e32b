//! Configuration as written: TOML with the place of everything, `${NAME}` replaced, `--set` laid over it.
//! The only file that knows the TOML crate.

use super::fault::{Fault, Place};
use super::variables;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table's entries in the order in which they were written.
pub(super) type Table = Vec<Entry>;

/// Where the variables of `${NAME}` come from.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key, unquoted.
    pub(super) name: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// Its value.
    pub(super) node: Node,
}

/// A value with what is known of its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where the value stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: Value,
    /// Whether a variable went into it.
    pub(super) replaced: bool,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A string, after replacement.
    Text(String),
    /// A whole number, as written and as a number if it fits.
    Whole(String, Option<i64>),
    /// A number with a point or exponent, as written and as a number.
    Number(String, f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or a time, which no key takes.
    Time(String),
    /// `[...]`.
    List(Vec<Node>),
    /// `[...]` headers, `{...}` and dotted keys.
    Table(Table),
    /// A fault of it has been told already.
    Broken,
}

/// The entry of this name.
pub(super) fn entry<'a>(table: &'a Table, name: &str) -> Option<&'a Entry> {
    table.iter().find(|entry| entry.name == name)
}

/// A key's path as TOML would write it.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let name = if bare { name.to_owned() } else { quote(name) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// A basic string of TOML.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Parses a file. Tables of the names in `free` become flat: their keys are names of the user's that hold dots, and
/// `a.b = 1` means what `"a.b" = 1` means. `None` when it is too broken to say more than what is in `faults`.
pub(super) fn parse(
    file: &str,
    text: &str,
    free: &[&str],
    variables: Variables<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Table> {
    let lines = Lines::new(file, Some(text));
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut told_lines = BTreeSet::new();
    let mut torn = false;
    for error in &errors {
        let place = lines.place(error.span().map_or(text.len(), |span| span.start));
        let repeated = error.message() == "duplicate key";
        torn |= !repeated;
        // What follows on the same line is mostly the parser's confusion about what came first.
        if !told_lines.insert(place.line) {
            continue;
        }
        faults.push(if repeated {
            let key = error.span().and_then(|span| text.get(span)).unwrap_or_default();
            place.fault(key, "given twice", "keep one of them")
        } else {
            place.fault("", format!("not TOML: {}", error.message()), "")
        });
    }
    if torn {
        return None;
    }
    let mut reader = Conversion { lines, variables, faults };
    let mut table = reader.table(root.get_ref(), "");
    flatten(&mut table, free, faults);
    Some(table)
}

/// Lays `--set KEY=VALUE` arguments over a file's table, the last one on top.
pub(super) fn set(
    table: &mut Table,
    arguments: &[String],
    free: &[&str],
    variables: Variables<'_>,
    faults: &mut Vec<Fault>,
) {
    for argument in arguments {
        let Some((key, value)) = split(argument) else {
            // The argument itself is not repeated: it may be a secret without its key.
            let cure = "write --set KEY=VALUE, as --set logging.level=debug";
            faults.push(Place::whole("--set").fault("", "an argument is not KEY=VALUE", cure));
            continue;
        };
        let lines = Lines::new(&format!("--set {}", key.trim()), None);
        let parsed = format!("{key}=0");
        let path = DeTable::parse(&parsed).ok().and_then(|root| single_path(root.get_ref()));
        let Some(path) = path else {
            let cure = "write a key as in the file, as kafka.\"client.id\"";
            faults.push(Place::whole("--set").fault(key.trim(), "not a key", cure));
            continue;
        };
        let mut reader = Conversion { lines, variables, faults };
        let mut layer = reader.argument(&path, value);
        flatten(&mut layer, free, faults);
        lay_over(table, layer);
    }
}

/// Whether an argument of `--set` is KEY=VALUE, whatever the key. Says what is wrong with it otherwise.
///
/// # Errors
/// It is not, or the key is none.
pub fn check_set(argument: &str) -> Result<(), String> {
    let Some((key, _)) = split(argument) else {
        return Err("it is KEY=VALUE, as logging.level=debug: the = is missing".to_owned());
    };
    let parsed = format!("{key}=0");
    match DeTable::parse(&parsed).ok().and_then(|root| single_path(root.get_ref())) {
        Some(_) => Ok(()),
        None => Err(format!("{:?} is no key: write it as in the file, as kafka.\"client.id\"", key.trim())),
    }
}

/// Splits at the first `=` outside quotes.
fn split(argument: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (index, c) in argument.char_indices() {
        match (c, quote) {
            ('=', None) => return Some((&argument[..index], &argument[index + 1..])),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// The path to the one value of a document.
fn single_path(table: &DeTable<'_>) -> Option<Vec<String>> {
    let mut entries = table.iter();
    let (Some((key, node)), None) = (entries.next(), entries.next()) else { return None };
    let mut path = vec![key.get_ref().to_string()];
    if let DeValue::Table(inner) = node.get_ref() {
        path.extend(single_path(inner)?);
    }
    Some(path)
}

fn lay_over(below: &mut Table, above: Table) {
    for entry in above {
        match below.iter_mut().find(|old| old.name == entry.name) {
            None => below.push(entry),
            Some(old) => match (&mut old.node.value, entry.node.value) {
                (Value::Table(old), Value::Table(new)) => lay_over(old, new),
                (old_value, value) => {
                    *old_value = value;
                    old.place = entry.place;
                    old.node.place = entry.node.place;
                    old.node.replaced = entry.node.replaced;
                }
            },
        }
    }
}

/// Makes the tables of these names flat.
fn flatten(table: &mut Table, free: &[&str], faults: &mut Vec<Fault>) {
    for entry in table.iter_mut().filter(|entry| free.contains(&entry.name.as_str())) {
        let Value::Table(inner) = &mut entry.node.value else { continue };
        let mut flat = Table::new();
        collect(std::mem::take(inner), "", &mut flat);
        flat.sort_by_key(|entry| (entry.place.line, entry.place.column));
        let mut names = BTreeSet::new();
        for later in &flat {
            if !names.insert(later.name.as_str()) {
                faults.push(later.place.fault(&join(&entry.name, &later.name), "given twice", "keep one of them"));
            }
        }
        *inner = flat;
    }
}

fn collect(table: Table, prefix: &str, flat: &mut Table) {
    for mut entry in table {
        if !prefix.is_empty() {
            entry.name = format!("{prefix}.{}", entry.name);
        }
        match entry.node.value {
            Value::Table(inner) if !inner.is_empty() => collect(inner, &entry.name, flat),
            _ => flat.push(entry),
        }
    }
}

/// Turns byte offsets into places.
struct Lines<'t> {
    file: Arc<str>,
    /// `None` for what has no lines.
    text: Option<&'t str>,
    /// The offset asked for last with its line and column: most are asked for in order, and counting each from the start
    /// would take minutes for a large file.
    last: Cell<(usize, u32, u32)>,
}

impl<'t> Lines<'t> {
    fn new(file: &str, text: Option<&'t str>) -> Self {
        Self { file: file.into(), text, last: Cell::new((0, 1, 1)) }
    }

    fn place(&self, offset: usize) -> Place {
        let Some(text) = self.text else { return Place { file: self.file.clone(), line: 0, column: 0 } };
        let end = if text.is_char_boundary(offset) { offset } else { text.len() };
        let (start, mut line, mut column) = if self.last.get().0 <= end { self.last.get() } else { (0, 1, 1) };
        for c in text.get(start..end).unwrap_or_default().chars() {
            match c {
                '\n' => (line, column) = (line.saturating_add(1), 1),
                // A byte order mark is not seen.
                '\u{feff}' if column == 1 => {}
                _ => column = column.saturating_add(1),
            }
        }
        self.last.set((end, line, column));
        Place { file: self.file.clone(), line, column }
    }
}

struct Conversion<'t, 'v, 'f> {
    lines: Lines<'t>,
    variables: Variables<'v>,
    faults: &'f mut Vec<Fault>,
}

impl Conversion<'_, '_, '_> {
    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Table {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let convert = |(key, node): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let place = self.lines.place(key.span().start);
            let node = self.node(node, &join(path, name));
            Entry { name: name.to_string(), place, node }
        };
        entries.into_iter().map(convert).collect()
    }

    fn node(&mut self, node: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let place = self.lines.place(node.span().start);
        let mut replaced = false;
        let value = match node.get_ref() {
            DeValue::String(text) => self.text(text, path, &place, &mut replaced),
            DeValue::Integer(whole) => {
                Value::Whole(whole.to_string(), i64::from_str_radix(whole.as_str(), whole.radix()).ok())
            }
            DeValue::Float(number) => Value::Number(number.to_string(), number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Array(list) => {
                let list: Vec<Node> = list.iter().map(|item| self.node(item, path)).collect();
                replaced = list.iter().any(|item| item.replaced);
                Value::List(list)
            }
            DeValue::Table(table) => Value::Table(self.table(table, path)),
        };
        Node { place, value, replaced }
    }

    fn text(&mut self, text: &str, path: &str, place: &Place, replaced: &mut bool) -> Value {
        match variables::replace(text, self.variables) {
            Ok(done) => {
                *replaced = done.used;
                Value::Text(done.text)
            }
            Err((problem, cure)) => {
                self.faults.push(place.fault(path, problem, cure));
                Value::Broken
            }
        }
    }

    /// The table that one `--set` argument stands for. A value that is not TOML is a string, and so is a date or time.
    fn argument(&mut self, path: &[String], value: &str) -> Table {
        let place = self.lines.place(0);
        let key = path.iter().fold(String::new(), |path, name| join(&path, name));
        let parsed = DeValue::parse(value).ok().filter(|value| !matches!(value.get_ref(), DeValue::Datetime(_)));
        let mut node = match parsed {
            Some(parsed) => self.node(&parsed, &key),
            None => {
                let mut replaced = false;
                let value = self.text(value, &key, &place, &mut replaced);
                Node { place: place.clone(), value, replaced }
            }
        };
        // As typed: `--set kafka."sasl.password"=1_000` is not 1000.
        if let Value::Whole(written, _) | Value::Number(written, _) = &mut node.value {
            value.trim().clone_into(written);
        }
        let mut table = Table::new();
        for name in path.iter().rev() {
            if !table.is_empty() {
                node = Node { place: place.clone(), value: Value::Table(std::mem::take(&mut table)), replaced: false };
            }
            table.push(Entry { name: name.clone(), place: place.clone(), node: node.clone() });
        }
        table
    }
}
