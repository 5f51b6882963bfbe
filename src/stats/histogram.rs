//! Cumulative histograms with fixed bounds: what can be added over time, lanes and processes.

use std::fmt;
use std::time::Duration;

/// Buckets of every histogram, the one without a bound aside.
const BOUNDS: usize = 15;

const SERVICE_TIME: &[f64; BOUNDS] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const QUEUE_WAIT: &[f64; BOUNDS] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const BATCH_ITEMS: &[f64; BOUNDS] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0,
    20_000.0, 50_000.0,
];

/// How often values fell below each of some bounds, since the batcher started.
///
/// Histograms of several batchers and processes can be added up, unlike
/// [`Quantiles`](crate::Quantiles). The bounds never change within a version.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// batcher.add_many(0..3)?;
/// batcher.flush(std::time::Duration::from_secs(9))?;
/// let lengths = batcher.stats().batch_items;
/// assert_eq!(lengths.sum, 3.0);
/// let (bound, batches) = lengths.buckets().last().unwrap();
/// assert_eq!((bound, batches), (f64::INFINITY, lengths.count));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// Their sum: seconds for a time.
    pub sum: f64,
    bounds: &'static [f64; BOUNDS],
    /// Values in each bucket; the last has no bound.
    counts: [u64; BOUNDS + 1],
}

impl Histogram {
    const fn new(bounds: &'static [f64; BOUNDS]) -> Self {
        Self {
            count: 0,
            sum: 0.0,
            bounds,
            counts: [0; BOUNDS + 1],
        }
    }

    pub(crate) const fn service_time() -> Self {
        Self::new(SERVICE_TIME)
    }

    pub(crate) const fn queue_wait() -> Self {
        Self::new(QUEUE_WAIT)
    }

    pub(crate) const fn batch_items() -> Self {
        Self::new(BATCH_ITEMS)
    }

    /// The bounds, without infinity.
    pub(crate) const fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    pub(crate) fn record(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.count += 1;
        self.sum += value;
    }

    pub(crate) fn record_time(&mut self, time: Duration) {
        self.record(time.as_secs_f64());
    }

    /// Adds a histogram of the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (own, count) in self.counts.iter_mut().zip(other.counts) {
            *own += count;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Each bound with the number of values at or below it, in increasing order. The last bound is
    /// infinity, with all of them.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let bounds: Vec<f64> = batcher.stats().batch_items.buckets().map(|(bound, _)| bound).collect();
    /// assert_eq!((bounds[0], bounds[14], bounds[15]), (1.0, 50_000.0, f64::INFINITY));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((bound, *below))
        })
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("sum", &self.sum)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_counted_at_it_and_one_beyond_all_only_at_infinity() {
        let mut lengths = Histogram::batch_items();
        for value in [1.0, 2.0, 3.0, 60_000.0] {
            lengths.record(value);
        }
        let buckets: Vec<_> = lengths.buckets().collect();
        assert_eq!(buckets[..3], [(1.0, 1), (2.0, 2), (5.0, 3)]);
        assert_eq!(buckets[14..], [(50_000.0, 3), (f64::INFINITY, 4)]);
        assert_eq!((lengths.count, lengths.sum), (4, 60_006.0));
        lengths.add(&lengths.clone());
        assert_eq!(
            (lengths.count, lengths.buckets().nth(1)),
            (8, Some((2.0, 4)))
        );
    }

    #[test]
    fn bounds_increase() {
        for bounds in [SERVICE_TIME, QUEUE_WAIT, BATCH_ITEMS] {
            assert!(bounds.is_sorted_by(|one, next| one < next));
        }
    }
}
