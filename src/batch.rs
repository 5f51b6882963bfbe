//! What the handler is lent, and what becomes of the rows that fail.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::error::BatchError;
use crate::feedback::LoadFeedback;
use crate::sync::{Arc, Mutex};
use crate::ticket::Resolver;

/// A batch's name: never given again, not even after a restart, and the same on every attempt at the same items. The halves of
/// a batch have names of their own.
///
/// The upper 64 bits are random for each batcher, the lower 64 count. Made for a table of applied batches on the backend's
/// side, which makes a retry after a lost answer harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u128);

impl BatchId {
    pub(crate) fn new(random: u64, number: u64) -> Self {
        Self(u128::from(random) << 64 | u128::from(number))
    }

    /// The name as one number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What made the flusher hand a batch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trigger {
    /// It reached the batch size, or the weight limit.
    Size,
    /// Its oldest item had waited for one linger.
    Linger,
    /// Somebody waited for a ticket of one of its items, or of an item behind them.
    Wait,
    /// Somebody flushed.
    Flush,
    /// The batcher is being closed.
    Close,
}

/// Whether the batcher is being closed, and until when: shared with the batch that the handler holds.
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
        *self.0.lock() = ClosingState { begun: true, deadline };
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.lock().begun
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.lock().deadline
    }
}

/// The items that the handler is lent, in the order in which they were added.
///
/// Derefs to `[T]` and never to a mutable slice: the batch keeps its items and their order for the next attempt. To send
/// rows in another order, sort references or indices.
pub struct Batch<T> {
    pub(crate) items: Vec<T>,
    pub(crate) id: BatchId,
    pub(crate) parent: Option<BatchId>,
    pub(crate) attempt: u32,
    pub(crate) trigger: Trigger,
    /// Cells: rows are rejected while an iterator borrows the batch.
    pub(crate) rejected: RefCell<Vec<(usize, BatchError)>>,
    /// Rejections of an index that the batch does not have.
    pub(crate) out_of_range: Cell<u64>,
    pub(crate) closing: Arc<Closing>,
    pub(crate) course: Course,
    /// The outcomes that somebody waits for, by index. Not here while the batch is lent: close must reach them.
    pub(crate) tickets: Vec<(usize, Resolver)>,
}

/// What the flusher remembers of a batch from one attempt to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    /// The sequence number of the first item.
    pub(crate) first: u64,
    /// Calls that these items were in under other ids.
    pub(crate) calls_before: u32,
    /// Of those, the ones that count as attempts at this batch: it was halved for another attempt, not for its bad rows.
    pub(crate) attempts_before: u32,
    /// A half of a batch that used up its attempts: one attempt, then it is halved again.
    pub(crate) last_chance: bool,
    /// Whether an attempt ended in doubt: then a later failure does not mean that nothing was applied.
    pub(crate) in_doubt: bool,
    /// When the first attempt at these items began.
    pub(crate) since: Option<Instant>,
    /// Whether the last attempt began when the batcher was already being closed: then it is the last.
    pub(crate) closing: bool,
    /// Not to be lent before.
    pub(crate) not_before: Option<Instant>,
    /// Why the last attempt failed.
    pub(crate) error: Option<BatchError>,
    /// The size the batch was cut at, whether it reached it, whether it was a probe.
    pub(crate) cut_at: usize,
    pub(crate) full: bool,
    pub(crate) probe: bool,
    pub(crate) queue_wait: Duration,
}

impl<T> Batch<T> {
    pub(crate) fn new(id: BatchId, closing: Arc<Closing>) -> Self {
        Self {
            items: Vec::new(),
            id,
            parent: None,
            attempt: 0,
            trigger: Trigger::Size,
            rejected: RefCell::default(),
            out_of_range: Cell::new(0),
            closing,
            course: Course::default(),
            tickets: Vec::new(),
        }
    }

    /// A new batch in the buffers of an emptied one.
    pub(crate) fn renew(&mut self, id: BatchId) {
        (self.id, self.parent, self.attempt) = (id, None, 0);
        self.out_of_range.set(0);
        self.course = Course::default();
    }

    /// The batch's name: the same on every attempt at the same items. A half has a name of its own.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// For a part of a batch that is being searched for its bad rows, or tried again in halves: the name of the whole batch.
    #[must_use]
    pub fn parent(&self) -> Option<BatchId> {
        self.parent
    }

    /// Which attempt under this name this is, from 1; a half begins at 1 again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What made the flusher hand the batch over.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Whether the batcher is being closed, as of now: changes while the handler runs.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    /// Until when the handler should be done, as of now: the deadline of the close under way. After it the batch counts as
    /// abandoned. `None` while nobody closes, or closes without a bound.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.closing.deadline()
    }

    /// Marks one row as refused by the backend while the rest went through. It counts only if this call of the handler
    /// returns `Ok`; the row is then failed with this error and is not tried again. The first rejection of a row counts.
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
        if index >= self.items.len() {
            self.out_of_range.set(self.out_of_range.get() + 1);
        } else {
            // Made first: it is the user's code.
            let error = error.into();
            self.rejected.borrow_mut().push((index, error));
        }
    }

    /// The batch cut in two, the first half and the rest, each under a name of its own.
    pub(crate) fn split(mut self, ids: [BatchId; 2], last_chance: bool) -> [Self; 2] {
        let middle = self.items.len() / 2;
        let rest = self.items.split_off(middle);
        let mut tickets = std::mem::take(&mut self.tickets);
        let late = tickets.split_off(tickets.partition_point(|(index, _)| *index < middle));
        let late = late.into_iter().map(|(index, resolver)| (index - middle, resolver)).collect();
        let course = Course { calls_before: self.course.calls_before + self.attempt, last_chance, ..self.course };
        let parent = Some(self.parent.unwrap_or(self.id));
        let half = |id, items, tickets, first, not_before| Self {
            items,
            id,
            parent,
            attempt: 0,
            trigger: self.trigger,
            rejected: RefCell::default(),
            out_of_range: Cell::new(0),
            closing: Arc::clone(&self.closing),
            course: Course { first, not_before, ..course.clone() },
            tickets,
        };
        let (first, not_before) = (course.first, course.not_before);
        [half(ids[0], self.items, tickets, first, not_before), half(ids[1], rest, late, first + middle as u64, None)]
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

/// What the flusher calls with each batch: any `FnMut(&mut Batch<T>) -> Result<LoadFeedback, BatchError>`, or a type of one's
/// own.
///
/// A closure must name its argument's type, `|batch: &mut Batch<Row>| …`.
pub trait Handler<T> {
    /// Writes the batch to the backend and says how loaded the backend is.
    ///
    /// `Ok` means that every row was applied but for those that it [`reject`](Batch::reject)ed. The items are only lent: they
    /// stay with the batcher, which drops them when they are handled.
    ///
    /// # Errors
    /// No row of this call was applied, unless the error says [`in_doubt`](BatchError::in_doubt). The batch is tried again
    /// with the same name and items, or in halves, or searched for its bad rows, as the builder's `retry` says. A panic counts
    /// like an error of no class.
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
    /// Its place in the order in which items left the queue: the key of a kept row.
    pub(crate) number: u64,
}

impl<T> fmt::Debug for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed")
            .field("error", &self.error)
            .field("attempts", &self.attempts)
            .field("in_doubt", &self.in_doubt)
            .finish_non_exhaustive()
    }
}
