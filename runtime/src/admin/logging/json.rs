//! A line of the log as one JSON object.

use super::HANDLER_FIELDS;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `{"timestamp":...,"level":...,"message":...,...,"target":...}`. tracing-subscriber's own knows scalars only, and would
/// print a handler's fields as text in text. Spans are left out: nobody here opens any.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = serde_json::to_string(&Line { timestamp, event }).map_err(|_| fmt::Error)?;
        writeln!(to, "{line}")
    }
}

struct Line<'a> {
    timestamp: String,
    event: &'a Event<'a>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let about = self.event.metadata();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("level", about.level().as_str())?;
        let mut fields = Fields { map, failed: None };
        self.event.record(&mut fields);
        let Fields { mut map, failed } = fields;
        failed.map_or(Ok(()), Err)?;
        map.serialize_entry("target", about.target())?;
        map.end()
    }
}

/// Writes an event's fields, until one fails.
struct Fields<M: SerializeMap> {
    map: M,
    failed: Option<M::Error>,
}

impl<M: SerializeMap> Fields<M> {
    fn put(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        if self.failed.is_none() {
            self.failed = self.map.serialize_entry(field.name(), value).err();
        }
    }
}

impl<M: SerializeMap> Visit for Fields<M> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == HANDLER_FIELDS
            && let Ok(object) = serde_json::from_str::<serde_json::Value>(&format!("{value:#?}"))
        {
            return self.put(field, &object);
        }
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value);
    }
}
