//! What to do with a batch that failed: pure decisions. Time and chance are arguments.
//!
//! | the call ended | batch of several rows | single row |
//! | --- | --- | --- |
//! | in doubt, rows not idempotent | fail, marked in doubt | fail, marked in doubt |
//! | permanent | halve at once | fail |
//! | transient and never in doubt, attempts and time left, `in_halves` | the halves after a backoff | again after a backoff |
//! | otherwise, attempts and time left | again after a backoff | again after a backoff |
//! | otherwise, none left | halve, one attempt each | fail |
//! | otherwise, begun while closing | fail | fail |
//!
//! Halves are tried in order, depth first, so the order of the rows stays. One bad row among n costs at most 2·⌈log2 n⌉ calls
//! after the attempt that failed: two a level.
//!
//! An outage looks like a batch of bad rows only. They are told apart by the run of parts that failed without a success between
//! them, each counted once however often it is tried: one bad row makes a run of at most ⌈log2 n⌉, each further bad row beside
//! it makes it longer. When the run exceeds ⌈log2 n⌉ + 8 and the error does not blame the rows (it is not permanent), the search
//! stops: the part waits for a backoff and is tried again, up to the number of attempts. Then it fails as it is, and the parts
//! behind it, at most ⌈log2 n⌉, get one attempt each as they are: a success ends the outage and the search goes on, so that good
//! rows behind a stretch of bad ones are not lost with them. Permanent errors never count as an outage: a backend that refuses
//! rows is alive.

use std::time::Duration;

use crate::error::{BuildError, ErrorClass};

/// Failures in a row, beyond the depth of the search, that are still taken for bad rows side by side.
const ADJACENT_BAD_ROWS: u32 = 8;

/// How often a failed batch is tried again, and how long to wait in between: exponential backoff with full jitter.
///
/// The wait before attempt k + 1 is drawn evenly from 0 to min(longest, first · 2^(k−1)) ("Exponential Backoff and Jitter",
/// M. Brooker, AWS Architecture Blog, 2015). Default: 5 attempts, 50 ms to 5 s, 60 s in total, as it was and not in halves,
/// bisection on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Retry {
    attempts: u32,
    first: Duration,
    longest: Duration,
    total: Duration,
    bisect: bool,
    in_halves: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self::attempts(5)
    }
}

impl Retry {
    /// So many attempts in all, at least 1.
    pub fn attempts(attempts: u32) -> Self {
        Self {
            attempts,
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
            total: Duration::from_secs(60),
            bisect: true,
            in_halves: false,
        }
    }

    /// One attempt, no bisection: what fails, fails as a whole.
    pub fn none() -> Self {
        Self { bisect: false, ..Self::attempts(1) }
    }

    /// The upper bound of the first wait and of every wait. Defaults 50 ms and 5 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// No further attempt is scheduled to begin later than this after the first one began; parts that wait behind the one that
    /// used up the time are still tried once, and searched for bad rows. Default 60 s.
    pub fn total_limit(mut self, limit: Duration) -> Self {
        self.total = limit;
        self
    }

    /// Whether a batch that fails for good is halved until its bad rows stand alone. Default true.
    pub fn bisect(mut self, on: bool) -> Self {
        self.bisect = on;
        self
    }

    /// Whether a batch of several rows whose error is [`transient`](crate::BatchError::transient) is tried again in halves, not
    /// as it was. Default false.
    ///
    /// For a backend that gives up calls that take too long, or transactions that lock too much: the same batch would fail in
    /// the same way, and only later batches profit from the smaller size that the policy has chosen meanwhile. A half has a
    /// name of its own, as in a bisection, and the attempts that are left; it is halved again if it fails. The first half
    /// waits for the backoff, the second follows it. With one attempt there is nothing to halve.
    ///
    /// Any transient error halves, a lost connection too: a thousand rows are single ones after ten failures, and go through in
    /// eleven calls when the backend is back. What is not marked as transient is tried again under its name, and so is a batch
    /// of which any attempt ended in doubt: a table of applied batches would not know the halves. So this goes with such a
    /// table, and with `bisect(false)`.
    pub fn in_halves(mut self, on: bool) -> Self {
        self.in_halves = on;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        if self.attempts == 0 {
            return Err(BuildError::setting("retry attempts", 0, "must be at least 1"));
        }
        if self.first > self.longest {
            let (first, longest) = (format!("{:?}", self.first), format!("{:?}", self.longest));
            let problem = "the first must not exceed the longest";
            return Err(BuildError::conflict(("backoff first", first), ("backoff longest", longest), problem));
        }
        Ok(())
    }

    /// The wait after `failures` failures, at least 1; `chance` is 64 random bits.
    fn wait(&self, failures: u32, chance: u64) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(factor).min(self.longest);
        // Evenly from 0 to the bound.
        bound.mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// What is known of a call that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    /// Rows in the call.
    pub(crate) len: usize,
    /// Attempts under this name and under those it was halved from for another attempt, this one included.
    pub(crate) attempt: u32,
    /// Whether the part has one attempt only.
    pub(crate) last_chance: bool,
    /// Since the first attempt at the batch began.
    pub(crate) elapsed: Duration,
    /// Whether the call began when the batcher was already being closed.
    pub(crate) closing: bool,
    pub(crate) idempotent: bool,
    /// Whether this attempt or one before ended in doubt.
    pub(crate) in_doubt: bool,
    /// Rows in the whole batch.
    pub(crate) whole: usize,
    /// Parts of this batch that failed since one succeeded, this one included; 0 while the batch is whole.
    pub(crate) run: u32,
    /// Backoffs of this batch's parts because of an outage since one succeeded.
    pub(crate) outage_waits: u32,
}

/// What to do with the rows of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same again after this wait.
    Retry(Duration),
    /// Its two halves after this wait, with the attempts that are left.
    RetryHalved(Duration),
    /// The same again after this wait; counts as a wait for an outage to end.
    WaitOut(Duration),
    /// The two halves, one after the other.
    Halve {
        /// Whether each half has one attempt only.
        last_chance: bool,
    },
    /// These rows fail.
    Fail,
}

impl Retry {
    pub(crate) fn judge(&self, failure: &Failure, chance: u64) -> Verdict {
        let can_halve = self.bisect && failure.len > 1;
        match failure.class {
            ErrorClass::InDoubt if !failure.idempotent => return Verdict::Fail,
            ErrorClass::Permanent if can_halve => return Verdict::Halve { last_chance: false },
            ErrorClass::Permanent => return Verdict::Fail,
            _ => {}
        }
        if failure.closing {
            return Verdict::Fail;
        }
        let depth = failure.whole.max(1).next_power_of_two().ilog2();
        if failure.run > depth + ADJACENT_BAD_ROWS {
            let wait = self.wait(failure.outage_waits + 1, chance);
            let in_time = failure.elapsed.saturating_add(wait) <= self.total;
            // Without bisection there is no search to be held up, and attempts are what they are.
            let may_wait = self.bisect || failure.attempt < self.attempts;
            return if failure.outage_waits < self.attempts && in_time && may_wait {
                Verdict::WaitOut(wait)
            } else {
                Verdict::Fail
            };
        }
        if !failure.last_chance && failure.attempt < self.attempts {
            let wait = self.wait(failure.attempt, chance);
            if failure.elapsed.saturating_add(wait) <= self.total {
                let transient = failure.class == ErrorClass::Transient && !failure.in_doubt;
                let halved = self.in_halves && transient && failure.len > 1;
                return if halved { Verdict::RetryHalved(wait) } else { Verdict::Retry(wait) };
            }
        }
        if can_halve { Verdict::Halve { last_chance: true } } else { Verdict::Fail }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const FAILURE: Failure = Failure {
        class: ErrorClass::Unclassified,
        len: 8,
        attempt: 1,
        last_chance: false,
        elapsed: Duration::ZERO,
        closing: false,
        idempotent: false,
        in_doubt: false,
        whole: 8,
        run: 0,
        outage_waits: 0,
    };
    const HALVE: Verdict = Verdict::Halve { last_chance: false };
    const HALVE_LAST: Verdict = Verdict::Halve { last_chance: true };
    const AGAIN: Verdict = Verdict::Retry(Duration::ZERO);

    #[test]
    fn every_row_of_the_table() {
        use ErrorClass::{InDoubt, Permanent, Transient};
        let on = Retry::default();
        let off = Retry::attempts(5).bisect(false);
        let none = Retry::none();
        let halves = on.in_halves(true);
        let (soon, halved) = (Failure { class: Transient, ..FAILURE }, Verdict::RetryHalved(Duration::ZERO));
        let table = [
            ("first failure", on, FAILURE, AGAIN),
            ("transient", on, Failure { class: Transient, ..FAILURE }, AGAIN),
            ("last attempt", on, Failure { attempt: 5, ..FAILURE }, HALVE_LAST),
            ("last attempt, single", on, Failure { attempt: 5, len: 1, ..FAILURE }, Verdict::Fail),
            ("last attempt, bisection off", off, Failure { attempt: 5, ..FAILURE }, Verdict::Fail),
            ("out of time", on, Failure { elapsed: Duration::from_secs(61), ..FAILURE }, HALVE_LAST),
            ("a half with one attempt", on, Failure { last_chance: true, ..FAILURE }, HALVE_LAST),
            ("permanent", on, Failure { class: Permanent, ..FAILURE }, HALVE),
            ("permanent, closing", on, Failure { class: Permanent, closing: true, ..FAILURE }, HALVE),
            ("permanent, single", on, Failure { class: Permanent, len: 1, ..FAILURE }, Verdict::Fail),
            ("permanent, bisection off", off, Failure { class: Permanent, ..FAILURE }, Verdict::Fail),
            ("permanent is no outage", on, Failure { class: Permanent, run: 999, ..FAILURE }, HALVE),
            ("in doubt", on, Failure { class: InDoubt, ..FAILURE }, Verdict::Fail),
            ("in doubt, idempotent", on, Failure { class: InDoubt, idempotent: true, ..FAILURE }, AGAIN),
            ("closing", on, Failure { closing: true, ..FAILURE }, Verdict::Fail),
            ("in halves", halves, soon, halved),
            ("in halves, bisection off", off.in_halves(true), soon, halved),
            ("in halves, single", halves, Failure { len: 1, ..soon }, AGAIN),
            ("in halves, last attempt", halves, Failure { attempt: 5, ..soon }, HALVE_LAST),
            ("in halves, of no class", halves, FAILURE, AGAIN),
            ("in halves, permanent", halves, Failure { class: Permanent, ..soon }, HALVE),
            ("in halves, was in doubt", halves, Failure { in_doubt: true, idempotent: true, ..soon }, AGAIN),
            ("in halves, closing", halves, Failure { closing: true, ..soon }, Verdict::Fail),
            ("in halves, an outage", halves, Failure { run: 12, ..soon }, Verdict::WaitOut(Duration::ZERO)),
            ("an outage, no bisection", off, Failure { run: 12, ..soon }, Verdict::WaitOut(Duration::ZERO)),
            ("an outage, no bisection", off, Failure { run: 12, attempt: 5, ..soon }, Verdict::Fail),
            ("no retry", none, FAILURE, Verdict::Fail),
            ("no retry, permanent", none, Failure { class: Permanent, ..FAILURE }, Verdict::Fail),
            ("not yet an outage", on, Failure { run: 11, last_chance: true, ..FAILURE }, HALVE_LAST),
            ("an outage", on, Failure { run: 12, last_chance: true, ..FAILURE }, Verdict::WaitOut(Duration::ZERO)),
            ("an outage to its end", on, Failure { run: 12, outage_waits: 5, ..FAILURE }, Verdict::Fail),
        ];
        for (name, retry, failure, expected) in table {
            assert_eq!(retry.judge(&failure, 0), expected, "{name}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_with_full_jitter() {
        let retry = Retry::attempts(9).backoff(Duration::from_millis(50), Duration::from_millis(300));
        for (failures, bound) in [(1, 50), (2, 100), (3, 200), (4, 300), (40, 300), (u32::MAX, 300)] {
            let bound = Duration::from_millis(bound);
            assert_eq!(retry.wait(failures, 0), Duration::ZERO);
            let longest = retry.wait(failures, u64::MAX);
            // Rounded to a nanosecond.
            assert!(longest <= bound && longest > bound.mul_f64(0.999), "{failures}: {longest:?}");
            assert_eq!(retry.wait(failures, 1 << 63), bound / 2, "{failures}");
        }
        let endless = Retry::attempts(2).backoff(Duration::MAX, Duration::MAX);
        assert_eq!(endless.wait(1, 0), Duration::ZERO);
        let _ = endless.wait(u32::MAX, 1 << 63);
    }

    #[test]
    fn bad_settings_are_named() {
        assert_eq!(Retry::attempts(0).validate().unwrap_err().to_string(), "retry attempts is 0: must be at least 1");
        let reversed = Retry::attempts(2).backoff(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(
            reversed.validate().unwrap_err().to_string(),
            "backoff first is 2s and backoff longest is 1s: the first must not exceed the longest"
        );
        assert!(Retry::none().validate().is_ok());
    }
}
