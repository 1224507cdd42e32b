//! A record as a JSON line: what `tail` prints and `send` takes, byte for byte the same.
//!
//! `{"key":"k1","value":"text","headers":{"h":"v"},"timestamp":1700000000000}`. Bytes that are not UTF-8 are
//! `{"base64":"..."}`, nothing is `null`, a repeated header name has a list. Headers that an object can't hold (names that
//! are not UTF-8, the same name twice with another between) are a list of pairs.

use crate::record::Record;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::Write as _;

/// Padding is written, and not asked for.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `None` is null.
type Bytes = Option<Vec<u8>>;

/// A record to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// `None` is null.
    pub key: Bytes,
    /// `None` is a tombstone.
    pub value: Bytes,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Bytes)>,
    /// `None`: now.
    pub timestamp_ms: Option<i64>,
    /// `None`: the key decides.
    pub partition: Option<i32>,
}

impl Line {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        let length = |bytes: &Bytes| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// In bytes, from 1; 0 where it is the whole line.
    pub column: usize,
    /// In words.
    pub why: String,
}

impl Wrong {
    /// Of a line that is no JSON, or not as it should be: the place stands apart from the words.
    #[must_use]
    pub fn of(error: &serde_json::Error) -> Self {
        let told = error.to_string();
        let why = told.rfind(" at line ").map_or(told.as_str(), |end| &told[..end]);
        Self { column: error.column(), why: why.to_owned() }
    }
}

/// Reads a line.
///
/// # Errors
/// It is no JSON, or no record.
pub fn parse(line: &[u8]) -> Result<Line, Wrong> {
    let written: Written = serde_json::from_slice(line).map_err(|error| Wrong::of(&error))?;
    let whole = |why: &str| Err(Wrong { column: 0, why: why.to_owned() });
    let Some(value) = written.value else {
        return whole("\"value\" is missing; write \"value\":null for a tombstone");
    };
    if written.timestamp.is_some_and(|ms| ms < 0) {
        return whole("\"timestamp\" must be 0 or more: milliseconds since 1970; leave it out for now");
    }
    if written.partition.is_some_and(|number| number < 0) {
        return whole("\"partition\" must be 0 or more; leave it out to let the key decide");
    }
    let key = written.key.and_then(|key| key.0);
    let headers = written.headers.unwrap_or_default().0;
    Ok(Line { key, value: value.0, headers, timestamp_ms: written.timestamp, partition: written.partition })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a record: {\"key\":...,\"value\":...}")]
struct Written {
    #[serde(default, deserialize_with = "some")]
    key: Option<Blob>,
    // A plain `Option` would take null for a missing value.
    #[serde(default, deserialize_with = "some")]
    value: Option<Blob>,
    headers: Option<HeaderList>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    // Where `tail` read it: of no use here.
    #[serde(default, rename = "topic")]
    _topic: serde::de::IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: serde::de::IgnoredAny,
}

fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Blob>, D::Error> {
    Blob::deserialize(from).map(Some)
}

/// Text, `{"base64":...}` or null.
#[derive(Debug)]
pub struct Blob(pub Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, null or {\"base64\":\"...\"}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
        Ok(Blob(Some(text.as_bytes().to_vec())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Blob, E> {
        Ok(Blob(Some(text.into_bytes())))
    }

    fn visit_unit<E: Error>(self) -> Result<Blob, E> {
        Ok(Blob(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
        let name: Option<String> = map.next_key()?;
        if name.as_deref() != Some("base64") {
            let why = "JSON inside a record is text: put quotes around it, or send whole values with --raw";
            return Err(A::Error::custom(why));
        }
        let text: String = map.next_value()?;
        let bytes = BASE64.decode(text).map_err(|why| A::Error::custom(format!("no base64: {why}")))?;
        if map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("nothing may stand beside \"base64\""));
        }
        Ok(Blob(Some(bytes)))
    }
}

/// What stands behind a header's name.
enum Values {
    One(Bytes),
    List(Vec<Bytes>),
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;

        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, null, {\"base64\":\"...\"} or a list of these")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Values, E> {
                BlobVisitor.visit_str(text).map(|blob| Values::One(blob.0))
            }

            fn visit_unit<E: Error>(self) -> Result<Values, E> {
                Ok(Values::One(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Values, A::Error> {
                BlobVisitor.visit_map(map).map(|blob| Values::One(blob.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut all = Vec::new();
                while let Some(blob) = list.next_element::<Blob>()? {
                    all.push(blob.0);
                }
                Ok(Values::List(all))
            }
        }

        from.deserialize_any(ValuesVisitor)
    }
}

#[derive(Default)]
struct HeaderList(Vec<(Vec<u8>, Bytes)>);

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = HeaderList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers: {\"name\":\"value\"} or [[\"name\",\"value\"]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList, A::Error> {
                let mut all = Vec::new();
                // A name that is written twice is two headers: none of them is lost.
                while let Some((name, values)) = map.next_entry::<String, Values>()? {
                    match values {
                        Values::One(value) => all.push((name.into_bytes(), value)),
                        Values::List(values) => {
                            all.extend(values.into_iter().map(|value| (name.clone().into_bytes(), value)));
                        }
                    }
                }
                Ok(HeaderList(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HeaderList, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = list.next_element::<(Blob, Blob)>()? {
                    let name = name.0.ok_or_else(|| A::Error::custom("a header needs a name"))?;
                    all.push((name, value.0));
                }
                Ok(HeaderList(all))
            }
        }

        from.deserialize_any(ListVisitor)
    }
}

/// Appends a record as a line, its end included.
pub fn print(topic: &str, record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    text(topic, out);
    // Writing to memory does not fail.
    let timestamp = if record.timestamp_ms < 0 { None } else { Some(record.timestamp_ms) };
    drop(write!(out, ",\"partition\":{},\"offset\":{},\"timestamp\":", record.at.partition, record.offset));
    match timestamp {
        Some(ms) => drop(write!(out, "{ms}")),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"key\":");
    blob(record.key(), out);
    out.extend_from_slice(b",\"value\":");
    blob(record.value(), out);
    if record.header_count() > 0 {
        out.extend_from_slice(b",\"headers\":");
        headers(record, out);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a record's headers as a JSON value.
pub fn headers(record: &Record, out: &mut Vec<u8>) {
    let all: Vec<_> = record.headers().collect();
    let starts: Vec<usize> = (0..all.len()).filter(|n| *n == 0 || all[*n].0 != all[*n - 1].0).collect();
    let mut names: Vec<&[u8]> = starts.iter().map(|n| all[*n].0).collect();
    names.sort_unstable();
    let fits = names.windows(2).all(|pair| pair[0] != pair[1]) && names.iter().all(|n| std::str::from_utf8(n).is_ok());
    if !fits {
        for (n, (name, value)) in all.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"[[" } else { b",[" });
            blob(Some(name), out);
            out.push(b',');
            blob(*value, out);
            out.push(b']');
        }
        out.push(b']');
        return;
    }
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(all.len());
        out.push(if n == 0 { b'{' } else { b',' });
        blob(Some(all[*start].0), out);
        out.push(b':');
        if end - start == 1 {
            blob(all[*start].1, out);
            continue;
        }
        for (n, (_, value)) in all[*start..end].iter().enumerate() {
            out.push(if n == 0 { b'[' } else { b',' });
            blob(*value, out);
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// Bytes that an argument gives.
///
/// # Errors
/// In words: it is no base64.
pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|why| format!("no base64: {why}"))
}

/// What [`from_base64`] reads.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Text as it is, other bytes as `base64:...`: for people.
#[must_use]
pub fn told(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| format!("base64:{}", BASE64.encode(bytes)), str::to_owned)
}

/// Text, `{"base64":...}` or null.
pub fn blob(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return;
    };
    if let Ok(valid) = std::str::from_utf8(bytes) {
        text(valid, out);
    } else {
        out.extend_from_slice(b"{\"base64\":\"");
        out.extend_from_slice(BASE64.encode(bytes).as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// A JSON string. All control characters are escaped, also those that JSON would allow: a terminal may obey them.
pub fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (n, byte) in bytes.iter().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | 0x7f => &[],
            // U+0080 to U+009F: the second byte is the character.
            0x80..=0x9f if n > 0 && bytes[n - 1] == 0xc2 => &[],
            _ => continue,
        };
        let start = if *byte >= 0x80 { n - 1 } else { n };
        out.extend_from_slice(&bytes[plain..start]);
        plain = n + 1;
        if escaped.is_empty() {
            drop(write!(out, "\\u{byte:04x}"));
        } else {
            out.extend_from_slice(escaped);
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
