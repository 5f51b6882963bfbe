//! Adds that return a ticket for the outcome of their item.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::{Producer, patience};
use crate::batcher::route::{Route, add_anywhere, lane_of};
use crate::error::AddError;
use crate::flush::lane::Lane;
use crate::queue::gate::Patience;
use crate::sync::Shared;
use crate::ticket::{self, Line, Ticket};

impl<T: Send + 'static> Producer<T> {
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
