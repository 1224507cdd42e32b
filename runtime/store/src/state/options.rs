//! How a store of state works, and what tests may watch.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A step of writing, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateStep {
    /// Changes are written, in one transaction.
    Slice,
    /// They are brought out of the write-ahead log and synced.
    Checkpoint,
    /// The position is written.
    Position,
    /// A task is begun or ended.
    Task,
    /// Blocks of tasks that are no more are deleted.
    Collect,
}

/// Is told of each step before it is taken; what it returns as an error is taken for the step's own.
pub type StateWatcher = Arc<dyn Fn(StateStep) -> io::Result<()> + Send + Sync>;

/// How a store of state works.
#[derive(Clone)]
pub struct StateOptions {
    /// Bytes of changes in memory, for all tasks together: those that wait to be written, and those that were written last
    /// and are kept to be read. Writing begins at half of it. At least 1 MiB.
    pub budget_bytes: usize,
    /// Bytes of the database's pages in memory, for all tasks together.
    pub page_cache_bytes: usize,
    /// What waits for longer is written.
    pub age: Duration,
    /// How long [`StateIndex::apply`](super::StateIndex::apply) waits for room while the budget is used up, before it says that there is none.
    pub patience: Duration,
    /// For tests: is told of each step of writing, and may make it fail.
    pub watcher: Option<StateWatcher>,
}

impl Default for StateOptions {
    fn default() -> Self {
        let (age, patience) = (Duration::from_secs(10), Duration::from_secs(5));
        Self { budget_bytes: 64 << 20, page_cache_bytes: 48 << 20, age, patience, watcher: None }
    }
}
