//! A length beyond which the formula ends. There are two kinds. The backend may refuse the length at
//! once, for too many parameters or a body that is too long. This shows as an event: a batch failed
//! as a whole twice, and every part of it went through without a wait. Or there is a cliff, such as
//! a sort that spills: a batch larger than the one before takes far longer than expected, and the
//! next batch of the old size does not. Until that is known, the model does not learn from the slow
//! batch.
//!
//! One event may be chance. Two are a wall, if no batch at or above the smaller length succeeded
//! since the first. The wall lies between the largest success and the smallest failure. Probes halve
//! this distance. Then a probe of the smallest failure checks after 32, 64, 128 … full batches
//! whether the wall is still there. One success at or above it removes the wall.

/// Full batches from one probe to the next while the wall is being located.
const SEARCH_INTERVAL_BATCHES: u32 = 2;
/// Full batches before the first check whether the wall is still there.
const RECHECK_INTERVAL_MIN_BATCHES: u32 = 32;
/// The same at most. Each check that finds the wall doubles them.
const RECHECK_INTERVAL_MAX_BATCHES: u32 = 1 << 16;
/// The wall is located if the largest success is at least this share of the smallest failure.
const LOCATED_RATIO: f64 = 0.97;

/// How a batch was cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BatchKind {
    Full,
    Partial,
    Probe,
}

#[derive(Clone, Debug)]
pub(super) struct Wall {
    /// The length of a first event.
    suspect: Option<f64>,
    /// The smallest failure; infinite where there is no wall.
    refused: f64,
    /// The largest success below it.
    passed: f64,
    /// The refused length was accepted, and was far too slow.
    is_slow: bool,
    /// The length of the last full batch that took about its expected time, or of a longer one
    /// since.
    normal: f64,
    /// The length of a larger batch after it that was far too slow, until the next full batch shows
    /// whether its length was the cause.
    slow_suspect: Option<f64>,
    full_since_probe: u32,
    recheck_interval: u32,
}

impl Wall {
    pub(super) fn new() -> Self {
        Self {
            suspect: None,
            refused: f64::INFINITY,
            passed: 0.0,
            is_slow: false,
            normal: 0.0,
            slow_suspect: None,
            full_since_probe: 0,
            recheck_interval: RECHECK_INTERVAL_MIN_BATCHES,
        }
    }

    /// The largest size that is known to pass; infinite where there is no wall.
    pub(super) fn edge(&self) -> f64 {
        if self.refused.is_finite() {
            self.passed.max(1.0)
        } else {
            f64::INFINITY
        }
    }

    /// The smallest length that is known to be refused.
    pub(super) fn refused(&self) -> f64 {
        self.refused
    }

    /// Whether the wall is a cliff.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// A batch went through. `is_slow`: it took far longer than expected. `is_trusted`: the model is
    /// no first guess. If the length may be the cause, the size to go back to: the model must not
    /// learn from the batch then.
    pub(super) fn judge(
        &mut self,
        items: f64,
        kind: BatchKind,
        is_slow: bool,
        is_trusted: bool,
    ) -> Option<f64> {
        if !is_slow {
            if kind != BatchKind::Probe {
                self.took_its_time(items, kind == BatchKind::Full);
            }
            self.passed(items, kind == BatchKind::Full);
            return None;
        }
        if kind == BatchKind::Probe {
            return None;
        }
        match self.slow_suspect {
            // It was cut before the size went back.
            Some(slow) if items >= slow => Some(self.normal),
            // The old size is slow as well: the length is not the cause.
            Some(_) => {
                self.slow_suspect = None;
                None
            }
            None if kind == BatchKind::Full
                && is_trusted
                && self.normal > 0.0
                && items > self.normal =>
            {
                self.slow_suspect = Some(items);
                Some(self.normal)
            }
            None => None,
        }
    }

    /// An ordinary batch took about its expected time. A short batch, which ends a burst, answers
    /// nothing: its length is not the size before.
    fn took_its_time(&mut self, items: f64, full: bool) {
        match self.slow_suspect {
            Some(slow) if items >= slow => self.slow_suspect = None,
            Some(slow) if full => {
                self.slow_suspect = None;
                self.slow(slow);
            }
            _ => {}
        }
        if full || items > self.normal {
            self.normal = items;
        }
    }

    /// A batch of this length went through.
    pub(super) fn passed(&mut self, items: f64, full: bool) {
        self.full_since_probe = self.full_since_probe.saturating_add(u32::from(full));
        if self.suspect.is_some_and(|suspect| items >= suspect) {
            self.suspect = None;
        }
        if items >= self.refused {
            *self = Self {
                normal: self.normal,
                ..Self::new()
            };
        }
        self.passed = self.passed.max(items);
    }

    /// A batch of this length failed twice, and its parts went through.
    pub(super) fn event(&mut self, items: f64) {
        self.is_slow = false;
        if self.refused.is_finite() && self.passed < items {
            self.refused = self.refused.min(items);
            return;
        }
        let Some(suspect) = self.suspect.take() else {
            self.suspect = Some(items);
            return;
        };
        self.refused = suspect.min(items);
        // A success from before the first event does not count.
        if self.passed >= self.refused {
            self.passed = self.refused / 2.0;
        }
        (self.full_since_probe, self.recheck_interval) = (0, RECHECK_INTERVAL_MIN_BATCHES);
    }

    /// A batch of this length was far too slow, and smaller ones are not.
    pub(super) fn slow(&mut self, items: f64) {
        self.event(items);
        self.is_slow = true;
    }

    /// The length to probe now, if a probe is due. Call it once a probe.
    pub(super) fn plan(&mut self, max: f64) -> Option<usize> {
        if self.refused.is_infinite() {
            return None;
        }
        let is_located =
            self.passed >= LOCATED_RATIO * self.refused || self.refused - self.passed <= 1.0;
        let (interval, length) = if is_located {
            (self.recheck_interval, self.refused)
        } else {
            (SEARCH_INTERVAL_BATCHES, (self.passed + self.refused) / 2.0)
        };
        if self.full_since_probe < interval || length > max {
            return None;
        }
        self.full_since_probe = 0;
        if is_located {
            self.recheck_interval = (2 * self.recheck_interval).min(RECHECK_INTERVAL_MAX_BATCHES);
        }
        Some((length as usize).max(1))
    }
}
