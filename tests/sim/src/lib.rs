//! Keyrail's simulator: the engine's state machines under seeds, virtual time and faults.
//!
//! Several workers, each with a consumer, shards and a committer around the very code that the product runs, work on a
//! model of a broker. A seed decides everything: messages, policy, who steps next, which fault strikes where. After
//! each step an oracle that sees all checks [what must hold](invariants). Two runs of a seed are the same run.
//!
//! Every other seed is exactly-once. Then the model's broker has transactions, with all that can come late, twice or not
//! at all of a request, and the oracle holds each transaction against its offsets: what is visible is covered, and what is
//! covered is visible, once. Most of these have state, of which the oracle knows the fold.
//!
//! In the order of reading: [`settings`] is what a run is made of, [`world`] runs it, [`worker`] is one process,
//! [`model`] the broker, [`faults`] what goes wrong, [`coverage`] which fault met which action.
//!
//! The crate turns the engine's feature `planted` on. Build the product with `-p keyrail`, never in one build with this
//! crate: cargo unifies the features of what it builds together.

pub mod settings;

pub mod world;

pub mod env;
pub mod record;
pub mod rng;

mod handler;
pub mod touch;
pub mod worker;

pub mod model;

pub mod coverage;
pub mod faults;
pub mod many;
pub mod operator;

pub mod invariants;
pub mod trace;

use invariants::Violation;
use keyrail_engine::planted::Bug;
use settings::Settings;
use trace::Event;
use world::{Summary, World};

/// How many events a report shows.
const REPORTED_EVENTS: usize = 50;

/// Something that must hold did not, with all that is needed to see why.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// The last events that touch the message.
    pub events: Vec<Event>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        write!(f, "replay it: cargo xtask sim --seed {}", self.seed)
    }
}

/// Runs a seed. A failing one is run once more to tell how it came to that.
///
/// # Errors
/// The first violation.
pub fn run_seed(seed: u64, planted: Option<Bug>) -> Result<Summary, Box<Failure>> {
    let settings = Settings::of_seed(seed, planted);
    match World::new(settings.clone(), false).run() {
        Ok(summary) => Ok(summary),
        Err((first, _)) => {
            let (violation, events) = match World::new(settings, true).run() {
                Err((violation, world)) => {
                    let events = world.env.trace.about(violation.partition, violation.offset, REPORTED_EVENTS);
                    (violation, events)
                }
                // Only a simulator that is not deterministic comes here.
                Ok(_) => (first, Vec::new()),
            };
            Err(Box::new(Failure { seed, violation, events }))
        }
    }
}
