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
    /// The handler returned `Ok` for it: it is stored.
    Handled,
    /// It was not stored, for one of four reasons: the handler rejected it; it was found to be a
    /// bad row; its batch failed as a whole, by an outage longer than the patience or by a wrong
    /// statement; or a close ran out of time before the next attempt.
    Failed(BatchError),
    /// The backend may or may not have stored it.
    InDoubt,
    /// It was never handed to the handler. The close report has it.
    Unsent,
    /// The wait came from one of the batcher's own threads, which would have waited for itself. The
    /// item is handled as usual.
    Reentrant,
    /// No batch is handed over, because as many failed items are kept as `keep_failed` allows, and
    /// nobody takes them. The item is handed over once they are taken.
    Stalled,
}

impl Outcome {
    /// Whether the item is [`Handled`](Self::Handled).
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
/// Where threads share a batcher, such as the workers of a web server, a ticket gives each thread
/// the outcome of its own item. [`Producer::flush`](crate::Producer::flush) reports the failures of
/// all of them.
///
/// While a thread waits for a ticket, the item does not linger: it is handed over, with everything
/// in line before it, as soon as the handler is free (group commit). If threads begin to wait for
/// several items during a call, these items go together in the next call. A wait overrides the
/// builder's [`linger`](crate::Builder::linger). It does not override a linger that the policy has
/// set ([`Decision::linger`](crate::Decision::linger)), a pause, or a backoff.
/// [`Builder::wait_overrides_linger`](crate::Builder::wait_overrides_linger) turns this off.
///
/// Measured with a call that takes 2 ms and 5 µs for each item, and a linger of 1 s, on two cores
/// shared with other work (`cargo bench --bench tickets`). The median time to the outcome, for
/// threads that submit and wait by turns:
///
/// - one or eight threads: 1.0 to 1.3 calls. Without this rule it was the linger.
/// - a thousand threads: 2.4 to 2.8 calls, which is 0.6 to 0.8 of the time of the same loop written
///   by hand. Each call has the threads that the call before it did not have, and to notify one
///   thread takes 15 µs. On busy cores it was up to 5 calls.
///
/// Threads that only add keep 0.99 of their throughput while another thread waits.
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
    /// Waits until the item has its outcome. That is after retries and the search for bad rows, and
    /// at the latest when the batcher is closed. The item does not linger meanwhile, see
    /// [`Ticket`].
    ///
    /// Returns [`Outcome::Reentrant`] at once on one of the batcher's own threads. Returns
    /// [`Outcome::Stalled`] if no batch has been handed over for the builder's
    /// [`stall_timeout`](crate::Builder::stall_timeout) because nobody takes the failed rows. In
    /// both cases the item is still handled later.
    ///
    /// A failed item that is kept (see [`Builder::keep_failed`](crate::Builder::keep_failed)) is
    /// dropped once this method, [`wait_timeout`](Self::wait_timeout) or
    /// [`try_wait`](Self::try_wait) has returned `Failed` or `InDoubt` for it.
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

    /// Waits for at most `timeout`. Returns `None` if there is no outcome yet. The item does not
    /// linger, as with [`wait`](Self::wait), even after the timeout. With a `timeout` of zero it
    /// lingers.
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

    /// Returns the outcome, if there is one yet. The item lingers as before.
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
