//! A length beyond which the formula ends. Either the backend refuses it at once (too many
//! parameters, a body that is too long): that shows as an event, a batch that failed as a whole
//! twice while every part of it went through without a wait. Or it is a cliff (a sort that spills):
//! a batch larger than the one before takes far longer than expected, and one of the size before
//! does not. Until that is known, the model does not learn from the slow one.
//!
//! One such event may be chance. Two, with no success at or above the smaller length since the
//! first, are a wall. It lies between the largest success and the smallest failure: probes halve
//! the distance. Then a probe of the smallest failure asks after 32, 64, 128 … batches whether it
//! is still there; one success at or above it takes it away.

/// Full batches from one probe to the next while the wall is being located, and before the first
/// look beyond it.
const EVERY: u32 = 2;
const LOOK: u32 = 32;
const LOOK_MAX: u32 = 1 << 16;
/// Near enough: the largest success is this share of the smallest failure.
const NEAR: f64 = 0.97;

#[derive(Clone, Debug)]
pub(super) struct Wall {
    /// The length of a first event.
    suspect: Option<f64>,
    /// The smallest failure; infinite where there is no wall.
    refused: f64,
    /// The largest success under it.
    passed: f64,
    /// The refused length was taken, and was far too slow.
    is_slow: bool,
    /// The last full batch that took about as long as expected, or a longer one since; and a larger
    /// one after it that did not.
    good: f64,
    doubt: Option<f64>,
    since: u32,
    look_every: u32,
}

impl Wall {
    pub(super) fn new() -> Self {
        Self {
            suspect: None,
            refused: f64::INFINITY,
            passed: 0.0,
            is_slow: false,
            good: 0.0,
            doubt: None,
            since: 0,
            look_every: LOOK,
        }
    }

    /// The largest size that is known to pass.
    pub(super) fn ceiling(&self) -> f64 {
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

    /// A batch of `n` went through, and was dear or not: far slower than expected. The size to go
    /// back to if it is in doubt whether that is because of its length: then it must teach the
    /// model nothing. `trusted`: the model is no first guess.
    pub(super) fn judge(
        &mut self,
        n: f64,
        (full, probe): (bool, bool),
        dear: bool,
        trusted: bool,
    ) -> Option<f64> {
        if !dear {
            if !probe {
                self.answer(n, full);
            }
            self.passed(n, full);
            return None;
        }
        if probe {
            return None;
        }
        match self.doubt {
            // Cut before it was answered.
            Some(slow) if n >= slow => Some(self.good),
            // Slow at the size before as well: it is the backend.
            Some(_) => {
                self.doubt = None;
                None
            }
            None if full && trusted && self.good > 0.0 && n > self.good => {
                self.doubt = Some(n);
                Some(self.good)
            }
            None => None,
        }
    }

    /// An ordinary batch of `n` took about as long as expected. A short one, which ends a burst,
    /// answers nothing: its length is not the size before.
    fn answer(&mut self, n: f64, full: bool) {
        match self.doubt {
            Some(slow) if n >= slow => self.doubt = None,
            Some(slow) if full => {
                self.doubt = None;
                self.slow(slow);
            }
            _ => {}
        }
        if full || n > self.good {
            self.good = n;
        }
    }

    /// A batch of `n` went through.
    pub(super) fn passed(&mut self, n: f64, full: bool) {
        self.since = self.since.saturating_add(u32::from(full));
        if self.suspect.is_some_and(|suspect| n >= suspect) {
            self.suspect = None;
        }
        if n >= self.refused {
            *self = Self {
                good: self.good,
                ..Self::new()
            };
        }
        self.passed = self.passed.max(n);
    }

    /// A batch of `n` failed twice, and its parts went through.
    pub(super) fn event(&mut self, n: f64) {
        self.is_slow = false;
        if self.refused.is_finite() && self.passed < n {
            self.refused = self.refused.min(n);
            return;
        }
        let Some(suspect) = self.suspect.take() else {
            self.suspect = Some(n);
            return;
        };
        self.refused = suspect.min(n);
        // Of before the first event.
        if self.passed >= self.refused {
            self.passed = self.refused / 2.0;
        }
        (self.since, self.look_every) = (0, LOOK);
    }

    /// A batch of `n` was far too slow, and smaller ones are not.
    pub(super) fn slow(&mut self, n: f64) {
        self.event(n);
        self.is_slow = true;
    }

    /// The length to probe now, if any; asked once a probe.
    pub(super) fn plan(&mut self, max: f64) -> Option<usize> {
        if self.refused.is_infinite() {
            return None;
        }
        let located = self.passed >= NEAR * self.refused || self.refused - self.passed <= 1.0;
        let (every, length) = if located {
            (self.look_every, self.refused)
        } else {
            (EVERY, (self.passed + self.refused) / 2.0)
        };
        if self.since < every || length > max {
            return None;
        }
        self.since = 0;
        if located {
            self.look_every = (2 * self.look_every).min(LOOK_MAX);
        }
        Some((length as usize).max(1))
    }
}
