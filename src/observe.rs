//! What happens, as one set of events: this file alone names and counts them.
//!
//! An event is observed once a call, a batch, a decision or a stall, and once a row that fails or
//! is asked for again; never once an item that is handled. What the flusher and closers observe is
//! counted under the backlog's lock. Two kinds of event happen where that lock is not held: a
//! refusal at the gate, and a report from a thread of its own; they have atomic counts (see
//! `queue::refusal` and `exchange::reporter`).

use std::time::{Duration, Instant};

use crate::batch::Trigger;
use crate::error::BatchError;
use crate::stats::{BatchesByTrigger, ClosedCounts, FailedCalls, Histogram, RecentTimes};

/// Something that happened, under the backlog's lock.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// A batch of this many items was gathered from the line.
    Gathered { trigger: Trigger, len: usize },
    /// A call of the handler begins, the so manieth under its name.
    CallBegan { attempt: u32 },
    /// A call of the handler has ended.
    CallEnded {
        now: Instant,
        service_time: Duration,
        /// How long the oldest item of a batch that was called for the first time had waited, if
        /// that was measured.
        queue_wait: Option<Duration>,
        /// Rejections of an index that the batch did not have.
        bad_rejects: u64,
        error: Option<&'a BatchError>,
    },
    /// So many items were handled.
    Handled(usize),
    /// A row failed.
    Failed { in_doubt: bool },
    /// The handler rejected a row, which has failed.
    Rejected { in_doubt: bool },
    /// The handler asked for a row again.
    AskedAgain,
    /// A backend asked for a longer wait than the builder allows.
    WaitCapped,
    /// The flusher has waited, for something else than items.
    Waited { cause: WaitCause, time: Duration },
    /// The lists of the close report were made.
    Closed {
        failed: bool,
        unsent: bool,
        abandoned: bool,
    },
    /// The search for bad rows in a batch has ended.
    SearchEnded(SearchCounts),
    /// A retained row was dropped, because its ticket has returned the failure.
    Told,
    /// A close found this many items that were never called.
    Unsent(usize),
    /// A close left this many items in the hands of the handler.
    Abandoned(usize),
    /// So many of those have come back.
    CameBack(usize),
    /// So many rows failed when nobody was left to take them.
    DroppedLate(usize),
    /// The hook for failed rows or for the close report panicked.
    HookPanicked,
    /// So many values panicked in their drop.
    DropsPanicked(u64),
}

/// Why the flusher waits although items may be in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitCause {
    /// The policy asks for a pause after a call.
    Pause,
    /// Another attempt is not due yet.
    Backoff,
    /// As many failed rows are kept as may be.
    Stall,
}

/// What one search for bad rows has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchCounts {
    /// Batches and parts that were split to find their bad rows.
    pub(crate) bisections: u64,
    /// Batches and parts that were split because the user allows it for transient errors.
    pub(crate) splits: u64,
    /// Waits that were capped.
    pub(crate) waits_capped: u64,
}

/// How often each event has happened.
#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) handled: u64,
    pub(crate) failed: u64,
    pub(crate) in_doubt: u64,
    pub(crate) rejected: u64,
    pub(crate) rejected_in_doubt: u64,
    pub(crate) told: u64,
    pub(crate) unsent: u64,
    pub(crate) abandoned: u64,
    pub(crate) dropped_late: u64,
    pub(crate) batches: BatchesByTrigger,
    pub(crate) calls: u64,
    pub(crate) retries: u64,
    pub(crate) search: SearchCounts,
    pub(crate) failed_calls: FailedCalls,
    pub(crate) retried_rows: u64,
    pub(crate) handler_panics: u64,
    pub(crate) hook_panics: u64,
    pub(crate) drop_panics: u64,
    pub(crate) bad_rejects: u64,
    pub(crate) ok_calls: u64,
    /// When a call last returned `Ok`.
    pub(crate) last_success: Option<Instant>,
    pub(crate) paused: Duration,
    pub(crate) backoff: Duration,
    pub(crate) stalled: Duration,
    pub(crate) closed: ClosedCounts,
    pub(crate) batch_items: Histogram,
    pub(crate) service_time: Histogram,
    pub(crate) queue_wait: Histogram,
    pub(crate) recent_service_time: RecentTimes,
    pub(crate) recent_queue_wait: RecentTimes,
}

impl Counts {
    /// None yet, of a batcher that starts at this time.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            handled: 0,
            failed: 0,
            in_doubt: 0,
            rejected: 0,
            rejected_in_doubt: 0,
            told: 0,
            unsent: 0,
            abandoned: 0,
            dropped_late: 0,
            batches: BatchesByTrigger::default(),
            calls: 0,
            retries: 0,
            search: SearchCounts::default(),
            failed_calls: FailedCalls::default(),
            retried_rows: 0,
            handler_panics: 0,
            hook_panics: 0,
            drop_panics: 0,
            bad_rejects: 0,
            ok_calls: 0,
            last_success: None,
            paused: Duration::ZERO,
            backoff: Duration::ZERO,
            stalled: Duration::ZERO,
            closed: ClosedCounts::default(),
            batch_items: Histogram::batch_items(),
            service_time: Histogram::service_time(),
            queue_wait: Histogram::queue_wait(),
            recent_service_time: RecentTimes::new(start),
            recent_queue_wait: RecentTimes::new(start),
        }
    }

    pub(crate) fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::Gathered { trigger, len } => {
                self.batches.count(trigger);
                self.batch_items.record(len as f64);
            }
            Event::CallBegan { attempt } => {
                self.calls += 1;
                self.retries += u64::from(attempt > 1);
            }
            Event::CallEnded {
                now,
                service_time,
                queue_wait,
                bad_rejects,
                error,
            } => {
                self.service_time.record_time(service_time);
                self.recent_service_time.record(service_time, now);
                if let Some(wait) = queue_wait {
                    self.queue_wait.record_time(wait);
                    self.recent_queue_wait.record(wait, now);
                }
                self.bad_rejects += bad_rejects;
                match error {
                    Some(error) => {
                        self.handler_panics += u64::from(error.is_panic());
                        self.failed_calls.count(error);
                    }
                    None => {
                        self.ok_calls += 1;
                        self.last_success = Some(now);
                    }
                }
            }
            Event::Waited { cause, time } => {
                *match cause {
                    WaitCause::Pause => &mut self.paused,
                    WaitCause::Backoff => &mut self.backoff,
                    WaitCause::Stall => &mut self.stalled,
                } += time
            }
            Event::Closed {
                failed,
                unsent,
                abandoned,
            } => {
                let closed = &mut self.closed;
                // By the worst that an item met.
                *match () {
                    () if abandoned => &mut closed.abandoned,
                    () if unsent => &mut closed.unsent,
                    () if failed => &mut closed.failed,
                    () => &mut closed.clean,
                } += 1;
            }
            Event::Handled(items) => self.handled += items as u64,
            Event::Failed { in_doubt } => {
                self.failed += 1;
                self.in_doubt += u64::from(in_doubt);
            }
            Event::Rejected { in_doubt } => {
                self.rejected += 1;
                self.rejected_in_doubt += u64::from(in_doubt);
            }
            Event::AskedAgain => self.retried_rows += 1,
            Event::WaitCapped => self.search.waits_capped += 1,
            Event::SearchEnded(search) => self.search.add(search),
            Event::Told => self.told += 1,
            Event::Unsent(items) => self.unsent += items as u64,
            Event::Abandoned(items) => self.abandoned += items as u64,
            Event::CameBack(items) => self.abandoned -= items as u64,
            Event::DroppedLate(rows) => self.dropped_late += rows as u64,
            Event::HookPanicked => self.hook_panics += 1,
            Event::DropsPanicked(panics) => self.drop_panics += panics,
        }
    }

    /// Adds what happened in another lane.
    pub(crate) fn add(&mut self, other: &Self) {
        self.handled += other.handled;
        self.failed += other.failed;
        self.in_doubt += other.in_doubt;
        self.rejected += other.rejected;
        self.rejected_in_doubt += other.rejected_in_doubt;
        self.told += other.told;
        self.unsent += other.unsent;
        self.abandoned += other.abandoned;
        self.dropped_late += other.dropped_late;
        self.batches.add(&other.batches);
        self.calls += other.calls;
        self.retries += other.retries;
        self.search.add(other.search);
        self.failed_calls.add(&other.failed_calls);
        self.retried_rows += other.retried_rows;
        self.handler_panics += other.handler_panics;
        self.hook_panics += other.hook_panics;
        self.drop_panics += other.drop_panics;
        self.bad_rejects += other.bad_rejects;
        self.ok_calls += other.ok_calls;
        self.last_success = self.last_success.max(other.last_success);
        self.paused += other.paused;
        self.backoff += other.backoff;
        self.stalled += other.stalled;
        self.closed.add(&other.closed);
        self.batch_items.add(&other.batch_items);
        self.service_time.add(&other.service_time);
        self.queue_wait.add(&other.queue_wait);
        self.recent_service_time.add(&other.recent_service_time);
        self.recent_queue_wait.add(&other.recent_queue_wait);
    }

    /// Items that have an outcome, abandonment included.
    pub(crate) fn with_outcome(&self) -> u64 {
        self.handled + self.failed + self.unsent + self.abandoned
    }
}

impl SearchCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.bisections += other.bisections;
        self.splits += other.splits;
        self.waits_capped += other.waits_capped;
    }
}
