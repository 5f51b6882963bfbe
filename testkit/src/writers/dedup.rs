//! What keeps a row from being stored twice when the answer to a commit is lost.

use std::time::Duration;

use load_aware_batcher::{Batcher, Builder, Fixed, Retry};

use super::Row;

/// The three ways, with what each requires of the table and of the builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Rows have a key, and what is stored already stays. A batch may be sent again, whole or in
    /// parts.
    Key,
    /// A table of batch ids, written in the same transaction. What is in doubt may be sent again as
    /// a whole only, so bisection is off and one bad row fails its whole batch.
    BatchId,
    /// Nothing. What is in doubt fails, is reported as such, and is never sent again.
    None,
}

impl Dedup {
    /// A builder for rows that are written this way: batches of `size`, tried for as long as it
    /// takes. Batches are split, since the most frequent failure under load is a call that took too
    /// long for a timeout.
    pub fn builder(self, size: usize) -> Builder<Row> {
        let retry = Retry::attempts(u32::MAX)
            .backoff(Duration::from_millis(20), Duration::from_secs(2))
            .total_limit(Duration::from_secs(1_200))
            .split_on_retry(true)
            .bisect(self != Self::BatchId);
        Batcher::builder()
            .policy(Fixed(size))
            .max_batch_size(size.max(1_000))
            .linger(Duration::from_millis(20))
            .retry(retry)
            .idempotent(self != Self::None)
    }
}
