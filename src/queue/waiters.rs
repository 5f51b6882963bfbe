//! Who waits for a ticket whose item is still in line. Such an item is handed over as soon as the
//! handler is free.
//!
//! Waiting threads write the word, and under the backlog's lock the position. The flusher reads and
//! clears both at each check of the line. An add without a ticket never comes here.
//!
//! A wait overrides only the builder's linger. The flusher checks the line only when no call, no
//! backoff and no pause is in force. A linger that the policy asked for itself still holds.
//!
//! | word | since the flusher's last check of the line | what a wait does |
//! | --- | --- | --- |
//! | `NOBODY` | nobody registered | registers, under the backlog's lock |
//! | `ONE` | a thread registered, with the line's end at that time | compare-exchanges the word to `MORE` |
//! | `MORE` | others came as well | nothing |
//!
//! # Protocol
//! Waiter, after the send of its item:
//!
//! - (1) Load the word. If it is `MORE`, end. If it is `ONE`, compare-exchange it to `MORE`; end if
//!   that succeeds or finds `MORE`.
//! - (2) Otherwise lock the backlog. If the item has left the line, end.
//! - (3) Raise `before` to the end of the line.
//! - (4) Compare-exchange the word from `NOBODY` to `ONE`.
//! - (5) Take the flag `dozes`, and unlock.
//! - (6) If the flag was set, ring the doorbell.
//!
//! Then it waits for the outcome. Flusher, at each check of the line, under the lock:
//!
//! - (a) Clear `dozes`.
//! - (b) Swap the word to `NOBODY`, unless it is that.
//! - (c) If it was `MORE`, raise `before` to the end of the line.
//! - (d) If the first message in line lies before `before`, it is due after the policy's own
//!   linger. Otherwise it is due after the linger in force.
//! - (e) If it is not due, and only because nobody waits for it, set `dozes`. Then unlock and
//!   sleep.
//!
//! The race: a thread begins to wait while the flusher falls asleep for a whole linger. There are
//! three cases.
//!
//! - The waiter locks first. The flusher reads its position in (d), and does not sleep past it.
//! - The flusher locks first. The waiter finds `dozes` set and rings. A ring leaves a token, so it
//!   ends the sleep even before the sleep begins (see `wakeup`).
//! - The waiter ends in (1), without the lock. It read the word that the next swap (b) clears, so
//!   its send precedes that swap, and the end of the line in (c) lies after its item. And that swap
//!   comes. The word was set by another waiter, under the lock and after the last check. That
//!   waiter rings if the flusher sleeps.
//!
//! There is at most one ring for each hand-over. Only the flusher sets `dozes`, and it does not set
//! the flag again while `before` covers the first message.
//!
//! # Orderings
//! The word is SeqCst: in (1), (b) and (c) it has one order with the channel's tail, which the
//! waiter moves before and the flusher reads after. `before` and `dozes` are only accessed under
//! the lock.

use crate::sync::{CachePadded, SeqCstUsize};

const NOBODY: usize = 0;
const ONE: usize = 1;
const MORE: usize = 2;

/// The waiters' side: the word. Shared, without a lock.
pub(crate) struct Waiters {
    word: CachePadded<SeqCstUsize>,
    /// Whether a wait overrides the builder's linger, from the builder.
    overrides_linger: bool,
}

impl Waiters {
    pub(crate) fn new(overrides_linger: bool) -> Self {
        Self {
            word: CachePadded::new(SeqCstUsize::new(NOBODY)),
            overrides_linger,
        }
    }

    /// Step (1): whether this wait has nothing more to do.
    pub(crate) fn joins(&self) -> bool {
        match self.word.load() {
            _ if !self.overrides_linger => true,
            NOBODY => false,
            ONE => self.word.compare_exchange(ONE, MORE) != Err(NOBODY),
            _ => true,
        }
    }

    /// Steps (3) to (5), under the backlog's lock; whether to ring.
    pub(crate) fn register(&self, waited: &mut Waited, end: u64) -> bool {
        waited.before = waited.before.max(end);
        // Otherwise somebody else registered meanwhile.
        let _ = self.word.compare_exchange(NOBODY, ONE);
        waited.wake()
    }

    /// Whether somebody began to wait since the flusher's last check of the line.
    pub(crate) fn has_come(&self) -> bool {
        self.word.load() != NOBODY
    }
}

/// The flusher's side: how far the line is waited for. Part of the backlog, under its lock.
#[derive(Default)]
pub(crate) struct Waited {
    /// Somebody waits for a message before this position, or did when it was set.
    before: u64,
    /// The flusher sleeps for size or linger, and a wait has to ring.
    dozes: bool,
}

impl Waited {
    /// Steps (a) to (d): whether somebody waits for the message at `first` or for one after it.
    pub(crate) fn check(&mut self, waiters: &Waiters, first: u64, end: impl Fn() -> u64) -> bool {
        self.dozes = false;
        // Reads first: in most checks nobody has come, and a swap would take the line from who
        // waits.
        if waiters.has_come() && waiters.word.swap(NOBODY) == MORE {
            self.before = self.before.max(end());
        }
        first < self.before
    }

    /// Step (e).
    pub(crate) fn doze(&mut self) {
        self.dozes = true;
    }

    /// Step (5): whether the flusher sleeps, and is to be rung.
    pub(crate) fn wake(&mut self) -> bool {
        std::mem::take(&mut self.dozes)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "waiters/tests.rs"]
mod tests;
