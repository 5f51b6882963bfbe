//! Loom's primitives. Time stands still: a deadline in the future never comes, one that has passed is already there.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Instant;

pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::{spawn, yield_now};

pub(crate) type JoinHandle = loom::thread::JoinHandle<()>;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(crate) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    if deadline.is_some_and(|deadline| deadline <= now()) {
        return guard;
    }
    condvar.wait(guard).unwrap()
}

pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

static NEXT_TAG: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);

loom::thread_local! {
    static TAG: Cell<usize> = Cell::new(NEXT_TAG.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    static BATCHER: Cell<u64> = Cell::new(0);
}

pub(crate) fn thread_tag() -> usize {
    TAG.with(Cell::get)
}

pub(crate) fn belong_to(serial: u64) {
    BATCHER.with(|own| own.set(serial));
}

pub(crate) fn belongs_to(serial: u64) -> bool {
    BATCHER.with(Cell::get) == serial
}
