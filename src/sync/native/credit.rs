//! A producer's lease of credits (see `wakeup`): which sleep it is of, and how many are left.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many credits a producer takes at a time. So many adds share one read-modify-write on a word
/// that all producers use.
pub(crate) const LEASE: usize = 64;
/// How many of the missing items get no credit. If more come between the flusher's two counts, it
/// stays awake.
pub(crate) const RESERVE: usize = 32;

thread_local! {
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Keeps a lease of this sleep.
pub(crate) fn keep(sleep: usize, credits: usize) {
    HELD.set((sleep, credits));
}

/// Spends a credit for each of the items, if this thread's lease is of this sleep and has as many.
#[inline]
pub(crate) fn spend(sleep: usize, items: usize) -> bool {
    HELD.with(|held| match held.get() {
        (of, left) if of == sleep && left >= items => {
            held.set((of, left - items));
            true
        }
        _ => false,
    })
}

/// The id of a sleep, which no other sleep of any batcher of this process has.
pub(crate) fn next_sleep() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: only uniqueness counts, and a read-modify-write gives that.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
