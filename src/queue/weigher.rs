//! What items weigh, how much of it a batch may carry, and how much may wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::Shared;

/// What an item weighs.
pub(crate) type Weigh<T> = Shared<dyn Fn(&T) -> usize + Send + Sync>;

/// A limit on the sum of the weights of a batch, and perhaps one on those that wait.
pub(crate) struct Weigher<T> {
    pub(crate) weight: Weigh<T>,
    pub(crate) limit: usize,
    /// At least `limit`.
    pub(crate) queue_limit: Option<usize>,
    pub(crate) refuse_too_heavy: bool,
}

impl<T> Clone for Weigher<T> {
    fn clone(&self) -> Self {
        Self {
            weight: Shared::clone(&self.weight),
            ..*self
        }
    }
}

impl<T> Weigher<T> {
    /// The item's weight, or that it is heavier than a batch may be and such are refused. At most
    /// the larger limit: such an item fills the queue, or the batch, by itself.
    pub(crate) fn weigh(&self, item: &T) -> Result<usize, ()> {
        let weight = (self.weight)(item);
        if self.refuse_too_heavy && weight > self.limit {
            return Err(());
        }
        Ok(weight.min(self.queue_limit.unwrap_or(self.limit)))
    }

    /// The weight, in a batch, of an item that was accepted before: on the flusher's thread. A
    /// weigher that panics now counts as the limit.
    pub(crate) fn weigh_again(&self, item: &T) -> usize {
        catch_unwind(AssertUnwindSafe(|| (self.weight)(item)))
            .unwrap_or(self.limit)
            .min(self.limit)
    }
}
