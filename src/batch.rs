//! The batch that a handler gets. `handler` is what the flusher calls with it, `failed` what the
//! user gets of an item that was not handled.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::batch::id::BatchId;
use crate::batch::rows::{Memo, Purpose};
use crate::error::BatchError;
use crate::sync::Arc;
use crate::ticket::Resolver;

mod closing;
mod failed;
mod handler;
pub(crate) mod id;
pub(crate) mod rows;

pub(crate) use closing::Closing;
pub use failed::Failed;
pub use handler::Handler;

/// Why the flusher handed a batch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trigger {
    /// It reached the batch size, or the weight limit.
    Size,
    /// Its oldest item had waited for one linger.
    Linger,
    /// A thread waited for the ticket of one of its items, or of an item after them.
    Wait,
    /// A flush was called.
    Flush,
    /// The batcher is being closed.
    Close,
    /// Rows that were set aside are due: the handler asked for them again, or they were witnesses
    /// of a batch that an outage failed.
    Retry,
}

/// The items of one call of the handler, in the order in which they were added.
///
/// It derefs to `[T]`. It does not deref to a mutable slice, because the batch keeps its items and
/// their order for the next attempt. To send rows in another order, sort references or indices.
pub struct Batch<T> {
    pub(crate) items: Vec<T>,
    pub(crate) id: BatchId,
    pub(crate) parent: Option<BatchId>,
    pub(crate) attempt: u32,
    pub(crate) trigger: Trigger,
    /// Rows that were rejected or are to be called again. Cells: an iterator may borrow the batch
    /// meanwhile.
    pub(crate) marks: RefCell<Vec<(usize, Mark)>>,
    /// Marks at an index that the batch does not have.
    pub(crate) out_of_range: Cell<u64>,
    pub(crate) closing: Arc<Closing>,
    /// The number of the thread that calls the handler.
    pub(crate) worker: usize,
    pub(crate) course: Course,
    /// The outcomes that somebody waits for, by index, of items without a memo. Not here while the
    /// batch is in flight: close must reach them.
    pub(crate) tickets: Vec<(usize, Resolver)>,
    /// What is remembered of the first items, which were called before. Not here while the batch is
    /// in flight either.
    pub(crate) memos: Vec<Memo>,
}

/// What the flusher remembers of a batch while it is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// The sequence number of the first item without a memo.
    pub(crate) first: u64,
    /// The most calls that any of these items was in before, under whatever id.
    pub(crate) calls_before: u32,
    /// Whether the call began when the batcher was already being closed.
    pub(crate) closing: bool,
    pub(crate) purpose: Purpose,
    /// Whether the handler is to be made anew first, where that is possible.
    pub(crate) renew: bool,
    /// The weight of its items; 0 without a weigher.
    pub(crate) weight: usize,
    /// The size the batch was cut at, whether it reached it, whether it was a probe.
    pub(crate) cut_at: usize,
    pub(crate) full: bool,
    pub(crate) probe: bool,
    /// How long the oldest item had waited, if that was measured.
    pub(crate) queue_wait: Option<Duration>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            first: 0,
            calls_before: 0,
            closing: false,
            purpose: Purpose::Fresh,
            renew: false,
            weight: 0,
            cut_at: 0,
            full: false,
            probe: false,
            queue_wait: None,
        }
    }
}

/// What the handler said of one row.
pub(crate) struct Mark {
    pub(crate) error: BatchError,
    /// The row is to be called again.
    pub(crate) again: bool,
}

impl<T> Batch<T> {
    pub(crate) fn new(id: BatchId, closing: Arc<Closing>, worker: usize) -> Self {
        Self {
            items: Vec::new(),
            id,
            parent: None,
            attempt: 0,
            trigger: Trigger::Size,
            marks: RefCell::default(),
            out_of_range: Cell::new(0),
            closing,
            worker,
            course: Course::default(),
            tickets: Vec::new(),
            memos: Vec::new(),
        }
    }

    /// A new batch in the buffers of an emptied one.
    pub(crate) fn renew(&mut self, id: BatchId) {
        (self.id, self.parent, self.attempt) = (id, None, 0);
        (self.trigger, self.course) = (Trigger::Size, Course::default());
        self.out_of_range.set(0);
    }

    /// The batch's id. It is the same on every attempt at the same items. A part of a batch has an
    /// id of its own.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, LoadFeedback, BatchError, Trigger};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     println!("batch {}", batch.id()); // the same on each attempt
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// The id of the whole batch, if this is a part of one that is being searched for bad rows or
    /// was split to be tried again.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder()
    /// #    .on_failed(|_| ())
    /// #    .spawn(
    /// |batch: &mut Batch<u64>| {
    ///     // A table of requests that finds the parts of a batch again.
    ///     println!("{} is a part of {:?}", batch.id(), batch.parent());
    /// #   if batch.contains(&13) { return Err(BatchError::permanent("unlucky")); }
    ///     Ok(LoadFeedback::new())
    /// }
    /// #    )?;
    /// # batcher.add_many(0..20)?;
    /// # assert_eq!(batcher.close(std::time::Duration::from_secs(9)).handled, 19);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn parent(&self) -> Option<BatchId> {
        self.parent
    }

    /// The number of this attempt at the batch, from 1. A part of a batch begins at 1 again.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, LoadFeedback, BatchError, Trigger};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     if batch.attempt() > 1 {
    ///         eprintln!("batch {} once more", batch.id());
    ///     }
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Why the flusher handed the batch over.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, LoadFeedback, BatchError, Trigger};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     if batch.trigger() == Trigger::Linger {
    ///         eprintln!("{} rows, not full", batch.len());
    ///     }
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The number of the thread that calls the handler, from 0: the [`Worker`](crate::Worker) that
    /// the factory was given. With one handler it is 0.
    ///
    /// ```
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// let batcher = Batcher::builder().concurrency(2).unordered().spawn_workers(|worker| {
    ///     Ok::<_, std::io::Error>(move |batch: &mut Batch<u64>| {
    ///         assert_eq!(batch.worker(), worker.index());
    ///         Ok(LoadFeedback::new())
    ///     })
    /// })?;
    /// batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The batch size in force when the batch was gathered. A part of a batch is shorter.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, LoadFeedback};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     println!("{} of {} rows", batch.len(), batch.cut_at());
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn cut_at(&self) -> usize {
        self.course.cut_at
    }

    /// Whether the batch is a probe, by which the policy tries another size.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, LoadFeedback};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     println!("{} rows, probe: {}", batch.len(), batch.is_probe());
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.course.probe
    }

    /// How long the oldest item had waited when the batch was gathered. `None` if that was not
    /// measured, and on every attempt after the first.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, LoadFeedback};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     println!("waited for {:?}", batch.queue_wait());
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn queue_wait(&self) -> Option<Duration> {
        let is_first = self.attempt == 1 && self.course.purpose == Purpose::Fresh;
        self.course.queue_wait.filter(|_| is_first)
    }

    /// How many rows this call of the handler has marked by [`reject`](Self::reject) so far.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, LoadFeedback};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     batch.reject(0, BatchError::permanent("too long"));
    ///     println!("{} of {} rows are rejected", batch.rejected(), batch.len());
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn rejected(&self) -> usize {
        let marks = self.marks.borrow();
        marks.iter().filter(|(_, mark)| !mark.again).count()
    }

    /// Whether the batcher is being closed now. It can change while the handler runs.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, LoadFeedback, BatchError, Trigger};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     for _row in batch.iter() {
    ///         if batch.is_closing() {
    ///             return Err(BatchError::transient("stopped before the commit"));
    ///         }
    ///     }
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    /// The deadline of the close that is under way: the handler should return before it. After it
    /// the batch counts as abandoned. `None` while the batcher is not being closed, or if the close
    /// has no deadline. It can change while the handler runs.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// # use std::time::{Duration, Instant};
    /// # let batcher = Batcher::builder().spawn(
    /// |batch: &mut Batch<u64>| {
    ///     // What is left of the close's time bounds the statement.
    ///     let left = batch.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
    ///     let timeout = left.unwrap_or(Duration::MAX).min(Duration::from_secs(5));
    ///     println!("SET statement_timeout = {}", timeout.as_millis());
    ///     Ok(LoadFeedback::new())
    /// }
    /// # )?;
    /// # batcher.add(1)?;
    /// # assert!(batcher.close(Duration::from_secs(9)).is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.closing.deadline()
    }

    /// Marks one row as refused by the backend. The row fails with this error and is not called
    /// again.
    ///
    /// The mark counts if this call of the handler returns `Ok`, which means that the other rows
    /// went through. If the call returns an error, the mark counts only if its own error is
    /// [`permanent`](BatchError::permanent). So a lost connection, at which every row fails,
    /// rejects none. If a row is marked several times, the first mark counts.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(
    /// |batch: &mut Batch<String>| {
    ///     for (index, row) in batch.iter().enumerate() {
    ///         if let Err(error) = row.parse::<u64>() {
    ///             batch.reject(index, error);
    ///         }
    ///     }
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ).unwrap();
    /// # batcher.add_many(["1", "two"].map(String::from)).unwrap();
    /// # assert_eq!(batcher.close(std::time::Duration::from_secs(9)).failed[0].item, "two");
    /// ```
    ///
    /// An index that is out of range changes nothing. It is counted in
    /// [`Stats::bad_rejects`](crate::Stats::bad_rejects).
    pub fn reject(&self, index: usize, error: impl Into<BatchError>) {
        // Made first: it is the user's code.
        let error = error.into();
        self.mark(
            index,
            Mark {
                error,
                again: false,
            },
        );
    }

    /// Asks for one row again, after a backoff, while the other rows are done. For backends that
    /// answer row by row, such as a bulk request in which some documents got status 429.
    ///
    /// The mark counts if this call of the handler returns `Ok`. Otherwise the whole batch is tried
    /// again anyway. The row is set aside and its ticket has no outcome yet. It is among the first
    /// rows of a later batch, so it may be handled after rows that were added later.
    /// [`Retry::keep_order`](crate::Retry::keep_order) lets the other rows wait instead.
    ///
    /// The row has a count of attempts of its own. It fails when the patience of
    /// [`Retry`](crate::Retry) is used up, counted from the first time that the handler asked for
    /// it. When as many rows are set aside as a batch holds, no new batch is handed over, so there
    /// are always fewer than two batches of them. A flush waits for these rows. A close that runs
    /// out of time reports them as failed.
    ///
    /// The class of the error counts. `permanent` rejects the row. `in_doubt` fails it in doubt,
    /// unless the builder says [`idempotent`](crate::Builder::idempotent). `unavailable` counts as no
    /// attempt. [`BatchError::retry_after`] sets the earliest time of the next attempt.
    ///
    /// ```
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// let mut calls = 0;
    /// let batcher = Batcher::builder().spawn(move |batch: &mut Batch<u64>| {
    ///     calls += 1;
    ///     if calls == 1 {
    ///         batch.retry(1, std::io::Error::other("429 Too Many Requests"));
    ///     }
    ///     Ok(LoadFeedback::new())
    /// })?;
    /// batcher.add_many([10, 11, 12]).expect("open");
    /// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    pub fn retry(&self, index: usize, error: impl Into<BatchError>) {
        let error = error.into();
        let again = !error.is_permanent();
        self.mark(index, Mark { error, again });
    }

    /// Asks for one row again as [`retry`](Self::retry) does, but not before `wait` has passed. For
    /// backends that say how long to wait. The wait is at most
    /// [`Retry::longest_retry_after`](crate::Retry::longest_retry_after), 5 min by default.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, LoadFeedback, BatchError, Trigger};
    /// # let handler =
    /// |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
    ///     let wait = std::time::Duration::from_secs(2);
    ///     batch.retry_after(0, wait, std::io::Error::other("429 Too Many Requests"));
    ///     Ok(LoadFeedback::new())
    /// }
    /// # ; let _ = handler;
    /// ```
    pub fn retry_after(&self, index: usize, wait: Duration, error: impl Into<BatchError>) {
        self.retry(index, error.into().retry_after(wait));
    }

    fn mark(&self, index: usize, mark: Mark) {
        if index >= self.items.len() {
            self.out_of_range.set(self.out_of_range.get() + 1);
        } else {
            self.marks.borrow_mut().push((index, mark));
        }
    }
}

impl<T> Deref for Batch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("id", &self.id)
            .field("len", &self.items.len())
            .field("attempt", &self.attempt)
            .field("trigger", &self.trigger)
            .finish_non_exhaustive()
    }
}
