//! The numbers that users see, as one consistent snapshot. What is counted is in `observe`.

use std::time::{Duration, Instant};

use crate::batch::Trigger;
use crate::error::{BatchError, ErrorClass};
use crate::policy::Reason;
use crate::policy::setpoint::Setpoint;

mod histogram;
mod merge;
mod recent;

pub use histogram::Histogram;
pub(crate) use recent::RecentTimes;

/// Batches by why the flusher handed them over. Attempts at the same batch count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchesByTrigger {
    /// The batch reached the batch size or the weight limit, or the queue had no room by weight for
    /// the next item.
    pub size: u64,
    /// The oldest item had waited for one linger.
    pub linger: u64,
    /// A thread waited for a ticket.
    pub wait: u64,
    /// A flush was called.
    pub flush: u64,
    /// The batcher was being closed.
    pub close: u64,
    /// Rows that the handler asked for again were due.
    pub retry: u64,
}

impl BatchesByTrigger {
    pub(crate) fn count(&mut self, trigger: Trigger) {
        match trigger {
            Trigger::Size => self.size += 1,
            Trigger::Linger => self.linger += 1,
            Trigger::Wait => self.wait += 1,
            Trigger::Flush => self.flush += 1,
            Trigger::Close => self.close += 1,
            Trigger::Retry => self.retry += 1,
        }
    }

    /// All batches.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// let batches = batcher.stats().batches;
    /// assert_eq!((batches.total(), batches.flush), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn total(&self) -> u64 {
        self.size + self.linger + self.wait + self.flush + self.close + self.retry
    }
}

/// Quantiles of a time over the last minute. Each is at most 1/16 above the true value.
///
/// They cover the last [`window`](Self::window), so a slow call leaves them within a minute. They
/// cannot be combined: use a [`Histogram`] for several batchers or processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quantiles {
    /// Half of the times are at most this.
    pub p50: Duration,
    /// 90 % are at most this.
    pub p90: Duration,
    /// 99 % are at most this.
    pub p99: Duration,
    /// The largest.
    pub max: Duration,
    /// How many times were measured in the window. The quantiles are zero if none was.
    pub count: u64,
    /// How far the window reaches back: 45 to 60 s, or the life of the batcher if that is less.
    pub window: Duration,
}

/// A batch that failed and is tried again, or is searched for its bad rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Retrying {
    /// The error of its last call.
    pub error: BatchError,
    /// Failed calls since the last one that returned `Ok` or a permanent error.
    pub attempts: u32,
    /// The end of the first of those calls.
    pub since: Instant,
    /// When the next call begins at the latest, unless the batcher is closed; `None` while a call
    /// is in flight.
    pub next_at: Option<Instant>,
}

/// Failed calls of the handler by the class of their error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedCalls {
    /// An error of no class.
    pub unclassified: u64,
    /// A transient error.
    pub transient: u64,
    /// A permanent error.
    pub permanent: u64,
    /// An error in doubt.
    pub in_doubt: u64,
    /// The backend refused the call before it read a row.
    pub unavailable: u64,
    /// The statement or the schema is wrong.
    pub misconfigured: u64,
    /// A panic.
    pub panicked: u64,
}

impl FailedCalls {
    pub(crate) fn count(&mut self, error: &BatchError) {
        let counter = match error.class() {
            _ if error.is_panic() => &mut self.panicked,
            ErrorClass::Unclassified => &mut self.unclassified,
            ErrorClass::Transient => &mut self.transient,
            ErrorClass::Permanent => &mut self.permanent,
            ErrorClass::InDoubt => &mut self.in_doubt,
            ErrorClass::Unavailable => &mut self.unavailable,
            ErrorClass::Misconfigured => &mut self.misconfigured,
        };
        *counter += 1;
    }
}

/// A consistent snapshot of one batcher, from [`Batcher::stats`](crate::Batcher::stats).
///
/// In every snapshot, `added = handled + failed + unsent + abandoned + pending`. The counts never
/// fall, except `pending`, and `abandoned` when an abandoned handler returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The batcher's [`name`](crate::Builder::name).
    pub name: String,
    /// The name of the policy that decides, see [`Policy::name`](crate::Policy::name).
    pub policy: &'static str,
    /// Whether rows may be sent again after a call in doubt, see
    /// [`Builder::idempotent`](crate::Builder::idempotent).
    pub idempotent: bool,
    /// What bounds the attempts at a failed batch: `none` for one attempt, `attempts` for a number,
    /// `patience` for a time.
    pub retry: &'static str,
    /// How far the batcher is on its way to its end.
    pub phase: Phase,
    /// How closes ended. Each batcher is counted once, when the lists of its report are made.
    pub closed: ClosedCounts,
    /// The size in force, in items.
    pub batch_size: usize,
    /// The smallest batch size that the limits allow, in items.
    pub min_batch_size: usize,
    /// The largest batch size that the limits allow, in items.
    pub max_batch_size: usize,
    /// How many items the queue holds, see
    /// [`Builder::queue_capacity`](crate::Builder::queue_capacity).
    pub queue_capacity: usize,
    /// How many calls of the handler there may be at once.
    pub concurrency: usize,
    /// The smallest [`concurrency`](Self::concurrency) that the limits allow.
    pub min_concurrency: usize,
    /// The largest [`concurrency`](Self::concurrency) that the limits allow.
    pub max_concurrency: usize,
    /// The queues, one for each handler. Everything else here is their sum, or the worst of their
    /// values.
    pub lanes: Vec<LaneStats>,
    /// The whole setpoint in force, with the reason for it.
    pub setpoint: Setpoint,
    /// The load score of the last decision that had one, 0..=1. It stays until another decision has
    /// a score, so read it with `load_age`: when signals are no longer reported, the score is out
    /// of date.
    pub average_load: Option<f64>,
    /// How long ago that decision was made. The signals were reported at most one
    /// `load_check_interval` before it. `None` if no decision had a score.
    pub load_age: Option<Duration>,
    /// The two load scores between which the policy leaves the batch size alone, if it has such.
    pub thresholds: Option<(f64, f64)>,
    /// The last value of each signal that was ever reported, as the controller read it: `cpu_load`,
    /// `queue_depth`, `error_rate`, `db_locks`, then the custom ones. A value stays until the next.
    pub signals: Vec<SignalValue>,
    /// Decisions of the policy by what they did to the size.
    pub decisions: DecisionCounts,
    /// Probes that the policy asked for.
    pub probes: u64,
    /// Items accepted.
    pub added: u64,
    /// Items handled.
    pub handled: u64,
    /// Items failed: rejected, or in a call that failed for good.
    pub failed: u64,
    /// Of the failed, those that the backend may have applied.
    pub in_doubt: u64,
    /// Of the failed, those that the handler rejected one by one.
    pub rejected: u64,
    /// Of the rejected, those that the backend may have applied: they are in `in_doubt` too.
    pub rejected_in_doubt: u64,
    /// Of the failed, those that were dropped because their ticket had returned the failure. They
    /// are in no list.
    pub told: u64,
    /// Items that came back in the close report without having been handed to the handler.
    pub unsent: u64,
    /// Items in a call of the handler that had not returned when the close ran out of time.
    pub abandoned: u64,
    /// Items that failed in an abandoned call that returned later, when there was no hook to give
    /// them to. A subset of `failed`.
    pub dropped_late: u64,
    /// Items accepted that have no outcome yet.
    pub pending: u64,
    /// Of the pending, those in a call of the handler.
    pub items_in_flight: usize,
    /// How long the oldest item that is in no batch yet has waited. An upper estimate, at most the
    /// time of one call too high. `None` if none waits.
    pub oldest_item_age: Option<Duration>,
    /// Calls of add that were refused, by reason.
    pub refused: Refused,
    /// Threads that wait in an add for room.
    pub producers_blocked: usize,
    /// How long threads have waited in an add for room, in all. Includes those that wait now. An
    /// add that finds room within a few tries is not counted.
    pub producer_wait: Duration,
    /// Batches by trigger.
    pub batches: BatchesByTrigger,
    /// Items in each batch.
    pub batch_items: Histogram,
    /// Calls of the handler. Each attempt and each part of a batch counts.
    pub calls: u64,
    /// Calls of the handler that returned `Ok`.
    pub ok_calls: u64,
    /// Calls of the handler that have not returned.
    pub calls_in_flight: usize,
    /// How long the running call has lasted, or the longest of several. `None` if no call is
    /// running. If the handler hangs, it grows.
    pub running_call_age: Option<Duration>,
    /// How long ago a call last returned `Ok`. `None` if none has.
    pub last_success_age: Option<Duration>,
    /// Calls that repeated the same items under the same id.
    pub retries: u64,
    /// Batches and parts that were split and tried again, as
    /// [`Retry::split_on_retry`](crate::Retry::split_on_retry) says.
    pub split_retries: u64,
    /// Batches and parts that were split to find their bad rows.
    pub bisections: u64,
    /// Calls of the handler that failed as a whole, by the class of their error.
    pub failed_calls: FailedCalls,
    /// Rows that the handler asked for again. A row counts each time.
    pub retried_rows: u64,
    /// Waits that a backend asked for and that were shortened to
    /// [`Retry::longest_retry_after`](crate::Retry::longest_retry_after).
    pub retry_after_capped: u64,
    /// The batch that is being tried again, if there is one. While the backend is away, it is
    /// `Some`.
    pub retrying: Option<Retrying>,
    /// How long that batch has been failing, or the longest of several.
    pub retrying_age: Option<Duration>,
    /// Panics of the handler, caught.
    pub handler_panics: u64,
    /// Panics of the hooks `on_failed` and `on_close` and of listeners, caught.
    pub hook_panics: u64,
    /// Panics of the policy, caught.
    pub policy_panics: u64,
    /// Panics of sensors, caught.
    pub sensor_panics: u64,
    /// Events that the listeners missed, because 1 024 others waited to be told.
    pub events_dropped: u64,
    /// Panics while items or the handler were dropped on the flusher's thread, caught.
    pub drop_panics: u64,
    /// Marks of an index that the batch did not have.
    pub bad_rejects: u64,
    /// Failed items kept for `take_failed`.
    pub kept_failed: usize,
    /// Whether no batch is handed over, because as many failed items are kept as `keep_failed`
    /// allows. After `stall_timeout`, callers that wait get `Stalled`.
    pub stalled: bool,
    /// How long no batch was handed over because of a stall. Includes the present one.
    pub stalled_time: Duration,
    /// How long the flusher has paused after calls, as the policy asked. Includes the present
    /// pause.
    pub paused_time: Duration,
    /// How long the flusher has waited before another attempt. Includes the present wait.
    pub backoff_time: Duration,
    /// The time of a call of the handler, over the last minute.
    pub service_time: Quantiles,
    /// The same since the batcher started, in seconds.
    pub service_time_histogram: Histogram,
    /// How long the oldest item of a batch had waited when the batch was first handed over, over
    /// the last minute. An upper estimate. The wait is not measured for a batch that wakes an idle
    /// flusher, nor for one of rows that were asked for again: these are left out.
    pub queue_wait: Quantiles,
    /// The same since the batcher started, in seconds.
    pub queue_wait_histogram: Histogram,
    /// Feedback samples overwritten before the controller read them.
    pub samples_lost: u64,
    /// Feedback values that were out of range or NaN.
    pub values_corrected: u64,
    /// Custom signals under a name that was not declared.
    pub unknown_signals: u64,
}

impl Stats {
    /// The reason for the present size.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// println!("{} rows a batch: {}", batcher.stats().batch_size, batcher.stats().reason());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.setpoint.reason
    }
}

/// One of several queues, with the thread that calls its handler. Its place in the list is the
/// [`Worker::index`](crate::Worker::index).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Items accepted.
    pub added: u64,
    /// Items handled.
    pub handled: u64,
    /// Items failed.
    pub failed: u64,
    /// Items accepted that have no outcome yet.
    pub pending: u64,
    /// Calls of the handler.
    pub calls: u64,
    /// Whether a call has not returned.
    pub in_call: bool,
    /// The batch that is being tried again, if one is.
    pub retrying: Option<Retrying>,
}

/// How far a batcher is on its way to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Items are accepted.
    #[default]
    Open,
    /// Closed to producers; what is left is handled.
    Closing,
    /// Everything has its outcome and the flusher has stopped.
    Done,
    /// A close ran out of time and took every item. The flusher stops when the handler or hook that
    /// it is in returns.
    Abandoned,
}

/// How closes ended, by the worst that an item met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedCounts {
    /// Every item was handled.
    pub clean: u64,
    /// Items failed, no worse.
    pub failed: u64,
    /// Items were unsent, none abandoned.
    pub unsent: u64,
    /// Items were left in the hands of a handler.
    pub abandoned: u64,
}

/// Decisions that were put in force, by what they did to the batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecisionCounts {
    /// The size grew.
    pub grow: u64,
    /// The size shrank.
    pub shrink: u64,
    /// The size stayed.
    pub hold: u64,
}

impl DecisionCounts {
    pub(crate) fn count(&mut self, from: usize, to: usize) {
        let counter = match to.cmp(&from) {
            std::cmp::Ordering::Greater => &mut self.grow,
            std::cmp::Ordering::Less => &mut self.shrink,
            std::cmp::Ordering::Equal => &mut self.hold,
        };
        *counter += 1;
    }
}

/// The last value of a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SignalValue {
    /// Its name.
    pub name: &'static str,
    /// Its value, as [`Signals`](crate::Signals) has it.
    pub value: f64,
}

impl SignalValue {
    pub(crate) fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }
}

/// Refused calls of add by reason. A chunk that was refused counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The queue was full.
    pub full: u64,
    /// The queue stayed full until the deadline.
    pub timeout: u64,
    /// The batcher was closed.
    pub closed: u64,
    /// The call came from one of the batcher's own threads.
    pub reentrant: u64,
    /// The item was too heavy.
    pub too_heavy: u64,
    /// Nothing was handed over, since nobody took the failed items.
    pub stalled: u64,
}
