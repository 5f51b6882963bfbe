//! What a close returns, and how the report of a drop reaches its hook.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::batch::Failed;
use crate::error::BatchError;
use crate::events::CloseSummary;
use crate::flush::backlog::Backlog;
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::listeners::Told;
use crate::observe::Event;
use crate::sync::{Mutex, MutexGuard, now};
use crate::unwind::{drop_each, message};

/// What a close returns: what became of every item.
#[must_use]
#[non_exhaustive]
pub struct CloseReport<T> {
    /// Items handled since the start.
    pub handled: u64,
    /// Failed rows that nobody has been given: those that were kept and not taken, and whose
    /// tickets have not returned the failure; those that still waited for the hook; and those that
    /// waited for another attempt when the close gave up or ran out of time. Empty for all but the
    /// first caller.
    pub failed: Vec<Failed<T>>,
    /// Items that were never handed to the handler, in the order in which each producer added them.
    /// With several calls at once, queue by queue. Empty for all but the first caller.
    pub unsent: Vec<T>,
    /// Items in a call of the handler that had not returned by this caller's deadline.
    pub abandoned: u64,
    /// Items failed since the start, including those that were given to somebody.
    pub failed_total: u64,
    /// All unsent items, as of this caller's deadline: the length of the first caller's list.
    pub unsent_total: u64,
    /// Whether the deadline passed before everything was done, or no further attempt fitted before
    /// it. Then items are failed, unsent or abandoned, or the handler, a hook or the policy is
    /// still running.
    pub timed_out: bool,
    /// The error of the last failed call, if rows still waited for another attempt when the close
    /// gave up or ran out of time.
    pub last_error: Option<BatchError>,
    /// Whether the call came from one of the batcher's own threads. The close has begun then, and
    /// this call did not wait for it.
    pub reentrant: bool,
    /// Whether the call came from a forked child of the batcher's process. Everything else here is
    /// zero and empty then, since the items belong to the parent.
    pub forked: bool,
}

impl<T> CloseReport<T> {
    pub(crate) fn empty() -> Self {
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

    /// Its counts, for listeners.
    pub(crate) fn summary(&self, at: Duration) -> CloseSummary {
        CloseSummary {
            at,
            handled: self.handled,
            failed: self.failed_total,
            unsent: self.unsent_total,
            abandoned: self.abandoned,
            timed_out: self.timed_out,
            is_clean: self.is_clean(),
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

/// The hook for the report of a drop.
pub(crate) type OnClose<T> = Box<dyn FnOnce(CloseReport<T>) + Send>;

/// The report as of now, with every lane locked; with the lists if the caller has the claim to
/// them.
fn sum<T>(backlogs: &mut [MutexGuard<'_, Backlog<T>>], claimed: bool) -> CloseReport<T> {
    let mut report = CloseReport::empty();
    for backlog in backlogs {
        if claimed {
            let (unsent, failed) = backlog.drain_for_report();
            report.unsent.extend(unsent);
            report.failed.extend(failed);
        }
        let counts = &backlog.counts;
        report.handled += counts.handled;
        report.abandoned += counts.abandoned;
        report.failed_total += counts.failed;
        report.unsent_total += counts.unsent;
        let last_error = &backlog.lifecycle.last_error;
        report.last_error = report.last_error.or_else(|| last_error.clone());
    }
    report
}

/// The report of the caller that has the claim, or of another, as of now.
pub(crate) fn report<T>(
    backlogs: &mut [MutexGuard<'_, Backlog<T>>],
    claimed: bool,
) -> CloseReport<T> {
    let report = sum(backlogs, claimed);
    if claimed {
        // Of the whole batcher: once, in one lane's counts.
        backlogs[0].counts.observe(Event::Closed {
            failed: report.failed_total > 0,
            unsent: report.unsent_total > 0,
            abandoned: report.abandoned > 0,
        });
    }
    report
}

/// Tells the listeners how the close has ended.
pub(crate) fn tell_closed<T>(lane: &Lane<T>, report: &CloseReport<T>) {
    let journal = lane.journal();
    if journal.has_listeners() {
        journal.tell(Told::Closed(report.summary(journal.at(now()))));
        journal.deliver();
    }
}

/// Gives the report to the hook, if there is one that was not used.
pub(crate) fn deliver<T>(
    lanes: &Lanes<T>,
    on_close: &Mutex<Option<OnClose<T>>>,
    report: CloseReport<T>,
) {
    let hook = on_close.lock().take();
    let counts = |event| lanes.first().lock().counts.observe(event);
    let Some(hook) = hook else {
        let CloseReport {
            mut failed,
            mut unsent,
            ..
        } = report;
        let panics = drop_each(&mut failed) + drop_each(&mut unsent);
        counts(Event::DropsPanicked(panics));
        return;
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(report))) {
        drop(message(panic));
        counts(Event::HookPanicked);
    }
}

/// Gives the report to the hook unless somebody has the claim to it: the owner was dropped on one
/// of the batcher's own threads.
pub(crate) fn deliver_unclaimed<T>(lanes: &Lanes<T>, on_close: &Mutex<Option<OnClose<T>>>) {
    let mut backlogs = lanes.lock();
    if backlogs[0].lifecycle.claim() {
        let report = report(&mut backlogs, true);
        drop(backlogs);
        tell_closed(lanes.first(), &report);
        deliver(lanes, on_close, report);
    }
}
