//! Loom's primitives. Time stands still: a deadline in the future never comes, one that has passed
//! is already there.

use std::sync::OnceLock;
use std::time::Instant;

pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::{spawn, yield_now};
pub(crate) use loom::thread_local;

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
