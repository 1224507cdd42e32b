#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged while `work` runs.
fn logged(level: &str, format: LogFormat, colour: bool, work: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let subscriber = Registry::default().with(layer(&level.parse().unwrap(), format, colour, buffer.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

const HOSTILE: &str = "a\n2026 INFO forged\r\x1b[2J\x07\u{9b}31m\u{7f}ü";

#[test]
fn words_from_outside_stay_on_one_line_and_off_the_terminal() {
    let text = logged("info", LogFormat::Text, false, || {
        let _span = tracing::info_span!("call", guest = %HOSTILE).entered();
        tracing::warn!(topic = %HOSTILE, quoted = HOSTILE, "handler says: {HOSTILE}");
    });
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(text.ends_with('\n'));
    assert!(!text.trim_end_matches('\n').contains(char::is_control), "{text:?}");
    assert!(
        text.contains("handler says: a\\n2026 INFO forged\\r\\u{1b}[2J\\u{7}\\u{9b}31m\\u{7f}ü topic=a\\n2026"),
        "{text}"
    );
    assert!(text.contains("WARN call{guest=a\\n2026"), "{text}");
}

#[test]
fn colours_are_ours_alone() {
    let text = logged("info", LogFormat::Text, true, || tracing::warn!(x = %"\x1b[31m", "red"));
    assert!(text.contains("\x1b[33m"), "a warning is yellow: {text:?}");
    assert!(!text.contains("\x1b[31m"), "{text:?}");
}

#[test]
fn json_is_one_object_per_line() {
    let text = logged("info", LogFormat::Json, false, || {
        tracing::error!(topic = %HOSTILE, partition = 3, share = 0.5, ready = false, "stopped: {HOSTILE}");
    });
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["message"], format!("stopped: {HOSTILE}"));
    assert_eq!((&line["topic"], &line["partition"]), (&HOSTILE.into(), &3.into()));
    assert_eq!((&line["share"], &line["ready"]), (&0.5.into(), &false.into()));
    assert_eq!(line["target"], "keyrail::admin::logging::tests");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn what_a_handler_gives_its_line_is_an_object_in_json_and_plain_words_in_text() {
    let fields = [("cups", "1"), ("drink", "iced \"tea\""), ("to", ""), ("bad", HOSTILE)];
    let fields = HandlerFields(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let line = |format| {
        logged("info", format, false, || {
            let fields = Some(tracing::field::debug(&fields));
            tracing::info!(pipeline = "barista", fields, "served");
            tracing::info!(fields = None::<tracing::field::DebugValue<HandlerFields>>, "nothing more");
        })
    };
    let json = line(LogFormat::Json);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = serde_json::json!({"cups": "1", "drink": "iced \"tea\"", "to": "", "bad": HOSTILE});
    assert_eq!((&lines[0]["fields"], &lines[0]["pipeline"]), (&expected, &"barista".into()));
    assert!(lines[1].get("fields").is_none() && lines.len() == 2, "{json}");
    let text = line(LogFormat::Text);
    assert!(text.contains(r#"served pipeline="barista" cups=1 drink="iced \"tea\"" to="" bad="a\n2026"#), "{text}");
    assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
}

#[test]
fn several_reasons_are_a_line_each_in_text_and_one_text_in_json() {
    let logged = |format, lines: &[&str]| {
        let lines = Lines(lines.iter().map(|line| (*line).to_owned()).collect());
        logged("info", format, false, || tracing::warn!(pipeline = "p", why = ?lines, "not fit"))
    };
    let several = ["p.toml:4:1: a: unknown key; remove it", HOSTILE];
    let text = logged(LogFormat::Brief, &several);
    let (_, text) = text.split_at(12);
    let hostile = r"a\n2026 INFO forged\r\u{1b}[2J\u{7}\u{9b}31m\u{7f}ü";
    // A line feed within a reason begins a line, which is no event either.
    let below = format!("    {}\n    {}\n", several[0], hostile.replacen(r"\n", "\n    ", 1));
    assert_eq!(text, format!("  WARN not fit pipeline=\"p\" why:\n{below}"));
    let one = logged(LogFormat::Text, &["no \"file\""]);
    assert!(one.ends_with("not fit pipeline=\"p\" why=\"no \\\"file\\\"\"\n"), "{one}");
    for lines in [&several[..], &["one"]] {
        let json = logged(LogFormat::Json, lines);
        let line: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&line["why"], json.lines().count()), (&lines.join("; ").into(), 1), "{json}");
    }
    // What is told of a `why` elsewhere stays as it was.
    let plain = super::tests::logged("info", LogFormat::Text, false, || {
        tracing::warn!(why = HOSTILE, "one");
        tracing::warn!(why = ?Some(Some(1)), "two");
    });
    assert!(plain.lines().count() == 2 && plain.contains("one why=\"a\\n2026"), "{plain}");
    assert!(plain.ends_with("two why=Some(Some(1))\n"), "{plain}");
}

#[test]
fn levels_hold_for_all_and_for_single_modules() {
    let level: LogLevel = "warn, keyrail::wasm=debug,rdkafka=off".parse().unwrap();
    for (target, at, logs) in [
        ("keyrail", Level::WARN, true),
        ("keyrail", Level::INFO, false),
        ("keyrail::wasm::loader", Level::DEBUG, true),
        ("keyrail::wasm", Level::TRACE, false),
        ("rdkafka", Level::ERROR, false),
    ] {
        assert_eq!(level.logs(target, at), logs, "{target} {at}");
    }
    assert!("keyrail=debug".parse::<LogLevel>().unwrap().logs("other", Level::INFO), "the rest stays at info");
    let text = logged("INFO", LogFormat::Text, false, || tracing::debug!("unseen"));
    assert_eq!(text, "");
}

#[test]
fn a_misspelt_level_is_refused_and_not_taken_for_a_module() {
    for (text, said) in [
        ("inof", "\"inof\" is no level: use off, error, warn, info, debug or trace"),
        ("", "\"\" is no level"),
        ("info,", "\"\" is no level"),
        ("keyrail=loud", "\"loud\" is no level"),
        ("=info", "no module stands before = in \"=info\""),
    ] {
        let error = text.parse::<LogLevel>().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!("xml".parse::<LogFormat>().unwrap_err().to_string().contains("use auto, text or json"));
    assert_eq!("json".parse::<LogFormat>(), Ok(LogFormat::Json));
}

#[test]
fn a_brief_line_has_the_time_of_day_and_no_module() {
    let text = logged("info", LogFormat::Brief, false, || tracing::warn!(topic = %HOSTILE, "not fit"));
    let (time, rest) = text.split_at(12);
    assert!(rest.starts_with("  WARN not fit topic=a\\n2026"), "{text}");
    assert!(time.as_bytes().iter().enumerate().all(|(at, b)| match at {
        2 | 5 => *b == b':',
        8 => *b == b'.',
        _ => b.is_ascii_digit(),
    }));
    assert_eq!(TimeOfDay::since_1970(Duration::from_millis(86_400_000 * 2 + 65_001_234)).to_string(), "18:03:21.234");
}
