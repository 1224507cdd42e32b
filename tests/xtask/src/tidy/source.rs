//! One file as the rules see it: the text, and the code without what stands in comments and strings.

/// A file's path and text.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// Relative to the repository, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// For Rust: `text` with comments blanked and strings filled with quotes, each byte in its place. Empty otherwise.
    pub(crate) code: String,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) line: usize,
    /// Lines of code in its body: no blank ones, no comments.
    pub(crate) lines: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Self {
        let code = if path.ends_with(".rs") { mask(text) } else { String::new() };
        Self { path, text, code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The number of the line that holds this byte.
    pub(crate) fn line_at(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
    }

    /// Where `word` stands in the code as a whole word.
    pub(crate) fn words(&self, word: &'a str) -> impl Iterator<Item = usize> {
        let bytes = self.code.as_bytes();
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = at.checked_sub(1).and_then(|b| bytes.get(b));
            let after = bytes.get(at + word.len());
            let name_begins = word.as_bytes().first().is_some_and(|b| is_name(*b));
            let name_ends = word.as_bytes().last().is_some_and(|b| is_name(*b));
            !(name_begins && before.is_some_and(|b| is_name(*b)) || name_ends && after.is_some_and(|b| is_name(*b)))
        })
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in self.words("fn") {
            let rest = self.code.get(at + 2..).unwrap_or_default();
            let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // A function pointer's type has no name, a required method no body.
            let Some(body) = (!name.is_empty()).then(|| body(rest)).flatten() else { continue };
            let lines = body.lines().filter(|l| !l.trim().is_empty()).count();
            found.push(Function { name, line: self.line_at(at), lines });
        }
        found
    }

    /// The code without modules that are compiled for tests alone.
    pub(crate) fn code_outside_tests(&self) -> String {
        let mut code = self.code.clone();
        while let Some(at) = code.find("#[cfg(test)]") {
            let rest = code.get(at..).unwrap_or_default();
            let module = rest.split(';').next().is_some_and(|s| s.contains('{')).then(|| body(rest)).flatten();
            let length =
                module.map_or_else(|| rest.find(';').unwrap_or(rest.len()), |b| rest.find(b).unwrap_or(0) + b.len());
            let blank: String = rest.chars().take(length.max(1)).map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            let end = (at + length.max(1)).min(code.len());
            code.replace_range(at..end, &blank);
        }
        code
    }
}

pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What stands between the first braces outside of parentheses; nothing if a `;` comes first.
fn body(code: &str) -> Option<&str> {
    let (mut parens, mut braces, mut start) = (0_u32, 0_u32, None);
    for (at, byte) in code.bytes().enumerate() {
        match (byte, start) {
            (b'(' | b'[', None) => parens += 1,
            (b')' | b']', None) => parens = parens.saturating_sub(1),
            (b';', None) if parens == 0 => return None,
            (b'{', None) if parens == 0 => {
                start = Some(at + 1);
                braces = 1;
            }
            (b'{', Some(_)) => braces += 1,
            (b'}', Some(from)) => {
                braces -= 1;
                if braces == 0 {
                    return code.get(from..at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks comments and fills strings and characters with quotes; every other byte keeps its place.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.get(out.len()) {
        let at = out.len();
        let rest = bytes.get(at..).unwrap_or_default();
        let in_name = at.checked_sub(1).and_then(|b| bytes.get(b)).is_some_and(|b| is_name(*b));
        let (length, fill) = match byte {
            b'/' if rest.starts_with(b"//") => (rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()), b' '),
            b'/' if rest.starts_with(b"/*") => (comment(rest), b' '),
            b'"' => (string(rest), b'"'),
            b'r' | b'b' | b'c' if !in_name && raw(rest) > 0 => (raw(rest), b'"'),
            b'\'' => (character(rest), b'"'),
            _ => (0, byte),
        };
        if length == 0 {
            out.push(if byte.is_ascii() { byte } else { b'_' });
        }
        out.extend(rest.iter().take(length).map(|b| if *b == b'\n' { b'\n' } else { fill }));
    }
    String::from_utf8(out).unwrap_or_default()
}

fn comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < rest.len() {
        let two = rest.get(at..at + 2).unwrap_or_default();
        at += match two {
            b"/*" => {
                depth += 1;
                2
            }
            b"*/" => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string that begins here, with `r`, `br` or `cr`; 0 if none does.
fn raw(rest: &[u8]) -> usize {
    let prefix = if rest.starts_with(b"br") || rest.starts_with(b"cr") { 2 } else { 1 };
    if prefix == 1 && !rest.starts_with(b"r") {
        return 0;
    }
    let hashes = rest.iter().skip(prefix).take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = rest.get(open + 1..).unwrap_or_default();
    body.windows(end.len()).position(|w| w == end).map_or(rest.len(), |at| open + 1 + at + end.len())
}

/// The length of a character literal that begins here; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    let end = match rest.get(1) {
        Some(b'\\') => rest.iter().skip(3).position(|b| *b == b'\'').map(|at| at + 3),
        Some(first) => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(1 + width)
        }
        None => None,
    };
    end.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::{Function, Source, mask};

    #[test]
    fn comments_and_strings_are_no_code() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x // \" y") + 1"#, r#"f(""""""""""") + 1"#),
            ("r#\"a \" b\"# r#fn", "\"\"\"\"\"\"\"\"\"\" r#fn"),
            (r"'a' '\'' 'b: '{'", r#"""" """" 'b: """"#),
            ("br\"{\" b\"{\" for\"{\"", "\"\"\"\"\" b\"\"\" for\"\"\""),
            ("'\u{e9}' x", "\"\"\"\" x"),
        ] {
            assert_eq!(mask(text), code, "{text}");
            assert_eq!(mask(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn functions_are_measured_without_blank_lines_and_comments() {
        let text = "trait T { fn none(&self); }\ntype F = fn(u8) -> u8;\nfn a(f: [u8; 2]) -> u8 {\n    // why\n\n    let s = \"}\n    \";\n    1\n}\n";
        let source = Source::new("a.rs", text);
        assert_eq!(source.functions(), [Function { name: "a".to_owned(), line: 3, lines: 3 }]);
    }

    #[test]
    fn test_modules_can_be_left_out() {
        let source = Source::new("a.rs", "use alloc;\n#[cfg(test)]\nmod tests {\n    use std::x;\n}\nuse core::y;\n");
        assert!(!source.code_outside_tests().contains("std") && source.code_outside_tests().contains("core::y"));
        let sibling = Source::new("a.rs", "#[cfg(test)]\nmod tests;\nfn f() { std::x() }\n");
        assert!(sibling.code_outside_tests().contains("std::x"));
    }
}
