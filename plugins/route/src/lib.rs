//! Sends each message to the output that its header, key or field names: see README.md.

mod table;

use std::borrow::Cow;
use std::error::Error;

use keyrail_sdk::prelude::*;
use plugin_common::config::{Config, Otherwise, Wrong, wrong};
use plugin_common::{Doc, Kind, Path, forward};
use table::Table;

const KEYS: [&str; 5] = ["by", "routes", "default", "unmatched", "invalid"];

enum By {
    Key,
    Topic,
    Header(String),
    Field(Path),
}

struct Route {
    by: By,
    table: Table,
    default: Option<String>,
    unmatched: Otherwise,
    invalid: Otherwise,
}

impl Handler for Route {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(setup, &KEYS)?;
        let by = by(config.required("by", "\"header:type\"")?)?;
        let routes = config.required("routes", "\"\"\"order-* -> orders\"\"\"")?;
        let table = Table::read(routes).map_err(|why| Wrong(format!("[config] routes: {why}")))?;
        for output in table.outputs() {
            config.is_output("routes", output)?;
        }
        let default = config.text("default")?;
        if let Some(default) = default {
            config.is_output("default", default)?;
        }
        let fates = [("dead-letter", Otherwise::DeadLetter), ("drop", Otherwise::Drop)];
        let unmatched = config.choice("unmatched", &fates, Otherwise::DeadLetter)?;
        if default.is_some() && config.text("unmatched")?.is_some() {
            return Err(Wrong(
                "[config] default and unmatched are both set: with a default nothing is unmatched, so leave one out"
                    .into(),
            )
            .into());
        }
        // What can't be read goes where the default is only if that was said.
        let fates = [fates[0], fates[1], ("default", Otherwise::Keep)];
        let invalid = config.choice("invalid", &fates, Otherwise::DeadLetter)?;
        if invalid == Otherwise::Keep && default.is_none() {
            return Err(
                wrong("invalid", "default", "there is no default: set [config] default to an output's name").into()
            );
        }
        Ok(Route { by, table, default: default.map(str::to_owned), unmatched, invalid })
    }

    fn handle(&mut self, message: &Message, ctx: &Context) -> Outcome {
        let subject = match &self.by {
            By::Key => message.key().map(Cow::Borrowed),
            By::Topic => ctx.topic().map(|topic| Cow::Borrowed(topic.as_bytes())),
            By::Header(name) => ctx.header(name).map(Cow::Owned),
            By::Field(path) => match message.value().map(|value| field(value, path)) {
                Some(Ok(subject)) => subject.map(Cow::Owned),
                Some(Err(problem)) => return self.invalid(problem, message, ctx),
                None => None,
            },
        };
        match subject.as_deref().and_then(|subject| self.table.output(subject)).or(self.default.as_deref()) {
            Some(output) => forward(output, message, ctx),
            None if self.unmatched == Otherwise::Drop => Ok(Skip),
            None => Err(dead_letter("no-route", self.why(subject.as_deref()))),
        }
    }
}

impl Route {
    fn invalid(&self, problem: Problem, message: &Message, ctx: &Context) -> Outcome {
        match (self.invalid, &self.default) {
            (Otherwise::Keep, Some(default)) => forward(default, message, ctx),
            (Otherwise::Drop, _) => Ok(Skip),
            _ => Err(problem),
        }
    }

    fn why(&self, subject: Option<&[u8]>) -> String {
        let by = match &self.by {
            By::Key => "the key".to_owned(),
            By::Topic => "the topic".to_owned(),
            By::Header(name) => format!("the header {name}"),
            By::Field(path) => format!("the field {path}"),
        };
        match subject {
            Some(subject) => {
                let text: String = String::from_utf8_lossy(subject).chars().take(100).collect();
                format!("no route fits {by}, which is {text:?}: add one, or set [config] default")
            }
            None => format!("{by} is missing: set [config] default for such messages"),
        }
    }
}

fn by(text: &str) -> Result<By, Wrong> {
    match text.split_once(':') {
        None if text == "key" => Ok(By::Key),
        None if text == "topic" => Ok(By::Topic),
        Some(("header", name)) if !name.is_empty() => Ok(By::Header(name.to_owned())),
        Some(("field", path)) => Path::parse(path).map(By::Field).map_err(|why| wrong("by", text, &why)),
        _ => Err(wrong("by", text, "it must be key, topic, header:NAME or field:PATH")),
    }
}

/// The first value at the path, as text: a string's own, else a number or word as it is written. `null`, arrays and
/// objects count as missing.
fn field(value: &[u8], path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let doc = Doc::parse(value).map_err(|fault| fault.problem())?;
    let found = path.first(doc.root()).and_then(|value| match value.kind() {
        Kind::String => value.text(),
        Kind::Number | Kind::True | Kind::False => Some(Cow::Borrowed(value.raw())),
        Kind::Null | Kind::Array | Kind::Object => None,
    });
    Ok(found.map(|text| text.into_owned().into_bytes()))
}

keyrail_sdk::handler!(type Route);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
