//! What a fleet needs of the process around it.

use super::{Board, Pauses};
use crate::broker::Broker;
use crate::pipeline::Shared;
use crate::signature::Trust;
use crate::wasm;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a fleet works with.
pub struct Setup {
    /// The folder of the pipelines.
    pub dir: PathBuf,
    /// Between two looks at it, beside those that events ask for.
    pub poll: Duration,
    /// `[store] dir`.
    pub store_dir: PathBuf,
    /// Whose handlers may run.
    pub trust: Trust,
    /// The environment, for `${NAME}` in manifests.
    pub variables: fn(&str) -> Option<String>,
    /// Bytes of records that all pipelines may hold.
    pub records_bytes: u64,
    /// Whether to wait for a change of the folder when no pipeline can go on, rather than to end.
    pub patient: bool,
    /// Where records come from and go to.
    pub broker: Arc<dyn Broker>,
    /// Compiles handlers.
    pub engine: Arc<wasm::Host>,
    /// What every pipeline shares. Its stop is the process's; each pipeline gets a child of that.
    pub shared: Shared,
    /// Which pipelines are paused.
    pub pauses: Pauses,
    /// Where it shows what runs, and is asked.
    pub board: Board,
}
