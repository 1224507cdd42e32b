//! Keeps the messages that an expression describes: see README.md.

mod expression;
mod reader;

use std::error::Error;

use expression::{Expression, Record};
use keyrail_sdk::prelude::*;
use plugin_common::config::{Config, Otherwise, Wrong};
use plugin_common::{Doc, forward};

const KEYS: [&str; 6] = ["keep", "drop", "output", "rest", "invalid", "tombstone"];

/// What becomes of a tombstone when the expression asks for fields, of which it has none.
#[derive(Clone, Copy)]
enum Tombstone {
    Test,
    Keep,
    Drop,
}

struct Filter {
    expression: Expression,
    /// The messages that match are the ones to leave out.
    drops: bool,
    output: String,
    rest: Option<String>,
    invalid: Otherwise,
    tombstone: Tombstone,
}

impl Handler for Filter {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(setup, &KEYS)?;
        let (key, text) = match (config.text("keep")?, config.text("drop")?) {
            (Some(text), None) => ("keep", text),
            (None, Some(text)) => ("drop", text),
            (Some(_), Some(_)) => {
                return Err(Wrong(
                    "[config] keep and drop are both set: leave one out, and join them with `and not (...)`".into(),
                )
                .into());
            }
            (None, None) => {
                return Err(Wrong(
                    "[config] keep or drop is missing: say which messages, for example keep = 'total >= 100'".into(),
                )
                .into());
            }
        };
        let expression = reader::read(text).map_err(|why| Wrong(format!("[config] {key}: {why}")))?;
        if let Some(rest) = config.text("rest")? {
            config.is_output("rest", rest)?;
        }
        let tombstones = [("test", Tombstone::Test), ("keep", Tombstone::Keep), ("drop", Tombstone::Drop)];
        Ok(Filter {
            expression,
            drops: key == "drop",
            output: config.output("output", "kept")?,
            rest: config.text("rest")?.map(str::to_owned),
            invalid: config.otherwise("invalid", Otherwise::DeadLetter)?,
            tombstone: config.choice("tombstone", &tombstones, Tombstone::Keep)?,
        })
    }

    fn handle(&mut self, message: &Message, ctx: &Context) -> Outcome {
        match self.keeps(message, ctx)? {
            true => forward(&self.output, message, ctx),
            false => match &self.rest {
                Some(rest) => forward(rest, message, ctx),
                None => Ok(Skip),
            },
        }
    }
}

impl Filter {
    fn keeps(&self, message: &Message, ctx: &Context) -> Result<bool, Problem> {
        if !self.expression.reads_fields() {
            return Ok(self.expression.holds(&Record { message, ctx, doc: None }) != self.drops);
        }
        let Some(value) = message.value() else {
            return Ok(match self.tombstone {
                Tombstone::Keep => true,
                Tombstone::Drop => false,
                Tombstone::Test => self.expression.holds(&Record { message, ctx, doc: None }) != self.drops,
            });
        };
        match Doc::parse(value) {
            Ok(doc) => Ok(self.expression.holds(&Record { message, ctx, doc: Some(&doc) }) != self.drops),
            Err(fault) => match self.invalid {
                Otherwise::Keep => Ok(true),
                Otherwise::Drop => Ok(false),
                Otherwise::DeadLetter => Err(fault.problem()),
            },
        }
    }
}

keyrail_sdk::handler!(type Filter);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
