//! A producer's share in what may be added uncounted to a flusher's sleep (see `wakeup`): which
//! sleep, how many items are left.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many items a producer takes at a time: a read-modify-write on a shared word is paid once for
/// so many adds.
pub(crate) const ITEMS: usize = 64;
/// How many of the missing items are counted one by one at the end. Fewer than may come between the
/// flusher's two looks, and it stays awake.
pub(crate) const COUNTED: usize = 32;

thread_local! {
    static SHARE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Keeps a share in this sleep.
pub(crate) fn keep(sleep: usize, items: usize) {
    SHARE.set((sleep, items));
}

/// Uses up so many items of the share in this sleep, if it has them.
#[inline]
pub(crate) fn use_up(sleep: usize, items: usize) -> bool {
    SHARE.with(|share| match share.get() {
        (of, left) if of == sleep && left >= items => {
            share.set((of, left - items));
            true
        }
        _ => false,
    })
}

/// A number that no other sleep of any batcher of this process has.
pub(crate) fn next_sleep() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: only the number's uniqueness counts, and a read-modify-write gives that.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
