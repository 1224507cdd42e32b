//! Which name was meant: for faults that tell it.

use std::path::{Path, PathBuf};

/// The candidate that was most likely meant, if one is near enough.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let wanted = plain(written);
    let allowed = (wanted.chars().count() / 3).clamp(1, 4);
    let near = candidates.into_iter().map(|name| (distance(&wanted, &plain(name)), name)).min_by_key(|(far, _)| *far);
    near.filter(|(far, _)| *far <= allowed).map(|(_, name)| name)
}

/// What lies beside a file or folder that is not there and was most likely meant, if its name is near enough. `fits`: whether
/// an entry of that folder could be meant at all.
pub fn nearest_file(missing: &Path, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let written = missing.file_name()?.to_str()?;
    let dir = missing.parent()?;
    // A relative path of one part has an empty parent, which no system reads.
    let entries = std::fs::read_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name != written && fits(&dir.join(name))).collect();
    // The system gives them in no order.
    names.sort();
    nearest(written, names.iter().map(String::as_str)).map(|near| dir.join(near))
}

/// Edits between two words: insert, delete, replace, swap of neighbours.
fn distance(a: &str, b: &str) -> usize {
    // Words are short (keys, topics); what is not is not worth the square of its length.
    const LONGEST: usize = 100;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONGEST).collect(), b.chars().take(LONGEST).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in
            [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("atempts", "attempts", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn nearest_takes_slips_and_leaves_strangers() {
        let keys = ["max-messages", "max-bytes", "max-wait", "then"];
        assert_eq!(nearest("max_messages", keys), Some("max-messages"));
        assert_eq!(nearest("maxMessages", keys), Some("max-messages"));
        assert_eq!(nearest("max-byte", keys), Some("max-bytes"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("on", keys), None);
    }

    #[test]
    fn files_are_looked_for_beside_the_one_that_is_not_there() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let near = |name: &str| nearest_file(&here.join(name), Path::is_file);
        assert_eq!(near("neerest.rs"), Some(here.join("nearest.rs")));
        assert_eq!(near("zzzzzzzz.rs"), None);
        assert_eq!(nearest_file(&here.join("confg"), Path::is_dir), Some(here.join("config")));
        assert_eq!(nearest_file(&here.join("confg"), Path::is_file), None);
        assert_eq!(nearest_file(&here.join("nowhere/at-all"), |_| true), None);
        assert_eq!(nearest_file(Path::new(".."), |_| true), None);
    }

    #[test]
    fn topics_are_names_too() {
        let all = ["payments", "orders", "receipts"];
        assert_eq!(nearest("paymnets", all), Some("payments"));
        assert_eq!(nearest("order", all), Some("orders"));
        assert_eq!(nearest("shipping", all), None);
        assert_eq!(nearest("", all), None);
    }
}
