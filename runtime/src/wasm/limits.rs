//! What an instance may use, and the meter that holds it to it.

use std::time::Duration;
use wasmtime::ResourceLimiter;

/// What one instance may use. The defaults are those of a manifest's `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes, all its memories and garbage-collected heaps together.
    pub memory_bytes: u64,
    /// Elements of all the instance's tables together.
    pub table_elements: u64,
    /// Sends of one message.
    pub outputs: u32,
    /// Bytes that one message may stage: keys, values, header names and values, and 16 for each header; of state its key,
    /// name and value, and 64 for each change.
    pub output_bytes: u64,
    /// Bytes that all messages of a call may stage together; a batch that needs more fails and is to be run one by
    /// one. Less than `output_bytes` counts as `output_bytes`.
    pub call_output_bytes: u64,
    /// Calls that the guest may make into the host, for each message of a batch (and in `open`). One that looks at headers
    /// counts once more for each 16 KiB of them, and so does one that reads state.
    pub host_calls: u64,
    /// Bytes that the guest may hand to the host in one such call, or return from one batch. Less than twice
    /// `output_bytes` counts as that.
    pub host_call_bytes: u64,
    /// Lines that the guest may log in one call; what is beyond is dropped and counted.
    pub log_lines: u32,
    /// How long instantiation and `open` may take together.
    pub open_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            outputs: 1000,
            output_bytes: 4 << 20,
            call_output_bytes: 32 << 20,
            host_calls: 10_000,
            host_call_bytes: 16 << 20,
            log_lines: 1000,
            open_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// [`Limits::call_output_bytes`], never less than one message may stage.
    pub(super) fn effective_call_output_bytes(&self) -> u64 {
        self.call_output_bytes.max(self.output_bytes)
    }

    /// [`Limits::host_call_bytes`] as wasmtime wants it.
    pub(super) fn effective_host_call_bytes(&self) -> usize {
        let bytes = self.host_call_bytes.max(self.output_bytes.saturating_mul(2));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Core instances in one component: Python's have 14.
const INSTANCES: usize = 100;
const MEMORIES: usize = 16;
const TABLES: usize = 64;

/// Counts memory and table elements over all of a store, and refuses what passes the limits.
///
/// wasmtime's own `StoreLimits` looks at each memory apart, so that a guest with ten memories gets ten times the limit.
#[derive(Debug)]
pub(super) struct Meter {
    memory_limit: u64,
    table_limit: u64,
    memory: u64,
    tables: u64,
    /// Memory right after `open`.
    opened: u64,
    /// What was refused since [`Meter::begin`].
    refused: Option<String>,
}

impl Meter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            table_limit: limits.table_elements,
            memory: 0,
            tables: 0,
            opened: 0,
            refused: None,
        }
    }

    /// A call begins: what was refused before is forgotten.
    pub(super) fn begin(&mut self) {
        self.refused = None;
    }

    /// `open` is over: from here on, memory counts as growth.
    pub(super) fn opened(&mut self) {
        self.opened = self.memory;
    }

    /// What was refused since the call began: after a trap, this is the likely cause.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Linear memory never shrinks, so its size is its high-water mark. Worn is an instance that has used up three
    /// quarters of what the limit left it after `open`.
    pub(super) fn worn(&self) -> bool {
        let room = self.memory_limit.saturating_sub(self.opened);
        self.memory > self.opened + room / 4 * 3
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.memory.saturating_add(desired.saturating_sub(current) as u64);
        if grown > self.memory_limit {
            let limit = self.memory_limit;
            self.refused = Some(format!("memory would grow to {grown} bytes, and limits.memory allows {limit}"));
            return Ok(false);
        }
        // Past its own maximum a memory does not grow, whatever is answered here.
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.memory = grown;
        }
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.tables.saturating_add(desired.saturating_sub(current) as u64);
        if grown > self.table_limit {
            let limit = self.table_limit;
            self.refused = Some(format!("tables would grow to {grown} elements, and {limit} are allowed"));
            return Ok(false);
        }
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.tables = grown;
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    #[test]
    fn several_memories_share_one_limit() {
        let mut meter = Meter::new(&Limits { memory_bytes: 1 << 20, ..Limits::default() });
        assert!(meter.memory_growing(0, 600 << 10, None).unwrap());
        assert!(!meter.memory_growing(0, 600 << 10, None).unwrap());
        assert_eq!(meter.refused(), Some("memory would grow to 1228800 bytes, and limits.memory allows 1048576"));
        meter.begin();
        assert_eq!(meter.refused(), None);
    }

    #[test]
    fn worn_is_three_quarters_of_the_room_after_open() {
        let mut meter = Meter::new(&Limits { memory_bytes: 100, ..Limits::default() });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        meter.opened();
        assert!(meter.memory_growing(60, 90, None).unwrap());
        assert!(!meter.worn(), "90 of 100, opened with 60");
        assert!(meter.memory_growing(90, 91, None).unwrap());
        assert!(meter.worn(), "91 of 100, opened with 60");
    }
}
