//! The real parts.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

#[path = "native/credit.rs"]
pub(crate) mod credit;

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

pub(crate) use atomic_float::AtomicF64;
pub(crate) use crossbeam_channel::{
    Receiver, SendError, SendTimeoutError, Sender, TrySendError, bounded,
};
pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use crossbeam_utils::sync::{Parker, Unparker};

/// Shared ownership that no protocol leans on.
pub(crate) type Shared<T> = std::sync::Arc<T>;

/// A mutex that no protocol leans on: held for a few instructions, and over nothing of this module.
pub(crate) type PlainMutex<T> = Mutex<T>;

/// A mutex without poison: no code that may panic runs under this crate's locks.
#[derive(Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A condition variable with deadlines instead of durations.
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a notification or the deadline, `None` forever; may return early. The caller
    /// looks at its condition again.
    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        match deadline {
            None => self
                .0
                .wait(guard)
                .unwrap_or_else(std::sync::PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now());
                self.0
                    .wait_timeout(guard, left)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0
            }
        }
    }
}

/// An atomic word whose every access is sequentially consistent, for protocols of the
/// store-then-load kind.
pub(crate) struct SeqCstUsize(AtomicUsize);

impl SeqCstUsize {
    pub(crate) const fn new(value: usize) -> Self {
        Self(AtomicUsize::new(value))
    }

    #[inline]
    pub(crate) fn load(&self) -> usize {
        // SeqCst: one total order with the channel's own SeqCst accesses; a plain load on x86-64.
        self.0.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn fetch_or(&self, bits: usize) -> usize {
        // SeqCst: as in `load`.
        self.0.fetch_or(bits, Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn fetch_and(&self, bits: usize) -> usize {
        // SeqCst: as in `load`.
        self.0.fetch_and(bits, Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn fetch_add(&self, value: usize) -> usize {
        // SeqCst: as in `load`.
        self.0.fetch_add(value, Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn fetch_sub(&self, value: usize) -> usize {
        // SeqCst: as in `load`.
        self.0.fetch_sub(value, Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn swap(&self, value: usize) -> usize {
        // SeqCst: as in `load`.
        self.0.swap(value, Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn compare_exchange(&self, from: usize, to: usize) -> Result<usize, usize> {
        // SeqCst: as in `load`.
        self.0
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
    }
}

/// A value that is replaced as a whole and read without waiting.
pub(crate) struct Published<T>(arc_swap::ArcSwap<T>);

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(arc_swap::ArcSwap::from_pointee(value))
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.load())
    }

    pub(crate) fn publish(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

/// A started thread.
pub(crate) struct JoinHandle(std::thread::JoinHandle<()>);

impl JoinHandle {
    /// Waits for the thread's end. Its body catches its own panics.
    pub(crate) fn join(self) {
        drop(self.0.join());
    }
}

/// Starts a thread. `at_end` runs last, after the destructors of what the body's code keeps in
/// thread-local variables: those may take their time, and a join would wait for them without a
/// bound.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    at_end: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle> {
    let body = move || {
        AT_END.set(Some(AtEnd(Some(Box::new(at_end)))));
        body();
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(JoinHandle)
}

struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(at_end) = self.0.take() {
            at_end();
        }
    }
}

thread_local! {
    /// Made first, so destroyed last: std promises no order, and keeps this one where threads have
    /// destructors of their own.
    static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

/// How often the flusher looks for a full batch, or a producer for room, before it sleeps, where
/// batches fill fast: about as long as a sleep must last to be worth its system calls. With 16,
/// chunks of 64 from one producer passed at 38 M items/s instead of 128, both sides asleep by
/// turns.
pub(crate) const LOOKS_BEFORE_SLEEP: u32 = 64;

/// How often a producer looks for room in a full channel before it waits there.
pub(crate) const LOOKS_FOR_ROOM: u32 = 4;

/// Until when to look: not beyond the deadline, and no longer than a few looks take. Where other
/// threads keep the processors busy, a time slice that was given away comes back after
/// milliseconds, so many of them after hundreds, and neither a deadline nor a ring is seen
/// meanwhile: alongside four busy threads on two cores, linger 5 ms, an item was handed over 136 ms
/// after its add, and is after 5 to 9.
pub(crate) fn looks_end(deadline: Option<Instant>) -> Instant {
    // With 1 ms, chunks of 64 from 16 producers: 4.9 ns an item for 4.5.
    let end = now() + Duration::from_millis(4);
    deadline.map_or(end, |deadline| deadline.min(end))
}

/// Gives the rest of this time slice away.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

thread_local! {
    /// The batcher whose own thread this is, by its serial number; 0 for every other thread.
    static BATCHER: Cell<u64> = const { Cell::new(0) };
    /// 0 until the thread adds its first item.
    static TAG: Cell<u32> = const { Cell::new(0) };
}

/// A number that no other thread has. Numbers come again after 2³² threads that add items.
#[inline]
pub(crate) fn thread_tag() -> u32 {
    TAG.with(|tag| match tag.get() {
        0 => first_tag(tag),
        own => own,
    })
}

#[cold]
#[inline(never)]
fn first_tag(tag: &Cell<u32>) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Relaxed: only the number's uniqueness counts, and a read-modify-write gives that.
    while tag.get() == 0 {
        tag.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    tag.get()
}

/// Marks this thread as one of a batcher's own.
pub(crate) fn belong_to(serial: u64) {
    BATCHER.with(|own| own.set(serial));
}

/// Whether this thread is one of that batcher's own.
pub(crate) fn belongs_to(serial: u64) -> bool {
    BATCHER.with(Cell::get) == serial
}

/// Whether this thread unwinds.
pub(crate) fn is_panicking() -> bool {
    std::thread::panicking()
}

/// A number that no other batcher of this process has, never 0: a count from 1 in the lower half,
/// the process in the upper. The count comes again after 2^32 batchers.
pub(crate) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only the number's uniqueness counts, and a read-modify-write gives that.
    let count = NEXT.fetch_add(1, Ordering::Relaxed) as u32;
    u64::from(std::process::id()) << 32 | u64::from(count)
}

/// Whether the batcher with this serial number was started by another process, of which this one is
/// a forked child. A system call: for paths that are slow anyway.
#[cold]
pub(crate) fn is_forked(serial: u64) -> bool {
    (serial >> 32) as u32 != std::process::id()
}

/// Random bits, different at each start of the process.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
