//! One item's outcome: [`Ticket`] waits for it, [`Resolver`] travels with the item and tells it.
//!
//! # Protocol
//! One cell under a mutex, written once. Resolver: lock, store the outcome unless there is one, unlock, notify if a waiter has
//! said so. Ticket: lock, look, say that it waits, wait. Most tickets are not waited for when the outcome comes, and a
//! notification is a system call: 2.8 M submits a second with it, 5.3 M without.
//!
//! The first outcome stays: an item abandoned to a handler is in doubt even if the handler comes back. A resolver that is
//! dropped before it was told anything says "in doubt", so that no ticket ever hangs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::BatchError;
use crate::sync::{Arc, Condvar, Mutex, belongs_to, mutant, now};

/// How an item ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler took it.
    Handled,
    /// It was not applied: the handler rejected it, or its last attempt failed.
    Failed(BatchError),
    /// The backend may or may not have applied it.
    InDoubt,
    /// It was never lent to the handler: the close report has it.
    Unsent,
    /// The wait came from one of the batcher's own threads, which would wait for itself. The item goes its way.
    Reentrant,
    /// Nothing is handed over: as many failed items are kept as `keep_failed` allows, and nobody takes them. The item goes its
    /// way once somebody does.
    Stalled,
}

impl Outcome {
    /// Whether the handler took the item.
    #[must_use]
    pub fn is_handled(&self) -> bool {
        matches!(self, Self::Handled)
    }
}

struct Cell {
    state: Mutex<State>,
    told: Condvar,
    /// Whose item it is: that batcher's own threads do not wait for it.
    serial: u64,
}

struct State {
    outcome: Option<Outcome>,
    /// Whether a ticket waits, or has waited.
    waited_for: bool,
}

/// The claim to one item's outcome, from [`Batcher::submit`](crate::Batcher::submit). Dropping it costs nothing and changes
/// nothing for the item.
pub struct Ticket(Arc<Cell>);

/// Tells the outcome, once.
pub(crate) struct Resolver(Arc<Cell>);

pub(crate) fn pair(serial: u64) -> (Resolver, Ticket) {
    let cell =
        Arc::new(Cell { state: Mutex::new(State { outcome: None, waited_for: false }), told: Condvar::new(), serial });
    (Resolver(Arc::clone(&cell)), Ticket(cell))
}

impl Ticket {
    /// Waits until the item has its outcome: after retries and the search for bad rows, at the latest when the batcher is
    /// closed. Returns [`Outcome::Reentrant`] at once on one of the batcher's own threads.
    pub fn wait(self) -> Outcome {
        self.wait_until(None).unwrap_or(Outcome::Reentrant)
    }

    /// Waits for at most `timeout`; `None` if there is no outcome yet.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Outcome> {
        let deadline = now().checked_add(timeout);
        self.wait_until(deadline)
    }

    /// The outcome, if there is one yet.
    pub fn try_wait(&self) -> Option<Outcome> {
        self.0.state.lock().outcome.clone()
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<Outcome> {
        let mut state = self.0.state.lock();
        loop {
            if state.outcome.is_some() {
                return state.outcome.clone();
            }
            if belongs_to(self.0.serial) {
                return Some(Outcome::Reentrant);
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return None;
            }
            state.waited_for = !mutant("ticket: a waiter does not say so");
            state = self.0.told.wait_until(state, deadline);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.try_wait()).finish()
    }
}

impl Resolver {
    /// Tells the outcome, if none was told before.
    pub(crate) fn tell(&self, outcome: Outcome) {
        let mut state = self.0.state.lock();
        if state.outcome.is_none() || mutant("ticket: the last outcome stays") {
            state.outcome = Some(outcome);
            let waited_for = state.waited_for;
            drop(state);
            if waited_for && !mutant("ticket: no notification") {
                self.0.told.notify_all();
            }
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if !mutant("ticket: a dropped resolver is silent") {
            self.tell(Outcome::InDoubt);
        }
    }
}
