//! JSON Schema, draft 2020-12 and draft-07: what the handler `validate` checks messages with. What of it is understood, and
//! what is refused, is told in that handler's README.

mod canonical;
mod check;
mod compile;
mod keywords;
mod locate;
mod model;

pub use check::{Limit, Verdict, check};
pub use compile::{Source, compile};
pub use model::Schemas;
