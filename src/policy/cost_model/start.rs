//! The first batches, until two of them tell the two numbers apart.

use super::model::Model;

/// Samples without two sizes that differ enough, after which half of a batch is taken for the call's cost and the rest is left
/// to the probes: where the size cannot grow, the start must still end.
const SAMPLES_MAX: u32 = 12;

#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    /// Size and time of the first batch, or the mean of those like it.
    first: Option<(f64, f64)>,
    samples: u32,
}

impl Start {
    /// The model, once a batch of `n` that took so long has completed it.
    pub(super) fn take(&mut self, n: f64, time: f64) -> Option<Model> {
        self.samples += 1;
        let first = *self.first.get_or_insert((n, time));
        let (small, large) = if first.0 < n { (first, (n, time)) } else { ((n, time), first) };
        if large.0 < 2.0 * small.0 {
            self.first = Some(((first.0 + n) / 2.0, (first.1 + time) / 2.0));
        }
        let given_up = || (self.samples > SAMPLES_MAX).then(|| Model::new(time / (2.0 * n), n, n));
        Model::through(small, large).or_else(given_up)
    }
}
