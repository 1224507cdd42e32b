//! What the catalogue says of a key, in the words of the reference and of the JSON Schemas.

use super::catalogue::{Absent, Amount, Form, Key, Kind, Values};
use super::units::{show_duration, show_size};

/// What holds where a key is not written, in Markdown. Empty where there is nothing to say.
pub(super) fn default(key: &Key) -> String {
    let amount =
        |limits: Amount, show: fn(u64) -> String| limits.default.map_or("off".to_owned(), |of| quoted(&show(of)));
    match key.kind {
        Kind::Section | Kind::Later(_) | Kind::Free(Values::Properties) => String::new(),
        Kind::Free(Values::Topics | Values::Strings) => "none".to_owned(),
        Kind::Duration(limits) => amount(limits, show_duration),
        Kind::Size(limits) => amount(limits, show_size),
        Kind::Whole { default, .. } => format!("`{default}`"),
        Kind::Number { default, .. } => format!("`{default}`"),
        Kind::Choice { default, .. } => quoted(default),
        Kind::Origin { default, .. } | Kind::Text { default, .. } => match default {
            Absent::Is(value) => quoted(value),
            Absent::Told(words) => words.to_owned(),
            Absent::Required => "required".to_owned(),
        },
        Kind::Topics => "required".to_owned(),
    }
}

/// What a key takes, in Markdown. Empty where there is nothing to say.
pub(super) fn accepted(key: &Key) -> String {
    let mut told = match key.kind {
        Kind::Section | Kind::Later(_) => String::new(),
        Kind::Free(Values::Properties) => "strings, numbers, booleans".to_owned(),
        Kind::Free(Values::Topics) | Kind::Topics => "topics".to_owned(),
        Kind::Free(Values::Strings) => "strings; numbers and booleans as written".to_owned(),
        Kind::Duration(Amount { least, most, .. }) => format!("{} to {}", show_duration(least), show_duration(most)),
        Kind::Size(Amount { least, most, .. }) => format!("{} to {}", show_size(least), show_size(most)),
        Kind::Whole { least, most, .. } => format!("{least} to {most}"),
        Kind::Number { least, most, .. } => format!("{least} to {most}"),
        Kind::Choice { words, .. } => choice(words),
        Kind::Origin { words, .. } => {
            words.iter().copied().chain(["header:NAME"]).map(quoted).collect::<Vec<_>>().join(", ")
        }
        Kind::Text { form, .. } => match form {
            Form::Path => "a path",
            Form::Address => "IP:PORT or localhost:PORT",
            Form::Digest => "64 hexadecimal digits",
            Form::Group => "letters, digits and `. _ -`",
            Form::Topic => "a topic",
        }
        .to_owned(),
    };
    if !key.also.is_empty() {
        told += ", ";
        told += key.also;
    }
    told
}

fn choice(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")
}

fn quoted(value: &str) -> String {
    format!("`\"{value}\"`")
}
