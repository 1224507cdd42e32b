//! Makes text from a guest safe to log, to print and to put into a header.

use std::borrow::Cow;

/// Longest code of a failure, in bytes.
pub(super) const CODE_BYTES: usize = 64;
/// Longest detail of a failure, in bytes.
pub(super) const DETAIL_BYTES: usize = 4096;

/// `text` without control characters, terminal escapes and marks that turn the direction of writing, at most
/// `max_bytes` long. A line break or a tab becomes a space.
pub(super) fn clean(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes && !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(max_bytes));
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let kept = match c {
            '\u{1b}' => {
                skip_escape(&mut chars);
                continue;
            }
            '\n' | '\r' | '\t' => ' ',
            c if is_unsafe(c) => continue,
            c => c,
        };
        if out.len() + kept.len_utf8() > max_bytes {
            break;
        }
        out.push(kept);
    }
    Cow::Owned(out)
}

/// A failure's code: printable ASCII only, at most [`CODE_BYTES`].
pub(super) fn code(text: &str) -> String {
    let code: String = text.chars().filter(|c| matches!(c, ' '..='~')).take(CODE_BYTES).collect();
    let code = code.trim();
    if code.is_empty() { "unspecified".to_owned() } else { code.to_owned() }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character: `[`, parameters and a final letter.
fn skip_escape(chars: &mut std::str::Chars<'_>) {
    let mut ahead = chars.clone();
    if ahead.next() != Some('[') {
        return;
    }
    *chars = ahead.clone();
    for c in ahead.by_ref() {
        chars.next();
        if matches!(c, '@'..='~') || !c.is_ascii() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_escapes_go_and_the_rest_stays() {
        let cases = [
            ("plain ünï", 64, "plain ünï"),
            ("a\nb\tc\r", 64, "a b c "),
            ("\u{1b}[31;1mred\u{1b}[0m", 64, "red"),
            ("\u{1b}]0;title\u{7}x", 64, "]0;titlex"),
            ("\u{1b}", 64, ""),
            ("\u{1b}[", 64, ""),
            ("nul\0c1\u{9b}x", 64, "nulc1x"),
            ("evil\u{202e}txt", 64, "eviltxt"),
            ("äää", 5, "ää"),
            ("", 0, ""),
        ];
        for (text, max, expected) in cases {
            assert_eq!(clean(text, max), expected, "{text:?}");
        }
    }

    #[test]
    fn a_code_is_short_printable_ascii_and_never_empty() {
        assert_eq!(code("bad value"), "bad value");
        assert_eq!(code("b\u{0}ä\nd"), "bd");
        assert_eq!(code(""), "unspecified");
        assert_eq!(code(" \n "), "unspecified");
        assert_eq!(code(&"x".repeat(100)).len(), CODE_BYTES);
    }
}
