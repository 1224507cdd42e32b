//! What instances of a handler are opened with, what they may use, and how many there are.

use super::Trouble;
use crate::admin::metrics::PipelineMetrics;
use crate::config;
use crate::http::{Allowed, Clients, Fetch, Options, Outside};
use crate::wasm::{Limits, Setup};
use std::sync::Arc;

/// What `open` of the handler is told.
#[must_use]
pub fn setup(manifest: &config::Pipeline) -> Setup {
    Setup {
        handler: manifest.name.clone(),
        topics: manifest.input.clone(),
        group: manifest.group.clone(),
        outputs: manifest.outputs.iter().map(|(name, _)| name.clone()).collect(),
        config: manifest.config.clone(),
        max_batch: manifest.policy.batch.max_messages,
        order: manifest.policy.order.clone(),
        timers: manifest.policy.has_timers(),
        record: manifest.dead_letter.record,
        longest_delay_ms: manifest.longest_delay_ms(),
    }
}

/// What an instance may use.
#[must_use]
pub fn limits(manifest: &config::Pipeline) -> Limits {
    let own = &manifest.limits;
    Limits { memory_bytes: own.memory_bytes, outputs: own.outputs, output_bytes: own.output_bytes, ..Limits::default() }
}

/// How many threads call the handler, each with an instance of its own: as many as there are cores, and more where it waits for answers.
pub(super) fn shards(manifest: &config::Pipeline, cores: u32) -> u32 {
    manifest.http.as_ref().map_or(cores, |http| http.concurrency.max(cores)).max(1)
}

/// Where its requests go.
pub(super) fn outside(
    manifest: &config::Pipeline,
    clients: &Clients,
    metrics: &Arc<PipelineMetrics>,
) -> Result<Option<Arc<dyn Fetch>>, Trouble> {
    let Some(http) = &manifest.http else { return Ok(None) };
    let none = |error| Trouble::Again(format!("no HTTP for the handler: {error}"));
    let options = Options {
        allowed: Allowed(http.hosts.clone()),
        timeout: manifest.limits.timeout,
        response_bytes: usize::try_from(http.response_bytes).unwrap_or(usize::MAX),
        at_once: http.requests as usize,
    };
    Ok(Some(Arc::new(Outside::new(clients.get().map_err(none)?, options, metrics.clone()))))
}
