//! Single letters, as blocks for people and as JSON lines for programs.

use super::causes::short;
use super::letter::Letter;
use super::told_time;
use crate::cli::decode::Decode;
use crate::cli::line;
use crate::cli::table::painted;
use crate::cli::terminal::{self, Clean};
use keyrail::record::Record;
use keyrail::replay::HEADER;
use std::io::Write as _;

/// How letters are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) decode: Decode,
    /// A line for each.
    pub(super) lines: bool,
    pub(super) json: bool,
    pub(super) limit: usize,
}

impl Shown {
    pub(super) fn letter(&self, topic: &str, record: &Record, letter: &Letter, done: bool) -> Vec<u8> {
        match (self.json, self.lines) {
            (true, _) => self.json_line(topic, record, letter, done),
            (false, true) => line_of(topic, record, letter, done).into_bytes(),
            (false, false) => self.block(topic, record, letter, done).into_bytes(),
        }
    }

    fn block(&self, topic: &str, record: &Record, letter: &Letter, done: bool) -> String {
        let colours = terminal::colours();
        let head = format!("{topic}/{}@{}", record.at.partition, record.offset);
        let mut out = painted(&Clean(&head).to_string(), "\x1b[1m", colours) + "\n";
        let mut add = |name: &str, text: &str| {
            for (n, line) in text.lines().enumerate() {
                let name = if n == 0 { name } else { "" };
                out += format!("  {name:<9} {}", Clean(line)).trim_end();
                out.push('\n');
            }
        };
        add("written", &told_time(record.timestamp_ms));
        if let Some(origin) = &letter.origin {
            add("from", &origin_of(letter));
            if let Some(ms) = origin.timestamp {
                add("of", &told_time(ms));
            }
        }
        if let Some(cause) = &letter.cause {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            add("reason", &text(&cause.reason));
            add("code", &text(&cause.code));
            add("detail", &text(&cause.detail));
            add("follows", &text(&cause.follows));
            add("handler", &text(&cause.handler));
            add("group", &text(&cause.group));
            add("attempts", &cause.attempts.map_or_else(String::new, |n| n.to_string()));
            add("failed", &cause.first_failed.map_or_else(String::new, |ms| format!("first {}", told_time(ms))));
        }
        if letter.redrives > 0 || done {
            let now = if done { ", and this letter now" } else { "" };
            add("redriven", &format!("{} times before{now}", letter.redrives));
        }
        for (n, (name, value)) in record.headers().enumerate() {
            let value = match value {
                None => "null".to_owned(),
                Some(run) if name == HEADER.as_bytes() => {
                    format!("{} bytes, for `keyrail replay dlq:{head}`", run.len())
                }
                Some(value) => line::told(value),
            };
            let shown = format!("{}: {value}", line::told(name)).replace('\n', "\\n");
            add(if n == 0 { "headers" } else { "" }, &shown);
        }
        add("key", &self.decode.lines(record.key()));
        add("value", &self.decode.lines(record.value()));
        out
    }

    /// As `keyrail tail` prints it, with what is told of it.
    fn json_line(&self, topic: &str, record: &Record, letter: &Letter, done: bool) -> Vec<u8> {
        let mut out = Vec::new();
        line::print(topic, record, &mut out);
        out.truncate(out.len().saturating_sub(2));
        // Writing to memory does not fail, and no part of it can't be JSON.
        let json = |told: serde_json::Result<String>| told.unwrap_or_else(|_| "null".to_owned());
        drop(write!(
            out,
            ",\"origin\":{},\"cause\":{},\"redrives\":{},\"redriven\":{done}",
            json(serde_json::to_string(&letter.origin)),
            json(serde_json::to_string(&letter.cause)),
            letter.redrives
        ));
        if self.decode != Decode::Auto {
            out.extend_from_slice(b",\"decoded\":");
            line::text(&self.decode.lines(record.value()), &mut out);
        }
        out.extend_from_slice(b"}\n");
        out
    }
}

/// `TOPIC/PARTITION@OFFSET`, as far as it is known.
fn origin_of(letter: &Letter) -> String {
    let Some(origin) = &letter.origin else { return "-".to_owned() };
    let partition = origin.partition.map_or_else(String::new, |n| format!("/{n}"));
    let offset = origin.offset.map_or_else(String::new, |n| format!("@{n}"));
    format!("{}{partition}{offset}", origin.topic)
}

fn line_of(topic: &str, record: &Record, letter: &Letter, done: bool) -> String {
    let key = record.key().map_or_else(|| "-".to_owned(), line::told);
    let known = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let parts = [
        format!("{topic}/{}@{}", record.at.partition, record.offset),
        told_time(record.timestamp_ms),
        origin_of(letter),
        key,
        known(letter.reason()),
        known(letter.code()),
        known(&short(letter.handler())),
    ];
    let done = if done { "  redriven" } else { "" };
    Clean(&(parts.join("  ") + done).replace('\n', "\\n")).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail::record::{RecordBuilder, TopicPartition};

    fn shown(json: bool, lines: bool, decode: Decode) -> String {
        let mut builder = RecordBuilder::new(Some(b"a\nb"), Some(br#"{"n":1}"#));
        builder.header(b"mine", Some(b"\x1b[2J"));
        builder.header(b"keyrail-topic", Some(b"orders"));
        builder.header(b"keyrail-partition", Some(b"3"));
        builder.header(b"keyrail-offset", Some(b"41"));
        builder.header(b"keyrail-reason", Some(b"rejected"));
        builder.header(b"keyrail-detail", Some(b"two\nlines"));
        let record = builder.build(TopicPartition { topic: 0, partition: 1 }, 7, 1_700_000_000_000);
        let shown = Shown { decode, lines, json, limit: 1 };
        let letter = Letter::of(&record);
        String::from_utf8_lossy(&shown.letter("p.orders.dlq", &record, &letter, true)).into_owned()
    }

    #[test]
    fn a_block_a_line_and_json() {
        let block = shown(false, false, Decode::Auto);
        let first = "p.orders.dlq/1@7\n  written   2023-11-14T22:13:20Z\n  from      orders/3@41\n  reason    rejected\n  \
                     detail    two\n            lines\n  redriven  0 times before, and this letter now\n  headers   mine: \
                     \\u{1b}[2J\n";
        assert!(block.starts_with(first), "{block}");
        assert!(
            block.ends_with("  key       a\n            b\n  value     {\n              \"n\": 1\n            }\n"),
            "{block}"
        );
        let line = shown(false, true, Decode::Auto);
        assert_eq!(line, "p.orders.dlq/1@7  2023-11-14T22:13:20Z  orders/3@41  a\\nb  rejected  -  -  redriven\n");
        let json = shown(true, false, Decode::Hex);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        assert_eq!(parsed["origin"], serde_json::json!({"topic": "orders", "partition": 3, "offset": 41}));
        assert_eq!(parsed["cause"]["detail"], "two\nlines");
        assert_eq!((parsed["redriven"].as_bool(), parsed["redrives"].as_i64()), (Some(true), Some(0)));
        assert!(parsed["decoded"].as_str().is_some_and(|text| text.starts_with("00000000  7b 22 6e")), "{json}");
        assert!(!json.contains('\x1b') && json.ends_with("}\n"));
    }
}
