//! The contract's records that handlers don't touch. The generated bindings read and build them, so their fields and
//! cases are those of `wit/handler.wit`, name by name; what they mean stands there.
#![allow(missing_docs, reason = "see handler.wit")]

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub failure: Failure,
    pub delay_ms: Option<u64>,
    pub outage: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Skip,
    Retry(Retry),
    DeadLetter(Failure),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub handler: String,
    pub topics: Vec<String>,
    pub outputs: Vec<String>,
    pub config: Vec<(String, String)>,
    pub max_batch: u32,
}
