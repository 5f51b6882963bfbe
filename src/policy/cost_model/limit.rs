//! How long calls may take, learnt from calls that failed. Most often this is a timeout of the
//! backend that nobody configured here.

use super::model::Model;

/// The budget, as a share of the limit.
const BUDGET_LIMIT_SHARE: f64 = 0.83;
/// The budget is larger by this share of the limit, times the call's overhead. Where the call is
/// all that costs, a larger batch is worth a failure now and then.
const BUDGET_OVERHEAD_SHARE: f64 = 0.2;
/// How fast the limit rises with a clean full batch, in proportion to the overhead, which is what a
/// larger batch can gain.
const LIMIT_GROWTH: f64 = 0.02;
/// The same close to the time that failed, in proportion to the square of the overhead. Where there
/// is little to gain, almost nothing is spent on finding out.
const LIMIT_GROWTH_NEAR_FAILURE: f64 = 0.006;
/// From this share of the limit before the failure on, the limit is close to the time that failed.
const NEAR_FAILURE_LIMIT_RATIO: f64 = 0.85;
/// A call that failed in less than this share of its expected time was not too long.
pub(super) const TOO_EARLY_TIME_RATIO: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// Seconds; infinite until a call has failed.
    seconds: f64,
    /// The limit before the last failure, in seconds.
    before_failure: f64,
}

impl Limit {
    pub(super) fn new() -> Self {
        Self {
            seconds: f64::INFINITY,
            before_failure: f64::INFINITY,
        }
    }

    /// The time that a batch of about this size may take, noise included, in seconds.
    pub(super) fn budget(&self, model: &Model, size: f64) -> f64 {
        if self.seconds.is_infinite() {
            self.seconds
        } else {
            self.seconds * (BUDGET_LIMIT_SHARE + BUDGET_OVERHEAD_SHARE * model.overhead(size))
        }
    }

    /// A call failed after this time. `error` is by how much that exceeds the expected time, as a
    /// share. `is_first`: the call before did not fail.
    pub(super) fn failed(&mut self, seconds: f64, error: f64, is_first: bool) {
        if is_first {
            self.before_failure = self.seconds;
        }
        if !is_too_early(error) {
            self.seconds = self.seconds.min(seconds);
        }
    }

    /// A full batch of this many items went through.
    pub(super) fn clean_batch(&mut self, model: &Model, items: f64) {
        if self.seconds.is_finite() {
            let overhead = model.overhead(items);
            let growth = if self.seconds >= NEAR_FAILURE_LIMIT_RATIO * self.before_failure {
                LIMIT_GROWTH_NEAR_FAILURE * overhead
            } else {
                LIMIT_GROWTH
            };
            self.seconds *= 1.0 + growth * overhead;
        }
    }
}

/// Whether a call failed for a reason other than the time it took. `error` is by how much that
/// exceeds the expected time, as a share.
pub(super) fn is_too_early(error: f64) -> bool {
    error <= TOO_EARLY_TIME_RATIO - 1.0
}
