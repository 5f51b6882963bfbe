//! The first batches, until two of them tell the two numbers apart.

use super::limit::TOO_EARLY_TIME_RATIO;
use super::model::{CallTime, Model};

/// After more samples than this, without two sizes that differ enough, the start ends with a guess.
/// It must end even where the size cannot grow. Probes correct the guess.
const START_SAMPLES_MAX: u32 = 12;
/// Samples after which the shortest call bounds the linger.
const LINGER_SAMPLES_MIN: u32 = 2;

/// Sums over the samples, for the line that fits them best.
#[derive(Clone, Debug, Default)]
struct Sums {
    items: f64,
    seconds: f64,
    items_squared: f64,
    items_seconds: f64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    /// The first batch, or the mean of those of a similar size.
    first: Option<CallTime>,
    samples: u32,
    /// The shortest call, in seconds.
    shortest: f64,
    sums: Sums,
    items_min: f64,
    items_max: f64,
}

impl Start {
    /// Whether a call failed much sooner than calls of its size take, as far as that is known.
    pub(super) fn is_too_early(&self, call: CallTime) -> bool {
        self.first.is_some_and(|first| {
            let share = (call.items / first.items).min(1.0);
            call.seconds < TOO_EARLY_TIME_RATIO * first.seconds * share
        })
    }

    /// Half of the shortest call's time, in seconds. No call costs more than the shortest took with
    /// its items, so a longer wait cannot pay. An item then waits at most half as long as its own
    /// call takes.
    pub(super) fn linger(&self) -> Option<f64> {
        (self.samples >= LINGER_SAMPLES_MIN).then_some(self.shortest / 2.0)
    }

    /// The model from batches that were never large enough to tell the numbers apart: the line that
    /// fits them best. If their lengths hardly differ, half of a batch's time is taken as the
    /// call's cost.
    fn guess(&self, call: CallTime) -> Model {
        let CallTime { items, seconds } = call;
        let count = f64::from(self.samples);
        let (mean, mean_seconds) = (self.sums.items / count, self.sums.seconds / count);
        let spread = self.sums.items_squared / count - mean * mean;
        if self.items_max < 2.0 * self.items_min || spread <= 0.0 {
            return Model::new(seconds / (2.0 * items), items, items);
        }
        let slope = (self.sums.items_seconds / count - mean * mean_seconds) / spread;
        let least = mean_seconds / (mean + 4.0 * self.items_max);
        let item = slope.clamp(least, mean_seconds / mean / 1.05);
        Model::new(item, mean_seconds / item - mean, mean)
    }

    /// Takes a batch that went through. The model, once there is one.
    pub(super) fn take(&mut self, call: CallTime) -> Option<Model> {
        let CallTime { items, seconds } = call;
        self.samples += 1;
        if self.samples == 1 {
            (self.shortest, self.items_min, self.items_max) = (seconds, items, items);
        } else {
            self.shortest = self.shortest.min(seconds);
            self.items_min = self.items_min.min(items);
            self.items_max = self.items_max.max(items);
        }
        self.sums.items += items;
        self.sums.seconds += seconds;
        self.sums.items_squared += items * items;
        self.sums.items_seconds += items * seconds;
        let first = *self.first.get_or_insert(call);
        let (small, large) = if first.items < items {
            (first, call)
        } else {
            (call, first)
        };
        if large.items < 2.0 * small.items {
            self.first = Some(CallTime {
                items: (first.items + items) / 2.0,
                seconds: (first.seconds + seconds) / 2.0,
            });
        }
        let given_up = || (self.samples > START_SAMPLES_MAX).then(|| self.guess(call));
        Model::through(small, large).or_else(given_up)
    }
}
