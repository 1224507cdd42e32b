//! As much of Cargo.toml as xtask needs: string values, `true`, and the list of members. A full parser would be a
//! dependency of the one crate that has to build at once.

/// The value of `key` in `[section]`: a string without its quotes, or the bare word.
pub(crate) fn value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut here = "";
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            here = name.trim_matches('[');
        } else if here == section
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(unquote(value));
        }
    }
    None
}

/// `members` of `[workspace]`.
pub(crate) fn members(text: &str) -> Vec<String> {
    let plain: String =
        text.lines().map(|l| l.split('#').next().unwrap_or_default().trim().to_owned() + "\n").collect();
    let section = plain.split("\n[").find_map(|s| s.trim_start().trim_start_matches('[').strip_prefix("workspace]"));
    let list = section.and_then(|s| s.split("\nmembers").nth(1)).and_then(|s| s.split_once('['));
    let list = list.and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    match value.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or_default().to_owned(),
        None => value.split('#').next().unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{members, value};

    const TEXT: &str = r#"
[workspace]
resolver = "3"
members = [
    "runtime", # the host
    "tests/guests/*",
]

[package]
name = "trap"   # a name

[package.metadata.keyrail]
guest = true

[lints]
workspace = true
"#;

    #[test]
    fn values_are_found_in_their_section_only() {
        assert_eq!(value(TEXT, "package", "name").as_deref(), Some("trap"));
        assert_eq!(value(TEXT, "package.metadata.keyrail", "guest").as_deref(), Some("true"));
        assert_eq!(value(TEXT, "lints", "workspace").as_deref(), Some("true"));
        assert_eq!(value(TEXT, "lints", "name"), None);
    }

    #[test]
    fn members_are_read_on_one_line_and_on_many() {
        assert_eq!(members(TEXT), ["runtime", "tests/guests/*"]);
        assert_eq!(members("[workspace]\nmembers = [\"a\", \"b/c\"]\nexclude = [\"d\"]\n"), ["a", "b/c"]);
        assert_eq!(members("[package]\nmembers = [\"a\"]\n"), Vec::<String>::new());
    }
}
