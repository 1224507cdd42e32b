//! What the handlers of this folder share.
//!
//! JSON is not read into values and written again: it is scanned once into a flat list of spans ([`Doc`]), so a handler
//! can look at some fields and leave every other byte as it was. Nothing here recurses over a message, so nesting can't
//! exhaust a guest's stack.

pub mod config;
pub mod json;
pub mod number;
pub mod path;

use keyrail_sdk::{Context, Message, Outcome, Verdict};

pub use config::{Config, Wrong};
pub use json::{Doc, Kind, Value};
pub use path::Path;

/// Sends the message on as it came: key, value, headers and timestamp.
///
/// # Errors
/// A refused send dead-letters the message, see the SDK's `Error`.
pub fn forward(to: &str, message: &Message, ctx: &Context<'_>) -> Outcome {
    ctx.send(to, message.value()).forward_headers().dispatch()?;
    Ok(Verdict::Done)
}
