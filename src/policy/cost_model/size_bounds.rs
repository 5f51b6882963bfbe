//! The range of sizes in which the formula holds. Above the ceiling an item costs more than in half
//! a batch, or batches keep failing. Below the floor an item costs more than in a much larger batch.

use super::model::{CallTime, Model};

/// The mean error of half batches covers about the last six.
const HALF_ERROR_GAIN_MIN: f64 = 0.15;
/// An item is cheaper in half a batch if the mean error is below the expected one by this many of
/// its own standard errors.
const CHEAPER_HALF_DEVIATIONS: f64 = 1.8;
/// The ceiling is in doubt from this share of that threshold on. A ceiling in doubt does not rise.
const DOUBT_THRESHOLD_SHARE: f64 = 0.5;
/// A new ceiling, as a share of the size that was too large.
const CEILING_SIZE_RATIO: f64 = 0.85;
/// The factor by which the ceiling rises with each clean full batch.
const CEILING_GROWTH: f64 = 1.005;
/// A large probe wins if an item takes less than this share of the usual time.
const LARGE_WIN_TIME_RATIO: f64 = 0.85;
/// Wins in a row that raise the floor: one may be chance.
const LARGE_WINS_NEEDED: u32 = 2;
/// The saving must also exceed this share of the noise. Requiring all of it meant that the effect
/// was never detected on files with erratic fsync times.
const LARGE_WIN_NOISE_SHARE: f64 = 0.5;
/// A second failure within this many batches, at a similar size, is taken as caused by the size.
const REPEATED_FAILURE_BATCHES: u32 = 32;
/// A size is similar if it is less than this multiple of the other.
const SIMILAR_SIZE_RATIO: f64 = 1.3;

/// The last batch that was the first in a row to fail.
#[derive(Clone, Copy, Debug)]
struct FirstFailure {
    items: f64,
    /// How many ordinary batches the model had seen.
    batches: u32,
}

#[derive(Clone, Debug)]
pub(super) struct SizeBounds {
    /// The smallest size to use, in items; 0 where no floor is known.
    pub(super) floor: f64,
    /// The largest size to use, in items; infinite where no ceiling is known.
    pub(super) ceiling: f64,
    /// The time of an item when a bound was last set. If it changes far, the ceiling is void.
    item: f64,
    /// The mean error of half batches, their number, and the variance of the mean as a multiple of
    /// the variance of one error.
    half_error: f64,
    half_batches: u32,
    half_variance: f64,
    pub(super) in_doubt: bool,
    /// Large probes in a row that won.
    large_wins: u32,
    last_failure: FirstFailure,
}

impl SizeBounds {
    pub(super) fn new() -> Self {
        Self {
            floor: 0.0,
            ceiling: f64::INFINITY,
            item: 0.0,
            half_error: 0.0,
            half_batches: 0,
            half_variance: 0.0,
            in_doubt: false,
            large_wins: 0,
            last_failure: FirstFailure {
                items: 0.0,
                batches: 0,
            },
        }
    }

    /// A batch of half the size had this error.
    pub(super) fn half_batch(&mut self, model: &Model, error: f64, size: f64) {
        self.half_batches = self.half_batches.saturating_add(1);
        let gain = (1.0 / (f64::from(self.half_batches) + 1.0)).max(HALF_ERROR_GAIN_MIN);
        self.half_error += gain * (error.clamp(-0.5, 0.5) - self.half_error);
        self.half_variance = (1.0 - gain) * (1.0 - gain) * self.half_variance + gain * gain;
        // By the formula, an item costs more in half a batch: its share of the call doubles. If
        // half of this difference is missing, growth gains nothing.
        let nothing_gained = model.call / (2.0 * (2.0 * model.call + size));
        let threshold =
            nothing_gained.max(CHEAPER_HALF_DEVIATIONS * model.noise * self.half_variance.sqrt());
        self.in_doubt = self.half_error < -DOUBT_THRESHOLD_SHARE * threshold;
        if self.half_error < -threshold {
            self.set_ceiling(model, size);
            self.half_error *= 0.75;
        }
    }

    /// A large probe went through, while `size` was in force. True if its items were cheaper.
    pub(super) fn large_probe(&mut self, model: &Model, probe: CallTime, size: f64) -> bool {
        let ratio = LARGE_WIN_TIME_RATIO.min(1.0 - LARGE_WIN_NOISE_SHARE * model.noise);
        let won = probe.seconds / probe.items < ratio * model.expected(size) / size;
        self.large_wins = if won { self.large_wins + 1 } else { 0 };
        if self.large_wins >= LARGE_WINS_NEEDED {
            (self.floor, self.item, self.large_wins) = (probe.items, model.item, 0);
        }
        won
    }

    /// A large probe failed.
    pub(super) fn large_probe_failed(&mut self) {
        self.large_wins = 0;
    }

    fn set_ceiling(&mut self, model: &Model, size: f64) {
        (self.ceiling, self.item) = (CEILING_SIZE_RATIO * size, model.item);
    }

    /// A batch of this many items was the first in a row to fail.
    pub(super) fn failed(&mut self, model: &Model, items: f64) {
        let failure = FirstFailure {
            items,
            batches: model.batches,
        };
        let last = std::mem::replace(&mut self.last_failure, failure);
        let is_repeated = model.batches < last.batches.saturating_add(REPEATED_FAILURE_BATCHES);
        if is_repeated && items < SIMILAR_SIZE_RATIO * last.items {
            self.set_ceiling(model, items);
        }
    }

    /// The model has jumped. The floor stays: what is cheaper in large batches is so with competing
    /// load as well. The ceiling was set under other conditions and is removed.
    pub(super) fn jumped(&mut self, model: &Model) {
        if !(0.67..1.5).contains(&(model.item / self.item)) {
            *self = Self {
                last_failure: self.last_failure,
                floor: self.floor,
                ..Self::new()
            };
        }
    }

    /// A full batch went through.
    pub(super) fn clean_batch(&mut self) {
        if !self.in_doubt {
            self.ceiling *= CEILING_GROWTH;
        }
    }
}
