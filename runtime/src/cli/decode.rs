//! Keys and values of records for people: as text, as JSON, as bytes.

use super::terminal::Clean;
use clap::ValueEnum;

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Decode {
    /// JSON where it is an object or a list, text where it is UTF-8, else bytes
    #[default]
    Auto,
    /// As text; what is no UTF-8 is replaced
    Text,
    /// As JSON, a line for each part; what is none is told
    Json,
    /// As bytes, 16 a line
    Hex,
}

impl Decode {
    /// In lines, for people. `None`: null.
    pub(super) fn lines(self, bytes: Option<&[u8]>) -> String {
        let Some(bytes) = bytes else { return "null".to_owned() };
        match self {
            Self::Text => Clean(&String::from_utf8_lossy(bytes)).to_string(),
            Self::Json => {
                json(bytes).unwrap_or_else(|why| format!("no JSON: {why}\n{}", Self::Auto.lines(Some(bytes))))
            }
            Self::Hex => hex(bytes),
            Self::Auto => match std::str::from_utf8(bytes) {
                Ok(text) if text.starts_with(['{', '[']) => json(bytes).unwrap_or_else(|_| Clean(text).to_string()),
                Ok(text) => Clean(text).to_string(),
                Err(_) => hex(bytes),
            },
        }
    }
}

/// In lines, its numbers as they are written: parsed and printed again, long ones would change.
fn json(bytes: &[u8]) -> Result<String, String> {
    let told = |error: serde_json::Error| error.to_string();
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(told)?;
    let (mut out, mut depth, mut inside, mut escaped) = (String::new(), 0_usize, false, false);
    let text = std::str::from_utf8(bytes).map_err(|why| why.to_string())?;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if inside {
            out.push(c);
            inside = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                out.push(c);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                inside = c == '"';
                out.push(c);
            }
        }
    }
    Ok(Clean(&out).to_string())
}

/// Offset, bytes, and what of them is ASCII.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, part) in bytes.chunks(16).enumerate() {
        if row > 0 {
            out.push('\n');
        }
        out += &format!("{:08x} ", row * 16);
        for n in 0..16 {
            out.push_str(if n == 8 { "  " } else { " " });
            match part.get(n) {
                Some(byte) => out += &format!("{byte:02x}"),
                None => out.push_str("  "),
            }
        }
        out.push_str("  ");
        out.extend(
            part.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        let value = br#"{"a":[1,{"b":"x, \"y\": {"}],"c":{},"n":12345678901234567890.10, "e":[ ]}"#;
        let lines = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x, \\\"y\\\": {\"\n    }\n  ],\n  \"c\": {},\n  \
                     \"n\": 12345678901234567890.10,\n  \"e\": []\n}";
        assert_eq!(Decode::Auto.lines(Some(value)), lines);
        assert_eq!(Decode::Json.lines(Some(value)), lines);
        assert_eq!(Decode::Json.lines(Some(b"7")), "7");
        assert_eq!(Decode::Auto.lines(Some(b"{no")), "{no");
        assert!(Decode::Json.lines(Some(b"{no")).starts_with("no JSON: key must be a string"));
        assert_eq!(Decode::Auto.lines(None), "null");
        assert_eq!(Decode::Auto.lines(Some(b"")), "");
        assert_eq!(Decode::Text.lines(Some(b"a\xff\x1b")), "a\u{fffd}\\u{1b}");
        let bytes: Vec<u8> = (0x3c..0x4e).chain([0xff]).collect();
        assert_eq!(
            Decode::Auto.lines(Some(&bytes)),
            "00000000  3c 3d 3e 3f 40 41 42 43  44 45 46 47 48 49 4a 4b  <=>?@ABCDEFGHIJK\n\
             00000010  4c 4d ff                                          LM."
        );
    }

    #[test]
    fn controls_reach_no_terminal() {
        for decode in [Decode::Auto, Decode::Text, Decode::Json, Decode::Hex] {
            let shown = decode.lines(Some(b"\"\x1b[2J\x07\xc2\x9b\""));
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}
