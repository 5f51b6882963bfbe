//! The way back from the halving of a failed batch, so that failures are no ratchet where nothing makes the size grow.

/// Clean full batches in a row after which a halved size returns. Each return that fails within as many doubles the number, up to
/// the second figure: a size that runs into a timeout is tried seldom.
const RETURN: u32 = 4;
const RETURN_MAX: u32 = 64;

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
}

impl Return {
    pub(super) const fn new() -> Self {
        Self { size: None, clean: 0, needed: RETURN, on_trial: false }
    }

    pub(super) fn clean_batch(&mut self) {
        self.clean = self.clean.saturating_add(1);
        if self.on_trial && self.clean >= RETURN {
            (self.on_trial, self.needed) = (false, RETURN);
        }
    }

    pub(super) fn failed(&mut self, from: usize) {
        if std::mem::take(&mut self.on_trial) {
            self.needed = (2 * self.needed).min(RETURN_MAX);
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
