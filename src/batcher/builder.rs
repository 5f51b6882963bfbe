//! The settings and their defaults. `valid` checks them, `spawn` has the ways to start, and `start`
//! starts the threads.
//!
//! A setting without a value follows from those with one. Only values that the user set can
//! contradict one another. Nothing is corrected silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::batch::Failed;
use crate::flush::close_report::CloseReport;
use crate::flush::close_report::OnClose;

use crate::batcher::route::Route;
use crate::batcher::sensor::Sampled;
use crate::feedback::CustomSignal;
use crate::flush::flusher::OnFailed;
use crate::flush::retry::Retry;
use crate::listeners::Listener;
use crate::policy::{Concurrency, CostModel, Policy};
use crate::queue::gate::STALL_TIMEOUT;
use crate::queue::weigher::Weigh;
use crate::sync::Shared;

mod concurrency;
mod sink;
mod spawn;
mod start;
mod valid;

/// The largest batch, unless it is set: the best size of PostgreSQL, MariaDB and SQLite lies at or
/// below it.
const MAX_BATCH_SIZE: usize = 10_000;
/// The first batch, unless it is set.
const INITIAL_BATCH_SIZE: usize = 20;
/// The largest queue: its slots are allocated at the start.
const CAPACITY_MAX: usize = 1 << 30;
/// The largest feedback ring.
const FEEDBACK_MAX: usize = 1 << 24;

/// The settings of a [`Batcher`](crate::Batcher), each with a default.
/// [`Batcher::builder`](crate::Batcher::builder) makes one.
///
/// These methods start the batcher:
///
/// | method | the handler |
/// | --- | --- |
/// | [`spawn`](Self::spawn) | one, which must be `Send` |
/// | [`spawn_with`](Self::spawn_with), [`try_spawn_with`](Self::try_spawn_with) | one, made on the flusher's thread; need not be `Send` |
/// | [`spawn_workers`](Self::spawn_workers) | from a factory, which makes another when a new connection is needed |
/// | [`sink`](Self::sink) | from a companion crate, for one table |
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder<T> {
    initial_batch_size: Option<usize>,
    default_initial_batch_size: usize,
    min_batch_size: Option<usize>,
    max_batch_size: Option<usize>,
    default_max_batch_size: usize,
    linger: Duration,
    wait_overrides_linger: bool,
    queue_capacity: Option<usize>,
    load_check_interval: Duration,
    feedback_capacity: usize,
    custom: Vec<CustomSignal>,
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
    name: Option<String>,
    listeners: Vec<Box<dyn Listener>>,
    sensors: Vec<Sampled>,
    concurrency: Concurrency,
    /// Where there is more than one call at once; `None` until it is said.
    route: Option<Route<T>>,
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
            default_initial_batch_size: INITIAL_BATCH_SIZE,
            min_batch_size: None,
            max_batch_size: None,
            default_max_batch_size: MAX_BATCH_SIZE,
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
            name: None,
            listeners: Vec::new(),
            sensors: Vec::new(),
            concurrency: Concurrency::default(),
            route: None,
        }
    }

    /// The batch size to start with, in items. Default 20 within the bounds, or what the policy
    /// starts with.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .initial_batch_size(500)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.stats().batch_size, 500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn initial_batch_size(mut self, items: usize) -> Self {
        self.initial_batch_size = Some(items);
        self
    }

    /// The smallest batch size, in items, at least 1. Default 1.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let refused = Batcher::builder()
    ///     .min_batch_size(0)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert_eq!(refused.err().unwrap().to_string(), "min_batch_size is 0: must be at least 1");
    /// ```
    pub fn min_batch_size(mut self, items: usize) -> Self {
        self.min_batch_size = Some(items);
        self
    }

    /// The largest batch size, in items. Default 10 000, or the initial or the smallest size where
    /// that is larger; a [`queue_capacity`](Self::queue_capacity) that is set bounds the default.
    ///
    /// Unless `queue_capacity` is set, the queue holds twice as many items, at least 1 024. Its
    /// memory is allocated at the start: the size of an item times the capacity.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .max_batch_size(10)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert!(batcher.stats().batch_size <= 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_batch_size(mut self, items: usize) -> Self {
        self.max_batch_size = Some(items);
        self
    }

    /// How long the oldest item may wait for its batch to fill. With zero, an item is handed over
    /// as soon as the handler is free. Default 1 s.
    ///
    /// An item does not linger while a thread waits for its [`Ticket`](crate::Ticket), unless
    /// [`wait_overrides_linger`](Self::wait_overrides_linger) is off.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .linger(Duration::ZERO)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?; // handed over at once
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Whether an item whose ticket a thread waits for is handed over as soon as the handler is
    /// free, with everything in line before it. With `false` it lingers like any other item.
    /// Default true. See [`Ticket`](crate::Ticket).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .linger(Duration::from_millis(5))
    ///     .wait_overrides_linger(false)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert!(batcher.submit(1)?.wait().is_handled()); // after 5 ms
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_overrides_linger(mut self, yes: bool) -> Self {
        self.wait_overrides_linger = yes;
        self
    }

    /// How many items of single adds the queue holds before producers must wait. It holds as many
    /// again from `add_many`. At least the largest batch size, at most 2^30. The memory is
    /// allocated at the start. Default the larger of 1 024 and twice the largest batch size.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .queue_capacity(1 << 16)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue_capacity(mut self, items: usize) -> Self {
        self.queue_capacity = Some(items);
        self
    }

    /// How often the policy decides, greater than zero. A policy may ask to decide more often, see
    /// [`Cadence`](crate::Cadence). Default 1 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .load_check_interval(Duration::from_millis(250))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_check_interval(mut self, interval: Duration) -> Self {
        self.load_check_interval = interval;
        self
    }

    /// How many samples are kept for the policy before the oldest is overwritten: 1 to 2^24,
    /// rounded up to a power of two. A sample is what was measured of one call, or the report of a
    /// sensor. Default 1 024.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .feedback_capacity(64)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn feedback_capacity(mut self, samples: usize) -> Self {
        self.feedback_capacity = samples;
        self
    }

    /// Declares a custom signal and its weight in the load score. The weight is relative to the
    /// policy's own weights, finite and not negative. There may be 8 custom signals, each with a
    /// name of its own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .custom_signal("replica_lag", 0.5)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().custom("replica_lag", 0.2));
    /// assert_eq!(batcher.stats().unknown_signals, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn custom_signal(mut self, name: &'static str, weight: f64) -> Self {
        self.custom.push(CustomSignal { name, weight });
        self
    }

    /// The policy that sizes the batches. Default [`CostModel::new`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .policy(load_aware_batcher::Fixed(250))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.stats().batch_size, 250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// How a failed batch is tried again. Default [`Retry::default`]: for at least 60 s while the
    /// backend does not answer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .retry(load_aware_batcher::Retry::attempts(3))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether storing a row twice does no harm, because rows have a key and the backend ignores or
    /// overwrites a row that it has. With `true`, a batch in doubt is tried again, so a row may be
    /// stored more than once. With `false`, a batch in doubt fails, marked in doubt, and is never
    /// sent again. Default false.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .idempotent(true) // INSERT … ON CONFLICT (key) DO NOTHING
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idempotent(mut self, yes: bool) -> Self {
        self.idempotent = yes;
        self
    }

    /// How many failed rows are kept for [`take_failed`](crate::Batcher::take_failed) and the close
    /// report where there is no [`on_failed`](Self::on_failed) hook, at least 1. Default 10 000.
    ///
    /// A row that was [`submit`](crate::Producer::submit)ted is kept until its ticket has returned
    /// `Failed` or `InDoubt`. Then it is dropped and counted in
    /// [`Stats::told`](crate::Stats::told). If its ticket is dropped unread, the row stays kept. So
    /// a program that reads the outcome of every item needs neither the hook nor `take_failed`.
    ///
    /// When this many rows are kept, no batch is handed over, and after
    /// [`stall_timeout`](Self::stall_timeout) callers that wait get `Stalled`. The batch that
    /// reaches the bound may exceed it. No row is dropped. A close lifts the bound.
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

    /// How long a stall lasts before callers that wait get an error. In a stall, no batch is handed
    /// over, because [`keep_failed`](Self::keep_failed) rows are kept and nobody takes them. Adds
    /// on a full queue then return [`AddError::Stalled`](crate::AddError::Stalled), tickets
    /// [`Outcome::Stalled`](crate::Outcome::Stalled), and flushes
    /// [`FlushError::Stalled`](crate::FlushError::Stalled). No item is dropped, and the batcher
    /// continues when the rows are taken. A caller that began to wait before the stall may get its
    /// error up to one `stall_timeout` later. With zero, the error is returned at once.
    /// Default 1 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .stall_timeout(Duration::from_secs(10))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// The hook for failed rows (dead letters). It is given each failed row, on the flusher's
    /// thread. If it panics, the panic is caught and counted, and the row is lost. For a hook that
    /// can fail, use [`try_on_failed`](Self::try_on_failed).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// let (sender, failed) = std::sync::mpsc::channel();
    /// let batcher = Batcher::builder()
    ///     .on_failed(move |row| sender.send(row.item).expect("somebody reads"))
    ///     .spawn(|_: &mut Batch<u64>| Err::<LoadFeedback, _>(BatchError::permanent("not this one")))?;
    /// batcher.add(7)?;
    /// assert!(batcher.close(Duration::from_secs(9)).failed.is_empty());
    /// assert_eq!(failed.recv(), Ok(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_failed(mut self, mut hook: impl FnMut(Failed<T>) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(move |failed| {
            hook(failed);
            Ok(())
        }));
        self
    }

    /// A hook for failed rows that can fail. It borrows each failed row, on the flusher's thread.
    /// After `Ok` the row is dropped. After an error or a panic the row is kept, as without a hook:
    /// for `take_failed` and the close report, up to `keep_failed` rows. A panic is caught and
    /// counted. This hook replaces [`on_failed`](Self::on_failed).
    ///
    /// ```
    /// use std::io::Write;
    /// use load_aware_batcher::{Batch, BatchError, Batcher, Failed, LoadFeedback};
    ///
    /// let mut file = std::io::sink();
    /// let batcher = Batcher::builder()
    ///     .try_on_failed(move |failed: &Failed<u64>| writeln!(file, "{}: {}", failed.item, failed.error))
    ///     .spawn(|_: &mut Batch<u64>| Err::<LoadFeedback, _>(BatchError::permanent("not this one")))?;
    /// batcher.add(7).expect("open");
    /// let report = batcher.close(std::time::Duration::from_secs(9));
    /// assert_eq!((report.failed_total, report.failed.len()), (1, 0));
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    pub fn try_on_failed<E: 'static>(
        mut self,
        mut hook: impl FnMut(&Failed<T>) -> Result<(), E> + Send + 'static,
    ) -> Self {
        self.on_failed = Some(Box::new(move |failed| {
            match catch_unwind(AssertUnwindSafe(|| hook(&failed).is_ok())) {
                Ok(true) => Ok(()),
                Ok(false) => Err((failed, None)),
                Err(panic) => Err((failed, Some(panic))),
            }
        }));
        self
    }

    /// How long dropping the batcher waits for its close at most. It waits so long only while calls
    /// answer, see [`drop_patience`](Self::drop_patience). Default 30 s. A batcher in a `static` is
    /// not dropped at the end of the process: call [`Batcher::shutdown`](crate::Batcher::shutdown)
    /// there.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .close_timeout(Duration::from_secs(8))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// drop(batcher); // waits for the row, at most 8 s
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long dropping the batcher waits without an answer of the backend. So a failed test or an
    /// early return does not hang while the backend is away. A call that takes longer than this
    /// counts as abandoned. If the batcher is dropped in a panic, there is one attempt at each
    /// batch. Default 5 s. [`Batcher::close`](crate::Batcher::close) does not use this setting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .drop_patience(Duration::ZERO)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drop_patience(mut self, patience: Duration) -> Self {
        self.drop_patience = patience;
        self
    }

    /// The hook for the report of a batcher that is dropped without having been closed. A panic of
    /// the hook is caught and counted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .on_close(|report| assert_eq!(report.handled, 1))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// drop(batcher);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_close(mut self, hook: impl FnOnce(CloseReport<T>) + Send + 'static) -> Self {
        self.on_close = Some(Box::new(hook));
        self
    }

    /// A limit on the sum of the weights of a batch, greater than 0, such as bytes or a driver's
    /// bind parameters. Default none.
    ///
    /// The function weighs each item once, on the producer's thread. If it panics, the panic
    /// reaches the caller of the add, and what is being added is lost. An item over the limit gets
    /// its own batch, or is refused with [`refuse_too_heavy`](Self::refuse_too_heavy).
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .max_batch_weight(1 << 20, |row: &String| row.len())
    ///     .spawn(|_: &mut Batch<String>| Ok(LoadFeedback::new()))?;
    /// batcher.add("a row".to_owned())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_batch_weight(
        mut self,
        limit: usize,
        weight: impl Fn(&T) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.weigher = Some((limit, Shared::new(weight)));
        self
    }

    /// A limit on the sum of the weights of the items in the queue, in the unit of
    /// [`max_batch_weight`](Self::max_batch_weight), which must be set too and must not exceed it.
    /// The limit bounds memory: apart from the queue, there is only the batch that the handler
    /// holds. Default none: `queue_capacity` alone bounds the queue.
    ///
    /// An item that finds no room by weight is treated as on a full queue: `add` waits, `try_add`
    /// returns [`Full`](crate::AddError::Full), `add_timeout` returns
    /// [`Timeout`](crate::AddError::Timeout). Room is first come, first served. While a producer
    /// waits, an item that would fit waits too, and `try_add` is refused. So light items never keep
    /// a heavy one out.
    ///
    /// An item that alone is over this limit is accepted when the queue is empty, or refused with
    /// [`refuse_too_heavy`](Self::refuse_too_heavy). A producer that finds no room makes the
    /// flusher hand over a batch that is not full. Such a batch counts as
    /// [`Trigger::Size`](crate::Trigger::Size).
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

    /// Whether an item that alone is over `max_batch_weight` is refused as `TooHeavy`. Default
    /// false: it gets its own batch.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .max_batch_weight(4, |row: &String| row.len())
    ///     .refuse_too_heavy(true)
    ///     .spawn(|_: &mut Batch<String>| Ok(LoadFeedback::new()))?;
    /// assert!(batcher.add("a long row".to_owned()).unwrap_err().is_too_heavy());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refuse_too_heavy(mut self, yes: bool) -> Self {
        self.refuse_too_heavy = yes;
        self
    }

    /// Adds a listener, which is notified of calls, decisions, waits, stalls and the close. There
    /// may be several. See [`Listener`]. Without a listener, no event is built.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, DecisionRecord, Listener, LoadFeedback};
    /// struct Print;
    ///
    /// impl Listener for Print {
    ///     fn decision(&mut self, decision: &DecisionRecord) {
    ///         println!("{} -> {}: {}", decision.from, decision.to, decision.reason);
    ///     }
    /// }
    ///
    /// let batcher = Batcher::builder()
    ///     .listener(Print)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// The batcher's name in [`Stats::name`](crate::Stats::name), in metrics and in events. Default
    /// its [`thread_name`](Self::thread_name).
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .name("readings")
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.stats().name, "readings");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The NAME in the names of the threads: `flush-NAME` runs the handler, and `ctl-NAME` the
    /// policy. With a [`concurrency`](Self::concurrency) greater than 1, `flush0-NAME`,
    /// `flush1-NAME` and so on run the handlers. Linux shows the first 15 bytes of a thread's name,
    /// so 9 bytes of this one. Default `batcher`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .thread_name("orders") // threads flush-orders and ctl-orders
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }
}
