//! The end: what a close returns, and how closers, the flusher and the deadline meet.
//!
//! # Protocol
//! Closer: (1) under the intake's lock, close admission (see `queue`) and, as the first, take the
//! claim to the lists; (2) ring the flusher, the controller and the producers that wait for credit;
//! (3) wait until the phase is no longer `Closing` or the own deadline has passed; (4) the claimant
//! takes everything that waits: after a close in time that is the rows kept, past the deadline the
//! phase becomes `Abandoned` and it is all that was not lent; (5) wait for the threads to end, if
//! there is time left, and join them. Flusher: sees `Closing` at its next visit to the intake and
//! hands over without waiting; empty, it sets `Done`. Seeing `Abandoned`, it settles what it held
//! and stops; no further batch is given to the handler.
//!
//! The race: the deadline passes as the flusher finishes. Both change the phase under the intake's
//! lock: either `Done` is there first, and the claimant finds nothing that waits, or `Abandoned`
//! is, and what the flusher still holds settles late. Each item is counted by whoever has it in
//! hand under the lock.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::batch::Failed;
use crate::controller::Control;
use crate::error::BatchError;
use crate::intake::{CloseTerms, Intake, Phase};
use crate::queue::Queue;
use crate::reporter::Reporter;
use crate::sync::{Arc, Condvar, JoinHandle, Mutex, belongs_to, is_panicking, now};
use crate::unwind::{drop_each, message};

/// What became of everything: the answer of a close.
#[must_use]
#[non_exhaustive]
pub struct CloseReport<T> {
    /// Items handled since the start.
    pub handled: u64,
    /// Failed rows that nobody was given: kept ones that were not taken and whose tickets have not
    /// returned the failure; what still waited for the hook; and rows that were called before and
    /// waited for another attempt when the close gave up or ran out of time. Empty for all but the
    /// first caller.
    pub failed: Vec<Failed<T>>,
    /// Items that were never handed to the handler, in the order they were added by each producer.
    /// Empty for all but the first caller.
    pub unsent: Vec<T>,
    /// Items handed to a handler that had not come back, as of this caller's deadline.
    pub abandoned: u64,
    /// Items failed since the start, whoever was given them.
    pub failed_total: u64,
    /// Items unsent in all, as of this caller's deadline: the first caller's list.
    pub unsent_total: u64,
    /// Whether the deadline passed before everything was done, or no further attempt fitted before
    /// it. Items then are failed, unsent or abandoned, or the handler, the hook or the policy still
    /// runs.
    pub timed_out: bool,
    /// The error of the last failed call, if rows still waited for another attempt when the close
    /// gave up or ran out of time.
    pub last_error: Option<BatchError>,
    /// Whether the call came from one of the batcher's own threads: the close has begun, and nobody
    /// waited for it.
    pub reentrant: bool,
    /// Whether the call came from a forked child of the batcher's process: everything else here is
    /// zero and empty, since the items are the parent's.
    pub forked: bool,
}

impl<T> CloseReport<T> {
    fn empty() -> Self {
        Self {
            handled: 0,
            failed: Vec::new(),
            unsent: Vec::new(),
            abandoned: 0,
            failed_total: 0,
            unsent_total: 0,
            timed_out: false,
            last_error: None,
            reentrant: false,
            forked: false,
        }
    }

    /// Whether every item that was ever added was handled.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    /// #     for (index, _) in batch.iter().enumerate().filter(|(_, row)| **row == 13) {
    /// #         batch.reject(index, BatchError::permanent("unlucky"));
    /// #     }
    /// #     Ok(LoadFeedback::new())
    /// # })?;
    /// batcher.add(13)?;
    /// let report = batcher.close(Duration::from_secs(9));
    /// assert!(!report.is_clean());
    /// assert_eq!(report.failed[0].item, 13);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.timed_out
            && !self.reentrant
            && !self.forked
            && self.failed_total + self.unsent_total + self.abandoned == 0
    }
}

impl<T> fmt::Debug for CloseReport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseReport")
            .field("handled", &self.handled)
            .field("failed", &self.failed.len())
            .field("first_failed", &self.failed.first())
            .field("unsent", &self.unsent.len())
            .field("abandoned", &self.abandoned)
            .field("failed_total", &self.failed_total)
            .field("unsent_total", &self.unsent_total)
            .field("timed_out", &self.timed_out)
            .field("last_error", &self.last_error)
            .field("reentrant", &self.reentrant)
            .field("forked", &self.forked)
            .finish()
    }
}

/// Set once, waited for with a deadline.
pub(crate) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self {
            open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    pub(crate) fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    /// Whether it was opened in time.
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut open = self.open.lock();
        while !*open && deadline.is_none_or(|deadline| now() < deadline) {
            open = self.opened.wait_until(open, deadline);
        }
        *open
    }
}

/// One of the batcher's threads, and the latch that it opens when all user code on it is done.
pub(crate) struct Thread {
    pub(crate) ended: Arc<Latch>,
    pub(crate) handle: Mutex<Option<JoinHandle>>,
}

impl Thread {
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let ended = self.ended.wait_until(deadline);
        if ended {
            let handle = self.handle.lock().take();
            if let Some(handle) = handle {
                handle.join();
            }
        }
        ended
    }
}

/// The hook for the report of a drop.
pub(crate) type OnClose<T> = Box<dyn FnOnce(CloseReport<T>) + Send>;

/// What closing takes: everything that two threads and their callers share.
pub(crate) struct Core<T> {
    pub(crate) queue: Arc<Queue<T>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
    pub(crate) flusher: Thread,
    pub(crate) controller: Thread,
    /// The hook for a drop's report, until it is used.
    pub(crate) on_close: Arc<Mutex<Option<OnClose<T>>>>,
}

impl<T> Core<T> {
    /// Steps (1) and (2). True if this caller has the claim to the lists.
    fn begin_close(&self, terms: CloseTerms, claim: bool) -> bool {
        let mut intake = self.queue.lock();
        intake.close(&self.queue, terms, now());
        let claimed = claim && !std::mem::replace(&mut intake.collected, true);
        drop(intake);
        self.queue.doorbell.ring();
        self.queue.credit.wake_all();
        self.reporter.alarm.close();
        self.reporter.alarm.ring();
        claimed
    }

    pub(crate) fn shutdown(&self, timeout: Duration) -> CloseReport<T> {
        if self.queue.is_orphaned() {
            return CloseReport {
                forked: true,
                ..CloseReport::empty()
            };
        }
        // None: later than the clock can tell, so without a bound.
        self.shutdown_on(CloseTerms {
            deadline: now().checked_add(timeout),
            ..CloseTerms::default()
        })
    }

    fn shutdown_on(&self, terms: CloseTerms) -> CloseReport<T> {
        if belongs_to(self.queue.serial) {
            self.begin_close(terms, false);
            return CloseReport {
                reentrant: true,
                ..report(&mut self.queue.lock(), false)
            };
        }
        let claimed = self.begin_close(terms, true);
        let mut intake = self.queue.lock();
        let mut deadline = intake.limit_of(&terms);
        while intake.phase == Phase::Closing && deadline.is_none_or(|deadline| now() < deadline) {
            intake = self.queue.changed.wait_until(intake, deadline);
            // An answer moves the limit of a drop.
            deadline = intake.limit_of(&terms);
        }
        // Whoever takes what was given up is the one whose time it was.
        let in_time = intake.phase == Phase::Done && !(intake.gave_up && claimed);
        let given_up_before = intake.phase == Phase::Abandoned;
        // Under the same lock: what this close takes, the flusher is not given.
        let mut answer = report(&mut intake, claimed);
        drop(intake);
        let ended = self.flusher.wait_until(deadline) & self.controller.wait_until(deadline);
        if given_up_before && ended {
            // An earlier close left the handler behind; this one had the time to see how its items
            // ended.
            answer = report(&mut self.queue.lock(), false);
        }
        answer.timed_out = !ended || !(in_time || given_up_before);
        if claimed {
            // Flushes that wait for what is now unsent or abandoned.
            self.queue.changed.notify_all();
        }
        answer
    }

    /// The drop of the owner: closes unless somebody has, and gives the report to the hook.
    pub(crate) fn close_on_drop(&self, timeout: Duration, patience: Duration) {
        if self.queue.is_orphaned() {
            return;
        }
        let own_thread = belongs_to(self.queue.serial);
        let terms = CloseTerms {
            deadline: now().checked_add(timeout),
            without_answer: Some(patience),
            one_attempt: is_panicking(),
        };
        if own_thread {
            self.begin_close(terms, false);
        }
        let mut intake = self.queue.lock();
        if intake.collected {
            return;
        }
        if own_thread && intake.phase == Phase::Closing {
            // The flusher cannot wait for itself: it delivers the report at its end.
            intake.deliver_at_end = true;
            return;
        }
        drop(intake);
        if own_thread {
            deliver_unclaimed(&self.queue, &self.on_close);
        } else {
            let report = self.shutdown_on(terms);
            deliver(&self.queue, &self.on_close, report);
        }
    }
}

fn report<T>(intake: &mut Intake<T>, claimed: bool) -> CloseReport<T> {
    let (unsent, failed) = if claimed {
        intake.seize()
    } else {
        (Vec::new(), Vec::new())
    };
    let counts = &intake.counts;
    CloseReport {
        handled: counts.handled,
        failed,
        unsent,
        abandoned: counts.abandoned,
        failed_total: counts.failed,
        unsent_total: counts.unsent,
        last_error: intake.last_error.clone(),
        ..CloseReport::empty()
    }
}

/// Gives the report to the hook, if there is one that was not used.
fn deliver<T>(queue: &Queue<T>, on_close: &Mutex<Option<OnClose<T>>>, report: CloseReport<T>) {
    let hook = on_close.lock().take();
    let Some(hook) = hook else {
        let CloseReport {
            mut failed,
            mut unsent,
            ..
        } = report;
        let panics = drop_each(&mut failed) + drop_each(&mut unsent);
        queue.lock().counts.drop_panics += panics;
        return;
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(report))) {
        drop(message(panic));
        queue.lock().counts.hook_panics += 1;
    }
}

/// Gives the report to the hook unless somebody has the claim to it: the owner was dropped on one
/// of the batcher's own threads.
pub(crate) fn deliver_unclaimed<T>(queue: &Queue<T>, on_close: &Mutex<Option<OnClose<T>>>) {
    let mut intake = queue.lock();
    if !std::mem::replace(&mut intake.collected, true) {
        let report = report(&mut intake, true);
        drop(intake);
        deliver(queue, on_close, report);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "close/tests.rs"]
pub(crate) mod tests;
