//! How long the flusher has waited for somebody to take the kept failed rows. Callers check it
//! without a lock.
//!
//! If as many failed rows are kept as `keep_failed` allows, nothing is handed over until some are
//! taken. Once that has lasted for `stall_timeout`, callers that wait for the flusher get
//! `Stalled`: adds on a full queue, tickets and flushes.
//!
//! # Protocol
//! There is one word, written under the backlog's lock. The flusher begins a stall when it finds
//! the kept rows full. The flusher, a caller that takes kept rows, and a close end it. Waiting
//! callers read the word without a lock before and after each wait, and each wait lasts at most
//! `stall_timeout`. So a caller that waited before the stall began gets its answer at the latest
//! one `stall_timeout` after the stall has lasted. A stall wakes none of them: a producer waits
//! inside the channel, which has no signal for that.
//!
//! # Orderings
//! Relaxed: the word orders nothing. A caller that reads an old value reads again at its next wait.
//! A thread that knows by other means that rows were taken reads the value written then.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering, now};

/// The shortest wait between two checks, for a `stall_timeout` of less.
const SLICE_MIN: Duration = Duration::from_millis(10);

/// See the module's doc.
pub(crate) struct Stall {
    /// When the batcher started.
    start: Instant,
    /// How long a stall lasts before it is reported.
    timeout: Duration,
    /// From when on the stall is reported, in nanoseconds since `start`, at least 1; 0 without a
    /// stall.
    reported_from: AtomicU64,
}

impl Stall {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            start: now(),
            timeout,
            reported_from: AtomicU64::new(0),
        }
    }

    /// The flusher waits from now on. Under the backlog's lock.
    pub(crate) fn begin(&self, now: Instant) {
        let from = now
            .saturating_duration_since(self.start)
            .saturating_add(self.timeout);
        let from_ns = u64::try_from(from.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.reported_from.store(from_ns, Ordering::Relaxed);
    }

    /// The flusher goes on. Under the backlog's lock.
    pub(crate) fn end(&self) {
        self.reported_from.store(0, Ordering::Relaxed);
    }

    /// Whether there is a stall and it has lasted for `stall_timeout`.
    pub(crate) fn has_lasted(&self) -> bool {
        self.reported_from().is_some_and(|from| from <= now())
    }

    /// Until when a caller with this deadline waits before it checks again.
    pub(crate) fn next_check(&self, deadline: Option<Instant>) -> Option<Instant> {
        let shortest = now() + SLICE_MIN;
        let check = match self.reported_from() {
            Some(from) => Some(from.max(shortest)),
            None => shortest.checked_add(self.timeout.saturating_sub(SLICE_MIN)),
        };
        // A check beyond the range of the clock is none.
        check.into_iter().chain(deadline).min()
    }

    fn reported_from(&self) -> Option<Instant> {
        match self.reported_from.load(Ordering::Relaxed) {
            0 => None,
            // Beyond the range of the clock: as good as no stall.
            from_ns => self.start.checked_add(Duration::from_nanos(from_ns)),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stall_is_reported_once_it_has_lasted_and_no_longer_than_it_lasts() {
        let stall = Stall::new(SECOND);
        assert!(!stall.has_lasted());
        let now = now();
        stall.begin(now);
        assert!(!stall.has_lasted(), "it has just begun");
        stall.begin(now - SECOND * 2);
        // Before the start of the clock counts as at its start: it has not lasted for a second.
        assert_eq!(stall.has_lasted(), stall.start.elapsed() >= SECOND);
        let at_once = Stall::new(Duration::ZERO);
        at_once.begin(at_once.start);
        assert!(at_once.has_lasted());
        at_once.end();
        assert!(!at_once.has_lasted());
    }

    #[test]
    fn a_wait_lasts_until_the_stall_is_reported_or_the_deadline() {
        let stall = Stall::new(SECOND);
        let soon = now() + SECOND / 2;
        assert_eq!(stall.next_check(Some(soon)), Some(soon));
        let check = stall.next_check(None).expect("waits are never endless");
        assert!(check > soon && check <= now() + SECOND);
        stall.begin(stall.start + SECOND * 5);
        assert_eq!(stall.next_check(None), Some(stall.start + SECOND * 6));
        let never = Stall::new(Duration::MAX);
        assert_eq!(never.next_check(None), None);
        never.begin(now());
        assert!(!never.has_lasted());
    }
}
