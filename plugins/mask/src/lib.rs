//! Hides fields of JSON messages and leaves every other byte as it was: see README.md.

mod hiding;

use std::error::Error;

use hiding::{Action, Secret, Style};
use keyrail_sdk::prelude::*;
use plugin_common::config::{Config, Otherwise, Wrong, wrong};
use plugin_common::path::Step;
use plugin_common::{Doc, Path};

const KEYS: [&str; 10] =
    ["remove", "replace", "hash", "partial", "salt", "with", "show", "output", "invalid", "headers"];
/// Less than this can be guessed.
const MIN_SALT_BYTES: usize = 16;

struct Mask {
    /// In the order in which they win over each other.
    rules: Vec<(Action, Path)>,
    style: Style,
    output: String,
    drop_invalid: bool,
    forward_headers: bool,
}

impl Handler for Mask {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(setup, &KEYS)?;
        let mut rules: Vec<(Action, Path)> = Vec::new();
        for (key, action) in [
            ("remove", Action::Remove),
            ("replace", Action::Replace),
            ("hash", Action::Hash),
            ("partial", Action::Partial),
        ] {
            for path in config.paths(key)? {
                if action == Action::Remove && !matches!(path.steps().last(), Some(Step::Field(_))) {
                    return Err(wrong(
                        key,
                        &path.to_string(),
                        "an element can't be removed without renumbering those behind it: use replace",
                    )
                    .into());
                }
                if let Some((_, twice)) = rules.iter().find(|(_, other)| *other == path) {
                    return Err(wrong(key, &twice.to_string(), "the field has a rule already: leave one out").into());
                }
                rules.push((action, path));
            }
        }
        if rules.is_empty() {
            return Err(Wrong("[config] names no field to hide: set remove, replace, hash or partial, for example hash = \"customer.email\"".into()).into());
        }
        let style = Style {
            secret: secret(&config, rules.iter().any(|(action, _)| *action == Action::Hash))?,
            with: config.text("with")?.unwrap_or("***").to_owned(),
            show: usize::try_from(config.number("show", 1..=64, 4)?)?,
        };
        let invalid = [("dead-letter", Otherwise::DeadLetter), ("drop", Otherwise::Drop)];
        Ok(Mask {
            rules,
            style,
            output: config.output("output", "masked")?,
            drop_invalid: config.choice("invalid", &invalid, Otherwise::DeadLetter)? == Otherwise::Drop,
            forward_headers: config.choice("headers", &[("keep", true), ("drop", false)], true)?,
        })
    }

    fn handle(&mut self, message: &Message, ctx: &Context) -> Outcome {
        let masked = match message.value() {
            None => None,
            Some(value) => match Doc::parse(value) {
                Ok(doc) => Some(hiding::hide(&doc, &self.rules, &self.style)),
                Err(_) if self.drop_invalid => return Ok(Skip),
                Err(fault) => return Err(fault.problem()),
            },
        };
        let record = ctx.send(&self.output, masked);
        let record = if self.forward_headers { record.forward_headers() } else { record };
        record.dispatch()?;
        Ok(Done)
    }
}

fn secret(config: &Config<'_>, is_needed: bool) -> Result<Secret, Wrong> {
    match (config.text("salt")?, is_needed) {
        (Some(salt), true) if salt.len() < MIN_SALT_BYTES => Err(Wrong(format!(
            "[config] salt is too short to keep hashes from being guessed: use {MIN_SALT_BYTES} bytes or more, say from `openssl rand -hex 32`"
        ))),
        (Some(salt), true) => Ok(Secret::new(salt.as_bytes())),
        (None, true) => Err(Wrong(
            "[config] salt is missing, and hash needs one: set it from the environment, salt = \"${MASK_SALT}\""
                .to_owned(),
        )),
        (Some(_), false) => {
            Err(Wrong("[config] salt is set, but no field is hashed: leave it out, or set hash".to_owned()))
        }
        (None, false) => Ok(Secret::new(&[])),
    }
}

keyrail_sdk::handler!(type Mask);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
