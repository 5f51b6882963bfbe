//! A baseline: additive increase and multiplicative decrease, on a target for the time of a batch.

use std::time::Duration;

use crate::error::BuildError;
use crate::feedback::{BatchSample, CallOutcome};
use crate::policy::setpoint::Setpoint;
use crate::policy::{Cadence, Decision, Policy, Window, Zone, is_evidence};

/// Adds two items after each full batch within the target. Removes a tenth after a batch over the
/// target, or one that failed. The target is its one setting without a default. The quality of the
/// result depends on the target, and the speed on the steps.
///
/// A batch that was cut at another size than the one in force changes nothing: its sample belongs
/// to an earlier decision. Where the concurrency is a range, it asks for the most calls at once.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Aimd {
    target: Duration,
    increase: usize,
    decrease: f64,
}

impl Aimd {
    /// With this target for the time of a batch.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Aimd};
    /// let batcher = Batcher::builder()
    ///     .policy(Aimd::new(Duration::from_millis(50)).increase(5).decrease(0.8))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            increase: 2,
            decrease: 0.9,
        }
    }

    /// How many items a full batch within the target adds, at least 1. Default 2.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Aimd, Policy};
    /// let aimd = Aimd::new(Duration::from_millis(50));
    /// assert!(aimd.increase(10).validate().is_ok());
    /// let refused = aimd.increase(0).validate();
    /// assert_eq!(refused.unwrap_err().to_string(), "increase is 0: must be at least 1");
    /// ```
    pub fn increase(mut self, items: usize) -> Self {
        self.increase = items;
        self
    }

    /// The factor after a batch over the target, greater than 0 and less than 1. Default 0.9.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Aimd, Policy};
    /// let aimd = Aimd::new(Duration::from_millis(50));
    /// assert!(aimd.decrease(0.5).validate().is_ok()); // halves
    /// assert!(aimd.decrease(1.0).validate().is_err()); // would never shrink
    /// ```
    pub fn decrease(mut self, share: f64) -> Self {
        self.decrease = share;
        self
    }

    fn step(&self, size: usize, batch: &BatchSample) -> Option<(usize, &'static str)> {
        let less = ((size as f64 * self.decrease) as usize).max(1);
        match batch.outcome {
            // A permanent error is caused by the rows.
            CallOutcome::Permanent => None,
            outcome if !is_evidence(outcome) => None,
            CallOutcome::Ok if batch.service_time <= self.target => (batch.full && !batch.probe)
                .then(|| {
                    (
                        size.saturating_add(self.increase),
                        "a full batch was within the target",
                    )
                }),
            CallOutcome::Ok => Some((less, "a batch took longer than the target")),
            _ => Some((less, "a batch failed")),
        }
    }
}

impl Policy for Aimd {
    fn name(&self) -> &'static str {
        "Aimd"
    }

    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let mut next = None;
        for batch in window
            .samples
            .iter()
            .filter_map(|sample| sample.batch.as_ref())
        {
            let size = next.map_or(current.batch_size, |(size, _)| size);
            if batch.cut_at == size {
                next = self.step(size, batch).or(next);
            }
        }
        let Some((size, reason)) = next else {
            return Decision {
                zone: current.zone,
                concurrency: Some(window.max_concurrency),
                ..Decision::hold(current, current.reason.clone())
            };
        };
        let zone = if size < current.batch_size {
            Zone::High
        } else {
            Zone::Low
        };
        Decision {
            zone,
            concurrency: Some(window.max_concurrency),
            ..Decision::resize(
                size.clamp(window.min_batch_size, window.max_batch_size),
                reason,
            )
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }

    fn validate(&self) -> Result<(), BuildError> {
        if self.target.is_zero() {
            return Err(BuildError::setting(
                "target",
                "0s",
                "must be greater than zero",
            ));
        }
        if self.increase == 0 {
            return Err(BuildError::setting("increase", 0, "must be at least 1"));
        }
        if !(self.decrease > 0.0 && self.decrease < 1.0) {
            return Err(BuildError::setting(
                "decrease",
                self.decrease,
                "must be greater than 0 and less than 1",
            ));
        }
        Ok(())
    }
}
