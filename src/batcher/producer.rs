//! The handle to add with: add, submit, flush.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::{AddError, FlushError};
use crate::flush::lane::Lane;
use crate::flush::ticket_line::Handle;
use crate::queue::gate::Patience;
use crate::stats::Phase;
use crate::sync::{Arc, AtomicU64, Ordering, Shared, belongs_to, now};
use crate::ticket::{self, Line, Ticket};

/// A handle to add with; from [`Batcher::producer`](crate::Batcher::producer). Clone one for each
/// thread. It does not keep the batcher open: once that is closed, adds are refused.
///
/// A [`Batcher`](crate::Batcher) derefs to a producer of its own, so it has these methods too. Each
/// handle's [`flush`](Self::flush) reports the failures since that handle was created or last
/// flushed.
pub struct Producer<T> {
    lane: Arc<Lane<T>>,
    /// For the tickets.
    line: Shared<dyn Line>,
    reported: FailureCursor,
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self {
            lane: Arc::clone(&self.lane),
            line: self.line.another(),
            reported: self.reported.clone(),
        }
    }
}

/// How many failed items, since the start, the flushes of one handle have reported.
pub(crate) struct FailureCursor(AtomicU64);

impl FailureCursor {
    pub(crate) fn new(failed: u64) -> Self {
        Self(AtomicU64::new(failed))
    }

    /// Read when a flush registers, under the backlog's lock: another flush through this handle may
    /// end first.
    fn seen(&self) -> u64 {
        // Relaxed: a count that orders nothing; called under the backlog's lock.
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

impl Clone for FailureCursor {
    fn clone(&self) -> Self {
        // Relaxed: as in `seen`.
        Self::new(self.0.load(Ordering::Relaxed))
    }
}

impl<T: Send + 'static> Producer<T> {
    /// Failures from now on are news to this handle.
    pub(crate) fn new(lane: &Arc<Lane<T>>) -> Self {
        let failed = lane.lock().barriers.failed();
        Self {
            lane: Arc::clone(lane),
            line: Handle::shared(lane),
            reported: FailureCursor::new(failed),
        }
    }

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
        self.lane.add(item, Patience::Forever)
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
        self.lane.add(item, Patience::Never)
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
        self.lane.add(item, patience(timeout))
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
    pub fn add_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, AddError<Vec<T>>> {
        self.lane.add_many(items, Patience::Forever)
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
        self.lane.add_many(items, Patience::Never)
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
        self.lane.add_many(items, patience(timeout))
    }

    /// Adds an item and returns a [`Ticket`] for its outcome; blocks while the queue is full.
    /// Costs two allocations more than [`add`](Self::add).
    ///
    /// The item lingers like any other until a thread waits for the [`Ticket`]. Then it is
    /// handed over, with everything in line before it, as soon as the handler is free.
    ///
    /// If the item fails, and no `on_failed` hook takes it, its row is kept until the ticket
    /// has returned the failure. Then the row is dropped and counted in [`Stats::told`](crate::Stats::told). If the
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
        self.submit_within(item, Patience::Forever)
    }

    /// Adds an item if the queue has room, and returns a [`Ticket`] for its outcome; never waits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let (release, busy) = std::sync::mpsc::channel::<()>();
    /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
    /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
    /// // The handler is busy, and the queue fills up.
    /// let mut tickets = Vec::new();
    /// let refused = loop {
    ///     match batcher.try_submit(7) {
    ///         Ok(ticket) => tickets.push(ticket),
    ///         Err(refused) => break refused,
    ///     }
    /// };
    /// assert!(refused.is_full());
    /// # drop(release);
    /// assert!(tickets.into_iter().all(|ticket| ticket.wait().is_handled()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_add`](Self::try_add).
    pub fn try_submit(&self, item: T) -> Result<Ticket, AddError<T>> {
        self.submit_within(item, Patience::Never)
    }

    /// Adds an item and returns a [`Ticket`] for its outcome; waits for room for at most `timeout`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// match batcher.submit_timeout(7, Duration::from_millis(50)) {
    ///     Ok(ticket) => assert!(ticket.wait().is_handled()),
    ///     Err(refused) => eprintln!("busy, try again later with {}", refused.into_inner()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`add_timeout`](Self::add_timeout).
    pub fn submit_timeout(&self, item: T, timeout: Duration) -> Result<Ticket, AddError<T>> {
        self.submit_within(item, patience(timeout))
    }

    /// Adds many items and returns a [`Ticket`] for each, in their order; waits while the queue is
    /// full.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let tickets = batcher.submit_many(0..100)?;
    /// assert!(tickets.into_iter().all(|ticket| ticket.wait().is_handled()));
    /// # let producer = batcher.producer();
    /// # let _ = batcher.shutdown(std::time::Duration::from_secs(9));
    /// let refused = producer.submit_many([1, 2]).unwrap_err(); // after the close
    /// assert!(refused.tickets.is_empty());
    /// assert_eq!(refused.reason.into_inner(), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`add_many`](Self::add_many), with the tickets of the items that were accepted before.
    pub fn submit_many(
        &self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Ticket>, SubmitManyError<T>> {
        let mut items = items.into_iter().fuse();
        let mut tickets = Vec::with_capacity(items.size_hint().0);
        while let Some(item) = items.next() {
            match self.submit(item) {
                Ok(ticket) => tickets.push(ticket),
                Err(refused) => {
                    let reason = refused.map(|item| std::iter::once(item).chain(items).collect());
                    return Err(SubmitManyError { tickets, reason });
                }
            }
        }
        Ok(tickets)
    }

    fn submit_within(&self, item: T, patience: Patience) -> Result<Ticket, AddError<T>> {
        let (resolver, ticket) = ticket::pair(self.lane.gate.batcher_id, Shared::clone(&self.line));
        self.lane.add_tracked(item, Some(resolver), patience)?;
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
        flush(&self.lane, &self.reported, timeout)
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
        let lane = &*self.lane;
        if !lane.gate.is_orphaned() {
            lane.lock().request_flush(now());
            lane.gate.doorbell.ring();
        }
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
        self.lane.gate.doorbell.is_closed()
    }
}

/// Why [`submit_many`](Producer::submit_many) stopped before its end.
#[non_exhaustive]
pub struct SubmitManyError<T> {
    /// The tickets of the items that were accepted, in their order.
    pub tickets: Vec<Ticket>,
    /// Why the next item was refused, with all items that were not accepted.
    pub reason: AddError<Vec<T>>,
}

impl<T> SubmitManyError<T> {
    /// The items that were not accepted.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # let producer = batcher.producer();
    /// # let _ = batcher.close(std::time::Duration::from_secs(9));
    /// let refused = producer.submit_many([1, 2]).unwrap_err(); // after the close
    /// assert_eq!(refused.into_inner(), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_inner(self) -> Vec<T> {
        self.reason.into_inner()
    }
}

impl<T> fmt::Debug for SubmitManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitManyError")
            .field("tickets", &self.tickets.len())
            .field("reason", &self.reason)
            .finish()
    }
}

impl<T> fmt::Display for SubmitManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted = self.tickets.len();
        write!(f, "after {accepted} accepted items: {}", self.reason)
    }
}

impl<T> Error for SubmitManyError<T> {}

fn patience(timeout: Duration) -> Patience {
    now()
        .checked_add(timeout)
        .map_or(Patience::Forever, Patience::Until)
}

pub(crate) fn flush<T>(
    lane: &Lane<T>,
    cursor: &FailureCursor,
    timeout: Duration,
) -> Result<(), FlushError> {
    if lane.gate.is_orphaned() {
        return Err(FlushError::Closed);
    }
    if belongs_to(lane.gate.batcher_id) {
        return Err(FlushError::Reentrant);
    }
    let deadline = now().checked_add(timeout);
    let mut backlog = lane.lock();
    if backlog.lifecycle.phase != Phase::Open {
        return Err(FlushError::Closed);
    }
    let seen = cursor.seen();
    let Some(waiter) = backlog.register_flush(now()) else {
        return cursor.report(seen, backlog.barriers.failed());
    };
    lane.gate.doorbell.ring();
    let result = loop {
        if let Some(failed) = backlog.barriers.failed_before(waiter) {
            break cursor.report(seen, failed);
        }
        if matches!(backlog.lifecycle.phase, Phase::Abandoned | Phase::Done) {
            break Err(FlushError::Closed);
        }
        if lane.gate.stall.has_lasted() {
            break Err(FlushError::Stalled);
        }
        if deadline.is_some_and(|deadline| deadline <= now()) {
            break Err(FlushError::Timeout);
        }
        backlog = lane
            .changed
            .wait_until(backlog, lane.gate.stall.next_check(deadline));
    };
    backlog.barriers.unregister(waiter);
    result
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("closed", &self.lane.gate.doorbell.is_closed())
            .finish_non_exhaustive()
    }
}
