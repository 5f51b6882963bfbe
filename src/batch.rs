//! What is handed to the handler, and what becomes of the rows that fail.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::batch::id::BatchId;
use crate::batch::rows::{Memo, Purpose};
use crate::error::BatchError;
use crate::feedback::LoadFeedback;
use crate::sync::{Arc, Mutex};
use crate::ticket::Resolver;

pub(crate) mod id;
pub(crate) mod rows;

/// What made the flusher hand a batch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trigger {
    /// It reached the batch size, or the weight limit.
    Size,
    /// Its oldest item had waited for one linger.
    Linger,
    /// Somebody waited for a ticket of one of its items, or of an item after them.
    Wait,
    /// Somebody flushed.
    Flush,
    /// The batcher is being closed.
    Close,
    /// Rows that were set aside are due: the handler asked for them again, or they were witnesses
    /// of a batch that an outage failed.
    Retry,
}

/// Whether the batcher is being closed, and until when: shared with the batch that the handler
/// holds.
pub(crate) struct Closing(Mutex<ClosingState>);

#[derive(Clone, Copy, Default)]
struct ClosingState {
    begun: bool,
    deadline: Option<Instant>,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ClosingState::default()))
    }

    pub(crate) fn begin(&self, deadline: Option<Instant>) {
        *self.0.lock() = ClosingState {
            begun: true,
            deadline,
        };
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.lock().begun
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.lock().deadline
    }
}

/// The items that are handed to the handler, in the order in which they were added.
///
/// Derefs to `[T]` and never to a mutable slice: the batch keeps its items and their order for the
/// next attempt. To send rows in another order, sort references or indices.
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

    /// The batch's id: the same on every attempt at the same items. A part of it has an id of its
    /// own.
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

    /// For a part of a batch that is being searched for its bad rows, or split and tried again: the
    /// id of the whole batch.
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

    /// Which attempt under this id this is, from 1; a part begins at 1 again.
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

    /// What made the flusher hand the batch over.
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

    /// Which of the batcher's threads calls the handler: the number of the
    /// [`Worker`](crate::Worker) that the factory was given, from 0. With one handler it is 0.
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

    /// The batch size in force when the batch was cut. A part of a batch is shorter.
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

    /// Whether the batch is a probe: the policy tries another size.
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

    /// How long the oldest item had waited when the batch was cut. `None` where that was not
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

    /// How many marks by [`reject`](Self::reject) this call of the handler has made so far.
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

    /// Whether the batcher is being closed, as of now: changes while the handler runs.
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

    /// Until when the handler should be done, as of now: the deadline of the close under way. After
    /// it the batch counts as abandoned. `None` while nobody closes, or closes without a bound.
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

    /// Marks one row as refused by the backend. It fails with this error and is not called again.
    ///
    /// Counts if this call of the handler returns `Ok`: the rest of the batch went through. If the
    /// call returns an error, a rejection counts only if its own error is
    /// [`permanent`](BatchError::permanent), so that a lost connection, which fails each row,
    /// rejects none. The first mark of a row counts.
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
    /// An index out of range changes nothing and is counted in
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

    /// Asks for one row again, after a backoff: the rest of the batch is done. For backends that
    /// answer row by row, such as a bulk request in which some documents got status 429.
    ///
    /// Counts if this call of the handler returns `Ok`; otherwise the whole batch is tried again
    /// anyway. The row is set aside, with its ticket unresolved, and is among the first of a later
    /// batch, so it may be handled after rows that were added later
    /// ([`Retry::keep_order`](crate::Retry::keep_order) holds the line instead). It keeps its own
    /// count of attempts, and fails when the patience of [`Retry`](crate::Retry), counted from the
    /// first time the handler asked for it, is used up. While as many rows are set aside as a batch
    /// holds, the line waits; so there are fewer than two batches of them. A flush waits for them.
    /// A close that runs out of time reports them as failed.
    ///
    /// The error's class counts: `permanent` rejects the row, `in_doubt` fails it in doubt unless
    /// the builder says [`idempotent`](crate::Builder::idempotent), `unavailable` counts as no
    /// attempt, and [`BatchError::retry_after`] says when to come again.
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

    /// [`retry`](Self::retry) not before `wait` has passed: for backends that say when. Capped at
    /// [`Retry::longest_retry_after`](crate::Retry::longest_retry_after), default 5 min.
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

/// What the flusher calls with each batch: any `FnMut(&mut Batch<T>) -> Result<LoadFeedback,
/// BatchError>`, or a type of one's own.
///
/// A closure must name its argument's type, `|batch: &mut Batch<Row>| …`.
pub trait Handler<T> {
    /// Writes the batch to the backend and says how loaded the backend is.
    ///
    /// `Ok` means that every row was applied but for those that it [`reject`](Batch::reject)ed. The
    /// items are only borrowed: they stay with the batcher, which drops them when they are handled.
    ///
    /// # Errors
    /// No row of this call was applied, unless the error says [`in_doubt`](BatchError::in_doubt).
    /// The batch is tried again with the same id and items, or searched for its bad rows, as the
    /// builder's `retry` says. A panic counts like an error of no class.
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError>;
}

impl<T, F> Handler<T> for F
where
    F: FnMut(&mut Batch<T>) -> Result<LoadFeedback, BatchError>,
{
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        self(batch)
    }
}

/// An item that was not handled, with the reason.
#[non_exhaustive]
pub struct Failed<T> {
    /// The item.
    pub item: T,
    /// Why its last attempt failed.
    pub error: BatchError,
    /// How many calls of the handler it was in.
    pub attempts: u32,
    /// Whether the backend may have applied it after all.
    pub in_doubt: bool,
    /// Whether it failed because the backend gave no answer for as long as [`Retry`](crate::Retry)
    /// says, not for a fault that was found in the row.
    pub outage: bool,
    /// Its place in the order in which items left the queue: the key of a kept row.
    pub(crate) number: u64,
}

impl<T> fmt::Debug for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed")
            .field("error", &self.error)
            .field("attempts", &self.attempts)
            .field("in_doubt", &self.in_doubt)
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}
