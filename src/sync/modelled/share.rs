//! A producer's share, small, so that a model's few adds use it up.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checker;

pub(crate) const ITEMS: usize = 2;
pub(crate) const COUNTED: usize = 1;

checker::thread_local! {
    static SHARE: Cell<(usize, usize)> = Cell::new((0, 0));
}

pub(crate) fn keep(sleep: usize, items: usize) {
    SHARE.with(|share| share.set((sleep, items)));
}

pub(crate) fn use_up(sleep: usize, items: usize) -> bool {
    SHARE.with(|share| match share.get() {
        (of, left) if left >= items && of == sleep => {
            share.set((of, left - items));
            true
        }
        _ => false,
    })
}

pub(crate) fn next_sleep() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
