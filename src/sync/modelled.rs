//! The parts as models: small stand-ins for the foreign crates, with the orderings that they
//! promise and no more, over the primitives of one of two checkers. `under_loom` explores every
//! order of few steps with weak memory; `under_shuttle` samples orders of many steps, whole
//! batchers with time that passes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

#[cfg(loom)]
mod under_loom;
#[cfg(loom)]
use under_loom as checker;

#[cfg(shuttle)]
mod under_shuttle;
#[cfg(shuttle)]
use under_shuttle as checker;
#[cfg(shuttle)]
pub(crate) use under_shuttle::{begin_time, pass_time};

pub(crate) mod credit;

pub(crate) use checker::{
    Arc, AtomicU32, AtomicU64, AtomicUsize, MutexGuard, Ordering, fence, now, yield_now,
};

/// Shared ownership that no protocol leans on.
pub(crate) type Shared<T> = std::sync::Arc<T>;

/// A mutex that no protocol leans on: held for a few instructions, and over nothing of this module.
/// So no thread of a model ever waits for it, and it adds no schedules.
#[derive(Default)]
pub(crate) struct PlainMutex<T>(std::sync::Mutex<T>);

impl<T> PlainMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(crate) struct Mutex<T>(checker::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        checker::lock(&self.0)
    }
}

pub(crate) struct Condvar(checker::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(checker::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        checker::wait_until(&self.0, guard, deadline)
    }
}

#[derive(Debug)]
pub(crate) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A word whose accesses are all SeqCst. Loom counts SeqCst accesses as AcqRel only, so each load
/// is led by a SeqCst fence: of the two mappings of SeqCst onto fences the one that leaves the
/// stores alone. So each load is one side of a store-then-load pair, and without its fence neither
/// it nor the store before it is SeqCst.
pub(crate) struct SeqCstUsize {
    value: AtomicUsize,
    /// Whether a load has its fence.
    ordered: bool,
}

impl SeqCstUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self {
            value: AtomicUsize::new(value),
            ordered: true,
        }
    }

    /// A word whose loads order nothing.
    #[allow(dead_code, reason = "only mutants have one: see mutants.list")]
    pub(crate) fn unordered(value: usize) -> Self {
        Self {
            value: AtomicUsize::new(value),
            ordered: false,
        }
    }

    pub(crate) fn load(&self) -> usize {
        if self.ordered {
            fence(Ordering::SeqCst);
        }
        self.value.load(Ordering::Acquire)
    }

    pub(crate) fn fetch_or(&self, bits: usize) -> usize {
        self.value.fetch_or(bits, Ordering::AcqRel)
    }

    pub(crate) fn fetch_and(&self, bits: usize) -> usize {
        self.value.fetch_and(bits, Ordering::AcqRel)
    }

    pub(crate) fn fetch_add(&self, value: usize) -> usize {
        self.value.fetch_add(value, Ordering::AcqRel)
    }

    pub(crate) fn fetch_sub(&self, value: usize) -> usize {
        self.value.fetch_sub(value, Ordering::AcqRel)
    }

    pub(crate) fn swap(&self, value: usize) -> usize {
        self.value.swap(value, Ordering::AcqRel)
    }

    pub(crate) fn compare_exchange(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.value
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

pub(crate) struct AtomicF64(AtomicU64);

impl AtomicF64 {
    pub(crate) fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> f64 {
        f64::from_bits(self.0.load(ordering))
    }

    pub(crate) fn store(&self, value: f64, ordering: Ordering) {
        self.0.store(value.to_bits(), ordering);
    }
}

/// A value that is replaced as a whole: the versions, and which one is in force. The index is a
/// loom atomic alongside the mutex, which would otherwise order every reader after every writer.
/// `arc-swap` orders what a version points to, and no more.
pub(crate) struct Published<T> {
    versions: Mutex<Vec<Arc<T>>>,
    current: AtomicUsize,
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            versions: Mutex::new(vec![Arc::new(value)]),
            current: AtomicUsize::new(0),
        }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let current = self.current.load(Ordering::Acquire);
        let value = Arc::clone(&self.versions.lock()[current]);
        look(&value)
    }

    pub(crate) fn publish(&self, value: T) {
        let mut versions = self.versions.lock();
        versions.push(Arc::new(value));
        let current = versions.len() - 1;
        drop(versions);
        self.current.store(current, Ordering::Release);
    }
}

/// The bounded channel: a queue under a mutex, and alongside it the two counters that `len` reads
/// without the mutex, as the real one does; the mutex would otherwise hide what the protocols must
/// order themselves.
struct Channel<T> {
    queue: Mutex<VecDeque<T>>,
    room: Condvar,
    capacity: usize,
    tail: AtomicUsize,
    head: AtomicUsize,
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

#[derive(Debug)]
pub(crate) enum TrySendError<T> {
    Full(T),
    #[allow(
        dead_code,
        reason = "the real channel has it; this crate never disconnects one"
    )]
    Disconnected(T),
}

#[derive(Debug)]
pub(crate) enum SendTimeoutError<T> {
    Timeout(T),
    #[allow(dead_code, reason = "as above")]
    Disconnected(T),
}

#[derive(Debug)]
pub(crate) struct SendError<T>(pub(crate) T);

#[derive(Debug, PartialEq)]
pub(crate) enum TryRecvError {
    Empty,
    #[allow(dead_code, reason = "as above")]
    Disconnected,
}

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        queue: Mutex::new(VecDeque::new()),
        room: Condvar::new(),
        capacity,
        tail: AtomicUsize::new(0),
        head: AtomicUsize::new(0),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

impl<T> Sender<T> {
    fn push(&self, queue: &mut VecDeque<T>, message: T) {
        queue.push_back(message);
        // Relaxed: the real channel's SeqCst compare-exchange orders nothing after it but SeqCst
        // accesses, and the fence of such a load is its own.
        self.0.tail.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.0.queue.lock();
        if queue.len() == self.0.capacity {
            return Err(TrySendError::Full(message));
        }
        self.push(&mut queue, message);
        drop(queue);
        Ok(())
    }

    pub(crate) fn send_deadline(
        &self,
        message: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        self.wait_and_send(message, Some(deadline))
    }

    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.wait_and_send(message, None)
            .map_err(|error| match error {
                SendTimeoutError::Timeout(message) | SendTimeoutError::Disconnected(message) => {
                    SendError(message)
                }
            })
    }

    fn wait_and_send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let mut queue = self.0.queue.lock();
        while queue.len() == self.0.capacity {
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return Err(SendTimeoutError::Timeout(message));
            }
            queue = self.0.room.wait_until(queue, deadline);
        }
        self.push(&mut queue, message);
        drop(queue);
        Ok(())
    }
}

impl<T> Channel<T> {
    fn len(&self) -> usize {
        // The real one loads the tail SeqCst.
        fence(Ordering::SeqCst);
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).saturating_sub(head)
    }
}

impl<T> Receiver<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.len() == 0 {
            return Err(TryRecvError::Empty);
        }
        let mut queue = self.0.queue.lock();
        let Some(message) = queue.pop_front() else {
            return Err(TryRecvError::Empty);
        };
        self.0.head.fetch_add(1, Ordering::AcqRel);
        drop(queue);
        self.0.room.notify_all();
        Ok(message)
    }
}

/// A token that a park consumes.
struct Token {
    set: Mutex<bool>,
    changed: Condvar,
}

pub(crate) struct Parker(Unparker);
#[derive(Clone)]
pub(crate) struct Unparker(Arc<Token>);

impl Parker {
    pub(crate) fn new() -> Self {
        Self(Unparker(Arc::new(Token {
            set: Mutex::new(false),
            changed: Condvar::new(),
        })))
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park(&self) {
        self.wait(None);
    }

    pub(crate) fn park_deadline(&self, deadline: Instant) {
        self.wait(Some(deadline));
    }

    fn wait(&self, deadline: Option<Instant>) {
        let token = &self.0.0;
        let mut set = token.set.lock();
        while !*set && deadline.is_none_or(|deadline| deadline > now()) {
            set = token.changed.wait_until(set, deadline);
        }
        *set = false;
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        *self.0.set.lock() = true;
        self.0.changed.notify_all();
    }
}

pub(crate) struct JoinHandle(checker::JoinHandle);

impl JoinHandle {
    /// Passes a panic of the thread on: swallowed, it would turn a failure into a pass.
    pub(crate) fn join(self) {
        self.0.join().unwrap();
    }
}

pub(crate) fn spawn(
    _name: &str,
    body: impl FnOnce() + Send + 'static,
    at_end: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle> {
    Ok(JoinHandle(checker::spawn(move || {
        body();
        at_end();
    })))
}

/// None: they change when somebody sleeps, not what may be missed.
pub(crate) const LOOKS_BEFORE_SLEEP: u32 = 0;
pub(crate) const LOOKS_FOR_ROOM: u32 = 0;

/// Whether this thread unwinds.
pub(crate) fn is_panicking() -> bool {
    false
}

pub(crate) fn looks_end(_deadline: Option<Instant>) -> Instant {
    now()
}

static NEXT_TAG: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);

checker::thread_local! {
    static TAG: Cell<u32> = Cell::new(NEXT_TAG.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    static BATCHER: Cell<u64> = Cell::new(0);
}

pub(crate) fn thread_tag() -> u32 {
    TAG.with(Cell::get)
}

pub(crate) fn belong_to(serial: u64) {
    BATCHER.with(|own| own.set(serial));
}

pub(crate) fn belongs_to(serial: u64) -> bool {
    BATCHER.with(Cell::get) == serial
}

pub(crate) fn next_serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Models do not fork.
pub(crate) fn is_forked(_serial: u64) -> bool {
    false
}

/// Always the same: a model repeats itself.
pub(crate) fn random_seed() -> u64 {
    0
}
