//! An item that was not handled.

use std::fmt;

use crate::error::BatchError;

/// An item that was not handled, with the reason.
#[non_exhaustive]
pub struct Failed<T> {
    /// The item.
    pub item: T,
    /// The error of its last attempt.
    pub error: BatchError,
    /// How many calls of the handler it was in.
    pub attempts: u32,
    /// Whether the backend may have applied it after all.
    pub in_doubt: bool,
    /// Whether it failed because the backend gave no answer for all of the patience of
    /// [`Retry`](crate::Retry). No fault was found in the row then.
    pub outage: bool,
    /// Its place in the order in which items left the queue. It identifies a kept row.
    pub(crate) number: u64,
}

impl<T> fmt::Debug for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed")
            .field("error", &self.error)
            .field("attempts", &self.attempts)
            .field("in_doubt", &self.in_doubt)
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}
