//! Fewer calls at once, and pauses between calls, which relieve a backend that reports load. Smaller
//! batches do not: they add calls.
//!
//! Once a second the throttle evaluates what was reported since the last time. It is hot if the load
//! score or the share of refused items is over its threshold. While it is hot, the duty (the share
//! of the time that is spent in calls) falls to 0.75 of itself, at most every second time. As long as
//! there can be fewer calls at once, their number falls instead. Else the
//! duty rises, faster the longer it has been cool. If four cuts do not lower a signal, this batcher
//! is not its cause, but bad rows or another client. The signal is then ignored for half a minute,
//! and for twice as long each time that this happens again.

use std::time::Duration;

use crate::error::BuildError;
use crate::feedback::{CustomSignal, Signals};
use crate::policy::Reason;
use crate::policy::score::{Means, Scale};

/// How often the throttle evaluates: much longer than a batch, and short for a user.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(1);
/// The least duty. Without calls, nothing would show that the load is over.
const DUTY_MIN: f64 = 0.1;
/// The factor of a cut. A deeper cut overshoots, since a backend's own averages lag by seconds.
const DUTY_CUT_RATIO: f64 = 0.75;
/// What a cool evaluation adds to the duty.
const DUTY_RISE: f64 = 0.06;
/// After this many cool evaluations in a row, each further one doubles the rise.
const COOL_BEFORE_DOUBLING: i32 = 3;
/// The rise is doubled at most this many times.
const DOUBLINGS_MAX: i32 = 6;
/// A cut is followed by at least this many evaluations without one, the cut's own included.
const EVALUATIONS_PER_CUT: i32 = 2;
/// After this many cuts, a signal must have fallen.
const CUTS_MAX: u32 = 4;
/// What counts as fallen, as a share of the level before the cuts. Others contribute to the score,
/// so it must fall by less.
const ERRORS_FALLEN_RATIO: f64 = 0.7;
const SCORE_FALLEN_RATIO: f64 = 0.9;
/// For how many evaluations a signal is ignored at first: half a minute.
const IGNORED_EVALUATIONS_MIN: u32 = 30;
/// And at most: a quarter of an hour.
const IGNORED_EVALUATIONS_MAX: u32 = 960;

/// What an evaluation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evaluation {
    /// The pause stays, or there was no evaluation.
    Unchanged,
    /// The pause changed.
    Pause,
    /// There should be fewer calls at once.
    FewerCalls,
}

/// What a level means for the duty.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// It is not over the threshold, or is ignored.
    Cool,
    /// It is over the threshold.
    Hot,
    /// It is over the threshold, and the cuts did not lower it.
    NotLowered,
}

/// A level with its threshold, whether cuts lower it, and for how long it is ignored.
#[derive(Clone, Copy, Debug)]
struct Level {
    threshold: f64,
    fallen_ratio: f64,
    cuts: u32,
    /// The level before the first cut.
    before_cuts: f64,
    /// Evaluations for which it is still ignored.
    ignored: u32,
    /// For how many it will be ignored the next time.
    ignored_next: u32,
}

impl Level {
    fn new(threshold: f64, fallen_ratio: f64) -> Self {
        Self {
            threshold,
            fallen_ratio,
            cuts: 0,
            before_cuts: 0.0,
            ignored: 0,
            ignored_next: IGNORED_EVALUATIONS_MIN,
        }
    }

    /// Evaluates the level of the last second. `is_full_duty`: there are no pauses. `is_counted`: if
    /// the level is over its threshold, the cut will show whether this batcher is the cause.
    fn evaluate(&mut self, level: f64, is_full_duty: bool, is_counted: bool) -> Verdict {
        if self.ignored > 0 {
            self.ignored -= 1;
            return Verdict::Cool;
        }
        if level <= self.threshold {
            self.cuts = 0;
            if is_full_duty {
                self.ignored_next = IGNORED_EVALUATIONS_MIN;
            }
            return Verdict::Cool;
        }
        if self.cuts == 0 {
            self.before_cuts = level;
        }
        if !is_counted {
            self.cuts = 0;
            return Verdict::Hot;
        }
        self.cuts += 1;
        if self.cuts > CUTS_MAX && level > self.fallen_ratio * self.before_cuts {
            self.ignored = self.ignored_next;
            self.ignored_next = (2 * self.ignored_next).min(IGNORED_EVALUATIONS_MAX);
            self.cuts = 0;
            return Verdict::NotLowered;
        }
        Verdict::Hot
    }
}

/// The duty, and the two levels that it depends on.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    score: Level,
    errors: Level,
    means: Means,
    items: f64,
    refused: f64,
    next_evaluation: Duration,
    /// The share of the time in calls, `DUTY_MIN`..=1.
    duty: f64,
    /// Cool evaluations in a row.
    cool: i32,
    /// Evaluations until the next cut is allowed; 0 or less if it is.
    until_cut: i32,
    /// The last score, and the last share of refused items.
    pub(super) last_score: Option<f64>,
    last_refused: f64,
    pub(super) is_hot: bool,
}

impl Throttle {
    pub(super) fn new(score: f64, errors: f64) -> Self {
        Self {
            score: Level::new(score, SCORE_FALLEN_RATIO),
            errors: Level::new(errors, ERRORS_FALLEN_RATIO),
            means: Means::default(),
            items: 0.0,
            refused: 0.0,
            next_evaluation: EVALUATION_INTERVAL,
            duty: 1.0,
            cool: COOL_BEFORE_DOUBLING + DOUBLINGS_MAX,
            until_cut: 0,
            last_score: None,
            last_refused: 0.0,
            is_hot: false,
        }
    }

    pub(super) fn refused_threshold(&self) -> f64 {
        self.errors.threshold
    }

    /// Takes the signals of a sample.
    pub(super) fn signals(&mut self, signals: &Signals, custom: &[CustomSignal]) {
        let scale = Scale::default();
        if custom.is_empty() {
            self.means.add(&scale.four(signals));
        } else {
            self.means.add(&scale.terms(signals, custom));
        }
    }

    /// Takes a call that went through, with the number of its items and of those refused.
    pub(super) fn items(&mut self, items: f64, refused: f64) {
        self.items += items;
        self.refused += refused;
    }

    /// The pause after a call, as a multiple of its time.
    pub(super) fn pause_ratio(&self) -> f64 {
        (1.0 - self.duty) / self.duty
    }

    /// Whether there are no pauses and no complaint. A load score that is ignored is a complaint too:
    /// its cause may be a crowd of batchers, which more calls at once of each would make worse.
    pub(super) fn is_calm(&self) -> bool {
        let is_loaded = self
            .last_score
            .is_some_and(|score| score > self.score.threshold);
        !self.is_hot && !is_loaded && self.duty >= 1.0
    }

    /// A cut of the calls at once in words.
    pub(super) fn fewer_calls(&self, from: usize, to: usize) -> Reason {
        Reason::FewerCallsForLoad {
            score: self.last_score,
            errors: self.last_refused,
            from,
            to,
        }
    }

    /// The pause in words.
    pub(super) fn reason(&self) -> Reason {
        Reason::Pausing {
            score: self.last_score,
            errors: self.last_refused,
            share: 1.0 - self.duty,
        }
    }

    pub(super) fn validate(&self) -> Result<(), BuildError> {
        match [self.score.threshold, self.errors.threshold]
            .into_iter()
            .find(|share| !(0.0..=1.0).contains(share))
        {
            Some(bad) => Err(BuildError::setting(
                "throttle_above",
                bad,
                "must be between 0 and 1",
            )),
            None => Ok(()),
        }
    }

    /// Evaluates once a second, if there is evidence. With `can_cut_calls`, a cut is one of the
    /// calls at once.
    ///
    /// Such cuts do not count against the load score. The score of a saturated backend stays at its
    /// most until there are fewer calls than it has room for, and many batchers take many cuts to
    /// get there.
    pub(super) fn evaluate(&mut self, now: Duration, can_cut_calls: bool) -> Evaluation {
        if now < self.next_evaluation {
            return Evaluation::Unchanged;
        }
        let score = self.means.score();
        if score.is_none() && self.items <= 0.0 {
            return Evaluation::Unchanged;
        }
        let next = self.next_evaluation + EVALUATION_INTERVAL;
        self.next_evaluation = if now < next {
            next
        } else {
            now + EVALUATION_INTERVAL
        };
        let errors = if self.items > 0.0 {
            self.refused / self.items
        } else {
            0.0
        };
        (self.last_score, self.last_refused) = (score, errors);
        (self.items, self.refused) = (0.0, 0.0);
        self.means.clear();
        let before = self.duty;
        let is_full_duty = self.duty >= 1.0;
        let verdicts = [
            self.score
                .evaluate(score.unwrap_or(0.0), is_full_duty, !can_cut_calls),
            self.errors.evaluate(errors, is_full_duty, true),
        ];
        if verdicts.contains(&Verdict::NotLowered) {
            self.duty = 1.0;
        }
        let mut evaluation = Evaluation::Unchanged;
        self.is_hot = verdicts.contains(&Verdict::Hot);
        self.until_cut -= 1;
        if self.is_hot {
            self.cool = 0;
            if self.until_cut <= 0 {
                if can_cut_calls {
                    evaluation = Evaluation::FewerCalls;
                } else {
                    self.duty = (self.duty * DUTY_CUT_RATIO).max(DUTY_MIN);
                }
                self.until_cut = EVALUATIONS_PER_CUT;
            }
        } else {
            self.cool += 1;
            let doublings = (self.cool - COOL_BEFORE_DOUBLING).clamp(0, DOUBLINGS_MAX);
            self.duty = (self.duty + DUTY_RISE * f64::from(1 << doublings)).min(1.0);
        }
        if self.duty == before {
            evaluation
        } else {
            Evaluation::Pause
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "throttle/tests.rs"]
mod tests;
