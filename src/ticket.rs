//! One item's outcome: [`Ticket`] waits for it, [`Resolver`] travels with the item and resolves it.
//!
//! # Protocol
//! There is one cell under a mutex, and it is written once. The resolver locks it, stores the
//! outcome unless there is one, unlocks, and notifies if a ticket waits. The ticket locks it,
//! reads, counts itself in as waiting, waits, and counts itself out. Most tickets are not waited
//! for when the outcome comes, and a notification is a system call. With one for each outcome there
//! were 2.8 M submits a second, without it 5.3 M.
//!
//! The flusher notifies only the first few waiters of a batch ([`Wakes`]). Each waiter that ends
//! its wait notifies two more. Notifying 500 threads one after another took 7 ms, in which the next
//! call could have run. The flusher attaches a cell to another one under the other's mutex, and
//! only while a ticket waits there. Otherwise it notifies by itself. A ticket that is counted in
//! when a cell is attached ends its wait later, under the same mutex, and so finds that cell.
//!
//! Before its first wait a ticket asks the [`Line`] to hand its item over (see `waiters`). It does
//! so without the cell's lock: the line has its own lock, and the resolver is called under that
//! one. A ticket that returns a failure releases the row that is kept for it, also without the
//! cell's lock. It takes the row's number out of the cell, so it does so once.
//!
//! The first outcome stays. An item in the call of an abandoned handler is in doubt even if the
//! handler returns. A resolver that is dropped unresolved resolves to "in doubt", so that no ticket
//! ever hangs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::BatchError;
use crate::sync::{
    Arc, AtomicU32, Condvar, Mutex, MutexGuard, Ordering, Shared, belongs_to, is_forked, now,
};

/// How an item ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler took it.
    Handled,
    /// It was not applied: the handler rejected it, it was found to be a bad row, its batch failed
    /// as a whole (an outage that outlasted the patience, a wrong statement), or a close ran out of
    /// time before its next attempt.
    Failed(BatchError),
    /// The backend may or may not have applied it.
    InDoubt,
    /// It was never handed to the handler: the close report has it.
    Unsent,
    /// The wait came from one of the batcher's own threads, which would wait for itself. The item
    /// goes its way.
    Reentrant,
    /// Nothing is handed over: as many failed items are kept as `keep_failed` allows, and nobody
    /// takes them. The item goes its way once somebody does.
    Stalled,
}

impl Outcome {
    /// Whether the handler took the item.
    ///
    /// ```
    /// # use load_aware_batcher::Outcome;
    /// assert!(Outcome::Handled.is_handled());
    /// assert!(!Outcome::InDoubt.is_handled());
    /// ```
    #[must_use]
    pub fn is_handled(&self) -> bool {
        matches!(self, Self::Handled)
    }
}

/// What a ticket asks of its batcher, whose items it does not know the type of.
pub(crate) trait Line: Send + Sync {
    /// Somebody waits for the item with this place: unless it has left the line, it is to be handed
    /// over when the handler is free.
    fn wait_for(&self, place: &Place);

    /// Whether nothing is handed over, and has not been for some time, because nobody takes the
    /// kept failed rows.
    fn is_stalled(&self) -> bool;

    /// Until when to wait, with this deadline, before `is_stalled` is asked again.
    fn next_check(&self, deadline: Option<Instant>) -> Option<Instant>;

    /// The ticket of the row with this number has returned its failure.
    fn told(&self, row: u64);
}

/// Whether an item has left the line. Written under the backlog's lock, by the flusher. Whoever
/// reads it under that lock has the present value; without the lock, only that it has left is sure.
pub(crate) struct Place(AtomicU32);

impl Place {
    pub(crate) fn is_left(&self) -> bool {
        // Relaxed: where it matters, the lock orders it.
        self.0.load(Ordering::Relaxed) != 0
    }
}

struct Cell {
    state: Mutex<State>,
    told: Condvar,
    place: Place,
    /// Whose item it is: that batcher's own threads do not wait for it.
    serial: u64,
}

struct State {
    outcome: Option<Outcome>,
    /// The number of the failed row that is kept until a ticket has returned its failure.
    kept_row: Option<u64>,
    /// How many threads are inside the wait for this ticket.
    waiting: u32,
    /// Whom the next of them to leave notifies.
    relay: [Option<Arc<Cell>>; 2],
}

/// A handle to one item's outcome, from [`Producer::submit`](crate::Producer::submit). Dropping it
/// changes nothing for the item.
///
/// Where threads share a batcher, such as the workers of a web server, the ticket reports the
/// outcome of one's own row. [`Producer::flush`](crate::Producer::flush) reports failures of all of
/// them.
///
/// While a thread waits for a ticket, its item does not wait for its batch to fill: it is handed
/// over, with everything that is in line before it, as soon as the handler is free (group commit).
/// Items that threads begin to wait for during a call are handed over together in the next call. A
/// wait overrides the builder's [`linger`](crate::Builder::linger). It does not override a linger
/// that the policy asked for itself ([`Decision::linger`](crate::Decision::linger)), a pause, or a
/// backoff. [`Builder::wait_overrides_linger`](crate::Builder::wait_overrides_linger) turns it off.
///
/// With a call of 2 ms and 5 µs an item, and a linger of a second (`cargo bench --bench tickets`,
/// two cores shared with other work): one or eight threads that submit and wait by turns are
/// answered within 1.0 to 1.3 calls (median), which was the linger before; a thousand threads
/// within 2.1 to 5 calls, by how busy the cores are, since notifying one thread takes them 15 µs.
/// Threads that only add keep 0.99 of their throughput alongside a waiter.
pub struct Ticket {
    cell: Arc<Cell>,
    line: Shared<dyn Line>,
}

impl std::panic::UnwindSafe for Ticket {}
impl std::panic::RefUnwindSafe for Ticket {}

/// Resolves the ticket, once.
pub(crate) struct Resolver(Arc<Cell>);

pub(crate) fn pair(serial: u64, line: Shared<dyn Line>) -> (Resolver, Ticket) {
    let state = Mutex::new(State {
        outcome: None,
        kept_row: None,
        waiting: 0,
        relay: [None, None],
    });
    let place = Place(AtomicU32::new(0));
    let cell = Arc::new(Cell {
        state,
        told: Condvar::new(),
        place,
        serial,
    });
    (Resolver(Arc::clone(&cell)), Ticket { cell, line })
}

impl Ticket {
    /// Waits until the item has its outcome: after retries and the search for bad rows, at the
    /// latest when the batcher is closed. The item does not linger meanwhile, see [`Ticket`].
    ///
    /// Returns [`Outcome::Reentrant`] at once on one of the batcher's own threads. Returns
    /// [`Outcome::Stalled`] if nothing has been handed over for the builder's
    /// [`stall_timeout`](crate::Builder::stall_timeout) because nobody takes the failed rows. In
    /// both cases the item goes its way.
    ///
    /// A failed item whose row is kept (see [`Builder::keep_failed`](crate::Builder::keep_failed))
    /// is dropped once this or one of the other two methods has returned `Failed` or `InDoubt` for
    /// it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, Outcome, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    /// #     for (index, _) in batch.iter().enumerate().filter(|(_, row)| **row == 13) {
    /// #         batch.reject(index, BatchError::permanent("unlucky"));
    /// #     }
    /// #     Ok(LoadFeedback::new())
    /// # })?;
    /// assert_eq!(batcher.submit(12)?.wait(), Outcome::Handled);
    /// match batcher.submit(13)?.wait() {
    ///     Outcome::Failed(error) => assert_eq!(error.to_string(), "unlucky"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(self) -> Outcome {
        self.wait_until(None).unwrap_or(Outcome::Reentrant)
    }

    /// Waits for at most `timeout`; `None` if there is no outcome yet. With a `timeout` of zero it
    /// asks for nothing; otherwise the item is handed over as by [`wait`](Self::wait), also if the
    /// time is over before.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let (release, busy) = std::sync::mpsc::channel::<()>();
    /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
    /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
    /// let ticket = batcher.submit(1)?;
    /// assert_eq!(ticket.wait_timeout(Duration::from_millis(1)), None); // the handler is busy
    /// # drop(release);
    /// assert!(ticket.wait().is_handled());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Outcome> {
        let deadline = now().checked_add(timeout);
        self.wait_until(deadline)
    }

    /// The outcome, if there is one yet. Asks for nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let (release, busy) = std::sync::mpsc::channel::<()>();
    /// # let batcher = Batcher::builder().max_batch_size(1).queue_capacity(1).spawn(
    /// #     move |_: &mut Batch<u64>| { busy.recv().ok(); Ok(LoadFeedback::new()) })?;
    /// let ticket = batcher.submit(1)?;
    /// assert_eq!(ticket.try_wait(), None); // the handler is busy
    /// # drop(release);
    /// assert!(ticket.wait().is_handled());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_wait(&self) -> Option<Outcome> {
        self.hand_out(self.cell.state.lock())
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<Outcome> {
        let mut registered = false;
        let mut state = self.cell.state.lock();
        loop {
            if state.outcome.is_some() {
                return self.hand_out(state);
            }
            if belongs_to(self.cell.serial) {
                return Some(Outcome::Reentrant);
            }
            if self.line.is_stalled() {
                return Some(Outcome::Stalled);
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return None;
            }
            if !registered {
                if is_forked(self.cell.serial) {
                    return Some(Outcome::InDoubt);
                }
                registered = true;
                drop(state);
                self.ask();
                state = self.cell.state.lock();
                continue;
            }
            state.waiting += 1;
            state = self
                .cell
                .told
                .wait_until(state, self.line.next_check(deadline));
            state.waiting = state.waiting.saturating_sub(1);
        }
    }

    /// Asks for the item to be handed over.
    pub(crate) fn ask(&self) {
        self.line.wait_for(&self.cell.place);
    }

    /// The outcome. With it goes the row that was kept for it, and whoever is to be notified by the
    /// way.
    fn hand_out(&self, mut state: MutexGuard<'_, State>) -> Option<Outcome> {
        let outcome = state.outcome.clone();
        let row = state.kept_row.take();
        let relay = std::mem::take(&mut state.relay);
        drop(state);
        relay
            .into_iter()
            .flatten()
            .for_each(|cell| cell.told.notify_all());
        if let Some(row) = row {
            self.line.told(row);
        }
        outcome
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.cell.state.lock().outcome.clone();
        f.debug_tuple("Ticket").field(&outcome).finish()
    }
}

impl Resolver {
    /// Resolves the ticket, unless it is resolved.
    pub(crate) fn tell(&self, outcome: Outcome) {
        if self.store(outcome, None) {
            self.0.told.notify_all();
        }
    }

    /// The same; whoever waits is notified with those of the whole batch. `kept_row` is the number
    /// of a row that failed and is kept until a ticket has returned this.
    pub(crate) fn tell_with(&self, wakes: &mut Wakes, outcome: Outcome, kept_row: Option<u64>) {
        if self.store(outcome, kept_row) {
            wakes.0.push(Arc::clone(&self.0));
        }
    }

    /// Stores the outcome, if there is none; whether somebody is to be notified.
    fn store(&self, outcome: Outcome, kept_row: Option<u64>) -> bool {
        let mut state = self.0.state.lock();
        if state.outcome.is_some() {
            return false;
        }
        (state.outcome, state.kept_row) = (Some(outcome), kept_row);
        state.waiting > 0
    }

    /// The item has left the line. Under the backlog's lock.
    pub(crate) fn leave_line(&self) {
        // Relaxed: see `Place`.
        self.0.place.0.store(1, Ordering::Relaxed);
    }
}

/// How many waiters the flusher notifies itself.
const ROOTS: usize = if cfg!(all(test, any(loom, shuttle))) {
    1
} else {
    4
};

/// Who waits for the outcomes of a batch. To be notified after the backlog's lock.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Arc<Cell>>);

impl Wakes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notifies all of them: the first few here, each other one by an earlier one that leaves its
    /// wait.
    ///
    /// Returns how many.
    pub(crate) fn notify(&mut self) -> usize {
        let notified = self.0.len();
        // From the last on: whoever is notified has its own two attached.
        while let Some(cell) = self.0.pop() {
            let place = self.0.len();
            let attached = place >= ROOTS && self.0[(place - ROOTS) / 2].attach(&cell);
            if !attached {
                cell.told.notify_all();
            }
        }
        notified
    }
}

impl Cell {
    /// Leaves it to a thread that is waiting here to notify the other cell, if there is one.
    fn attach(&self, other: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        let waits = state.waiting > 0;
        match state.relay.iter_mut().find(|place| place.is_none()) {
            Some(place) if waits => {
                *place = Some(Arc::clone(other));
                true
            }
            _ => false,
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tell(Outcome::InDoubt);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    struct NoLine;

    impl Line for NoLine {
        fn wait_for(&self, _: &Place) {}

        fn is_stalled(&self) -> bool {
            false
        }

        fn next_check(&self, deadline: Option<Instant>) -> Option<Instant> {
            deadline
        }

        fn told(&self, _: u64) {}
    }

    /// The first `ROOTS` waiters have left, by their deadlines say, when the others are attached.
    #[test]
    fn nobody_is_left_to_be_notified_by_a_waiter_that_has_gone() {
        let (resolvers, tickets): (Vec<_>, Vec<_>) = (0..=ROOTS)
            .map(|_| pair(crate::sync::next_serial(), Shared::new(NoLine)))
            .unzip();
        let waiting = |waiting| {
            tickets
                .iter()
                .for_each(|ticket| ticket.cell.state.lock().waiting = waiting)
        };
        let relayed = || {
            tickets
                .iter()
                .filter(|ticket| ticket.cell.state.lock().relay[0].is_some())
                .count()
        };
        for (stays, expected) in [(1, 1), (0, 0)] {
            let mut wakes = Wakes(
                resolvers
                    .iter()
                    .map(|resolver| Arc::clone(&resolver.0))
                    .collect(),
            );
            waiting(stays);
            assert_eq!(wakes.notify(), ROOTS + 1);
            assert_eq!(relayed(), expected);
            waiting(0);
            tickets
                .iter()
                .for_each(|ticket| ticket.cell.state.lock().relay = [None, None]);
        }
    }
}
