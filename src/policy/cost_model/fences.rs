//! The sizes between which the formula holds. Above the upper fence an item costs more than in half
//! a batch, or batches keep failing; under the lower one it costs more than in a much larger batch.

use super::model::Model;

/// The mean over half batches: of about six.
const GAIN: f64 = 0.15;
/// Half a batch is cheaper where its mean is so many of its own standard errors under what was
/// expected.
const SURE: f64 = 1.8;
/// And doubtful from half of that: then the upper fence does not rise.
const DOUBT: f64 = 0.5;
/// What the upper fence leaves of the size, and how much it rises with a clean full batch.
const LOWER: f64 = 0.85;
const RISE: f64 = 1.005;
/// A much larger batch is cheaper where its items take less than this share of the time, so many
/// times in a row.
const CHEAPER: f64 = 0.85;
const LOOKS: u32 = 2;
/// And cheaper by half of the noise, where that is more: by all of it, a file whose fsyncs scatter
/// was never found out.
const CLEARLY: f64 = 0.5;
/// Failing again within so many batches, at no more than so many times the size, is failing for the
/// size.
const AGAIN: u32 = 32;
const LIKE: f64 = 1.3;

#[derive(Clone, Debug)]
pub(super) struct Fences {
    /// In items.
    pub(super) low: f64,
    pub(super) high: f64,
    /// The time of an item when one of them was set: on another backend it says nothing.
    item: f64,
    /// Mean error of half batches, of how many, and the variance of that mean by that of one.
    half: f64,
    looks: u32,
    variance: f64,
    pub(super) in_doubt: bool,
    /// Much larger batches in a row that were cheaper.
    cheaper: u32,
    /// Size and number of the last batch that was the first to fail.
    failed: (f64, u32),
}

impl Fences {
    pub(super) fn new() -> Self {
        let (low, high, failed) = (0.0, f64::INFINITY, (0.0, 0));
        Self {
            low,
            high,
            item: 0.0,
            half: 0.0,
            looks: 0,
            variance: 0.0,
            in_doubt: false,
            cheaper: 0,
            failed,
        }
    }

    /// A batch of half the size had this error.
    pub(super) fn half_batch(&mut self, model: &Model, error: f64, size: f64) {
        self.looks = self.looks.saturating_add(1);
        let gain = (1.0 / (f64::from(self.looks) + 1.0)).max(GAIN);
        self.half += gain * (error.clamp(-0.5, 0.5) - self.half);
        self.variance = (1.0 - gain) * (1.0 - gain) * self.variance + gain * gain;
        // An item of half a batch should cost more by the call's share. Half of that lost means
        // that growing gains nothing.
        let nothing_gained = model.call / (2.0 * (2.0 * model.call + size));
        let threshold = nothing_gained.max(SURE * model.noise * self.variance.sqrt());
        self.in_doubt = self.half < -DOUBT * threshold;
        if self.half < -threshold {
            self.lower(model, size);
            self.half *= 0.75;
        }
    }

    /// A batch of `n`, much larger than the usual `size`, took so long; whether its items were
    /// cheaper.
    pub(super) fn large_batch(&mut self, model: &Model, (n, time): (f64, f64), size: f64) -> bool {
        let clearly = CHEAPER.min(1.0 - CLEARLY * model.noise);
        let found = time / n < clearly * model.expected(size) / size;
        self.cheaper = if found { self.cheaper + 1 } else { 0 };
        if self.cheaper >= LOOKS {
            (self.low, self.item, self.cheaper) = (n, model.item, 0);
        }
        found
    }

    /// A much larger batch failed.
    pub(super) fn look_failed(&mut self) {
        self.cheaper = 0;
    }

    fn lower(&mut self, model: &Model, size: f64) {
        (self.high, self.item) = (LOWER * size, model.item);
    }

    /// A batch of `n` was the first in a row to fail.
    pub(super) fn failed(&mut self, model: &Model, n: f64) {
        let (len, batch) = std::mem::replace(&mut self.failed, (n, model.batches));
        if model.batches < batch.saturating_add(AGAIN) && n < LIKE * len {
            self.lower(model, n);
        }
    }

    /// The model has jumped. What is cheaper when large stays so beside a neighbour; the upper
    /// fence was set by what is past.
    pub(super) fn jumped(&mut self, model: &Model) {
        if !(0.67..1.5).contains(&(model.item / self.item)) {
            *self = Self {
                failed: self.failed,
                low: self.low,
                ..Self::new()
            };
        }
    }

    /// A full batch went through.
    pub(super) fn clean_batch(&mut self) {
        if !self.in_doubt {
            self.high *= RISE;
        }
    }
}
