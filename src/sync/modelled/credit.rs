//! A producer's lease of credits, so small that a model's few adds spend it.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checker;

pub(crate) const LEASE: usize = 2;
pub(crate) const RESERVE: usize = 1;

checker::thread_local! {
    static HELD: Cell<(usize, usize)> = Cell::new((0, 0));
}

pub(crate) fn keep(sleep: usize, credits: usize) {
    HELD.with(|held| held.set((sleep, credits)));
}

pub(crate) fn spend(sleep: usize, items: usize) -> bool {
    HELD.with(|held| match held.get() {
        (of, left) if left >= items && of == sleep => {
            held.set((of, left - items));
            true
        }
        _ => false,
    })
}

pub(crate) fn next_sleep() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
