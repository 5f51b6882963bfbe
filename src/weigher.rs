//! What items weigh, and how much of it a batch may carry.

/// What an item weighs.
pub(crate) type Weigh<T> = Box<dyn Fn(&T) -> usize + Send + Sync>;

/// A limit on the sum of the weights of a batch.
pub(crate) struct Weigher<T> {
    pub(crate) weight: Weigh<T>,
    pub(crate) limit: usize,
    pub(crate) refuse_too_heavy: bool,
}

impl<T> Weigher<T> {
    /// The item's weight, at most the limit; or that it is heavier and such are refused.
    pub(crate) fn weigh(&self, item: &T) -> Result<usize, ()> {
        let weight = (self.weight)(item);
        if self.refuse_too_heavy && weight > self.limit { Err(()) } else { Ok(weight.min(self.limit)) }
    }
}
