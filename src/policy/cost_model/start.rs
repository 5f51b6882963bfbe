//! The first batches, until two of them tell the two numbers apart.

use super::limit::TOO_EARLY;
use super::model::Model;

/// Samples without two sizes that differ enough, after which half of a batch is taken for the
/// call's cost and the rest is left to the probes: where the size cannot grow, the start must still
/// end.
const SAMPLES_MAX: u32 = 12;
/// Samples after which their time bounds the linger.
const LINGER: u32 = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    /// Size and time of the first batch, or the mean of those like it.
    first: Option<(f64, f64)>,
    samples: u32,
    /// The shortest call.
    least: f64,
    /// Of lengths and times: sums, of squares, of products; the extremes of the lengths.
    sums: [f64; 4],
    lengths: (f64, f64),
}

impl Start {
    /// Whether a call of `n` failed much sooner than calls of its size take, as far as that is
    /// known.
    pub(super) fn is_too_early(&self, n: f64, time: f64) -> bool {
        self.first
            .is_some_and(|(len, took)| time < TOO_EARLY * took * (n / len).min(1.0))
    }

    /// Half of the shortest call's time: no call costs more than the shortest took with its items,
    /// so waiting for longer than that cannot pay; and an item waits for half as long as its own
    /// call takes at most.
    pub(super) fn linger(&self) -> Option<f64> {
        (self.samples >= LINGER).then_some(self.least / 2.0)
    }

    /// From batches that were never large enough to tell the numbers apart: through the line that
    /// fits them best, if their lengths differ at all; else half of a batch is taken for the call's
    /// cost.
    fn guess(&self, n: f64, time: f64) -> Model {
        let count = f64::from(self.samples);
        let [sum_n, sum_t, squares, products] = self.sums;
        let (mean, mean_time) = (sum_n / count, sum_t / count);
        let spread = squares / count - mean * mean;
        if self.lengths.1 < 2.0 * self.lengths.0 || spread <= 0.0 {
            return Model::new(time / (2.0 * n), n, n);
        }
        let slope = (products / count - mean * mean_time) / spread;
        let least = mean_time / (mean + 4.0 * self.lengths.1);
        let item = slope.clamp(least, mean_time / mean / 1.05);
        Model::new(item, mean_time / item - mean, mean)
    }

    /// The model, once a batch of `n` that took so long has completed it.
    pub(super) fn take(&mut self, n: f64, time: f64) -> Option<Model> {
        self.samples += 1;
        self.least = if self.samples == 1 {
            time
        } else {
            self.least.min(time)
        };
        self.lengths = if self.samples == 1 {
            (n, n)
        } else {
            (self.lengths.0.min(n), self.lengths.1.max(n))
        };
        for (sum, term) in self.sums.iter_mut().zip([n, time, n * n, n * time]) {
            *sum += term;
        }
        let first = *self.first.get_or_insert((n, time));
        let (small, large) = if first.0 < n {
            (first, (n, time))
        } else {
            ((n, time), first)
        };
        if large.0 < 2.0 * small.0 {
            self.first = Some(((first.0 + n) / 2.0, (first.1 + time) / 2.0));
        }
        let given_up = || (self.samples > SAMPLES_MAX).then(|| self.guess(n, time));
        Model::through(small, large).or_else(given_up)
    }
}
