//! How long a failed batch is tried again: the settings, and the waits that they come to. Pure:
//! time and chance are arguments.
//!
//! What is called next is decided in `search`.

use std::time::Duration;

use crate::error::BuildError;

/// How long a backend that is away is waited for, unless it is set.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait that a backend may ask for, unless it is set.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long a failed batch is tried again, and how long to wait in between.
///
/// A call *answers* if it returns `Ok` or a permanent error. The *patience* is how long a batch is
/// tried again while no call answers. By default it is at least 60 s, counted from the end of the
/// first failed call, and at least three attempts. So a backend that restarts fails no rows. An
/// answer renews the patience. When the patience is used up, the undecided rows fail, marked as an
/// [`outage`](crate::Failed::outage). The next batch has a patience of its own.
///
/// The wait before attempt k + 1 is drawn evenly from 0 to min(longest, first · 2^(k−1)):
/// exponential backoff with full jitter ("Exponential Backoff and Jitter", M. Brooker, AWS
/// Architecture Blog, 2015).
///
/// While the backend answers, the bad rows of a batch are found by bisection, and only they fail.
/// This search does not wait, and the patience does not bound it.
///
/// ```
/// use std::time::Duration;
/// use load_aware_batcher::Retry;
///
/// // A backend may be away for ten minutes.
/// let patient = Retry::default().for_at_least(Duration::from_secs(600));
/// // Five attempts, however long they take.
/// let counted = Retry::attempts(5);
/// // Both: at least five attempts, and at least ten seconds.
/// let both = Retry::attempts(5).for_at_least(Duration::from_secs(10));
/// # let _ = (patient, counted, both);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Retry {
    attempts: Option<u32>,
    at_least: Option<Duration>,
    total: Option<Duration>,
    first: Duration,
    longest: Duration,
    retry_after_max: Duration,
    bisect: bool,
    split_on_retry: bool,
    keep_order: bool,
    while_closing: bool,
}

/// At least 60 s and three attempts, with a backoff of 50 ms to 5 s and with bisection.
impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: None,
            at_least: None,
            total: None,
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
            retry_after_max: RETRY_AFTER_MAX,
            bisect: true,
            split_on_retry: false,
            keep_order: false,
            while_closing: true,
        }
    }
}

impl Retry {
    /// This many attempts at a batch in all, at least 1, and no minimum time. If
    /// [`for_at_least`](Self::for_at_least) is set too, attempts and time must both be used up.
    ///
    /// Calls that search for bad rows do not count. With [`bisect`](Self::bisect), a search that
    /// ends without an answer is followed by one round of calls, even if fewer than three attempts
    /// are allowed: all undecided rows, the first of them, and another one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let refused = Batcher::builder()
    ///     .retry(Retry::attempts(0))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert_eq!(refused.err().unwrap().to_string(), "retry attempts is 0: must be at least 1");
    /// ```
    pub fn attempts(attempts: u32) -> Self {
        Self {
            attempts: Some(attempts),
            ..Self::default()
        }
    }

    /// One attempt and no bisection: a batch that fails, fails as a whole.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// assert_eq!(Retry::none(), Retry::attempts(1).bisect(false));
    /// ```
    pub fn none() -> Self {
        Self {
            bisect: false,
            ..Self::attempts(1)
        }
    }

    /// The least time for which a batch is tried again while no call answers, from the end of its
    /// first failed call. The last attempt begins at this time or later, and there are at least
    /// three. Default 60 s, or none after [`attempts`](Self::attempts).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().for_at_least(Duration::from_secs(300)); // a restart of five minutes
    /// # let _ = retry;
    /// ```
    pub fn for_at_least(mut self, patience: Duration) -> Self {
        self.at_least = Some(patience);
        self
    }

    /// The upper bounds of the first wait and of every wait. Defaults 50 ms and 5 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().backoff(Duration::from_millis(100), Duration::from_secs(30));
    /// # let _ = retry;
    /// ```
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// While no call answers, no further attempt begins later than this after the first failed
    /// call. Must not be less than [`for_at_least`](Self::for_at_least). Default no such limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default()
    ///     .for_at_least(Duration::from_secs(9))
    ///     .total_limit(Duration::from_secs(8));
    /// let refused = Batcher::builder().retry(retry).spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert!(refused.is_err()); // the limit is less than the patience
    /// ```
    pub fn total_limit(mut self, limit: Duration) -> Self {
        self.total = Some(limit);
        self
    }

    /// The longest wait that a backend may ask for with
    /// [`BatchError::retry_after`](crate::BatchError::retry_after). A longer one is shortened to
    /// it, and counted in [`Stats::retry_after_capped`](crate::Stats::retry_after_capped). Default
    /// 5 min.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().longest_retry_after(Duration::from_secs(30));
    /// # let _ = retry;
    /// ```
    pub fn longest_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_max = wait;
        self
    }

    /// Whether a batch that fails again is halved until its bad rows are alone. Default true.
    ///
    /// Set it to false where a table of batch ids makes a retry harmless, because a part of a batch
    /// has a different id.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().bisect(false); // the table of batch ids knows whole batches
    /// # let _ = retry;
    /// ```
    pub fn bisect(mut self, on: bool) -> Self {
        self.bisect = on;
        self
    }

    /// Whether a batch whose error is [`transient`](crate::BatchError::transient) is tried again in
    /// two halves, and not as it was. Default false.
    ///
    /// For a backend that aborts calls that take too long, or transactions that lock too much.
    /// There the same batch would fail in the same way, and only later batches have the smaller
    /// size that the policy has chosen meanwhile. A half has an id of its own, as in a bisection.
    /// The first half is called after the backoff, and the second one after it. With one attempt,
    /// no batch is halved.
    ///
    /// Every transient error halves, a lost connection too. A batch whose error is not marked as
    /// transient is tried again whole, under its id. So is a batch of which any attempt ended in
    /// doubt, because a table of batch ids would not have the ids of the halves. So this setting
    /// may be used with such a table and with `bisect(false)`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().bisect(false).split_on_retry(true);
    /// # let _ = retry;
    /// ```
    pub fn split_on_retry(mut self, on: bool) -> Self {
        self.split_on_retry = on;
        self
    }

    /// Whether rows never overtake one another, not even a row that fails or that the handler asked
    /// for again. Default false.
    ///
    /// For rows that replace one another, such as upserts of the same key: a row that was set aside
    /// and goes through later would overwrite a newer one. The price is a wait. If a row fails
    /// alone with an error that is not permanent, all later rows wait until it goes through or the
    /// patience ends. When the patience ends, the row fails alone if rows before it went through.
    /// Two such rows next to each other look like an outage, and the rest of the batch fails with
    /// them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().keep_order(true); // upserts of the same keys
    /// # let _ = retry;
    /// ```
    pub fn keep_order(mut self, yes: bool) -> Self {
        self.keep_order = yes;
        self
    }

    /// Whether a batch that fails while the batcher is being closed is tried again, as far as the
    /// close's deadline allows. With `false`, its rows have failed. Default true.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let retry = Retry::default().while_closing(false);
    /// # let _ = retry;
    /// ```
    pub fn while_closing(mut self, yes: bool) -> Self {
        self.while_closing = yes;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        if self.attempts == Some(0) {
            return Err(BuildError::setting(
                "retry attempts",
                0,
                "must be at least 1",
            ));
        }
        if self.first > self.longest {
            let (first, longest) = (format!("{:?}", self.first), format!("{:?}", self.longest));
            let problem = "the first must not exceed the longest";
            return Err(BuildError::conflict(
                ("backoff first", first),
                ("backoff longest", longest),
                problem,
            ));
        }
        if let (Some(at_least), Some(total)) = (self.at_least, self.total) {
            if at_least > total {
                let (at_least, total) = (format!("{at_least:?}"), format!("{total:?}"));
                let problem = "for_at_least must not exceed total_limit";
                return Err(BuildError::conflict(
                    ("retry for_at_least", at_least),
                    ("total_limit", total),
                    problem,
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn attempts_at_most(&self) -> Option<u32> {
        self.attempts
    }

    /// How long to go on while nothing answers; `None` where attempts are counted.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let patience = if self.attempts.is_none() {
            self.at_least.or(Some(PATIENCE))
        } else {
            self.at_least
        };
        match self.total {
            Some(total) => patience.map(|patience| patience.min(total)),
            None => patience,
        }
    }

    /// How long to wait for a backend that refuses calls unseen. That counts as no attempt, so
    /// there is always a time.
    pub(crate) fn patience_unavailable(&self) -> Duration {
        let without = if self.attempts == Some(1) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let patience = self.patience().unwrap_or(without);
        self.total.map_or(patience, |total| patience.min(total))
    }

    /// What bounds the attempts at a failed batch, in a word.
    pub(crate) fn bound(&self) -> &'static str {
        match (self.patience(), self.attempts_at_most()) {
            (Some(_), _) => "patience",
            (None, Some(0 | 1)) => "none",
            (None, _) => "attempts",
        }
    }

    pub(crate) fn total(&self) -> Option<Duration> {
        self.total
    }

    pub(crate) fn first_wait(&self) -> Duration {
        self.first
    }

    pub(crate) fn retry_after_max(&self) -> Duration {
        self.retry_after_max
    }

    pub(crate) fn bisects(&self) -> bool {
        self.bisect
    }

    pub(crate) fn splits(&self) -> bool {
        self.split_on_retry
    }

    pub(crate) fn keeps_order(&self) -> bool {
        self.keep_order
    }

    pub(crate) fn tries_while_closing(&self) -> bool {
        self.while_closing
    }

    /// The wait after `failures` failures, at least 1; `chance` is 64 random bits.
    pub(crate) fn wait(&self, failures: u32, chance: u64) -> Duration {
        let factor = 1u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(factor).min(self.longest);
        // Evenly from 0 to the bound.
        bound.mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// How failures are treated: from the builder.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) retry: Retry,
    pub(crate) idempotent: bool,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_with_full_jitter() {
        let retry =
            Retry::attempts(9).backoff(Duration::from_millis(50), Duration::from_millis(300));
        for (failures, bound) in [
            (1, 50),
            (2, 100),
            (3, 200),
            (4, 300),
            (40, 300),
            (u32::MAX, 300),
        ] {
            let bound = Duration::from_millis(bound);
            assert_eq!(retry.wait(failures, 0), Duration::ZERO);
            let longest = retry.wait(failures, u64::MAX);
            // Rounded to a nanosecond.
            assert!(
                longest <= bound && longest > bound.mul_f64(0.999),
                "{failures}: {longest:?}"
            );
            assert_eq!(retry.wait(failures, 1 << 63), bound / 2, "{failures}");
        }
        let endless = Retry::attempts(2).backoff(Duration::MAX, Duration::MAX);
        assert_eq!(endless.wait(1, 0), Duration::ZERO);
        let _ = endless.wait(u32::MAX, 1 << 63);
    }

    #[test]
    fn bad_settings_are_named() {
        assert_eq!(
            Retry::attempts(0).validate().unwrap_err().to_string(),
            "retry attempts is 0: must be at least 1"
        );
        let reversed = Retry::attempts(2).backoff(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(
            reversed.validate().unwrap_err().to_string(),
            "backoff first is 2s and backoff longest is 1s: the first must not exceed the longest"
        );
        let contrary = Retry::default()
            .for_at_least(Duration::from_secs(9))
            .total_limit(Duration::from_secs(8));
        assert_eq!(
            contrary.validate().unwrap_err().to_string(),
            "retry for_at_least is 9s and total_limit is 8s: for_at_least must not exceed total_limit"
        );
        assert!(Retry::none().validate().is_ok());
    }

    #[test]
    fn patience_is_a_time_unless_attempts_are_counted() {
        let seconds = Duration::from_secs;
        let table = [
            (Retry::default(), Some(seconds(60)), seconds(60)),
            (
                Retry::default().for_at_least(seconds(5)),
                Some(seconds(5)),
                seconds(5),
            ),
            (
                Retry::default().total_limit(seconds(9)),
                Some(seconds(9)),
                seconds(9),
            ),
            (Retry::attempts(5), None, seconds(60)),
            (
                Retry::attempts(5).for_at_least(seconds(7)),
                Some(seconds(7)),
                seconds(7),
            ),
            (Retry::attempts(5).total_limit(seconds(7)), None, seconds(7)),
            (Retry::none(), None, Duration::ZERO),
        ];
        for (retry, patience, unavailable) in table {
            assert_eq!(
                (retry.patience(), retry.patience_unavailable()),
                (patience, unavailable),
                "{retry:?}"
            );
        }
    }
}
