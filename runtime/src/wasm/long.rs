//! Calls that take long, while they do: what one of them runs can be looked at from another thread.
//!
//! A call that ends within [`LONG`] costs nothing for it.

use super::message::Delivery;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After so long a call can be looked at.
pub(super) const LONG: Duration = Duration::from_secs(1);

/// The batch of an instance's call, while it takes long.
#[derive(Clone, Default)]
pub struct LongCall(Arc<Mutex<Option<Arc<Vec<Delivery>>>>>);

impl LongCall {
    /// Looks through what the call runs.
    pub fn find<R>(&self, look: impl FnMut(&Delivery) -> Option<R>) -> Option<R> {
        let batch = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        batch.iter().find_map(look)
    }

    pub(super) fn set(&self, batch: Option<Arc<Vec<Delivery>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = batch;
    }
}

impl fmt::Debug for LongCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongCall").finish_non_exhaustive()
    }
}
