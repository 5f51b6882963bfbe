//! What names a set of items from call to call.

use std::fmt;

/// A batch's id. It is the same on every attempt at the same items. It is never used again, not
/// even after a restart of the program. A part of a batch has an id of its own.
///
/// The upper 64 bits are random for each batcher, and the lower 64 bits count. A table of ids at
/// the backend, written in the same transaction as the rows, makes a retry after a lost answer
/// harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u128);

impl BatchId {
    pub(crate) fn new(random: u64, number: u64) -> Self {
        Self(u128::from(random) << 64 | u128::from(number))
    }

    /// The id as one number.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(
    /// |batch: &mut Batch<u64>| {
    ///     let bytes = batch.id().as_u128().to_be_bytes(); // for a column of type uuid
    ///     assert_eq!(bytes.len(), 16);
    ///     Ok(LoadFeedback::new())
    /// }
    /// # )?;
    /// # batcher.add(1)?;
    /// # assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
