//! The process's log: one line per event on standard error, as text for people or as JSON for programs.
//!
//! What is logged comes partly from outside (a guest's words, a broker's message, a topic's name), and must neither
//! forge a line nor reach the terminal's control sequences. tracing-subscriber leaves line feeds in messages and all
//! control characters in fields shown with `%` as they are, so every control character is escaped here.

mod json;

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry};

/// The name under which an event carries the fields that a handler gave its line: [`HandlerFields`].
pub(crate) const HANDLER_FIELDS: &str = "fields";

/// Names and values that a handler gave a line of its log; which names there are only the handler knows.
///
/// An event carries nothing but scalars and what can be shown, so this is shown in two ways: `{:?}` for people,
/// `cups=1 drink="iced tea"`, and `{:#?}` as a JSON object. The values are text there too, as in the contract: a number or
/// text by what a value looks like would change a field's type from line to line, which stores of logs refuse.
pub(crate) struct HandlerFields(pub(crate) Vec<(String, String)>);

impl fmt::Debug for HandlerFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let object = self.0.iter().map(|(name, value)| (name.clone(), value.clone().into()));
            let object: serde_json::Map<String, serde_json::Value> = object.collect();
            return write!(f, "{}", serde_json::Value::Object(object));
        }
        for (n, (name, value)) in self.0.iter().enumerate() {
            let space = if n > 0 { " " } else { "" };
            let plain =
                !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\'));
            if plain { write!(f, "{space}{name}={value}")? } else { write!(f, "{space}{name}={value:?}")? }
        }
        Ok(())
    }
}

/// The name under which an event carries [`Lines`].
const WHY: &str = "why";

/// Reasons of which each is a line for people, below the event that has them as its `why`; programs get one text.
///
/// `{:?}` is that text, `{:#?}` what people read: quoted where there is one, else each after a line feed.
pub(crate) struct Lines(pub(crate) Vec<String>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_slice(), f.alternate()) {
            (all, false) => f.write_str(&all.join("; ")),
            ([one], true) => write!(f, "{one:?}"),
            (all, true) => all.iter().try_for_each(|line| write!(f, "\n{line}")),
        }
    }
}

/// Writes what is wrong: below the event where it is more than a line. What stands there is moved in, so that it is no
/// event, whatever it says.
fn write_why(to: &mut Writer<'_>, value: &dyn fmt::Debug) -> fmt::Result {
    let shown = format!("{value:#?}");
    match (shown.strip_prefix('\n'), shown.starts_with('"')) {
        (Some(lines), _) => {
            to.write_str("why:")?;
            lines.split('\n').try_for_each(|line| {
                to.write_str("\n    ")?;
                Escaped(to).write_str(line)
            })
        }
        (None, true) => write!(Escaped(to), "{WHY}={shown}"),
        (None, false) => write!(Escaped(to), "{WHY}={value:?}"),
    }
}

/// `[logging] format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
    /// A line for who sits before it: the time of the day alone, and no module. Not for files, hence no setting.
    Brief,
}

impl std::str::FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, LoggingError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LoggingError(format!("[logging] format = {other:?} is not known: use auto, text or json"))),
        }
    }
}

/// The log can't be set up as told. Says what is wrong and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingError(String);

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoggingError {}

/// What is logged: a level for all, and levels for single modules.
#[derive(Debug, Clone)]
pub struct LogLevel(Targets);

impl std::str::FromStr for LogLevel {
    type Err = LoggingError;

    /// `info`, or with exceptions `info,keyrail::wasm=debug`. A bare word must be a level: elsewhere such a word is
    /// taken for a module, so that a misspelt level would log nothing, or everything.
    fn from_str(text: &str) -> Result<Self, LoggingError> {
        let mut targets = Targets::new().with_default(LevelFilter::INFO);
        for directive in text.split(',').map(str::trim) {
            let (target, level) = match directive.split_once('=') {
                Some((target, level)) => (target.trim(), level.trim()),
                None => ("", directive),
            };
            let level = match level.to_ascii_lowercase().as_str() {
                "off" => LevelFilter::OFF,
                "error" => LevelFilter::ERROR,
                "warn" => LevelFilter::WARN,
                "info" => LevelFilter::INFO,
                "debug" => LevelFilter::DEBUG,
                "trace" => LevelFilter::TRACE,
                other => {
                    return Err(LoggingError(format!(
                        "[logging] level: {other:?} is no level: use off, error, warn, info, debug or trace, for single \
                         modules as in \"info,keyrail::wasm=debug\""
                    )));
                }
            };
            targets = match (directive.contains('='), target) {
                (true, "") => {
                    return Err(LoggingError(format!("[logging] level: no module stands before = in {directive:?}")));
                }
                (true, target) => targets.with_target(target, level),
                (false, _) => targets.with_default(level),
            };
        }
        Ok(Self(targets))
    }
}

impl LogLevel {
    /// Whether an event of this module and level is logged.
    #[must_use]
    pub fn logs(&self, target: &str, level: Level) -> bool {
        self.0.would_enable(target, &level)
    }
}

/// Sends the log of the whole process to standard error. Once per process.
///
/// # Errors
/// It was set up before.
pub fn init(level: &LogLevel, format: LogFormat) -> Result<(), LoggingError> {
    let terminal = std::io::stderr().is_terminal();
    let format = match (format, terminal) {
        (LogFormat::Auto, true) => LogFormat::Text,
        (LogFormat::Auto, false) => LogFormat::Json,
        (format, _) => format,
    };
    // https://no-color.org
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let colour = terminal && !refused && !dumb;
    let subscriber = Registry::default().with(layer(level, format, colour, std::io::stderr));
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|e| LoggingError(format!("the log is set up already in this process: {e}")))
}

fn layer<W>(level: &LogLevel, format: LogFormat, colour: bool, to: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(to);
    if format == LogFormat::Json {
        return layer.event_format(json::JsonLine).with_filter(level.0.clone()).boxed();
    }
    let fields = debug_fn(|to, field, value| match field.name() {
        "message" | HANDLER_FIELDS => write!(Escaped(to), "{value:?}"),
        WHY => write_why(to, value),
        name => write!(Escaped(to), "{name}={value:?}"),
    });
    // `delimited` is what stands between two fields.
    let fields = tracing_subscriber::field::MakeExt::delimited(fields, " ");
    let layer = layer.fmt_fields(fields);
    if format == LogFormat::Brief {
        return layer.with_target(false).with_timer(Clock).with_filter(level.0.clone()).boxed();
    }
    layer.with_filter(level.0.clone()).boxed()
}

/// The time of the day, UTC.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{}", TimeOfDay::now())
    }
}

/// Shown as `18:03:21.234`, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(Duration);

impl TimeOfDay {
    /// What the system's clock says. A clock before 1970 shows midnight.
    #[must_use]
    pub fn now() -> Self {
        Self::since_1970(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Of a time counted from the start of 1970.
    #[must_use]
    pub fn since_1970(time: Duration) -> Self {
        Self(Duration::new(time.as_secs() % 86_400, time.subsec_nanos()))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0.as_secs(), self.0.subsec_millis());
        write!(f, "{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// Writes on, with every control character escaped.
struct Escaped<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((before, c)) = rest.find(char::is_control).and_then(|at| {
            let c = rest[at..].chars().next()?;
            Some((&rest[..at], c))
        }) {
            self.0.write_str(before)?;
            write!(self.0, "{}", c.escape_default())?;
            rest = &rest[before.len() + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests;
