//! `${NAME}`, `${file:PATH}`, and either with `:-default`, inside string values.

use super::document::Variables;
use super::files::{NoText, read_text};
use super::units::Refused;
use std::io::ErrorKind;
use std::path::Path;

/// A secret's file is no larger.
const LARGEST: u64 = 64 << 10;

/// A text after replacement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) text: String,
    /// Whether a variable's value went into it.
    pub(super) used: bool,
}

/// The text with its variables replaced. What was put in is not looked at
/// again, so a variable's value can't name another one. `$${` stands for `${`.
pub(super) fn replace(text: &str, variables: Variables<'_>) -> Result<Replaced, Refused> {
    let mut out = String::new();
    let mut used = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (inner, after) = rest[at + 2..].split_once('}').ok_or_else(|| {
            ("a ${ that no } closes".to_owned(), "write ${NAME} or ${NAME:-default}, or $${ for a plain ${".to_owned())
        })?;
        out.push_str(&value(inner, variables)?);
        used = true;
        rest = after;
    }
    out.push_str(rest);
    Ok(Replaced { text: out, used })
}

fn value(inner: &str, variables: Variables<'_>) -> Result<String, Refused> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if let Some(path) = name.strip_prefix("file:") {
        return file(path, default);
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let cure = "write ${NAME} or ${NAME:-default}, or $${ for a plain ${";
        // Not repeated: it may be a piece of a password that was not meant as a variable.
        return Err(("a ${...} that is not the name of a variable".to_owned(), cure.to_owned()));
    }
    match (variables(name), default) {
        (Some(value), None) => Ok(value),
        // As in a shell: the default stands for an empty variable too.
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err((format!("the variable {name} is not set"), format!("set it, or write ${{{name}:-default}}")))
        }
    }
}

/// What a file holds, without the line end behind it, as secrets are mounted.
fn file(path: &str, default: Option<&str>) -> Result<String, Refused> {
    let told = |problem: &str, cure: &str| Err((format!("the file {path:?} {problem}"), cure.to_owned()));
    let place = Path::new(path);
    if !place.is_absolute() {
        return told("has no absolute path", "write all of it, as ${file:/run/secrets/NAME}");
    }
    // What is no file might never end.
    let there = place.metadata().map_err(NoText::Unread);
    if there.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
        return told("is no plain file", "name one that holds the value, and nothing else");
    }
    let text = match there.and_then(|_| read_text(place, LARGEST)) {
        Ok(text) => text,
        Err(NoText::Unread(e)) if e.kind() == ErrorKind::NotFound => match default {
            Some(default) => return Ok(default.to_owned()),
            None => return told("is not there", "put it there, or write ${file:PATH:-default}"),
        },
        Err(NoText::Unread(e)) => return told(&format!("can't be read: {e}"), "give this user the right to read it"),
        Err(NoText::TooLarge) => {
            return told("is larger than 64 KiB", "name one that holds the value, and nothing else");
        }
        Err(NoText::Utf8 { .. }) => return told("is no text", "name one that holds the value as UTF-8"),
    };
    let value = text.strip_suffix('\n').map_or(text.as_str(), |value| value.strip_suffix('\r').unwrap_or(value));
    match default {
        Some(default) if value.is_empty() => Ok(default.to_owned()),
        _ => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::replace;

    fn check(text: &str, expected: Result<(&str, bool), &str>) {
        let variables = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        match (replace(text, &variables), expected) {
            (Ok(got), Ok(expected)) => assert_eq!((got.text.as_str(), got.used), expected, "{text}"),
            (Err((problem, _)), Err(expected)) => assert!(problem.contains(expected), "{text}: {problem}"),
            (got, expected) => assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{text}"),
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        check("", Ok(("", false)));
        check("plain $A $ {A}", Ok(("plain $A $ {A}", false)));
        check("${A}", Ok(("1", true)));
        check("x${A}y${A}", Ok(("x1y1", true)));
        check("${B:-two}", Ok(("two", true)));
        check("${B:-}", Ok(("", true)));
        check("${B:-a:-b}", Ok(("a:-b", true)));
        check("${EMPTY}|${EMPTY:-d}", Ok(("|d", true)));
        check("${NESTED}", Ok(("${A}", true)));
        check("$${A}", Ok(("${A}", false)));
        check("$${${A}", Ok(("${1", true)));
        check("ü${A}ü", Ok(("ü1ü", true)));
        check("${B}", Err("the variable B is not set"));
        check("${A", Err("no } closes"));
        check("${}", Err("not the name"));
        check("${1A}", Err("not the name"));
        check("${A-x}", Err("not the name"));
        check("${A }", Err("not the name"));
    }

    #[test]
    fn a_file_s_content_is_a_value_without_its_last_line_end() {
        let dir = std::env::temp_dir().join(format!("keyrail-secret-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        for (name, bytes) in [
            ("plain", &b"s3cret${A}"[..]),
            ("line", b"s3cret\n"),
            ("windows", b"s3cret\r\n"),
            ("lines", b"a\nb\n\n"),
            ("empty", b"\n"),
            ("binary", b"\xff"),
        ] {
            std::fs::write(path(name), bytes).unwrap();
        }
        std::fs::write(path("large"), vec![b'x'; (64 << 10) + 1]).unwrap();
        let of = |name: &str| format!("${{file:{}}}", path(name));
        check(&of("plain"), Ok(("s3cret${A}", true)));
        check(&format!("<{}>", of("line")), Ok(("<s3cret>", true)));
        check(&of("windows"), Ok(("s3cret", true)));
        check(&of("lines"), Ok(("a\nb\n", true)));
        check(&of("empty"), Ok(("", true)));
        check(&format!("${{file:{}:-d}}", path("empty")), Ok(("d", true)));
        check(&format!("${{file:{}:-d}}", path("none")), Ok(("d", true)));
        check(&of("none"), Err("is not there"));
        check(&of("binary"), Err("is no text"));
        check(&of("large"), Err("is larger than 64 KiB"));
        check(&format!("${{file:{}}}", dir.display()), Err("is no plain file"));
        check("${file:/dev/zero}", Err("is no plain file"));
        check("${file:secret}", Err("has no absolute path"));
        check("${file:}", Err("has no absolute path"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
