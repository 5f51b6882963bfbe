//! Whether the settings make sense, each and together, and the sizes that follow from them.

use std::fmt;

use super::{Builder, CAPACITY_MAX, FEEDBACK_MAX, Sizes};
use crate::control::limits::{check_concurrency, check_sizes};
use crate::error::BuildError;
use crate::feedback::{CUSTOM_SIGNALS_MAX, CustomSignal};

impl<T: Send + 'static> Builder<T> {
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        if self.load_check_interval.is_zero() {
            return Err(BuildError::setting(
                "load_check_interval",
                "0s",
                "must be greater than zero",
            ));
        }
        if !(1..=FEEDBACK_MAX).contains(&self.feedback_capacity) {
            let problem = "must be between 1 and 16777216";
            return Err(BuildError::setting(
                "feedback_capacity",
                self.feedback_capacity,
                problem,
            ));
        }
        if self.sensors.iter().any(|sensor| sensor.interval.is_zero()) {
            return Err(BuildError::setting(
                "sensor",
                "0s",
                "must be greater than zero",
            ));
        }
        if self.keep_failed == 0 {
            return Err(BuildError::setting("keep_failed", 0, "must be at least 1"));
        }
        if self.refuse_too_heavy && self.weigher.is_none() {
            return Err(BuildError::setting(
                "refuse_too_heavy",
                true,
                "needs a max_batch_weight",
            ));
        }
        if matches!(self.weigher, Some((0, _))) {
            return Err(BuildError::setting(
                "max_batch_weight",
                0,
                "must be at least 1",
            ));
        }
        if let Some(queue) = self.max_queue_weight {
            match self.weigher {
                _ if queue == 0 => {
                    return Err(BuildError::setting(
                        "max_queue_weight",
                        0,
                        "must be at least 1",
                    ));
                }
                None => {
                    return Err(BuildError::setting(
                        "max_queue_weight",
                        queue,
                        "needs a max_batch_weight",
                    ));
                }
                Some((batch, _)) if batch > queue => {
                    let problem = "the queue must hold a whole batch";
                    let (batch, queue) = (("max_batch_weight", batch), ("max_queue_weight", queue));
                    return Err(BuildError::conflict(batch, queue, problem));
                }
                Some(_) => {}
            }
        }
        if self.thread_name.contains('\0') {
            let name = self.thread_name.escape_debug();
            return Err(BuildError::setting(
                "thread_name",
                name,
                "must not contain a zero byte",
            ));
        }
        if self.custom.len() > CUSTOM_SIGNALS_MAX {
            return Err(BuildError::setting(
                "custom_signal",
                self.custom.len(),
                "at most 8 can be declared",
            ));
        }
        for (place, CustomSignal { name, weight }) in self.custom.iter().enumerate() {
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(BuildError::setting(
                    "custom_signal",
                    weight,
                    "a weight must be finite and not negative",
                ));
            }
            if self.custom[..place].iter().any(|known| known.name == *name) {
                return Err(BuildError::setting(
                    "custom_signal",
                    name,
                    "each name can be declared once",
                ));
            }
        }
        check_concurrency(self.concurrency, usize::MAX)?;
        self.check_order()?;
        self.retry.validate()?;
        self.policy.validate()
    }

    pub(super) fn sizes(&self) -> Result<Sizes, BuildError> {
        let set = [
            ("initial_batch_size", self.initial_batch_size),
            ("min_batch_size", self.min_batch_size),
            ("max_batch_size", self.max_batch_size),
            ("queue_capacity", self.queue_capacity),
        ];
        for (setting, value) in set {
            if value == Some(0) {
                return Err(BuildError::setting(setting, 0, "must be at least 1"));
            }
        }
        if let Some(capacity) = self
            .queue_capacity
            .filter(|capacity| *capacity > CAPACITY_MAX)
        {
            return Err(BuildError::setting(
                "queue_capacity",
                capacity,
                "must be at most 1073741824",
            ));
        }
        let ordered = [
            (
                1,
                0,
                "the initial size must be between the smallest and the largest",
            ),
            (
                0,
                2,
                "the initial size must be between the smallest and the largest",
            ),
            (1, 2, "the smallest must not exceed the largest"),
            (0, 3, "the queue must hold a whole batch"),
            (1, 3, "the queue must hold a whole batch"),
            (2, 3, "the queue must hold a whole batch"),
        ];
        for (lesser, greater, problem) in ordered {
            if let ((one, Some(small)), (other, Some(large))) = (set[lesser], set[greater]) {
                if small > large {
                    return Err(BuildError::conflict((one, small), (other, large), problem));
                }
            }
        }
        let wanted = self
            .initial_batch_size
            .or_else(|| self.policy.initial_batch_size());
        let min = self.min_batch_size.unwrap_or(1);
        let capacity_max = self.queue_capacity.unwrap_or(CAPACITY_MAX);
        let max = self.max_batch_size.unwrap_or_else(|| {
            self.default_max_batch_size
                .max(wanted.unwrap_or(0))
                .max(min)
                .min(capacity_max)
        });
        if max > CAPACITY_MAX {
            return Err(BuildError::setting(
                "max_batch_size",
                max,
                "must be at most 1073741824",
            ));
        }
        let capacity = self
            .queue_capacity
            .unwrap_or_else(|| 1_024.max(max.saturating_mul(2)).min(CAPACITY_MAX));
        check_sizes(min, max, capacity)?;
        let lanes = self.concurrency.max();
        let capacity = if lanes == 1 {
            capacity
        } else {
            // Each lane holds two batches, so that it has a full one while it waits for a permit.
            let two = max.saturating_mul(2).min(CAPACITY_MAX);
            capacity.div_ceil(lanes).max(two)
        };
        Ok(Sizes {
            initial: wanted
                .unwrap_or(self.default_initial_batch_size)
                .clamp(min, max),
            min,
            max,
            capacity,
        })
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("initial_batch_size", &self.initial_batch_size)
            .field("min_batch_size", &self.min_batch_size)
            .field("max_batch_size", &self.max_batch_size)
            .field("linger", &self.linger)
            .field("queue_capacity", &self.queue_capacity)
            .field("load_check_interval", &self.load_check_interval)
            .finish_non_exhaustive()
    }
}
