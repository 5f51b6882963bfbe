//! How long calls may take, learnt from those that failed: mostly a timeout that nobody told.

use super::model::Model;

/// How near to the time of calls that failed others may plan, and how much nearer where a call is
/// all that costs: there a larger batch is worth a failure now and then.
const NEAR: f64 = 0.83;
const NEARER: f64 = 0.2;
/// How fast the limit rises with a clean full batch, in proportion to what there is to gain; and
/// once it is near the one that failed, where there is little to gain hardly anything is spent on
/// finding out.
const RISE: f64 = 0.02;
const RISE_KNOWN: f64 = 0.006;
const KNOWN: f64 = 0.85;
/// A call that failed in less than this share of its expected time was not too long.
pub(super) const TOO_EARLY: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// Seconds; infinite until a call has failed.
    time: f64,
    /// What it was when the last one did.
    before: f64,
}

impl Limit {
    pub(super) fn new() -> Self {
        Self {
            time: f64::INFINITY,
            before: f64::INFINITY,
        }
    }

    /// What a batch of about this size may take of it, noise included.
    pub(super) fn budget(&self, model: &Model, size: f64) -> f64 {
        if self.time.is_infinite() {
            self.time
        } else {
            self.time * (NEAR + NEARER * model.overhead(size))
        }
    }

    /// A call failed after so many seconds, that many more than expected, as a share; `first` if
    /// the one before did not.
    pub(super) fn failed(&mut self, time: f64, error: f64, first: bool) {
        if first {
            self.before = self.time;
        }
        if !is_too_early(error) {
            self.time = self.time.min(time);
        }
    }

    /// A full batch of `n` went through.
    pub(super) fn clean_batch(&mut self, model: &Model, n: f64) {
        if self.time.is_finite() {
            let overhead = model.overhead(n);
            let rise = if self.time >= KNOWN * self.before {
                RISE_KNOWN * overhead
            } else {
                RISE
            };
            self.time *= 1.0 + rise * overhead;
        }
    }
}

/// Whether a call failed for another reason than the time it took, that many more than expected, as
/// a share.
pub(super) fn is_too_early(error: f64) -> bool {
    error <= TOO_EARLY - 1.0
}
