//! The owner and the producers: add, submit, flush, close, and what one can look at.

use std::fmt;
use std::time::Duration;

use crate::batch::Failed;
use crate::builder::Builder;
use crate::close::{CloseReport, Core};
use crate::controller::{DecisionRecord, Limits};
use crate::error::{AddError, BuildError, FlushError};
use crate::feedback::LoadFeedback;
use crate::intake::Phase;
use crate::line::Handle;
use crate::queue::{Patience, Queue};
use crate::setpoint::{Setpoint, SetpointCell};
use crate::stats::Stats;
use crate::sync::{Arc, AtomicU64, Ordering, Shared, belongs_to, now};
use crate::ticket::{self, Line, Ticket};

/// Batches items from many threads for one handler, sized by how loaded the handler says its
/// backend is.
///
/// Every method takes `&self` and may be called from any thread; [`producer`](Self::producer) gives
/// a cloneable handle. Not cloneable itself: whoever owns it closes it. Dropping it closes it too,
/// with the builder's `close_timeout`, and gives the report to `on_close`.
#[must_use = "dropping a batcher closes it"]
pub struct Batcher<T: Send + 'static> {
    pub(crate) core: Core<T>,
    pub(crate) setpoint: Arc<SetpointCell>,
    /// For the tickets.
    pub(crate) line: Shared<dyn Line>,
    pub(crate) close_timeout: Duration,
    pub(crate) drop_patience: Duration,
    pub(crate) told_of: ToldOf,
}

/// A handle to add with: clone one for each thread. It does not keep the batcher open: once that is
/// closed, adds are refused.
///
/// Each handle's [`flush`](Self::flush) reports the failures since that handle was created or last
/// flushed.
pub struct Producer<T> {
    queue: Arc<Queue<T>>,
    /// For the tickets.
    line: Shared<dyn Line>,
    told_of: ToldOf,
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            line: self.line.another(),
            told_of: self.told_of.clone(),
        }
    }
}

/// How many failed items, since the start, the flushes of one handle have reported.
pub(crate) struct ToldOf(AtomicU64);

impl ToldOf {
    pub(crate) fn new(failed: u64) -> Self {
        Self(AtomicU64::new(failed))
    }

    /// Read when a flush registers, under the intake's lock: another flush through this handle may
    /// end first.
    fn seen(&self) -> u64 {
        // Relaxed: a count that orders nothing; called under the intake's lock.
        self.0.load(Ordering::Relaxed)
    }

    /// A flush that had seen so many failed items at its registration ends with `failed` of them
    /// since the start.
    fn report(&self, seen: u64, failed: u64) -> Result<(), FlushError> {
        // Relaxed: as in `seen`.
        self.0.fetch_max(failed, Ordering::Relaxed);
        if failed > seen {
            Err(FlushError::Failed {
                items: failed - seen,
            })
        } else {
            Ok(())
        }
    }
}

impl Clone for ToldOf {
    fn clone(&self) -> Self {
        // Relaxed: as in `seen`.
        Self::new(self.0.load(Ordering::Relaxed))
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// The settings, each with a default.
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    /// A handle for another thread.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let producer = batcher.producer();
    /// std::thread::spawn(move || producer.add(1)).join().unwrap()?;
    /// assert_eq!(batcher.close(std::time::Duration::from_secs(9)).handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn producer(&self) -> Producer<T> {
        let failed = self.core.queue.lock().flushes.failed();
        let queue = Arc::clone(&self.core.queue);
        Producer {
            line: Handle::shared(&queue),
            queue,
            told_of: ToldOf::new(failed),
        }
    }
}

/// The same methods for the owner and for producers, with the same words.
macro_rules! adding {
    ($queue:ident) => {
        /// Adds an item; waits while the queue is full.
        ///
        /// The item travels by value and is copied on the stack of the calling thread. Box items of
        /// more than 16 KiB: without optimisation an item of 32 KiB can overflow the 2 MiB stack of
        /// a thread that waits here on a full queue.
        ///
        /// ```
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
        /// batcher.add(1)?;
        /// # let producer = batcher.producer();
        /// # let _ = batcher.shutdown(std::time::Duration::from_secs(9));
        /// let refused = producer.add(2).unwrap_err(); // after the close
        /// assert!(refused.is_closed());
        /// assert_eq!(refused.into_inner(), 2);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// With the item: [`Closed`](AddError::Closed), at once also if it waits;
        /// [`Reentrant`](AddError::Reentrant) on one of the batcher's own threads if it would wait;
        /// [`Stalled`](AddError::Stalled) if it would wait and nothing has been handed over for
        /// `stall_timeout`, because nobody takes the failed rows; [`TooHeavy`](AddError::TooHeavy)
        /// where the builder says so.
        #[inline]
        pub fn add(&self, item: T) -> Result<(), AddError<T>> {
            self.$queue().add(item, Patience::Forever)
        }

        /// Adds an item if the queue has room; never waits.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let (release, busy) = std::sync::mpsc::channel::<()>();
        /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
        /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
        /// // The handler is busy, and the queue fills up.
        /// let refused = loop {
        ///     if let Err(refused) = batcher.try_add(7) {
        ///         break refused;
        ///     }
        /// };
        /// assert!(refused.is_full());
        /// assert_eq!(refused.into_inner(), 7);
        /// # drop(release);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add`](Self::add), and [`Full`](AddError::Full) with the item.
        #[inline]
        pub fn try_add(&self, item: T) -> Result<(), AddError<T>> {
            self.$queue().add(item, Patience::Never)
        }

        /// Adds an item; waits for room for at most `timeout`.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let (release, busy) = std::sync::mpsc::channel::<()>();
        /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
        /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
        /// // The handler is busy, and the queue fills up.
        /// let refused = loop {
        ///     if let Err(refused) = batcher.add_timeout(7, Duration::from_millis(1)) {
        ///         break refused;
        ///     }
        /// };
        /// assert!(refused.is_timeout());
        /// # drop(release);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add`](Self::add), and [`Timeout`](AddError::Timeout) with the item.
        pub fn add_timeout(&self, item: T, timeout: Duration) -> Result<(), AddError<T>> {
            self.$queue().add(item, patience(timeout))
        }

        /// Adds many items, in chunks of at most 64 as the iterator yields them; waits while the
        /// queue is full. Returns how many.
        ///
        /// A fraction of the price of as many calls of [`add`](Self::add).
        ///
        /// ```
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
        /// assert_eq!(batcher.add_many(0..1_000)?, 1_000);
        /// # let producer = batcher.producer();
        /// # let _ = batcher.shutdown(std::time::Duration::from_secs(9));
        /// let refused = producer.add_many([1, 2]).unwrap_err(); // after the close
        /// assert_eq!(refused.into_inner(), [1, 2]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add`](Self::add), with all items that were not accepted, what the iterator still
        /// had included. What was accepted before stays accepted.
        pub fn add_many(
            &self,
            items: impl IntoIterator<Item = T>,
        ) -> Result<usize, AddError<Vec<T>>> {
            self.$queue().add_many(items, Patience::Forever)
        }

        /// Adds as many items as there is room for; never waits.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let (release, busy) = std::sync::mpsc::channel::<()>();
        /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
        /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
        /// match batcher.try_add_many([1, 2, 3, 4, 5, 6, 7, 8]) {
        ///     Ok(count) => assert_eq!(count, 8),
        ///     Err(refused) => assert_eq!(refused.into_inner().last(), Some(&8)),
        /// }
        /// # drop(release);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add_many`](Self::add_many), and [`Full`](AddError::Full) with all items that were
        /// not accepted.
        pub fn try_add_many(
            &self,
            items: impl IntoIterator<Item = T>,
        ) -> Result<usize, AddError<Vec<T>>> {
            self.$queue().add_many(items, Patience::Never)
        }

        /// Adds many items; waits for room for at most `timeout` in all.
        ///
        /// ```
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
        /// let wait = std::time::Duration::from_millis(50);
        /// match batcher.add_many_timeout(0..100, wait) {
        ///     Ok(count) => assert_eq!(count, 100),
        ///     Err(refused) => eprintln!("{} rows are left", refused.into_inner().len()),
        /// }
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add_many`](Self::add_many), and [`Timeout`](AddError::Timeout) with all items that
        /// were not accepted.
        pub fn add_many_timeout(
            &self,
            items: impl IntoIterator<Item = T>,
            timeout: Duration,
        ) -> Result<usize, AddError<Vec<T>>> {
            self.$queue().add_many(items, patience(timeout))
        }

        /// Adds an item and returns a [`Ticket`] for its outcome; blocks while the queue is full.
        /// Costs two allocations more than [`add`](Self::add).
        ///
        /// The item lingers like any other until a thread waits for the [`Ticket`]. Then it is
        /// handed over, with everything in line before it, as soon as the handler is free.
        ///
        /// If the item fails, and no `on_failed` hook takes it, its row is kept until the ticket
        /// has returned the failure. Then the row is dropped and counted in [`Stats::told`]. If the
        /// ticket is dropped unread, the row stays kept for `take_failed` and the close report.
        ///
        /// ```
        /// use std::time::Duration;
        /// use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback, Outcome};
        ///
        /// let batcher = Batcher::builder()
        ///     .linger(Duration::from_secs(3_600))
        ///     .spawn(|batch: &mut Batch<u64>| {
        ///         if let Some(at) = batch.iter().position(|row| *row == 13) {
        ///             batch.reject(at, BatchError::permanent("unlucky"));
        ///         }
        ///         Ok(LoadFeedback::new())
        ///     })?;
        /// assert_eq!(batcher.submit(12)?.wait(), Outcome::Handled); // not after an hour
        /// assert!(matches!(batcher.submit(13)?.wait(), Outcome::Failed(_)));
        /// assert!(batcher.take_failed().is_empty()); // its ticket has returned it
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// As [`add`](Self::add).
        pub fn submit(&self, item: T) -> Result<Ticket, AddError<T>> {
            let queue = self.$queue();
            let (resolver, ticket) = ticket::pair(queue.serial, Shared::clone(&self.line));
            queue.add_special(item, Some(resolver), Patience::Forever)?;
            Ok(ticket)
        }

        /// Hands over everything that was added before this call, without waiting for size or
        /// linger, and waits for the outcome of every such item. A pause under way is cut short,
        /// once; if a call of the handler is under way, the one after it is. During a backoff one
        /// attempt begins early, at most one within each first step of the backoff (50 ms by
        /// default). Then the schedule goes on: flushing uses up no patience. A wait that the
        /// backend asked for is never cut.
        ///
        /// The result is the handle's, not the thread's. Threads that share a handle, such as web
        /// workers with one `&Batcher`, hear of one another's failures. To learn the outcome of
        /// one's own row, use the [`Ticket`] of [`submit`](Self::submit).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use load_aware_batcher::{Batch, BatchError, Batcher, FlushError, LoadFeedback};
        /// # let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
        /// #     for (index, _) in batch.iter().enumerate().filter(|(_, row)| **row == 13) {
        /// #         batch.reject(index, BatchError::permanent("unlucky"));
        /// #     }
        /// #     Ok(LoadFeedback::new())
        /// # })?;
        /// batcher.add(12)?;
        /// assert!(batcher.flush(Duration::from_secs(9)).is_ok());
        /// batcher.add(13)?;
        /// let failed = batcher.flush(Duration::from_secs(9)).unwrap_err();
        /// assert!(matches!(failed, FlushError::Failed { items: 1, .. }));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        ///
        /// # Errors
        /// [`Failed`](FlushError::Failed) if any of those items failed, rejected rows included.
        /// Failures before the call count too, until a flush through this handle has reported them.
        /// Flushes that overlap may report the same failure; [`Timeout`](FlushError::Timeout) if
        /// the deadline passes first (the items are still handed over);
        /// [`Closed`](FlushError::Closed) if the batcher is closed, or is closed out of time
        /// meanwhile; [`Reentrant`](FlushError::Reentrant) on one of the batcher's own threads;
        /// [`Stalled`](FlushError::Stalled) if nothing has been handed over for `stall_timeout`,
        /// because nobody takes the failed rows.
        pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
            flush(self.$queue(), &self.told_of, timeout)
        }

        /// Asks for everything added so far to be handed over without waiting for size or linger,
        /// and returns at once.
        ///
        /// ```
        /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
        /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
        /// let ticket = batcher.submit(1)?;
        /// batcher.request_flush(); // returns at once
        /// assert!(ticket.wait().is_handled());
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn request_flush(&self) {
            let queue = self.$queue();
            if !queue.is_orphaned() {
                queue.lock().request_flush(now());
                queue.doorbell.ring();
            }
        }
    };
}

impl<T: Send + 'static> Batcher<T> {
    adding!(queue);

    #[inline]
    fn queue(&self) -> &Queue<T> {
        &self.core.queue
    }

    /// Closes: refuses new items at once, hands over what was accepted, and waits until all have
    /// their outcome or `timeout` has passed.
    ///
    /// Linger and pauses are overridden, and a backoff begins anew with an attempt at once; a wait
    /// that the backend asked for holds. A batch that fails is tried again, and searched for bad
    /// rows, as before the close. A further attempt begins only if the longest of the batch's
    /// failed calls, at least 50 ms, fits before the deadline. If it does not, close returns at
    /// once. With [`Retry::while_closing(false)`](crate::Retry::while_closing), a call that begins
    /// during the close is its rows' last.
    ///
    /// What was never handed to the handler then comes back as `unsent`. Rows that were in a call
    /// before, and are not in one now, come back as `failed`, in doubt where they were. What a
    /// handler holds that has not come back counts as `abandoned`. Such a handler is left behind on
    /// its thread: it may still write what it holds, and is given nothing more.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add_many(0..100)?;
    /// let report = batcher.close(std::time::Duration::from_secs(9));
    /// assert!(report.is_clean(), "{report:?}");
    /// assert_eq!(report.handled, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self, timeout: Duration) -> CloseReport<T> {
        self.core.shutdown(timeout)
    }

    /// [`close`](Self::close) through a shared reference. Whoever calls it first gets the lists;
    /// later callers wait within their own timeout and get the counts with empty lists. On one of
    /// the batcher's own threads it begins the close and returns at once, `reentrant`.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// let report = batcher.shutdown(std::time::Duration::from_secs(9));
    /// assert_eq!(report.handled, 1);
    /// assert!(batcher.add(2).unwrap_err().is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> CloseReport<T> {
        self.core.shutdown(timeout)
    }

    /// Takes the failed rows that are kept because the builder has no `on_failed` hook, in the
    /// order in which they left the queue. A row whose ticket has returned its failure is not among
    /// them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, FlushError, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    /// #     for (index, _) in batch.iter().enumerate().filter(|(_, row)| **row == 13) {
    /// #         batch.reject(index, BatchError::permanent("unlucky"));
    /// #     }
    /// #     Ok(LoadFeedback::new())
    /// # })?;
    /// batcher.add_many([12, 13])?;
    /// assert!(batcher.flush(Duration::from_secs(9)).is_err());
    /// let failed = batcher.take_failed();
    /// assert_eq!((failed.len(), failed[0].item), (1, 13));
    /// assert!(batcher.take_failed().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_failed(&self) -> Vec<Failed<T>> {
        if self.core.queue.is_orphaned() {
            return Vec::new();
        }
        let mut intake = self.core.queue.lock();
        let failed = intake.kept.take_all();
        let rings = intake.end_stall(&self.core.queue);
        drop(intake);
        if rings {
            self.core.queue.doorbell.ring();
        }
        failed
    }

    /// Reports to the controller how loaded the backend is, from any thread: for a monitor
    /// alongside the handler.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().cpu_load(1.5)); // out of range: clamped and counted
    /// assert_eq!(batcher.stats().values_corrected, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self, feedback: LoadFeedback) {
        self.core.reporter.report(&feedback);
    }

    /// Changes the limits or the policy of a running batcher. When it returns, the batch size lies
    /// within the new limits.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new())).unwrap();
    /// batcher.reconfigure(|limits| limits.max_batch_size = 10).unwrap();
    /// assert!(batcher.stats().batch_size <= 10);
    /// assert!(batcher.reconfigure(|limits| limits.max_batch_size = 0).is_err());
    /// ```
    ///
    /// # Errors
    /// A [`BuildError`] that names the setting and its value; then nothing has changed.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Limits)) -> Result<(), BuildError> {
        self.core.control.reconfigure(change)?;
        // A new policy decides at once.
        self.core.reporter.wake();
        Ok(())
    }

    /// The numbers, as one consistent snapshot.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// let stats = batcher.stats();
    /// assert_eq!((stats.added, stats.handled, stats.pending), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let setpoint = self.setpoint.read(Setpoint::clone);
        let control = self.core.control.lock();
        let (score, policy_panics) = (control.score, control.policy_panics);
        drop(control);
        let intake = self.core.queue.lock();
        let added = intake.added(&self.core.queue);
        let counts = &intake.counts;
        Stats {
            batch_size: setpoint.batch_size,
            average_load: score.map(|(score, _)| score),
            load_age: score.map(|(_, at)| now().saturating_duration_since(at)),
            added,
            handled: counts.handled,
            failed: counts.failed,
            in_doubt: counts.in_doubt,
            rejected: counts.rejected,
            told: counts.told,
            unsent: counts.unsent,
            abandoned: counts.abandoned,
            dropped_late: counts.dropped_late,
            pending: added - counts.settled(),
            refused: self.core.queue.refused.read(),
            batches: counts.batches,
            calls: counts.calls,
            retries: counts.retries,
            retries_in_halves: counts.retries_in_halves
                + intake.search.as_ref().map_or(0, |search| search.splits),
            bisections: counts.bisections
                + intake.search.as_ref().map_or(0, |search| search.bisections),
            failed_calls: counts.failed_calls,
            retried_rows: counts.retried_rows,
            retry_after_capped: counts.retry_after_capped
                + intake
                    .search
                    .as_ref()
                    .map_or(0, |search| search.outage.capped),
            retrying: intake.retrying(),
            handler_panics: counts.handler_panics,
            hook_panics: counts.hook_panics,
            policy_panics,
            drop_panics: counts.drop_panics,
            bad_rejects: counts.bad_rejects,
            kept_failed: intake.kept.len(),
            stalled: intake.stalled,
            service_time: counts.service_time.quantiles(),
            queue_wait: counts.queue_wait.quantiles(),
            samples_lost: self.core.reporter.lost(),
            values_corrected: self.core.reporter.corrected(),
            unknown_signals: self.core.reporter.unknown(),
            setpoint,
        }
    }

    /// The last 128 decisions, oldest first; those that only repeat the one before are left out.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// for decision in batcher.decisions() {
    ///     println!("{} -> {}: {}", decision.from, decision.to, decision.reason);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decisions(&self) -> Vec<DecisionRecord> {
        self.core.control.decisions()
    }
}

impl<T: Send + 'static> Drop for Batcher<T> {
    fn drop(&mut self) {
        self.core
            .close_on_drop(self.close_timeout, self.drop_patience);
    }
}

impl<T: Send + 'static> Producer<T> {
    adding!(queue);

    #[inline]
    fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// Whether the batcher is closed: then every add is refused.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let producer = batcher.producer();
    /// assert!(!producer.is_closed());
    /// drop(batcher);
    /// assert!(producer.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.queue.doorbell.is_closed()
    }
}

fn patience(timeout: Duration) -> Patience {
    now()
        .checked_add(timeout)
        .map_or(Patience::Forever, Patience::Until)
}

pub(crate) fn flush<T>(
    queue: &Queue<T>,
    told_of: &ToldOf,
    timeout: Duration,
) -> Result<(), FlushError> {
    if queue.is_orphaned() {
        return Err(FlushError::Closed);
    }
    if belongs_to(queue.serial) {
        return Err(FlushError::Reentrant);
    }
    let deadline = now().checked_add(timeout);
    let mut intake = queue.lock();
    if intake.phase != Phase::Open {
        return Err(FlushError::Closed);
    }
    let seen = told_of.seen();
    let Some(waiter) = intake.register_flush(now()) else {
        return told_of.report(seen, intake.flushes.failed());
    };
    queue.doorbell.ring();
    let result = loop {
        if let Some(failed) = intake.flushes.failed_before(waiter) {
            break told_of.report(seen, failed);
        }
        if matches!(intake.phase, Phase::Abandoned | Phase::Done) {
            break Err(FlushError::Closed);
        }
        if queue.stall.has_lasted() {
            break Err(FlushError::Stalled);
        }
        if deadline.is_some_and(|deadline| deadline <= now()) {
            break Err(FlushError::Timeout);
        }
        intake = queue
            .changed
            .wait_until(intake, queue.stall.next_check(deadline));
    };
    intake.flushes.unregister(waiter);
    result
}

impl<T: Send + 'static> fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("batch_size", &self.setpoint.batch_size())
            .field("closed", &self.core.queue.doorbell.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("closed", &self.queue.doorbell.is_closed())
            .finish_non_exhaustive()
    }
}
