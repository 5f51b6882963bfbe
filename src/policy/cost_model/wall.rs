//! A length that the backend refuses at once: too many parameters, a body that is too long. It shows as an event: a batch that
//! failed as a whole twice while every part of it went through without a wait.
//!
//! One such event may be chance. Two, with no success at or above the smaller length since the first, are a wall. It lies between
//! the largest success and the smallest failure: probes halve the distance. Then a probe of the smallest failure asks after
//! 32, 64, 128 … batches whether it is still there; one success at or above it takes it away.

/// Full batches from one probe to the next while the wall is being located, and before the first look beyond it.
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
    since: u32,
    look_every: u32,
}

impl Wall {
    pub(super) fn new() -> Self {
        Self { suspect: None, refused: f64::INFINITY, passed: 0.0, since: 0, look_every: LOOK }
    }

    /// The largest size that is known to pass.
    pub(super) fn ceiling(&self) -> f64 {
        if self.refused.is_finite() { self.passed.max(1.0) } else { f64::INFINITY }
    }

    /// The smallest length that is known to be refused.
    pub(super) fn refused(&self) -> f64 {
        self.refused
    }

    /// A batch of `n` went through.
    pub(super) fn passed(&mut self, n: f64, full: bool) {
        self.since = self.since.saturating_add(u32::from(full));
        if self.suspect.is_some_and(|suspect| n >= suspect) {
            self.suspect = None;
        }
        if n >= self.refused {
            *self = Self::new();
        }
        self.passed = self.passed.max(n);
    }

    /// A batch of `n` failed twice, and its parts went through.
    pub(super) fn event(&mut self, n: f64) {
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

    /// The length to probe now, if any; asked once a probe.
    pub(super) fn plan(&mut self, max: f64) -> Option<usize> {
        if self.refused.is_infinite() {
            return None;
        }
        let located = self.passed >= NEAR * self.refused || self.refused - self.passed <= 1.0;
        let (every, length) =
            if located { (self.look_every, self.refused) } else { (EVERY, (self.passed + self.refused) / 2.0) };
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
