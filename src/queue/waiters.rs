//! Who waits for a ticket whose item is still in line: such an item is handed over as soon as the
//! handler is free.
//!
//! Written by waiting threads (the word, and under the backlog's lock the position), read and
//! cleared by the flusher at each check of the line. An add without a ticket never comes here.
//!
//! A wait overrides the builder's linger and nothing else: the flusher comes to the line only when
//! no call, no backoff and no pause is in force, and a linger that the policy asked for itself
//! still holds.
//!
//! | word | since the flusher's last check of the line | what a wait does |
//! | --- | --- | --- |
//! | `NOBODY` | nobody registered | registers, under the backlog's lock |
//! | `ONE` | somebody registered, with the line's end at that time | compare-exchanges the word to `MORE` |
//! | `MORE` | others came as well | nothing |
//!
//! # Protocol
//! Waiter, after the send of its item: (1) load the word; `MORE` is done; `ONE` is done if the
//! compare-exchange to `MORE` succeeds or finds `MORE`. (2) Otherwise lock the backlog; if the item
//! has left the line, done. (3) Raise `before` to the end of the line. (4) Compare-exchange the
//! word from `NOBODY` to `ONE`. (5) Take the flag `dozes` and unlock. (6) If the flag was set, ring
//! the doorbell. Then wait for the outcome. Flusher, at each check of the line, under the lock: (a)
//! clear `dozes`; (b) swap the word to `NOBODY`, unless it is; (c) if it was `MORE`, raise `before`
//! to the end of the line; (d) if the first message in line lies before `before`, it is due after
//! the policy's own linger, otherwise after the linger in force; (e) if it is not due, and only
//! because nobody waits for it, set `dozes`; unlock; sleep.
//!
//! The race: a thread begins to wait just as the flusher falls asleep for a whole linger. Both go
//! through the lock. If the waiter is first, the flusher reads its position in (d) and does not
//! sleep past it. If the flusher is first, the waiter finds `dozes` set and rings; a ring leaves a
//! token, so it ends the sleep although that may not have begun (see `wakeup`). A waiter that
//! leaves in (1) took no lock. Its step precedes the swap (b) that clears the word, since it read
//! what that swap clears; its send precedes that step, so the end that (c) reads lies behind its
//! item. That the swap comes at all is the first waiter's doing: the word is set only between that
//! one's lock and the next check, and the first waiter rings if the flusher sleeps.
//!
//! One ring a hand-over at most: `dozes` is set by the flusher alone, and not set again while
//! `before` covers the first message.
//!
//! # Orderings
//! The word is SeqCst: in (1) and (b) to (c) it is ordered with the channel's tail, which the
//! waiter moves before and the flusher reads after. `before` and `dozes` are only touched under
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
