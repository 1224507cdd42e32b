//! Finds keys that the catalogue does not know, and tells which were meant. Values are for `host.rs` and `manifest.rs`.

use super::catalogue::{Catalogue, HOST, Key, Kind, PIPELINE};
use super::document::{Table, Value, join};
use super::fault::Fault;
use crate::nearest::nearest;

/// The names of the tables whose keys are the user's own.
pub(super) fn free(catalogue: &Catalogue) -> Vec<&'static str> {
    catalogue.iter().filter(|key| matches!(key.kind, Kind::Free(_))).map(|key| key.path).collect()
}

/// Finds keys that are not known, not there yet, or no table where there should be one.
pub(super) fn check(table: &Table, catalogue: &Catalogue, faults: &mut Vec<Fault>) {
    check_under(table, "", catalogue, faults);
}

fn check_under(table: &Table, prefix: &str, catalogue: &Catalogue, faults: &mut Vec<Fault>) {
    for entry in table {
        let path = join(prefix, &entry.name);
        match (kind(catalogue, &path), &entry.node.value) {
            (None, _) => {
                let cure = cure_of_unknown(&entry.name, prefix, catalogue);
                faults.push(entry.place.fault(&path, "unknown key", cure));
            }
            (Some(Kind::Later(cure)), _) => faults.push(entry.place.fault(&path, "not there yet", cure)),
            (Some(Kind::Section), Value::Table(inner)) => check_under(inner, &path, catalogue, faults),
            (Some(Kind::Free(_)), Value::Table(_)) | (Some(_), Value::Broken) => {}
            (Some(Kind::Section | Kind::Free(_)), Value::List(_)) => {
                faults.push(entry.place.fault(&path, "a list, not one table", format!("write [{path}] once")));
            }
            (Some(Kind::Section | Kind::Free(_)), _) => {
                let cure = if entry.place.line > 0 {
                    format!("write [{path}] and its keys below")
                } else {
                    format!("write --set {path}.KEY=VALUE, once for each key")
                };
                faults.push(entry.place.fault(&path, "not a table", cure));
            }
            (Some(_), _) => {}
        }
    }
}

fn kind(catalogue: &Catalogue, path: &str) -> Option<Kind> {
    catalogue.iter().find(|key| key.path == path).map(|key| key.kind)
}

fn cure_of_unknown(name: &str, prefix: &str, catalogue: &Catalogue) -> String {
    let siblings = || catalogue.iter().filter(|key| key.apart().0 == prefix);
    let names = || siblings().map(|key| key.apart().1);
    let part = || names().find(|known| known.split('-').any(|part| part == name));
    if let Some(near) = nearest(name, names()).or_else(part) {
        return format!("did you mean `{near}`?");
    }
    let (other, file) =
        if std::ptr::eq(catalogue, HOST) { (PIPELINE, "a pipeline's NAME.toml") } else { (HOST, "keyrail.toml") };
    let elsewhere = join(prefix, name);
    if other.iter().any(|key| key.path == elsewhere && !key.is_later()) {
        return format!("`{elsewhere}` belongs in {file}");
    }
    let elsewhere = catalogue.iter().map(Key::apart).filter(|(section, _)| *section != prefix);
    let near = nearest(name, elsewhere.clone().map(|(_, name)| name));
    if let Some((section, name)) = elsewhere.into_iter().find(|(_, name)| Some(*name) == near) {
        return match section {
            "" => format!("did you mean `{name}` at the top, before any [section]?"),
            section => format!("did you mean `{name}` in [{section}]?"),
        };
    }
    let known = siblings().filter(|key| !key.is_later()).map(|key| key.apart().1).collect::<Vec<_>>();
    format!("known here: {}", known.join(", "))
}
