//! What must hold for any bytes that come from outside, as functions of bytes. `tests/fuzz` hands them what libFuzzer makes
//! up; plain tests hand them what a seed makes of the same first inputs.

use crate::broker::embedded::block_fuzz as block;
use crate::config::fuzz as config;
use crate::line::fuzz as line;
use crate::replay;
use crate::wasm::format_fuzz as module;

/// Its name, as `cargo xtask fuzz NAME` takes it; what panics where something does not hold; and inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("host", config::host, config::host_seeds),
    ("manifest", config::manifests, config::manifest_seeds),
    ("block", block::block, block::block_seeds),
    ("block-write", block::block_write, block::block_write_seeds),
    ("module", module::module, module::module_seeds),
    ("record", replay::record, replay::record_seeds),
    ("line", line::line, line::line_seeds),
    ("line-write", line::line_write, line::line_write_seeds),
];

#[cfg(test)]
mod tests;
