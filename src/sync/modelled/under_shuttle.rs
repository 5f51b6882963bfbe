//! Shuttle's primitives, and a clock that the schedule moves.
//!
//! A wait with a deadline within the next minutes may end at any look, by chance, and then it is
//! that late; a deadline farther away never comes, so that a wake-up that is lost is a deadlock,
//! which shuttle finds. Weak memory is loom's and Miri's part.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};

pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use shuttle::sync::{Arc, Condvar, Mutex};
pub(crate) use shuttle::thread::{spawn, yield_now};
pub(crate) use shuttle::thread_local;

pub(crate) type JoinHandle = shuttle::thread::JoinHandle<()>;

/// A deadline farther away than this never comes.
const HORIZON: Duration = Duration::from_secs(600);

std::thread_local! {
    /// Since the start of the execution. All its threads run on one thread of the system.
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + CLOCK.with(Cell::get)
}

/// Sets the clock to the start of an execution.
pub(crate) fn begin_time() {
    CLOCK.with(|clock| clock.set(Duration::ZERO));
}

/// Moves the clock: what a slow handler does.
pub(crate) fn pass_time(time: Duration) {
    CLOCK.with(|clock| clock.set(clock.get() + time));
}

/// A guard that knows its mutex, for a wait that ends by itself.
pub(crate) struct MutexGuard<'a, T> {
    guard: shuttle::sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Poisoned only where a model has failed.
    MutexGuard {
        guard: mutex.lock().unwrap_or_else(PoisonError::into_inner),
        mutex,
    }
}

pub(crate) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    let MutexGuard { guard, mutex } = guard;
    let near = deadline.filter(|deadline| deadline.saturating_duration_since(now()) < HORIZON);
    let Some(deadline) = near else {
        return MutexGuard {
            guard: condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
            mutex,
        };
    };
    drop(guard);
    yield_now();
    if thread_rng().gen_ratio(1, 4) {
        pass_time(deadline.saturating_duration_since(now()));
    }
    lock(mutex)
}
