//! Where a `$ref` leads: `$id`, `$anchor`, JSON pointers.

use std::collections::BTreeMap;

use plugin_common::{Kind, Value};

/// A schema's place: the text it stands in, its value, and the address that its references start from.
#[derive(Clone, Debug)]
pub(crate) struct Place<'d> {
    pub(crate) doc: usize,
    pub(crate) value: Value<'d>,
    pub(crate) base: String,
}

/// What can be referred to.
#[derive(Debug, Default)]
pub(crate) struct Places<'d> {
    /// By address, without a fragment.
    pub(crate) resources: BTreeMap<String, Place<'d>>,
    /// By address and name.
    pub(crate) anchors: BTreeMap<(String, String), Place<'d>>,
}

impl<'d> Places<'d> {
    /// The place that `reference` means when it stands in a schema of this address.
    pub(crate) fn find(&self, base: &str, reference: &str) -> Option<Place<'d>> {
        let whole = join(base, reference);
        let (address, fragment) = whole.split_once('#').unwrap_or((&whole, ""));
        let resource = self.resources.get(address)?;
        let fragment = decoded(fragment)?;
        if fragment.is_empty() {
            return Some(resource.clone());
        }
        match fragment.strip_prefix('/') {
            Some(pointer) => follow(resource.clone(), pointer),
            None => self.anchors.get(&(address.to_owned(), fragment)).cloned(),
        }
    }
}

fn follow<'d>(mut place: Place<'d>, pointer: &str) -> Option<Place<'d>> {
    for step in pointer.split('/') {
        let step = step.replace("~1", "/").replace("~0", "~");
        place.value = match place.value.kind() {
            Kind::Object => member(place.value, &step)?,
            Kind::Array => place.value.elements().nth(step.parse().ok()?)?,
            _ => return None,
        };
        if let Some(id) = id_of(place.value) {
            place.base = join(&place.base, &id);
        }
    }
    Some(place)
}

/// An object's member; the last if the key stands twice.
pub(crate) fn member<'d>(object: Value<'d>, name: &str) -> Option<Value<'d>> {
    object.members().filter(|(key, _)| key.is_text(name)).last().map(|(_, value)| value)
}

/// The `$id` of a schema, unless it is a mere fragment.
pub(crate) fn id_of(schema: Value<'_>) -> Option<String> {
    let id = member(schema, "$id")?.text()?;
    let id = id.strip_suffix('#').unwrap_or(&id);
    (!id.is_empty() && !id.starts_with('#')).then(|| id.to_owned())
}

/// An address relative to another, as far as schemas need it (RFC 3986 without queries).
pub(crate) fn join(base: &str, reference: &str) -> String {
    let base = base.split_once('#').map_or(base, |(address, _)| address);
    let scheme_end = |text: &str| text.find(':').filter(|at| !text[..*at].contains(['/', '#', '?']));
    if reference.is_empty() || reference.starts_with('#') {
        return format!("{base}{reference}");
    }
    if scheme_end(reference).is_some() {
        return reference.to_owned();
    }
    let root = scheme_end(base).map_or(0, |at| {
        let after = &base[at + 1..];
        let host = after.strip_prefix("//").map_or(0, |rest| 2 + rest.find('/').unwrap_or(rest.len()));
        at + 1 + host
    });
    let (root, path) = base.split_at(root);
    if reference.starts_with('/') {
        return format!("{root}{reference}");
    }
    let default = if root.contains("//") { "/" } else { "" };
    let (mut folder, mut rest) = (path.rfind('/').map_or(default, |at| &path[..=at]), reference);
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            folder = folder.strip_suffix('/').and_then(|up| up.rfind('/').map(|at| &up[..=at])).unwrap_or(default);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            return format!("{root}{folder}{rest}");
        }
    }
}

/// Percent-encoding undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}
