//! Batches whose commit had no answer, with the rows that were left out of them.
//!
//! If such a batch turns out to be stored, its id says so but not which of its rows were refused.
//! An id is never used by another process, so memory is enough.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use load_aware_batcher::{BatchError, BatchId};

pub(crate) type Refused = Vec<(usize, BatchError)>;

#[derive(Default)]
pub(crate) struct Doubts(Mutex<HashMap<BatchId, Refused>>);

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, Refused>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commit of this batch had no answer.
    pub(crate) fn keep(&self, id: BatchId, refused: Refused) {
        self.lock().insert(id, refused);
    }

    /// The rows that were left out of this batch; `None` if it was never in doubt.
    pub(crate) fn take(&self, id: BatchId) -> Option<Refused> {
        self.lock().remove(&id)
    }

    /// Whether the commit of this batch had no answer.
    pub(crate) fn holds(&self, id: BatchId) -> bool {
        self.lock().contains_key(&id)
    }
}
