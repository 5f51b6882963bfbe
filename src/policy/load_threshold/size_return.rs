//! The return of a size that a failed batch halved. Without it, failures would only ever shrink the
//! size where no signal makes it grow.

use std::time::Duration;

/// Clean full batches in a row after which a halved size returns.
const RETURN_BATCHES: u32 = 4;
/// The same after a call that failed late: it took at least half of a clean call's time, so the size
/// may have been the cause.
const LATE_RETURN_BATCHES: u32 = 32;
/// A return is on trial for as many batches as it needed. A late failure on trial multiplies the
/// batches by this: a size that runs into a timeout is tried rarely.
const FAILED_TRIAL_FACTOR: u32 = 4;
/// The most that a return needs.
const RETURN_BATCHES_MAX: u32 = 256;

/// The size to return to after a halving, and how many batches that needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeReturn {
    /// The size before the first halving; `None` if nothing was halved.
    pub(super) size: Option<usize>,
    /// Clean full batches since the last failure.
    clean_batches: u32,
    /// How many of them the return needs.
    batches_needed: u32,
    /// The last return is on trial.
    on_trial: bool,
    /// The time of the last clean full batch.
    clean_time: Duration,
}

impl SizeReturn {
    pub(super) const fn new() -> Self {
        Self {
            size: None,
            clean_batches: 0,
            batches_needed: RETURN_BATCHES,
            on_trial: false,
            clean_time: Duration::ZERO,
        }
    }

    pub(super) fn clean_batch(&mut self, time: Duration) {
        self.clean_time = time;
        self.clean_batches = self.clean_batches.saturating_add(1);
        if self.on_trial && self.clean_batches >= self.batches_needed {
            (self.on_trial, self.batches_needed) = (false, RETURN_BATCHES);
        }
    }

    pub(super) fn failed(&mut self, from: usize, time: Duration) {
        let on_trial = std::mem::take(&mut self.on_trial);
        if self.clean_time > Duration::ZERO && time >= self.clean_time / 2 {
            self.batches_needed = if on_trial {
                FAILED_TRIAL_FACTOR * self.batches_needed
            } else {
                self.batches_needed
            }
            .clamp(LATE_RETURN_BATCHES, RETURN_BATCHES_MAX);
        }
        self.clean_batches = 0;
        self.size = Some(self.size.map_or(from, |size| size.max(from)));
    }

    /// The size to return to, if it is larger than the one in force and enough batches were clean.
    pub(super) fn take(&mut self, from: usize) -> Option<usize> {
        let size = self.size?;
        if size <= from {
            self.size = None;
            return None;
        }
        if self.clean_batches < self.batches_needed {
            return None;
        }
        (self.size, self.clean_batches, self.on_trial) = (None, 0, true);
        Some(size)
    }
}
