//! Waits: how long until the next call, and when patience ends.
//!
//! A wait ends at its time. A flush may begin one attempt ahead of that, at most one within each
//! first step of the backoff; the schedule then goes on as if there had been none. A close cuts the
//! wait and begins the backoff anew. Neither cuts a wait that the backend asked for.

use std::time::{Duration, Instant};

use super::{Circumstances, Failure};
use crate::error::{BatchError, ErrorClass};
use crate::flush::retry::Retry;

/// How long a further attempt is expected to take while closing, if every failed call was shorter.
pub(crate) const ATTEMPT_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two attempts at a batch whose error is `misconfigured`: 0.8 s in all.
const BRIEF: Duration = Duration::from_millis(200);

/// What a wait has come to.
pub(super) enum Pause {
    /// It is over, or there was none.
    None,
    Wait {
        until: Instant,
        or_line: bool,
    },
    /// A flush asks for an attempt ahead of schedule.
    Early,
    /// A row has come into line: it can be a witness.
    Line,
    /// No attempt fits before the close's deadline.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    /// Whether a flush or a close cuts it.
    cuttable: bool,
    /// When a flush's attempt begins.
    early: Option<Instant>,
    /// No row was in line when it began: the first that comes ends it.
    or_line: bool,
}

/// See the module's doc.
pub(crate) struct Outage {
    /// Of the last failed call.
    pub(crate) error: BatchError,
    /// Errors that are to be dropped outside the lock: they are the user's values.
    pub(crate) spent: Vec<BatchError>,
    /// Failed calls since the last answer, and the end of the first of them.
    failures: u32,
    since: Option<Instant>,
    first_failure: Instant,
    /// The longest failed call.
    longest: Duration,
    wait: Option<Wait>,
    /// Since the last answer: waits of the backoff, steps in the dark, refusals in a row.
    waits: u32,
    steps: u32,
    refusals: u32,
    /// When the last attempt on schedule began.
    began: Option<Instant>,
    /// Somebody flushes: the next wait is cut.
    flushed: bool,
    last_early: Option<Instant>,
    /// The backoff's first step.
    first_wait: Duration,
    closing: bool,
    /// Waits that the backend asked for and that were cut to the longest allowed.
    pub(crate) capped: u64,
}

impl Outage {
    pub(super) fn new(error: BatchError, retry: &Retry, now: Instant) -> Self {
        Self {
            error,
            spent: Vec::new(),
            failures: 0,
            since: None,
            first_failure: now,
            longest: Duration::ZERO,
            wait: None,
            waits: 0,
            steps: 0,
            refusals: 0,
            began: None,
            flushed: false,
            last_early: None,
            first_wait: retry.first_wait(),
            closing: false,
            capped: 0,
        }
    }

    /// Failed calls since the last answer, since when, and when the next one begins if that is
    /// known.
    pub(crate) fn progress(&self) -> (u32, Instant, Option<Instant>) {
        let next = self
            .wait
            .map(|wait| wait.early.map_or(wait.until, |early| early.min(wait.until)));
        (
            self.failures,
            self.since.unwrap_or(self.first_failure),
            next,
        )
    }

    /// Whether a step in the dark has brought no answer.
    pub(super) fn has_lasted(&self) -> bool {
        self.steps > 1
    }

    /// Whether calls are refused unseen again and again, and nothing says until when. A backend that
    /// says so is there; otherwise it may be the connection.
    pub(super) fn is_refused_without_a_time(&self) -> bool {
        self.refusals > 1 && self.error.wait_asked().is_none()
    }

    /// What waited is called at once. A wait that the backend asked for is over by now: no call is
    /// made before its end.
    pub(super) fn answered(&mut self) {
        (self.failures, self.waits, self.steps, self.refusals) = (0, 0, 0, 0);
        self.since = None;
        self.wait = None;
    }

    pub(super) fn failed(&mut self, failure: &Failure<'_>, at: &Circumstances<'_>) {
        self.failures = self.failures.saturating_add(1);
        self.longest = self.longest.max(failure.service_time);
        self.since.get_or_insert(at.now);
        // The rows of a call in doubt fail with it; what is left has another error.
        if at.idempotent || !failure.error.is_in_doubt() {
            self.spent
                .push(std::mem::replace(&mut self.error, failure.error.clone()));
        }
        if failure.error.class() != ErrorClass::Unavailable {
            self.refusals = 0;
        }
    }

    /// A flush asks for the present wait, or the next one, to be cut.
    pub(crate) fn flush(&mut self, now: Instant) {
        let Some(wait) = &mut self.wait else {
            self.flushed = true;
            return;
        };
        if wait.cuttable && wait.early.is_none() {
            let allowed = self
                .last_early
                .map_or(now, |last| later(last, self.first_wait).max(now));
            wait.early = Some(allowed);
        }
    }

    /// Nothing before this time.
    pub(super) fn hold(&mut self, until: Instant) {
        self.wait = Some(Wait {
            until,
            cuttable: false,
            early: None,
            or_line: false,
        });
    }

    /// Whether a wait is under way, also if a call was made ahead of its end.
    pub(super) fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// The present wait is over.
    pub(super) fn end_wait(&mut self) {
        self.wait = None;
    }

    pub(super) fn pause(&mut self, at: &Circumstances<'_>, line_may_end_it: bool) -> Pause {
        if at.closing && !std::mem::replace(&mut self.closing, true) {
            self.waits = 0;
            if let Some(wait) = self.wait.as_mut().filter(|wait| wait.cuttable) {
                wait.until = wait.until.min(at.now);
            }
        }
        let Some(wait) = &mut self.wait else {
            return if self.fits(at.now, at) {
                Pause::None
            } else {
                Pause::GiveUp
            };
        };
        let until = wait.early.map_or(wait.until, |early| early.min(wait.until));
        let or_line = wait.or_line && line_may_end_it;
        if wait.until <= at.now {
            self.wait = None;
            self.began = Some(at.now);
        } else if until <= at.now {
            wait.early = None;
            self.last_early = Some(at.now);
            return if self.fits(at.now, at) {
                Pause::Early
            } else {
                Pause::GiveUp
            };
        } else if or_line && at.has_line {
            wait.or_line = false;
            return Pause::Line;
        }
        match () {
            () if !self.fits(until.max(at.now), at) => Pause::GiveUp,
            () if self.wait.is_none() => Pause::None,
            () => Pause::Wait { until, or_line },
        }
    }

    /// Whether an attempt that begins then is expected to end before the close's deadline.
    fn fits(&self, begin: Instant, at: &Circumstances<'_>) -> bool {
        let end = later(begin, self.longest.max(ATTEMPT_MIN));
        !at.closing || at.deadline.is_none_or(|deadline| end <= deadline)
    }

    /// The wait before an attempt at what failed.
    pub(super) fn wait(&mut self, at: &Circumstances<'_>) {
        self.waits = self.waits.saturating_add(1);
        let mut wait = at.retry.wait(self.waits, at.chance);
        for end in [at.retry.patience(), at.retry.total()]
            .into_iter()
            .flatten()
        {
            // The last attempt begins when patience ends.
            let left = end.saturating_sub(self.elapsed(at));
            wait = if left.is_zero() { wait } else { wait.min(left) };
        }
        self.begin(self.hurried(wait, at), true, at);
    }

    /// The wait before another attempt at a batch whose statement is wrong.
    pub(super) fn wait_briefly(&mut self, at: &Circumstances<'_>) {
        self.waits = self.waits.saturating_add(1);
        let wait = at.retry.wait(self.waits, at.chance).min(BRIEF);
        self.begin(self.hurried(wait, at), true, at);
    }

    /// The backend refused a call unseen. True if patience has ended.
    pub(super) fn refused(&mut self, failure: &Failure<'_>, at: &Circumstances<'_>) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        let (patience, elapsed) = (at.retry.patience_unavailable(), self.elapsed(at));
        // The last attempt begins when patience ends, or later.
        if elapsed.saturating_sub(failure.service_time) >= patience || self.is_beyond_limit(at) {
            return true;
        }
        let most = at.retry.retry_after_max();
        let asked = failure.error.wait_asked().unwrap_or_default();
        self.capped += u64::from(asked > most);
        // One attempt after the time that it asked for, also where that lies behind the end of
        // patience.
        let backoff = at
            .retry
            .wait(self.refusals, at.chance)
            .min(patience.saturating_sub(elapsed));
        let wait = self.hurried(backoff, at).max(asked.min(most));
        self.begin(wait, false, at);
        false
    }

    /// While closing, the next attempt begins within half of the time that is left.
    fn hurried(&self, wait: Duration, at: &Circumstances<'_>) -> Duration {
        match at.deadline.filter(|_| at.closing) {
            Some(deadline) => wait.min(deadline.saturating_duration_since(at.now) / 2),
            None => wait,
        }
    }

    fn begin(&mut self, wait: Duration, cuttable: bool, at: &Circumstances<'_>) {
        self.wait = Some(Wait {
            until: later(at.now, wait),
            cuttable,
            early: None,
            or_line: cuttable && !at.has_line,
        });
        if std::mem::take(&mut self.flushed) {
            self.flush(at.now);
        }
    }

    /// The wait before the next step in the dark.
    pub(super) fn begin_step(&mut self, at: &Circumstances<'_>) {
        self.steps = self.steps.saturating_add(1);
        self.wait(at);
    }

    /// Whether patience has ended, where this many steps are allowed if attempts are counted.
    pub(super) fn is_over(&self, steps_max: Option<u32>, at: &Circumstances<'_>) -> bool {
        // The last attempt begins when patience ends, or later.
        let began = self.began.unwrap_or(at.now);
        let elapsed = self.since.map_or(Duration::ZERO, |since| {
            began.saturating_duration_since(since)
        });
        let out_of_time = at
            .retry
            .patience()
            .is_none_or(|patience| elapsed >= patience);
        // With the two attempts before the first step there are never fewer than three.
        let out_of_steps = self.steps >= steps_max.unwrap_or(1);
        (out_of_time && out_of_steps) || self.is_beyond_limit(at)
    }

    /// Whether a further attempt would begin later than allowed.
    fn is_beyond_limit(&self, at: &Circumstances<'_>) -> bool {
        let limit = at.retry.total();
        limit.is_some_and(|limit| self.elapsed(at) >= limit)
    }

    fn elapsed(&self, at: &Circumstances<'_>) -> Duration {
        self.since.map_or(Duration::ZERO, |since| {
            at.now.saturating_duration_since(since)
        })
    }
}

/// The time after a wait; one that is beyond the range of the clock ends in a hundred years and
/// more.
pub(crate) fn later(time: Instant, wait: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(1 << 32);
    time.checked_add(wait)
        .or_else(|| time.checked_add(AGES))
        .unwrap_or(time)
}
