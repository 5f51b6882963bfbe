//! What relieves a backend that complains: pauses between calls. A smaller batch does not; it adds
//! calls.
//!
//! Once a second, from what was reported since: hot is a load score or a share of refused items
//! over its threshold. Hot: the share of the time that is spent in calls falls to 0.75 of itself,
//! at most every second time. Else it rises again, faster the longer it has been cool. What four
//! cuts did not lower is not this batcher's doing, bad rows or a neighbour: it is ignored for half
//! a minute, and each time it turns out so for twice as long.

use std::time::Duration;

use crate::error::BuildError;
use crate::feedback::{CustomSignal, Signals};
use crate::policy::Reason;
use crate::policy::score::{Means, Scale};

/// How often: long against a batch, short against a user's patience.
const EVERY: Duration = Duration::from_secs(1);
/// The least share of the time in calls: there must be calls to see whether it is over.
const DUTY_MIN: f64 = 0.1;
/// What a cut leaves. Deeper overshoots, since a backend's own averages are seconds behind.
const CUT: f64 = 0.75;
/// What a cool look adds, and after how many in a row it doubles with each.
const RISE: f64 = 0.06;
const CALM: i32 = 3;
/// After so many cuts there must be an effect: errors down to this share, the score (of which
/// others have a part) to that.
const CUTS_MAX: u32 = 4;
const ERRORS_LOWERED: f64 = 0.7;
const SCORE_LOWERED: f64 = 0.9;
/// How many looks to ignore at first and at most: half a minute, a quarter of an hour.
const IGNORE: (u32, u32) = (30, 960);

/// One complaint, whether cuts helped against it, and for how long it is ignored.
#[derive(Clone, Copy, Debug)]
struct Complaint {
    threshold: f64,
    lowered: f64,
    cuts: u32,
    before: f64,
    ignore: u32,
    ignore_next: u32,
}

impl Complaint {
    fn new(threshold: f64, lowered: f64) -> Self {
        Self {
            threshold,
            lowered,
            cuts: 0,
            before: 0.0,
            ignore: 0,
            ignore_next: IGNORE.0,
        }
    }

    /// Whether it is hot; or `None` if it just turned out that cuts do not help.
    fn look(&mut self, level: f64, at_ease: bool) -> Option<bool> {
        if self.ignore > 0 {
            self.ignore -= 1;
            return Some(false);
        }
        if level <= self.threshold {
            self.cuts = 0;
            if at_ease {
                self.ignore_next = IGNORE.0;
            }
            return Some(false);
        }
        if self.cuts == 0 {
            self.before = level;
        }
        self.cuts += 1;
        if self.cuts > CUTS_MAX && level > self.lowered * self.before {
            self.ignore = self.ignore_next;
            self.ignore_next = (2 * self.ignore_next).min(IGNORE.1);
            self.cuts = 0;
            return None;
        }
        Some(true)
    }
}

/// The share of the time that is spent in calls, and what it is judged by.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    score: Complaint,
    errors: Complaint,
    means: Means,
    items: f64,
    refused: f64,
    next: Duration,
    /// The share of the time in calls, `DUTY_MIN`..=1.
    duty: f64,
    calm: i32,
    cool_down: i32,
    /// The last score and share of refused items.
    pub(super) seen: (Option<f64>, f64),
    pub(super) hot: bool,
}

impl Throttle {
    pub(super) fn new(score: f64, errors: f64) -> Self {
        Self {
            score: Complaint::new(score, SCORE_LOWERED),
            errors: Complaint::new(errors, ERRORS_LOWERED),
            means: Means::default(),
            items: 0.0,
            refused: 0.0,
            next: EVERY,
            duty: 1.0,
            calm: 9,
            cool_down: 0,
            seen: (None, 0.0),
            hot: false,
        }
    }

    pub(super) fn thresholds(&self) -> (f64, f64) {
        (self.score.threshold, self.errors.threshold)
    }

    /// Takes what was reported.
    pub(super) fn signals(&mut self, signals: &Signals, custom: &[CustomSignal]) {
        let scale = Scale::default();
        if custom.is_empty() {
            self.means.add(&scale.four(signals));
        } else {
            self.means.add(&scale.terms(signals, custom));
        }
    }

    /// Takes a batch that went through, or one whose failure its size does not explain.
    pub(super) fn items(&mut self, items: f64, refused: f64) {
        self.items += items;
        self.refused += refused;
    }

    /// The pause after a call, as a multiple of its time.
    pub(super) fn pause_ratio(&self) -> f64 {
        (1.0 - self.duty) / self.duty
    }

    /// The pause in words.
    pub(super) fn reason(&self) -> Reason {
        let (score, errors) = self.seen;
        Reason::Pausing {
            score,
            errors,
            share: 1.0 - self.duty,
        }
    }

    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let (score, refused) = self.thresholds();
        match [score, refused]
            .into_iter()
            .find(|share| !(0.0..=1.0).contains(share))
        {
            Some(bad) => Err(BuildError::setting(
                "throttle_above",
                bad,
                "must be within 0 and 1",
            )),
            None => Ok(()),
        }
    }

    /// Looks, once a second and only at evidence; true if the pause changed.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        let score = self.means.score();
        if score.is_none() && self.items <= 0.0 {
            return false;
        }
        self.next = if now < self.next + EVERY {
            self.next + EVERY
        } else {
            now + EVERY
        };
        let errors = if self.items > 0.0 {
            self.refused / self.items
        } else {
            0.0
        };
        self.seen = (score, errors);
        (self.items, self.refused) = (0.0, 0.0);
        self.means.clear();
        let before = self.duty;
        let at_ease = self.duty >= 1.0;
        let verdicts = [
            self.score.look(score.unwrap_or(0.0), at_ease),
            self.errors.look(errors, at_ease),
        ];
        if verdicts.contains(&None) {
            self.duty = 1.0;
        }
        self.hot = verdicts.contains(&Some(true));
        self.cool_down -= 1;
        if self.hot {
            self.calm = 0;
            if self.cool_down <= 0 {
                self.duty = (self.duty * CUT).max(DUTY_MIN);
                self.cool_down = 2;
            }
        } else {
            self.calm += 1;
            self.duty =
                (self.duty + RISE * f64::from(1 << (self.calm - CALM).clamp(0, 6))).min(1.0);
        }
        self.duty != before
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "throttle/tests.rs"]
mod tests;
