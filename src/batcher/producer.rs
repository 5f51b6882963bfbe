//! The handle to add with: add, submit, flush.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use crate::batcher::route::{Route, add_anywhere, add_many_anywhere, add_many_by_key, lane_of};
use crate::error::{AddError, FlushError};
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::flush::ticket_line::Handle;
use crate::queue::gate::Patience;
use crate::stats::Phase;
use crate::sync::{Arc, AtomicU64, Ordering, Shared, belongs_to, now};
use crate::ticket::{self, Line, Ticket};

/// A handle by which a thread adds items. [`Batcher::producer`](crate::Batcher::producer) makes
/// one; clone it for each thread. It does not keep the batcher open: once that is closed, adds are
/// refused.
///
/// A [`Batcher`](crate::Batcher) derefs to a producer of its own, so it has these methods too. The
/// [`flush`](Self::flush) of a handle reports the failures since that handle was created or last
/// flushed.
///
/// A bare method, such as `add` or `submit`, waits while the queue is full. One that begins with
/// `try_` never waits. One that ends with `_timeout` waits for at most that time.
///
/// With [`order_by_producer`](crate::Builder::order_by_producer) the items of one handle stay in
/// order. A clone is another handle.
pub struct Producer<T> {
    /// Where this handle's items go, unless each has a route of its own.
    lane: Arc<Lane<T>>,
    lanes: Arc<Lanes<T>>,
    route: Route<T>,
    /// For the tickets: of this handle's lane; of each lane where items have routes of their own.
    lines: Box<[Shared<dyn Line>]>,
    /// One for each lane.
    reported: Box<[FailureCursor]>,
}

impl<T: Send + 'static> Clone for Producer<T> {
    fn clone(&self) -> Self {
        self.next(self.reported.clone())
    }
}

/// How many failed items of one lane, since the start, the flushes of one handle have reported.
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

    /// A flush ends with so many failed items since the start.
    fn advance(&self, failed: u64) {
        // Relaxed: as in `seen`.
        self.0.fetch_max(failed, Ordering::Relaxed);
    }
}

impl Clone for FailureCursor {
    fn clone(&self) -> Self {
        // Relaxed: as in `seen`.
        Self::new(self.0.load(Ordering::Relaxed))
    }
}

impl<T: Send + 'static> Producer<T> {
    /// The owner's own handle, on the first lane. Failures from now on are news to it.
    pub(crate) fn of_owner(lanes: &Arc<Lanes<T>>, route: Route<T>) -> Self {
        Self::on(lanes, 0, route, Self::cursors(lanes))
    }

    fn cursors(lanes: &Lanes<T>) -> Box<[FailureCursor]> {
        let failed = |lane: &Arc<Lane<T>>| FailureCursor::new(lane.lock().barriers.failed());
        lanes.all().iter().map(failed).collect()
    }

    /// A handle over the same lanes. Failures from now on are news to it.
    pub(crate) fn sibling(&self) -> Self {
        self.next(Self::cursors(&self.lanes))
    }

    /// Another handle: with an order by producer, on the next lane.
    fn next(&self, reported: Box<[FailureCursor]>) -> Self {
        let own = match self.route {
            Route::ByProducer => self.lanes.next_handle(),
            Route::ByKey(_) | Route::Unordered => 0,
        };
        Self::on(&self.lanes, own, self.route.clone(), reported)
    }

    fn on(
        lanes: &Arc<Lanes<T>>,
        own: usize,
        route: Route<T>,
        reported: Box<[FailureCursor]>,
    ) -> Self {
        let line = |place| Handle::shared(lanes, place);
        let lines: Box<[_]> = match route {
            Route::ByProducer => Box::new([line(own)]),
            Route::ByKey(_) | Route::Unordered => (0..lanes.all().len()).map(line).collect(),
        };
        Self {
            lane: Arc::clone(&lanes.all()[own]),
            lanes: Arc::clone(lanes),
            route,
            lines,
            reported,
        }
    }

    /// Adds an item to the lane that its route leads to.
    #[inline(always)]
    fn add_within(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        if self.lane.gate.is_open_and_plain() {
            return self.lane.counted(self.lane.add_plain(item, patience));
        }
        self.add_routed(item, patience)
    }

    #[inline(never)]
    fn add_routed(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        let lanes = self.lanes.all();
        self.lane.counted(match &self.route {
            Route::ByProducer => self.lane.add(item, patience),
            Route::ByKey(hash) => lanes[lane_of(hash(&item), lanes.len())].add(item, patience),
            Route::Unordered => {
                add_anywhere(&self.lanes, item, patience, |place, item, patience| {
                    lanes[place].add(item, patience)
                })
            }
        })
    }

    fn add_many_within(
        &self,
        items: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<usize, AddError<Vec<T>>> {
        self.lane.counted(match &self.route {
            Route::ByProducer => self.lane.add_many(items, patience),
            Route::ByKey(hash) => add_many_by_key(self.lanes.all(), hash, items, patience),
            Route::Unordered => add_many_anywhere(&self.lanes, items, patience),
        })
    }

    /// Adds an item. Waits while the queue is full. Returns when the item is queued, not when it is
    /// handled.
    ///
    /// The item is moved by value and copied on the stack of the calling thread. Box items of more
    /// than 16 KiB: in a build without optimisation, an item of 32 KiB can overflow the 2 MiB stack
    /// of a thread that waits here on a full queue.
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
    /// Each error has the item in it.
    ///
    /// - [`Closed`](AddError::Closed) if the batcher is closed, or is closed while the add waits.
    /// - [`Reentrant`](AddError::Reentrant) if the add would wait and was called on one of the
    ///   batcher's own threads.
    /// - [`Stalled`](AddError::Stalled) if the add would wait, and no batch has been handed over
    ///   for [`stall_timeout`](crate::Builder::stall_timeout) because nobody takes the failed rows.
    /// - [`TooHeavy`](AddError::TooHeavy) if the builder refuses too heavy items.
    #[inline]
    pub fn add(&self, item: T) -> Result<(), AddError<T>> {
        self.add_within(item, Patience::Forever)
    }

    /// Adds an item if the queue has room. Never waits.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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
        self.add_within(item, Patience::Never)
    }

    /// Adds an item. Waits for room for at most `timeout`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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
        self.add_within(item, patience(timeout))
    }

    /// Adds many items, in chunks of at most 64 as the iterator yields them. Waits while the queue
    /// is full. Returns how many items it added.
    ///
    /// It costs a fraction of as many calls of [`add`](Self::add).
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
    /// As [`add`](Self::add). The error has all items that were not accepted, including those that
    /// the iterator had not yielded yet. Items that were accepted before stay accepted.
    pub fn add_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, AddError<Vec<T>>> {
        self.add_many_within(items, Patience::Forever)
    }

    /// Adds as many items as there is room for. Never waits.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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
        self.add_many_within(items, Patience::Never)
    }

    /// Adds many items. Waits for room for at most `timeout` in all.
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
        self.add_many_within(items, patience(timeout))
    }

    /// Adds an item and returns a [`Ticket`](crate::Ticket) for its outcome. Waits while the queue
    /// is full. Costs two allocations more than [`add`](Self::add).
    ///
    /// The item lingers like any other until a thread waits for the ticket. Then it is handed over,
    /// with everything in line before it, as soon as the handler is free.
    ///
    /// If the item fails, and no `on_failed` hook takes it, it is kept until the ticket has
    /// returned the failure. Then it is dropped and counted in [`Stats::told`](crate::Stats::told).
    /// If the ticket is dropped unread, the item stays kept for `take_failed` and the close report.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
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

    /// Adds an item if the queue has room, and returns a [`Ticket`](crate::Ticket) for its outcome.
    /// Never waits.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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

    /// Adds an item and returns a [`Ticket`](crate::Ticket) for its outcome. Waits for room for at
    /// most `timeout`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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

    /// Adds many items and returns a [`Ticket`](crate::Ticket) for each, in their order. Waits
    /// while the queue is full.
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
    /// As [`add_many`](Self::add_many). The error also has the tickets of the items that were
    /// accepted before.
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
        let lanes = self.lanes.all();
        self.lane.counted(match &self.route {
            Route::ByProducer => submit_to(&self.lane, &self.lines[0], item, patience),
            Route::ByKey(hash) => {
                let place = lane_of(hash(&item), lanes.len());
                submit_to(&lanes[place], &self.lines[place], item, patience)
            }
            Route::Unordered => {
                add_anywhere(&self.lanes, item, patience, |place, item, patience| {
                    submit_to(&lanes[place], &self.lines[place], item, patience)
                })
            }
        })
    }

    /// Hands over everything that was added before this call, without waiting for size or linger,
    /// and waits for the outcome of every such item.
    ///
    /// A flush ends one pause: the present one, or the one after the call that is under way. During
    /// a backoff it begins one attempt early, at most one within each first step of the backoff,
    /// which is 50 ms by default. The schedule then continues, so a flush uses up no patience. It
    /// never cuts a wait after an [`unavailable`](crate::BatchError::unavailable) error.
    ///
    /// The result belongs to the handle, not to the thread. Threads that share a handle, such as
    /// web workers with one `&Batcher`, get one another's failures. To learn the outcome of one
    /// item, use the [`Ticket`](crate::Ticket) of [`submit`](Self::submit).
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
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
    /// - [`Failed`](FlushError::Failed) if any of those items failed, rejected rows included.
    ///   Failures before the call count too, until a flush through this handle has reported them.
    ///   Flushes that overlap may report the same failure.
    /// - [`Timeout`](FlushError::Timeout) if the deadline passes first. The items are still handed
    ///   over.
    /// - [`Closed`](FlushError::Closed) if the batcher is closed, or if a close runs out of time
    ///   during the flush.
    /// - [`Reentrant`](FlushError::Reentrant) on one of the batcher's own threads.
    /// - [`Stalled`](FlushError::Stalled) if no batch has been handed over for
    ///   [`stall_timeout`](crate::Builder::stall_timeout) because nobody takes the failed rows.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        flush(&self.lanes, &self.reported, timeout)
    }

    /// Requests that everything added so far is handed over without waiting for size or linger.
    /// Returns at once.
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
        if !self.lane.gate.is_orphaned() {
            self.lanes.request_flush(now());
        }
    }

    /// Whether the batcher is closed or is being closed. Every add is refused then.
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
        self.lane.is_closed()
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

fn submit_to<T>(
    lane: &Lane<T>,
    line: &Shared<dyn Line>,
    item: T,
    patience: Patience,
) -> Result<Ticket, AddError<T>> {
    let (resolver, ticket) = ticket::pair(lane.gate.batcher_id, Shared::clone(line));
    lane.add_tracked(item, Some(resolver), patience)?;
    Ok(ticket)
}

/// A flush of one lane that has begun.
struct Begun {
    /// What the handle's flushes had reported before.
    seen: u64,
    /// The registration; or the failures since the start, if there is nothing to wait for.
    waits: Result<u64, u64>,
}

/// Flushes all lanes: first asks each, then waits for each. `cursors` are those of one handle, one
/// for each lane.
pub(crate) fn flush<T>(
    lanes: &Lanes<T>,
    cursors: &[FailureCursor],
    timeout: Duration,
) -> Result<(), FlushError> {
    let gate = &lanes.first().gate;
    if gate.is_orphaned() {
        return Err(FlushError::Closed);
    }
    if belongs_to(gate.batcher_id) {
        return Err(FlushError::Reentrant);
    }
    let deadline = now().checked_add(timeout);
    lanes.cut_pauses();
    let mut begun = Vec::with_capacity(cursors.len());
    let mut problem = None;
    for (lane, cursor) in lanes.all().iter().zip(cursors) {
        let mut backlog = lane.lock();
        if backlog.lifecycle.phase != Phase::Open {
            problem = Some(FlushError::Closed);
            break;
        }
        let seen = cursor.seen();
        let waits = backlog.register_flush(now());
        begun.push(Begun {
            seen,
            waits: waits.ok_or_else(|| backlog.barriers.failed()),
        });
        drop(backlog);
        if waits.is_some() {
            lane.gate.doorbell.ring();
        }
    }
    let mut ended = Vec::with_capacity(begun.len());
    for (lane, flush) in lanes.all().iter().zip(&begun) {
        let failed = match flush.waits {
            Ok(waiter) => wait_for_flush(lane, waiter, deadline, problem.take()),
            Err(failed) => Ok(failed),
        };
        match failed {
            Ok(failed) => ended.push(failed),
            // What waits for the others is taken back at once.
            Err(error) => problem = Some(error),
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    let mut items = 0;
    for ((failed, flush), cursor) in ended.iter().zip(&begun).zip(cursors) {
        cursor.advance(*failed);
        items += failed.saturating_sub(flush.seen);
    }
    if items > 0 {
        Err(FlushError::Failed { items })
    } else {
        Ok(())
    }
}

/// Waits for a flush of one lane, unless there is a problem already; how many items before it
/// failed since the start.
fn wait_for_flush<T>(
    lane: &Lane<T>,
    waiter: u64,
    deadline: Option<Instant>,
    problem: Option<FlushError>,
) -> Result<u64, FlushError> {
    let mut backlog = lane.lock();
    let result = loop {
        if let Some(problem) = problem {
            break Err(problem);
        }
        if let Some(failed) = backlog.barriers.failed_before(waiter) {
            break Ok(failed);
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
