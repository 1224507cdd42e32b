//! `${NAME}` and `${NAME:-default}` inside string values.

use super::document::Variables;
use super::units::Refused;

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

#[cfg(test)]
mod tests {
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
}
