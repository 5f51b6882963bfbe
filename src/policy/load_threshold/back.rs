//! The way back from the halving of a failed batch, so that failures are no ratchet where nothing
//! makes the size grow.

use std::time::Duration;

/// Clean full batches in a row after which a halved size returns. Each return that fails within as
/// many takes four times as many, unless the call failed in less than half of the time of a clean
/// one, up to the second figure: a size that runs into a timeout is tried seldom.
const RETURN: u32 = 4;
/// And where the call did not fail in less than half of a clean one's time: the size may have been
/// the reason.
const RETURN_LATE: u32 = 32;
const RETURN_MAX: u32 = 256;

/// The way back from a failure's halving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// The size before the first halving; None where nothing was halved.
    pub(super) size: Option<usize>,
    /// Clean full batches since the last failure.
    clean: u32,
    /// How many are needed.
    needed: u32,
    /// The last return is still on trial.
    on_trial: bool,
    /// The time of the last clean full batch.
    usual: Duration,
}

impl Return {
    pub(super) const fn new() -> Self {
        Self {
            size: None,
            clean: 0,
            needed: RETURN,
            on_trial: false,
            usual: Duration::ZERO,
        }
    }

    pub(super) fn clean_batch(&mut self, time: Duration) {
        self.usual = time;
        self.clean = self.clean.saturating_add(1);
        if self.on_trial && self.clean >= self.needed {
            (self.on_trial, self.needed) = (false, RETURN);
        }
    }

    pub(super) fn failed(&mut self, from: usize, time: Duration) {
        let on_trial = std::mem::take(&mut self.on_trial);
        if self.usual > Duration::ZERO && time >= self.usual / 2 {
            self.needed = if on_trial {
                4 * self.needed
            } else {
                self.needed
            }
            .clamp(RETURN_LATE, RETURN_MAX);
        }
        self.clean = 0;
        self.size = Some(self.size.map_or(from, |size| size.max(from)));
    }

    /// The size to return to, if the backend works again.
    pub(super) fn take(&mut self, from: usize) -> Option<usize> {
        let size = self.size?;
        if size <= from {
            self.size = None;
            return None;
        }
        if self.clean < self.needed {
            return None;
        }
        (self.size, self.clean, self.on_trial) = (None, 0, true);
        Some(size)
    }
}
