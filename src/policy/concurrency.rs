//! How many calls of the handler there may be at once.

use std::ops::RangeInclusive;

/// How many calls of the handler there may be at once: a number, or a range within which the policy
/// decides. Default 1.
///
/// ```
/// use load_aware_batcher::Concurrency;
///
/// let fixed = Concurrency::from(4);
/// assert_eq!((fixed.min(), fixed.max()), (4, 4));
/// let range = Concurrency::from(1..=8);
/// assert_eq!((range.min(), range.max()), (1, 8));
/// assert_eq!(Concurrency::default(), Concurrency::from(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    min: usize,
    max: usize,
}

impl Concurrency {
    /// The fewest.
    ///
    /// ```
    /// # use load_aware_batcher::Concurrency;
    /// assert_eq!(Concurrency::from(2..=8).min(), 2);
    /// ```
    #[must_use]
    pub fn min(&self) -> usize {
        self.min
    }

    /// The most.
    ///
    /// ```
    /// # use load_aware_batcher::Concurrency;
    /// assert_eq!(Concurrency::from(2..=8).max(), 8);
    /// ```
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether it is one number.
    ///
    /// ```
    /// # use load_aware_batcher::Concurrency;
    /// assert!(Concurrency::from(4).is_fixed());
    /// assert!(!Concurrency::from(1..=4).is_fixed());
    /// ```
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.min == self.max
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

impl From<usize> for Concurrency {
    fn from(calls: usize) -> Self {
        Self {
            min: calls,
            max: calls,
        }
    }
}

impl From<RangeInclusive<usize>> for Concurrency {
    fn from(calls: RangeInclusive<usize>) -> Self {
        Self {
            min: *calls.start(),
            max: *calls.end(),
        }
    }
}
