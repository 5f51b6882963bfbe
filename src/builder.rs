//! The settings, their defaults and their validation.
//!
//! What was not set follows what was; only values that were set can contradict one another. Nothing is corrected silently.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::batch::{Failed, Handler};
use crate::batcher::Batcher;
use crate::close::{CloseReport, OnClose};
use crate::controller::check_sizes;
use crate::error::BuildError;
use crate::feedback::CUSTOM_SIGNALS_MAX;
use crate::flusher::OnFailed;
use crate::policy::{CostModel, Policy};
use crate::queue::STALL_TIMEOUT;
use crate::retry::Retry;
use crate::weigher::Weigh;
use crate::workers::{HandlerSlot, Worker};

mod start;

/// The largest batch, unless it is set: the best size of PostgreSQL, MariaDB and SQLite lies at or below it.
const MAX_BATCH_SIZE: usize = 5_000;
/// The largest queue: its slots are allocated at the start.
const CAPACITY_MAX: usize = 1 << 30;
/// The largest feedback ring.
const FEEDBACK_MAX: usize = 1 << 24;

/// The settings of a [`Batcher`], each with a default; from [`Batcher::builder`].
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder<T> {
    initial_batch_size: Option<usize>,
    min_batch_size: Option<usize>,
    max_batch_size: Option<usize>,
    linger: Duration,
    wait_overrides_linger: bool,
    queue_capacity: Option<usize>,
    load_check_interval: Duration,
    feedback_capacity: usize,
    custom: Vec<(&'static str, f64)>,
    policy: Box<dyn Policy>,
    retry: Retry,
    idempotent: bool,
    keep_failed: usize,
    stall_timeout: Duration,
    on_failed: Option<OnFailed<T>>,
    close_timeout: Duration,
    drop_patience: Duration,
    on_close: Option<OnClose<T>>,
    weigher: Option<(usize, Weigh<T>)>,
    max_queue_weight: Option<usize>,
    refuse_too_heavy: bool,
    thread_name: String,
}

/// The sizes that hold once everything is known.
struct Sizes {
    initial: usize,
    min: usize,
    max: usize,
    capacity: usize,
}

impl<T: Send + 'static> Builder<T> {
    pub(crate) fn new() -> Self {
        Self {
            initial_batch_size: None,
            min_batch_size: None,
            max_batch_size: None,
            linger: Duration::from_secs(1),
            wait_overrides_linger: true,
            queue_capacity: None,
            load_check_interval: Duration::from_secs(1),
            feedback_capacity: 1_024,
            custom: Vec::new(),
            policy: Box::new(CostModel::new()),
            retry: Retry::default(),
            idempotent: false,
            keep_failed: 10_000,
            stall_timeout: STALL_TIMEOUT,
            on_failed: None,
            close_timeout: Duration::from_secs(30),
            drop_patience: Duration::from_secs(5),
            on_close: None,
            weigher: None,
            max_queue_weight: None,
            refuse_too_heavy: false,
            thread_name: "batcher".to_owned(),
        }
    }

    /// The batch size to start with, in items. Default 20 within the bounds, or what the policy starts with.
    pub fn initial_batch_size(mut self, items: usize) -> Self {
        self.initial_batch_size = Some(items);
        self
    }

    /// The smallest batch size, in items, at least 1. Default 1.
    pub fn min_batch_size(mut self, items: usize) -> Self {
        self.min_batch_size = Some(items);
        self
    }

    /// The largest batch size, in items. The queue holds twice as many unless `queue_capacity` says otherwise, and is allocated at
    /// the start: the size of an item times that. Default the largest of 5 000, the initial and the smallest size, as far as a
    /// `queue_capacity` that was set allows.
    pub fn max_batch_size(mut self, items: usize) -> Self {
        self.max_batch_size = Some(items);
        self
    }

    /// How long the oldest item may wait for its batch to fill. Zero hands over at once. Default 1 s.
    ///
    /// An item whose [`Ticket`](crate::Ticket) somebody waits for does not linger, unless
    /// [`wait_overrides_linger`](Self::wait_overrides_linger) is off.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Whether an item whose ticket somebody waits for is handed over as soon as the handler is free, with everything in line
    /// before it, instead of waiting for its batch to fill. Default true; see [`Ticket`](crate::Ticket).
    pub fn wait_overrides_linger(mut self, yes: bool) -> Self {
        self.wait_overrides_linger = yes;
        self
    }

    /// How many items wait at most before producers do, from single adds, and as many again from `add_many`; at least the
    /// largest batch size, at most 2^30. Its memory is allocated at the start. Default the larger of 1 024 and twice the
    /// largest batch size.
    pub fn queue_capacity(mut self, items: usize) -> Self {
        self.queue_capacity = Some(items);
        self
    }

    /// How often the policy is asked, over zero. Default 1 s.
    pub fn load_check_interval(mut self, interval: Duration) -> Self {
        self.load_check_interval = interval;
        self
    }

    /// How many samples the feedback ring holds before it overwrites the oldest, 1 to 2^24, rounded up to a power of two.
    /// Default 1 024.
    pub fn feedback_capacity(mut self, samples: usize) -> Self {
        self.feedback_capacity = samples;
        self
    }

    /// Declares a custom signal and how much it counts in a load score beside the policy's own weights; up to 8, each name
    /// once, the weight finite and not negative.
    pub fn custom_signal(mut self, name: &'static str, weight: f64) -> Self {
        self.custom.push((name, weight));
        self
    }

    /// The policy that sizes the batches. Default [`CostModel::new`].
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// How often a failed batch is tried again. Default [`Retry::attempts`]`(5)`.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether applying a row twice does no harm, because rows have a key and the backend ignores or overwrites what it has:
    /// then a batch in doubt is tried again. Each row may be applied more than once. Default false: what is in doubt fails,
    /// marked in doubt, and is never sent twice.
    pub fn idempotent(mut self, yes: bool) -> Self {
        self.idempotent = yes;
        self
    }

    /// How many failed rows are kept for [`take_failed`](Batcher::take_failed) and the close report where there is no
    /// [`on_failed`](Self::on_failed) hook, at least 1. Default 10 000.
    ///
    /// A row that was [`submit`](Batcher::submit)ted is kept until its ticket has returned `Failed` or `InDoubt`; then it is
    /// dropped and counted in [`Stats::told`](crate::Stats::told). If its ticket is dropped unread, the row stays kept. So a
    /// program that reads the outcome of every item needs neither the hook nor `take_failed`.
    ///
    /// With as many rows kept as the bound allows, the flusher waits, and after [`stall_timeout`](Self::stall_timeout) its
    /// callers are answered `Stalled`. The batch that reaches the bound may go beyond it. Nothing is dropped. Close lifts the
    /// bound.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{AddError, Batch, BatchError, Batcher};
    /// let batcher = Batcher::builder()
    ///     .keep_failed(1)
    ///     .queue_capacity(1)
    ///     .linger(Duration::ZERO)
    ///     .stall_timeout(Duration::from_millis(20))
    ///     .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no such table")))?;
    /// let mut added = 0;
    /// let refused = loop {
    ///     match batcher.add(added) {
    ///         Ok(()) => added += 1,
    ///         Err(refused) => break refused,
    ///     }
    /// };
    /// assert_eq!(refused, AddError::Stalled(added));
    /// let failed = batcher.take_failed();
    /// assert!(!failed.is_empty());
    /// batcher.add(added)?; // there is room again
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_failed(mut self, rows: usize) -> Self {
        self.keep_failed = rows;
        self
    }

    /// How long nothing is handed over, because [`keep_failed`](Self::keep_failed) rows are kept and nobody takes them, before
    /// callers that wait for it are answered: adds on a full queue with [`AddError::Stalled`](crate::AddError::Stalled), tickets
    /// with [`Outcome::Stalled`](crate::Outcome::Stalled), flushes with [`FlushError::Stalled`](crate::FlushError::Stalled).
    /// Nothing is dropped, and everything goes on when the rows are taken. A caller that waited before is answered at most as
    /// much later again. Zero answers at once. Default 1 s.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// The dead-letter hook: is given each failed row, on the flusher's thread. Its panic is caught and counted.
    pub fn on_failed(mut self, hook: impl FnMut(Failed<T>) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(hook));
        self
    }

    /// How long dropping the batcher waits for its close at most, while calls go through. Default 30 s. A batcher in a `static` is
    /// not dropped at the end of the process: call [`Batcher::shutdown`] there.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long dropping the batcher waits without an answer of the backend. Default 5 s: a failed test or an early return
    /// against a backend that is away does not hang. A call that takes longer than this counts as abandoned. A thread that drops
    /// the batcher in a panic makes one attempt at each batch. Does not concern [`Batcher::close`].
    pub fn drop_patience(mut self, patience: Duration) -> Self {
        self.drop_patience = patience;
        self
    }

    /// Is given the report when the batcher is dropped without having been closed. Its panic is caught and counted.
    pub fn on_close(mut self, hook: impl FnOnce(CloseReport<T>) + Send + 'static) -> Self {
        self.on_close = Some(Box::new(hook));
        self
    }

    /// A limit on the sum of the weights of a batch, over 0: bytes, or a driver's bind parameters. Items are weighed on the
    /// producer's thread, once each; a weigher that panics takes what is being added with it, as any panic there does. An item over
    /// the limit goes alone, or is refused under [`refuse_too_heavy`](Self::refuse_too_heavy).
    pub fn max_batch_weight(mut self, limit: usize, weight: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weigher = Some((limit, Box::new(weight)));
        self
    }

    /// A limit on the sum of the weights of the items that wait in the queue, in the unit of
    /// [`max_batch_weight`](Self::max_batch_weight), which must be set too and must not be larger. It bounds memory: beside what
    /// waits, there is only the batch that the handler holds. Default none: `queue_capacity` alone bounds what waits.
    ///
    /// An item that finds no room by weight waits or is refused as on a full queue: `add` waits, `try_add` returns
    /// [`Full`](crate::AddError::Full), `add_timeout` returns [`Timeout`](crate::AddError::Timeout).
    /// Room is first come, first served. While somebody waits, an item that would fit waits too and `try_add` is refused, so
    /// light items never keep a heavy one out. An item that alone is over this limit is accepted when nothing else waits, or
    /// refused under [`refuse_too_heavy`](Self::refuse_too_heavy). A producer that finds no room makes the flusher hand over
    /// what waits although its batch is not full; such a batch counts as [`Trigger::Size`](crate::Trigger::Size).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// const MIB: usize = 1 << 20;
    /// let batcher = Batcher::builder()
    ///     .max_batch_weight(4 * MIB, |row: &Vec<u8>| row.len())
    ///     .max_queue_weight(8 * MIB)
    ///     .spawn(|_: &mut Batch<Vec<u8>>| Ok(LoadFeedback::new()))?;
    /// for _ in 0..20 {
    ///     batcher.add(vec![0; MIB]).unwrap(); // blocks while eight rows wait
    /// }
    /// assert_eq!(batcher.close(Duration::from_secs(10)).handled, 20);
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    pub fn max_queue_weight(mut self, limit: usize) -> Self {
        self.max_queue_weight = Some(limit);
        self
    }

    /// Whether an item that alone is over `max_batch_weight` is refused as `TooHeavy`. Default false: it goes alone.
    pub fn refuse_too_heavy(mut self, yes: bool) -> Self {
        self.refuse_too_heavy = yes;
        self
    }

    /// What the two threads are named after: `flush-NAME` runs the handler, `ctl-NAME` the policy. Linux shows the first 15 bytes of a
    /// thread's name, so 9 bytes of this one. Default `batcher`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Starts the batcher with a handler: a closure `|batch: &mut Batch<Row>| …` or a type that implements [`Handler`].
    ///
    /// # Errors
    /// A [`BuildError`]: a setting that makes no sense, or a thread that did not start.
    pub fn spawn<H: Handler<T> + Send + 'static>(self, handler: H) -> Result<Batcher<T>, BuildError> {
        self.spawn_with(move || handler)
    }

    /// Starts the batcher with a handler that is made on the flusher's thread: for a connection that is not `Send`. Returns
    /// when the handler is made.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and if making the handler panics.
    pub fn spawn_with<H, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        F: FnOnce() -> H + Send + 'static,
    {
        self.try_spawn_with(|| Ok::<H, Infallible>(make()))
    }

    /// [`spawn_with`](Self::spawn_with) for a handler whose making can fail: a connection that does not open.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and [`BuildError::Handler`] with the error that `make` returned, as its source, or with the
    /// message of its panic.
    pub fn try_spawn_with<H, E, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: FnOnce() -> Result<H, E> + Send + 'static,
    {
        self.validate()?;
        let sizes = self.sizes()?;
        self.start(&sizes, || make().map(HandlerSlot::fixed).map_err(Into::into))
    }

    /// Starts the batcher with a factory of handlers, for a connection that can be lost. The factory runs on the flusher's
    /// thread: at the start, after a panic of the handler, after an error that is marked
    /// [`handler_broken`](crate::BatchError::handler_broken), and while a batch fails again and again without an answer. The
    /// old handler is dropped first. A factory that fails later is an [`unavailable`](crate::BatchError::unavailable) backend:
    /// the batch waits, and no row fails for it. Only a [`BatchError`](crate::BatchError) with a class of its own keeps that class.
    ///
    /// ```
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// # struct Connection;
    /// # impl Connection {
    /// #     fn open() -> std::io::Result<Self> { Ok(Self) }
    /// #     fn insert(&mut self, _: &[u64]) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// let batcher = Batcher::builder().spawn_workers(|_worker| {
    ///     let mut connection = Connection::open()?;
    ///     Ok::<_, std::io::Error>(move |batch: &mut Batch<u64>| {
    ///         connection.insert(batch)?;
    ///         Ok(LoadFeedback::new())
    ///     })
    /// })?;
    /// batcher.add(1).expect("open");
    /// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    ///
    /// A raw `BEGIN` leaves its connection inside the transaction when the handler panics or returns before `COMMIT`. After a
    /// panic the factory opens another connection; after an error it does so only if the error is
    /// [`handler_broken`](crate::BatchError::handler_broken). The driver's transaction guard covers both: `let tx =
    /// connection.transaction()?` rolls back when it is dropped.
    ///
    /// # Errors
    /// As [`try_spawn_with`](Self::try_spawn_with), for the first handler.
    pub fn spawn_workers<H, E, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: FnMut(Worker) -> Result<H, E> + Send + 'static,
    {
        self.validate()?;
        let sizes = self.sizes()?;
        self.start(&sizes, || HandlerSlot::made(make).map_err(Into::into))
    }

    fn validate(&self) -> Result<(), BuildError> {
        if self.load_check_interval.is_zero() {
            return Err(BuildError::setting("load_check_interval", "0s", "must be over zero"));
        }
        if !(1..=FEEDBACK_MAX).contains(&self.feedback_capacity) {
            let problem = "must be within 1 and 16777216";
            return Err(BuildError::setting("feedback_capacity", self.feedback_capacity, problem));
        }
        if self.keep_failed == 0 {
            return Err(BuildError::setting("keep_failed", 0, "must be at least 1"));
        }
        if self.refuse_too_heavy && self.weigher.is_none() {
            return Err(BuildError::setting("refuse_too_heavy", true, "needs a max_batch_weight"));
        }
        if matches!(self.weigher, Some((0, _))) {
            return Err(BuildError::setting("max_batch_weight", 0, "must be at least 1"));
        }
        if let Some(queue) = self.max_queue_weight {
            match self.weigher {
                _ if queue == 0 => return Err(BuildError::setting("max_queue_weight", 0, "must be at least 1")),
                None => return Err(BuildError::setting("max_queue_weight", queue, "needs a max_batch_weight")),
                Some((batch, _)) if batch > queue => {
                    let problem = "the queue must hold a whole batch";
                    let (batch, queue) = (("max_batch_weight", batch), ("max_queue_weight", queue));
                    return Err(BuildError::conflict(batch, queue, problem));
                }
                Some(_) => {}
            }
        }
        if self.thread_name.contains('\0') {
            let name = self.thread_name.escape_debug();
            return Err(BuildError::setting("thread_name", name, "must not contain a zero byte"));
        }
        if self.custom.len() > CUSTOM_SIGNALS_MAX {
            return Err(BuildError::setting("custom_signal", self.custom.len(), "at most 8 can be declared"));
        }
        for (place, (name, weight)) in self.custom.iter().enumerate() {
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(BuildError::setting("custom_signal", weight, "a weight must be finite and not negative"));
            }
            if self.custom[..place].iter().any(|(known, _)| known == name) {
                return Err(BuildError::setting("custom_signal", name, "each name can be declared once"));
            }
        }
        self.retry.validate()?;
        self.policy.validate()
    }

    fn sizes(&self) -> Result<Sizes, BuildError> {
        let set = [
            ("initial_batch_size", self.initial_batch_size),
            ("min_batch_size", self.min_batch_size),
            ("max_batch_size", self.max_batch_size),
            ("queue_capacity", self.queue_capacity),
        ];
        for (setting, value) in set {
            if value == Some(0) {
                return Err(BuildError::setting(setting, 0, "must be at least 1"));
            }
        }
        if let Some(capacity) = self.queue_capacity.filter(|capacity| *capacity > CAPACITY_MAX) {
            return Err(BuildError::setting("queue_capacity", capacity, "must be at most 1073741824"));
        }
        let ordered = [
            (1, 0, "the initial size must be within the smallest and the largest"),
            (0, 2, "the initial size must be within the smallest and the largest"),
            (1, 2, "the smallest must not exceed the largest"),
            (0, 3, "the queue must hold a whole batch"),
            (1, 3, "the queue must hold a whole batch"),
            (2, 3, "the queue must hold a whole batch"),
        ];
        for (lesser, greater, problem) in ordered {
            if let ((one, Some(small)), (other, Some(large))) = (set[lesser], set[greater]) {
                if small > large {
                    return Err(BuildError::conflict((one, small), (other, large), problem));
                }
            }
        }
        let wanted = self.initial_batch_size.or_else(|| self.policy.initial_batch_size());
        let min = self.min_batch_size.unwrap_or(1);
        let capacity_max = self.queue_capacity.unwrap_or(CAPACITY_MAX);
        let max =
            self.max_batch_size.unwrap_or_else(|| MAX_BATCH_SIZE.max(wanted.unwrap_or(0)).max(min).min(capacity_max));
        if max > CAPACITY_MAX {
            return Err(BuildError::setting("max_batch_size", max, "must be at most 1073741824"));
        }
        let capacity = self.queue_capacity.unwrap_or_else(|| 1_024.max(max.saturating_mul(2)).min(CAPACITY_MAX));
        check_sizes(min, max, capacity)?;
        Ok(Sizes { initial: wanted.unwrap_or(20).clamp(min, max), min, max, capacity })
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("initial_batch_size", &self.initial_batch_size)
            .field("min_batch_size", &self.min_batch_size)
            .field("max_batch_size", &self.max_batch_size)
            .field("linger", &self.linger)
            .field("queue_capacity", &self.queue_capacity)
            .field("load_check_interval", &self.load_check_interval)
            .finish_non_exhaustive()
    }
}
