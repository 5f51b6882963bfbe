//! A yardstick: tries sizes and keeps going where it gets better. No model, hence nothing to be
//! wrong about.

use crate::feedback::CallOutcome;
use crate::policy::setpoint::Setpoint;
use crate::policy::{Cadence, Decision, Policy, Window, is_evidence};

/// Batches per trial: fewer, and noise decides.
const TRIAL: u32 = 8;
/// What a doubling of throughput may cost in batch time: 19 is the exchange at which a backend of
/// fixed and per-item cost is best at 95 % of its throughput.
const EXCHANGE: f64 = 19.0;
/// The steps, as shares of the size: the largest doubles in three trials, the smallest still shows
/// through the noise.
const STEPS: (f64, f64) = (0.05, 0.25);

/// Hill climbing on `ln(throughput) − ln(batch time)/19`: eight batches at a size, then a step on
/// in the same direction if that was better, back if it was worse. Needs no setting and no model,
/// so it is right on backends whose cost grows faster than their batches; it never stands still,
/// and takes minutes where a model takes seconds.
#[derive(Clone, Debug)]
#[must_use]
pub struct HillClimb {
    /// The size as a fraction; 0 before the first trial.
    size: f64,
    batches: u32,
    handled: f64,
    seconds: f64,
    last: Option<f64>,
    up: bool,
    step: f64,
    was_better: bool,
}

impl Default for HillClimb {
    fn default() -> Self {
        Self::new()
    }
}

impl HillClimb {
    /// Begins upwards.
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
            last: None,
            up: true,
            step: STEPS.1,
            was_better: true,
        }
    }

    fn end_trial(&mut self) {
        let throughput = (self.handled / self.seconds).max(1e-9);
        let value = throughput.ln() - (self.seconds / f64::from(self.batches)).ln() / EXCHANGE;
        // Where nothing gets through, it is not worth while to go up, whatever there is to compare
        // with.
        let nothing = self.handled <= 0.0;
        self.up &= !nothing;
        let better = nothing || self.last.is_none_or(|last| value > last);
        if better {
            let step = if self.was_better {
                self.step * 2.0
            } else {
                self.step / 2.0
            };
            self.step = step.clamp(STEPS.0, STEPS.1);
        } else {
            self.up = !self.up;
        }
        self.was_better = better;
        self.last = Some(value);
        // One more at least, or a small size would never move.
        let more = (self.size * (1.0 + self.step)).max(self.size.floor() + 1.0);
        self.size = if self.up {
            more
        } else {
            self.size / (1.0 + self.step)
        };
        (self.batches, self.handled, self.seconds) = (0, 0.0, 0.0);
    }
}

impl Policy for HillClimb {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        if self.size as usize != current.batch_size {
            // The beginning, or the limits moved it.
            self.size = current.batch_size as f64;
        }
        let mut reason = current.reason.clone();
        for batch in window
            .samples
            .iter()
            .filter_map(|sample| sample.batch.as_ref())
        {
            // Only full batches of the size on trial; rows at fault say nothing of it.
            let teaches = batch.outcome != CallOutcome::Permanent && is_evidence(batch.outcome);
            if batch.cut_at != self.size as usize || !batch.full || !teaches {
                continue;
            }
            self.batches += 1;
            self.handled += (batch.len - batch.failed.min(batch.len)) as f64;
            self.seconds += batch.service_time.as_secs_f64().max(1e-9);
            if self.batches == TRIAL {
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
            ..Decision::resize(self.size as usize, reason)
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}
