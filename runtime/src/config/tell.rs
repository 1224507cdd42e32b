//! What the catalogue says of a key, in the words of the reference and of the JSON Schemas.

use super::catalogue::{Absent, Amount, Form, Key, Kind, Values};
use super::units::{show_duration, show_size};
use crate::alerts::Kind as AlertKind;

/// What holds where a key is not written, in Markdown. Empty where there is nothing to say.
pub(super) fn default(key: &Key) -> String {
    let amount =
        |limits: Amount, show: fn(u64) -> String| limits.default.map_or("off".to_owned(), |of| quoted(&show(of)));
    match key.kind {
        Kind::Section | Kind::Later(_) | Kind::Free(Values::Properties) => String::new(),
        Kind::Free(Values::Topics | Values::Strings) | Kind::Wholes { .. } => "none".to_owned(),
        Kind::Duration(limits) => amount(limits, show_duration),
        Kind::Size(limits) => amount(limits, show_size),
        Kind::Whole { default, .. } => format!("`{default}`"),
        Kind::Number { default, .. } => format!("`{default}`"),
        Kind::Switch { default } => format!("`{default}`"),
        Kind::Choice { default, .. } => quoted(default),
        Kind::Origin { default, .. } | Kind::Text { default, .. } | Kind::List { default, .. } => match default {
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
        Kind::Wholes { least, most } => format!("a list of whole numbers, {least} to {most}"),
        Kind::Switch { .. } => "`true`, `false`".to_owned(),
        Kind::Choice { words, .. } => choice(words),
        Kind::Origin { words, .. } => {
            words.iter().copied().chain(["header:NAME"]).map(quoted).collect::<Vec<_>>().join(", ")
        }
        Kind::List { form: Form::AlertKind, .. } => {
            format!("a list of {}", AlertKind::ALL.map(|kind| quoted(kind.as_str())).join(", "))
        }
        Kind::List { form, .. } => format!("a list, of each {}", of_form(form)),
        Kind::Text { form, .. } => of_form(form).to_owned(),
    };
    if !key.also.is_empty() {
        told += ", ";
        told += key.also;
    }
    told
}

fn of_form(form: Form) -> &'static str {
    match form {
        Form::Path => "a path",
        Form::Address => "IP:PORT or localhost:PORT",
        Form::Digest => "64 hexadecimal digits",
        Form::PublicKey => "a public key of minisign, `RW...`",
        Form::Group => "letters, digits and `. _ -`",
        Form::Topic => "a topic",
        Form::Url => "`https://HOST/PATH` or `http://HOST/PATH`",
        Form::Server => "HOST:PORT or HOST",
        Form::Reached => "HOST:PORT or \\*.DOMAIN:PORT",
        Form::Mailbox => "`NAME@HOST` or `Words <NAME@HOST>`",
        Form::AlertKind => "a kind of alert",
        Form::Secret => "a string, mostly `\"${NAME}\"`",
        Form::Any => "a string",
    }
}

fn choice(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")
}

fn quoted(value: &str) -> String {
    format!("`\"{value}\"`")
}
