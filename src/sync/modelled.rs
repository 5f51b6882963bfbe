//! The parts as loom models: small stand-ins for the foreign crates, with the orderings that they promise and no more.
//!
//! Time stands still in a model: a deadline in the future never comes, one that has passed is already there.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;
use std::time::Instant;

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Shared ownership that no protocol leans on.
pub(crate) type Shared<T> = std::sync::Arc<T>;

pub(crate) type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> MutexGuard<'a, T> {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            return guard;
        }
        self.0.wait(guard).unwrap()
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

/// Loom counts SeqCst accesses as AcqRel only, so each is given a fence of its own on the side that the protocols lean on.
pub(crate) struct SeqCstUsize(AtomicUsize);

impl SeqCstUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self(AtomicUsize::new(value))
    }

    pub(crate) fn load(&self) -> usize {
        if !mutant("sync: a load that orders nothing") {
            fence(Ordering::SeqCst);
        }
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn fetch_or(&self, bits: usize) -> usize {
        let old = self.0.fetch_or(bits, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    pub(crate) fn fetch_and(&self, bits: usize) -> usize {
        let old = self.0.fetch_and(bits, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    pub(crate) fn fetch_add(&self, value: usize) -> usize {
        let old = self.0.fetch_add(value, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    pub(crate) fn fetch_sub(&self, value: usize) -> usize {
        let old = self.0.fetch_sub(value, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    pub(crate) fn compare_exchange(&self, from: usize, to: usize) -> Result<usize, usize> {
        let result = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        fence(Ordering::SeqCst);
        result
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

pub(crate) struct Published<T>(Mutex<Arc<T>>);

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let value = Arc::clone(&self.0.lock());
        look(&value)
    }

    pub(crate) fn publish(&self, value: T) {
        *self.0.lock() = Arc::new(value);
    }
}

/// The bounded channel: a queue under a mutex, and beside it the two counters that `len` reads without the mutex, as the real
/// one does; the mutex would otherwise hide what the protocols must order themselves.
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
    #[allow(dead_code, reason = "the real channel has it; this crate never disconnects one")]
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
        // Relaxed: the real channel's SeqCst compare-exchange orders nothing behind it but SeqCst accesses, and the fence of
        // such a load is in `SeqCstUsize`.
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

    pub(crate) fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.wait_and_send(message, Some(deadline))
    }

    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.wait_and_send(message, None).map_err(|error| match error {
            SendTimeoutError::Timeout(message) | SendTimeoutError::Disconnected(message) => SendError(message),
        })
    }

    fn wait_and_send(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
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
        let Some(message) = queue.pop_front() else { return Err(TryRecvError::Empty) };
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
        Self(Unparker(Arc::new(Token { set: Mutex::new(false), changed: Condvar::new() })))
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

pub(crate) struct JoinHandle(loom::thread::JoinHandle<()>);

impl JoinHandle {
    pub(crate) fn join(self) {
        self.0.join().unwrap();
    }
}

pub(crate) fn spawn(_name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    Ok(JoinHandle(loom::thread::spawn(body)))
}

/// None: they change when the flusher sleeps, not what it may miss.
pub(crate) const LOOKS_BEFORE_SLEEP: u32 = 0;

pub(crate) fn yield_now() {
    loom::thread::yield_now();
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

pub(crate) fn next_serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

pub(crate) fn random_seed() -> u64 {
    0
}

std::thread_local! {
    /// The mistake that the model running on this thread must find. Loom runs a model's threads on one thread of the system.
    static MUTANT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

pub(crate) fn mutant(mistake: &str) -> bool {
    MUTANT.with(|mutant| mutant.get() == Some(mistake))
}

pub(crate) fn make_mistake(mistake: Option<&'static str>) {
    MUTANT.with(|mutant| mutant.set(mistake));
}
