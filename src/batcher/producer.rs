//! The handle to add with. `submit` has the adds that return a ticket, `flush` the wait for
//! outcomes.

use std::fmt;
use std::time::Duration;

use crate::batcher::route::{Route, add_anywhere, add_many_anywhere, add_many_by_key, lane_of};
use crate::error::{AddError, FlushError};
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::flush::ticket_line::Handle;
use crate::queue::gate::Patience;
use crate::sync::{Arc, Shared, now};
use crate::ticket::Line;

mod flush;
mod submit;

pub(crate) use flush::{FailureCursor, flush};
pub use submit::SubmitManyError;

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

fn patience(timeout: Duration) -> Patience {
    now()
        .checked_add(timeout)
        .map_or(Patience::Forever, Patience::Until)
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("closed", &self.lane.gate.doorbell.is_closed())
            .finish_non_exhaustive()
    }
}
