//! Lets only messages through that fit a JSON Schema: see README.md.

use std::error::Error;

use keyrail_sdk::prelude::*;
use plugin_common::config::{Config, Otherwise, Wrong};
use plugin_common::{Doc, forward};
use plugin_schema::{Limit, Schemas, Verdict, check, compile};

const KEYS: [&str; 6] = ["schema", "schema.*", "output", "invalid", "rejected", "tombstone"];

struct Validate {
    schemas: Schemas,
    output: String,
    invalid: Invalid,
    tombstone: Otherwise,
}

/// What becomes of a message that does not fit.
enum Invalid {
    DeadLetter,
    Drop,
    /// It is sent there, with a header that says why.
    Send(String),
}

impl Handler for Validate {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(setup, &KEYS)?;
        let main = config.required("schema", "'''{ \"type\": \"object\" }'''")?;
        let mut texts = vec![("schema".to_owned(), main)];
        for (key, text) in setup.config_all().filter(|(key, _)| key.starts_with("schema.")) {
            texts.push((key.to_owned(), text));
        }
        let mut docs = Vec::new();
        for (key, text) in &texts {
            let doc =
                Doc::parse(text.as_bytes()).map_err(|fault| Wrong(format!("[config] {key} is no JSON: {fault}")))?;
            docs.push((key.as_str(), doc));
        }
        let fates = [("dead-letter", 0), ("drop", 1), ("send", 2)];
        let invalid = match config.choice("invalid", &fates, 0)? {
            0 => Invalid::DeadLetter,
            1 => Invalid::Drop,
            _ => Invalid::Send(config.output("rejected", "rejected")?),
        };
        if config.text("rejected")?.is_some() && !matches!(invalid, Invalid::Send(_)) {
            return Err(Wrong(
                "[config] rejected is set, but nothing is sent there: set invalid = \"send\", or leave it out".into(),
            )
            .into());
        }
        Ok(Validate {
            schemas: compile(&docs).map_err(Wrong)?,
            output: config.output("output", "valid")?,
            invalid,
            tombstone: config.otherwise("tombstone", Otherwise::Keep)?,
        })
    }

    fn handle(&mut self, message: &Message, ctx: &Context) -> Outcome {
        let problem = match message.value() {
            None => match self.tombstone {
                Otherwise::Keep => return forward(&self.output, message, ctx),
                Otherwise::Drop => return Ok(Skip),
                Otherwise::DeadLetter => dead_letter("tombstone", "a message without a value: see [config] tombstone"),
            },
            Some(value) => match Doc::parse(value) {
                Err(fault) => fault.problem(),
                Ok(doc) => match check(&self.schemas, doc.root()) {
                    Verdict::Fits => return forward(&self.output, message, ctx),
                    Verdict::Violates(list) => dead_letter("schema", list.join("; ")),
                    Verdict::Stopped(Limit::Depth) => {
                        dead_letter("too-deep", "checking it nests deeper than 256 steps")
                    }
                    Verdict::Stopped(Limit::Steps) => {
                        dead_letter("too-complex", "checking it takes more than 5,000,000 steps")
                    }
                },
            },
        };
        match &self.invalid {
            Invalid::DeadLetter => Err(problem),
            Invalid::Drop => Ok(Skip),
            Invalid::Send(to) => {
                let record = ctx.send(to, message.value()).forward_headers();
                record.header("invalid-code", problem.code()).header("invalid-detail", problem.detail()).dispatch()?;
                Ok(Done)
            }
        }
    }
}

keyrail_sdk::handler!(type Validate);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
