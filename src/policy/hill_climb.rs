//! A baseline that tries sizes and keeps its direction while the result improves. It has no model.

use crate::feedback::CallOutcome;
use crate::policy::setpoint::Setpoint;
use crate::policy::{Cadence, Decision, Policy, Window, is_evidence};

/// Batches a trial. With fewer, the noise decides.
const TRIAL_BATCHES: u32 = 8;
/// How many doublings of the batch time one doubling of throughput is worth. At 19, the best size on
/// a backend with a fixed and a per-item cost is that of 95 % of its throughput.
const THROUGHPUT_WORTH: f64 = 19.0;
/// The smallest step, as a share of the size. A smaller one would be lost in the noise.
const STEP_MIN: f64 = 0.05;
/// The largest step. The size doubles in about three trials.
const STEP_MAX: f64 = 0.25;

/// Hill climbing on `ln(throughput) − ln(batch time)/19`. A trial is eight batches of one size. If
/// it was better than the last one, the next step keeps its direction, else it reverses.
///
/// It needs no setting and no model, so it also works on backends whose cost grows faster than
/// their batches. It never comes to rest, and takes minutes where a model takes seconds. Where the
/// concurrency is a range, it asks for the most calls at once.
#[derive(Clone, Debug)]
#[must_use]
pub struct HillClimb {
    /// The size with its fraction; 0 before the first trial.
    size: f64,
    batches: u32,
    handled: f64,
    seconds: f64,
    last_value: Option<f64>,
    is_up: bool,
    step: f64,
    was_better: bool,
}

impl Default for HillClimb {
    fn default() -> Self {
        Self::new()
    }
}

impl HillClimb {
    /// The first step is upwards.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, HillClimb};
    /// let batcher = Batcher::builder()
    ///     .policy(HillClimb::new())
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        let (size, batches, handled, seconds) = (0.0, 0, 0.0, 0.0);
        Self {
            size,
            batches,
            handled,
            seconds,
            last_value: None,
            is_up: true,
            step: STEP_MAX,
            was_better: true,
        }
    }

    fn end_trial(&mut self) {
        let throughput = (self.handled / self.seconds).max(1e-9);
        let value =
            throughput.ln() - (self.seconds / f64::from(self.batches)).ln() / THROUGHPUT_WORTH;
        // If no item was handled, the next step is downwards, whatever the last value was.
        let nothing = self.handled <= 0.0;
        self.is_up &= !nothing;
        let better = nothing || self.last_value.is_none_or(|last| value > last);
        if better {
            let step = if self.was_better {
                self.step * 2.0
            } else {
                self.step / 2.0
            };
            self.step = step.clamp(STEP_MIN, STEP_MAX);
        } else {
            self.is_up = !self.is_up;
        }
        self.was_better = better;
        self.last_value = Some(value);
        // At least one item more: a small size would not change otherwise.
        let more = (self.size * (1.0 + self.step)).max(self.size.floor() + 1.0);
        self.size = if self.is_up {
            more
        } else {
            self.size / (1.0 + self.step)
        };
        (self.batches, self.handled, self.seconds) = (0, 0.0, 0.0);
    }
}

impl Policy for HillClimb {
    fn name(&self) -> &'static str {
        "HillClimb"
    }

    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        if self.size as usize != current.batch_size {
            // They differ at the beginning, and when the bounds have moved the size.
            self.size = current.batch_size as f64;
        }
        let mut reason = current.reason.clone();
        for batch in window
            .samples
            .iter()
            .filter_map(|sample| sample.batch.as_ref())
        {
            // Only full batches of the size on trial count. A permanent error is caused by the rows.
            let is_counted = batch.outcome != CallOutcome::Permanent && is_evidence(batch.outcome);
            if batch.cut_at != self.size as usize || !batch.full || !is_counted {
                continue;
            }
            self.batches += 1;
            self.handled += (batch.len - batch.failed.min(batch.len)) as f64;
            self.seconds += batch.service_time.as_secs_f64().max(1e-9);
            if self.batches == TRIAL_BATCHES {
                self.end_trial();
                reason = if self.was_better {
                    "throughput improved: continuing"
                } else {
                    "throughput dropped: reversing"
                }
                .into();
            }
        }
        self.size = self
            .size
            .clamp(window.min_batch_size as f64, window.max_batch_size as f64);
        Decision {
            zone: current.zone,
            concurrency: Some(window.max_concurrency),
            ..Decision::resize(self.size as usize, reason)
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}
