//! One text for equal values: numbers by what they are worth, objects whatever the order of their keys.

use plugin_common::json::quote;
use plugin_common::number::Decimal;
use plugin_common::{Kind, Value};

pub(crate) fn canonical(value: Value<'_>) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// Recurses as deep as the value nests, which its reader bounds.
fn write(value: Value<'_>, out: &mut String) {
    match value.kind() {
        Kind::Null | Kind::True | Kind::False => out.push_str(value.raw()),
        Kind::Number => out.push_str(&Decimal::parse(value.raw()).map(|number| number.to_string()).unwrap_or_default()),
        Kind::String => quote(&value.text().unwrap_or_default(), out),
        Kind::Array => {
            out.push('[');
            for element in value.elements() {
                write(element, out);
                out.push(',');
            }
            out.push(']');
        }
        Kind::Object => {
            let mut members: Vec<_> =
                value.members().map(|(key, value)| (key.text().unwrap_or_default(), value)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (key, value) in members {
                quote(&key, out);
                out.push(':');
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}
