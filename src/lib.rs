//! Collects items from many threads and writes them to a blocking backend, typically a database, in
//! batches whose size adapts to the backend. Every accepted item is accounted for, through panics,
//! errors, timeouts and shutdown. There is no async runtime.
//!
//! ```
//! use std::time::Duration;
//! use load_aware_batcher::{Batch, Batcher, LoadFeedback};
//!
//! let batcher = Batcher::builder()
//!     .spawn(|batch: &mut Batch<String>| {
//!         // Here: one round trip for the whole batch. Any error converts with `?`.
//!         let bytes: usize = batch.iter().map(String::len).sum();
//!         assert!(bytes > 0);
//!         Ok(LoadFeedback::new())
//!     })?;
//! std::thread::scope(|scope| {
//!     for thread in 0..4 {
//!         let producer = batcher.producer();
//!         scope.spawn(move || {
//!             for n in 0..1_000 {
//!                 producer.add(format!("row {n} of thread {thread}")).expect("open until close");
//!             }
//!         });
//!     }
//! });
//! let report = batcher.close(Duration::from_secs(10));
//! assert_eq!(report.handled, 4_000);
//! # Ok::<(), load_aware_batcher::BuildError>(())
//! ```
//!
//! # How it works
//!
//! ```text
//! producers ── add ──→ queue ── Batch ──→ handler ──→ an outcome for every item
//!                                 ▲          │
//!                            Setpoint      Sample: size, times, outcome, LoadFeedback of a call
//!                                 │          ▼
//!                                 └─ controller: Policy::decide(window) every load_check_interval
//! ```
//!
//! - A *producer* is a thread that adds items.
//! - The *flusher* is a thread of the batcher. It gathers a [`Batch`] from the queue and calls the
//!   [`Handler`] with it. There is one flusher for each connection.
//! - The *controller* is one further thread. It gives the samples of the calls to the [`Policy`],
//!   which decides on the [`Setpoint`]: above all, the size of the batches to come.
//!
//! # The life of a batcher
//!
//! **Start.** [`Batcher::builder`] has a default for every setting. [`Builder::spawn`] checks the
//! settings, starts the two threads and returns. A bad setting is a [`BuildError`] that names it
//! and its value.
//!
//! **Add.** `add`, `try_add`, `add_timeout` and the `add_many` variants enqueue items from any
//! thread, through `&Batcher` or a cloneable [`Producer`]. When the queue is full, `add` blocks,
//! `try_add` returns `Full`, and `add_timeout` blocks up to its timeout. A refused item is always
//! returned inside the error.
//!
//! **Hand over.** The flusher hands a batch to the handler when the batch has the size in force, or
//! when its oldest item has waited for the [`linger`](Builder::linger), 1 s by default.
//! [`Producer::submit`] returns a [`Ticket`] for the outcome of one item. While a thread waits for
//! a ticket, its item does not linger: it is handed over as soon as the handler is free.
//!
//! **Connect.** [`Builder::spawn_workers`] takes a factory of handlers. The factory is called at
//! the start, and again when a new connection is needed: after a panic, after an error marked
//! [`handler_broken`](BatchError::handler_broken), and in an outage. [`Builder::spawn`] takes one
//! handler, which must connect again by itself. [`Builder::sink`] takes a [`Sink`], a ready-made
//! factory from a companion crate.
//!
//! **Flush.** [`Producer::flush`] hands over what was added before the call and waits for the
//! outcome of it. A flush reports the failures of all threads that share its handle. To learn the
//! outcome of one item, use its [`Ticket`].
//!
//! **Close.** [`Batcher::close`] refuses new items at once and hands over the rest. It returns a
//! [`CloseReport`] at its deadline or before, whatever the handler does. Until then it tries failed
//! batches again, as long as a further attempt fits. Dropping the batcher does the same with
//! [`close_timeout`](Builder::close_timeout), but gives up after
//! [`drop_patience`](Builder::drop_patience) without an answer.
//!
//! # What happens to my items
//!
//! An item whose add returned `Err` is in the error. An item whose add returned `Ok` ends in
//! exactly one way, and [`Stats`] counts it there. The table uses these terms:
//!
//! - A call *answers* if it returns `Ok` or a permanent error. Then the backend was there.
//! - The *patience* is how long a batch is tried again while no call answers: 60 s by default, see
//!   [`Retry`].
//! - A row is *in doubt* if the backend may or may not have stored it.
//! - A row that is *set aside* leaves its batch and is called again later.
//! - The *search* finds the bad rows of a failed batch: it calls parts of the batch, halving them.
//! - A *witness* is another row that is called alone, to learn whether the backend answers.
//!
//! | what happens | where the item ends | what the caller sees |
//! | --- | --- | --- |
//! | the handler returns `Ok` | handled; the flusher drops it | `Stats::handled`, [`Outcome::Handled`] |
//! | [`Batch::reject`], and the handler returns `Ok` | failed with that error; not called again | `on_failed`, `take_failed` or the report; [`Outcome::Failed`]; `flush` returns `Failed` |
//! | [`Batch::reject`] with a permanent error, and the handler returns `Err` | failed with that error; the other rows are called again | as above |
//! | [`Batch::retry`] or [`retry_after`](Batch::retry_after), and the handler returns `Ok` | set aside until it is due, then among the first rows of a later batch; failed when its patience ends | no outcome yet; `Stats::retried_rows` |
//! | the handler returns an error or panics | the batch is called once more under the same id, unless the error is permanent; if it fails again, the search begins, which does not wait (not with [`Retry::bisect`]`(false)`) | `Stats::retries`, `Stats::bisections`, [`Batch::attempt`], [`Batch::parent`] |
//! | search: a part goes through | handled | as for `Ok` |
//! | search: a row fails alone with a permanent error | failed at once | as for a rejected row |
//! | search: a row fails alone with another error | set aside, and called again after the next answer; failed if it then fails alone again | no outcome yet; then as for a rejected row |
//! | an outage: no call answers | kept; after each backoff there is a call with all undecided rows, with one of them, or with a witness; when the patience ends, the undecided rows fail together | [`Stats::retrying`]; then [`Failed::outage`] |
//! | the error is unavailable | kept; the same call is repeated after a wait of at least `retry_after`; no search; patience as in an outage | as for an outage |
//! | the error is misconfigured | five attempts within a second, then the first row alone; if that fails in the same way, the batch fails | as for a rejected row; later batches get one attempt while the error stays the same |
//! | the error is transient, with [`Retry::split_on_retry`] | the halves of the batch are called after a backoff | `Stats::split_retries`, [`Batch::parent`] |
//! | the error is in doubt | failed, marked `in_doubt`, never sent again; with [`Builder::idempotent`] called again | [`Failed::in_doubt`], [`Outcome::InDoubt`] |
//! | its ticket has returned `Failed` or `InDoubt`, there is no hook, and nobody took the row before | dropped | `Stats::told`; in no list |
//! | [`keep_failed`](Builder::keep_failed) rows are kept and nobody takes them | waits; handed over once rows are taken | after [`stall_timeout`](Builder::stall_timeout): [`AddError::Stalled`], [`Outcome::Stalled`], [`FlushError::Stalled`]; [`Stats::stalled`] |
//! | close, in time | handled; or failed, as without a close | the report's `failed`, or the hook |
//! | close, out of time or no further attempt fits; the item was never in a call | unsent | `CloseReport::unsent`, [`Outcome::Unsent`] |
//! | the same; the item was in a call before, and is in none now | failed with its last error, marked `in_doubt` where it was | `CloseReport::failed` |
//! | close, out of time; the item is in a call | abandoned | `CloseReport::abandoned`, [`Outcome::InDoubt`] |
//! | the abandoned handler comes back | handled; or failed, and given to the hook; without a hook counted as `dropped_late` | `Stats` only; the report is not changed |
//! | the batcher is dropped | as for close, within [`close_timeout`](Builder::close_timeout), and within [`drop_patience`](Builder::drop_patience), 5 s, if no call answers; in a panic, one attempt for each batch | the report goes to [`on_close`](Builder::on_close); without that hook its items are dropped with it |
//!
//! While the backend answers, a good row never fails because of bad rows in the same batch,
//! whatever the class of their errors. Where no call answers, bad rows and an outage cannot be
//! distinguished. It then counts as an outage until the patience ends. One such case is a batch of
//! one bad row with nothing in line after it, unless its error is permanent.
//!
//! Rows that were set aside may be handled after later ones. [`Retry::keep_order`] prevents that.
//!
//! # The end of the process
//!
//! A batcher in a variable of `main` closes when it is dropped. A batcher in a `static` is never
//! dropped. When `main` returns, or [`std::process::exit`] is called anywhere, the items in it are
//! lost, and nothing reports them. So call [`Batcher::shutdown`], which takes `&self`, at the end
//! of `main` and on the thread that handles signals. The first caller gets the report's lists.
//!
//! ```
//! use std::sync::OnceLock;
//! use std::time::Duration;
//! use load_aware_batcher::{Batch, Batcher, LoadFeedback};
//!
//! static ROWS: OnceLock<Batcher<u64>> = OnceLock::new();
//!
//! fn main() {
//!     let built = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new())).expect("two threads start");
//!     let rows = ROWS.get_or_init(|| built);
//!     // ctrlc::set_handler(|| { … rows.shutdown(Duration::from_secs(8)) …; std::process::exit(0) })
//!     rows.add(1).expect("open");
//!     let report = rows.shutdown(Duration::from_secs(8));
//!     assert!(report.is_clean(), "{report:?}");
//! }
//! ```
//!
//! Give `shutdown` less time than the supervisor waits before it kills: 10 s for Docker, 30 s for
//! Kubernetes. The example `graceful_shutdown` does all this.
//!
//! # What this does not promise
//!
//! - **A killed process loses what is in memory.** Acknowledge upstream from tickets: an item is
//!   safe when its outcome is `Handled`, not when its add returned.
//! - **Nobody but the backend knows whether a commit took effect whose answer was lost.** Return
//!   [`in_doubt`](BatchError::in_doubt) for such a commit, but not for one that was refused. See
//!   below.
//! - **An abandoned handler is not stopped.** No thread can be stopped from outside. The handler
//!   may still write what it holds, long after the close.
//! - **A handler must not wait for a thread that adds to the same full queue.** The batcher detects
//!   when one of its own threads would wait for itself. It cannot detect a cycle that goes through
//!   one of your threads.
//! - **A forked child has no batcher.** It has a copy of the memory and none of the threads. Calls
//!   that would wait there return at once: adds and flushes with `Closed`, tickets with `InDoubt`,
//!   and a close with an empty report that says [`forked`](CloseReport::forked). A drop returns
//!   too. After the first such answer every add is refused. Before it, an add that finds room is
//!   accepted into the child's copy, where nobody handles it, and `try_add` on a full queue says
//!   `Full`. All rows, the failed ones included, belong to the parent, and the child runs none of
//!   their destructors. In the child, start another batcher, and call nothing on the parent's.
//! - **With `panic = "abort"`, a panic is not caught.** Panics of the handler, the hooks and the
//!   policy are caught by unwinding. A program that is built to abort ends at the first panic, and
//!   loses what is in memory.
//! - **Old rows are not dropped.** Rows wait as long as the backend is away. If a row is worthless
//!   after some time, carry an [`Instant`](std::time::Instant) or `SystemTime` in the item, and let
//!   the handler call `batch.reject(index, BatchError::permanent("too old"))` before it calls the
//!   backend. A permanent rejection counts even if the call then returns an error.
//! - **The age of an item is not exact.** An add reads no clock. If the handler is free and no
//!   pause or backoff is in force, an item is handed over at the latest one linger after its add.
//!   It may be handed over earlier than that, by up to the time of one call.
//!
//! # Stored exactly once
//!
//! There are two ways. Both are tested against servers that are killed in mid-batch. In both, the
//! handler classifies each error by its code and by the stage of the transaction. A refusal is
//! definite at every stage, the commit included: a deferred constraint or a serialization failure
//! has rolled the transaction back. Only an answer that is lost at the commit is in doubt.
//!
//! In the examples, `failed` is the function of the driver's [recipe](classify#recipes).
//!
//! In the first way, rows have a key, and the backend ignores rows that it has already. Sending a
//! row again does no harm, so the builder may say `idempotent`:
//!
//! ```text
//! .idempotent(true)
//! .spawn(move |batch: &mut Batch<Row>| {
//!     let mut transaction = client.transaction().map_err(|error| failed(error, Stage::Statement))?;
//!     // INSERT … ON CONFLICT (key) DO NOTHING     .map_err(|error| failed(error, Stage::Statement))?
//!     transaction.commit().map_err(|error| failed(error, Stage::Commit))?; // in doubt only if its answer is lost
//!     Ok(LoadFeedback::new())
//! })
//! ```
//!
//! In the second way, rows have no key. The handler writes the batch's id into a table in the same
//! transaction as the rows. The id stays the same on every attempt at the same items. So an id that
//! is there already means that an earlier attempt was stored. A part of a batch has an id of its
//! own, so bisection is turned off. [`Retry::split_on_retry`] may be on: it does not split what may
//! have been stored.
//!
//! ```text
//! .idempotent(true)
//! .retry(Retry::default().bisect(false))
//! .spawn(move |batch: &mut Batch<Row>| {
//!     let mut transaction = client.transaction().map_err(|error| failed(error, Stage::Statement))?;
//!     // INSERT INTO batches(id) VALUES ($1) ON CONFLICT DO NOTHING, with batch.id()
//!     if inserted == 1 { /* the rows */ }
//!     // else: return the marks stored with this id, see below
//!     transaction.commit().map_err(|error| failed(error, Stage::Commit))?;
//!     Ok(LoadFeedback::new())
//! })
//! ```
//!
//! A handler of the second way that marks rows ([`Batch::reject`], [`Batch::retry`]) must store
//! each mark with the id, in the same transaction: the index and the error. If the id is there
//! already, it reads them and marks the rows again. Otherwise the next attempt would report rows as
//! handled that were never stored.
//!
//! [`classify`] has the codes of three databases, with the class of each and whether the connection
//! is kept. It also covers what a driver refuses to send, idle connections, and raw `BEGIN`s.
//!
//! # The policy
//!
//! [`CostModel`], the default, sets the batch size. It learns from the times of the calls what a
//! call costs and how long an item takes. It chooses the size at which 95 % of the time goes to
//! items, unless such a batch takes too long. It needs no signal. While the signals of
//! [`LoadFeedback`] are over its threshold, it pauses between calls, since smaller batches would
//! only mean more calls. Its reason then says so:
//! `load 0.81, 0 % of items refused: pausing 25 % of the time`.
//!
//! [`LoadThreshold`] is a rule on the signals alone. While the load score is below 0.3, the size
//! grows by 20 % at each check. Above 0.7 it shrinks by 20 %. In between it stays. Choose this
//! policy where a rule for a runbook matters more than throughput. Its documentation
//! [compares](LoadThreshold#which-policy) the policies, with figures. [`Fixed`] never changes the
//! size. [`Aimd`] and [`HillClimb`] are baselines for comparison. A [`Policy`] of your own is one
//! method on plain numbers.
//!
//! [`Batcher::decisions`] returns the last decisions with their reasons, as sentences.
//!
//! # Several calls at once
//!
//! [`Builder::concurrency`] gives a batcher several connections, each with a queue, a thread and a
//! handler of its own. You choose which items may overtake one another by one of
//! [`order_by`](Builder::order_by), [`order_by_producer`](Builder::order_by_producer) and
//! [`unordered`](Builder::unordered). Flush, close, tickets, failed rows and statistics cover all
//! connections. `docs/concurrency.md` says when more connections help, with figures.
//!
//! # Watching
//!
//! [`Batcher::stats`] returns one consistent snapshot. [`Batcher::observer`] returns a handle for
//! any thread, which does not keep the batcher open. It also has the last calls, decisions and
//! failed rows. [`Stats::write_prometheus`] and [`metrics`] write the numbers as text, without a
//! dependency; `docs/observability.md` says which metric answers which question. A [`Listener`] is
//! notified once for each call, decision, backoff, stall and close. All of this adds no cost to an
//! add.
//!
//! # Cost
//!
//! Measured on two cores of a shared Xeon, medians (`cargo bench --bench channel -- --quick`). The
//! bare channel is a `crossbeam_channel`:
//!
//! | what | cost or rate |
//! | --- | --- |
//! | an `add` of 8 bytes | 1.00 to 1.07 times a send into the bare channel, which takes 14 ns |
//! | 1 to 8 producers, saturated | 30 to 39 M items/s: 0.9 to 1.1 times the bare channel |
//! | the same, items of 256 bytes | 1.4 to 2.5 times the bare channel, since the queue moves them without drop glue |
//! | `add_many` in chunks of 64 | four to seven times the rate of single sends |
//! | `submit` | 5 M items/s, a sixth of the rate of `add`; allocates twice |
//! | from an add into an idle batcher to its handler | 1.25 to 1.3 times a hand-over between two threads |
//! | an `add` at an even pace of 10 000 a second | 0.06 µs, at the 99th percentile 0.2 µs; a hundredth of a send to a thread that blocks in the channel's own receive |
//!
//! `add` and `add_many` allocate nothing for an item, and a batch allocates nothing.
//!
//! How the cost of an item changes as the work grows (`-- --growth --quick`), in ns:
//!
//! | work | an item | an item of the bare channel |
//! | --- | --- | --- |
//! | 10^4 to 10^6 items | 29–35 | 20–30 |
//! | capacity 2^6 (a small queue hands over at every turn) | 137 | 67 |
//! | capacity 2^10 | 33 | 27 |
//! | capacity 2^20 | 16 | 34 |
//! | 1 to 64 producers | 27–41 | 23–47 |
//! | 256 producers, the start of their threads included | 96 | 116 |
//!
//! A decision of [`CostModel`] costs 90 ns for each sample (`cargo bench --bench decide`).
//!
//! Other batchers with the same work (the package `benches/peers`; batches of 1 000, 1 to 8
//! producers):
//!
//! | batcher | M items/s |
//! | --- | --- |
//! | this one, `add` | 32 to 38 |
//! | this one, `add_many(64)` | 132 to 223 |
//! | tokio's mpsc with `chunks_timeout` | 5 to 6 |
//! | futures-batch | 5 to 6 |
//! | emit_batcher | 4 |
//! | multistream-batch | 2 to 4 |
//! | batched-fn, batch-aint-one | 1 |
//!
//! Processor time for an item, in µs:
//!
//! | items a second | this one | the pacing alone | the next batcher |
//! | --- | --- | --- | --- |
//! | 10 000 | 3.1 | 3.3 | 3.7 |
//! | 100 000 | 0.38 | 0.34 | 0.45 |
//! | 1 000 000 | 0.07 | 0.04 | 0.11 |
//!
//! # How many batchers
//!
//! Each batcher has two threads, and one more for each further connection. Its memory is allocated
//! at the start. Measured with `u64` items (`cargo bench --bench batchers`; 100 and 1 000 batchers
//! on two cores of a shared Xeon), each batcher has
//!
//! - 260 to 270 KiB resident with the defaults;
//! - 27 to 33 KiB resident with `queue_capacity`, `max_batch_size` and `feedback_capacity` of 64;
//! - about 4 MiB of address space, most of it the two stacks.
//!
//! Each controller wakes once every `load_check_interval`, even when nothing is added. The number
//! of threads that a process may have is the limit: a batcher whose threads do not start is a
//! [`BuildError::Thread`].
//!
//! So a program may have tens of batchers, but not one for each tenant or each key. Use one batcher
//! whose items say where they belong, by an enum or a struct with the key, and group the batch by
//! key in the handler: `Batch` is a slice, so sort its indices by key. One batcher for each
//! *backend* is right, since its size adapts to that backend. [`Builder::concurrency`] gives it
//! more connections.
//!
//! # Features
//!
//! `sim` (off): a deterministic simulator of batchers that share a backend, to test a policy with.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod batcher;
pub mod classify;
mod control;
mod error;
mod events;
mod exchange;
mod feedback;
mod flush;
mod journal;
mod listeners;
pub mod metrics;
mod observe;
mod observer;
mod policy;
mod queue;
#[cfg(feature = "sim")]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod sim;
mod snapshot;
mod stats;
mod sync;
mod ticket;
mod unwind;
mod wakeup;

pub use batch::id::BatchId;
pub use batch::{Batch, Failed, Handler, Trigger};
pub use batcher::Batcher;
pub use batcher::builder::Builder;
pub use batcher::producer::{Producer, SubmitManyError};
pub use batcher::sensor::Sensor;
pub use batcher::sink::{Sink, SinkError};
pub use control::limits::Limits;
pub use error::{AddError, BatchError, BuildError, ErrorClass, FlushError};
pub use events::{
    BackoffEvent, CallEvent, CloseSummary, DecisionRecord, ErrorEvent, FailureEvent,
    QueueFullEvent, Recent, StallEvent,
};
pub use feedback::{
    BatchSample, CUSTOM_SIGNALS_MAX, CallOutcome, CustomSignal, LoadFeedback, Sample, Signals,
};
pub use flush::close_report::CloseReport;
pub use flush::retry::Retry;
pub use flush::workers::Worker;
pub use listeners::Listener;
pub use observer::Observer;
pub use policy::setpoint::{Probe, Setpoint};
pub use policy::{
    Aimd, Cadence, Concurrency, CostModel, Decision, Fixed, HillClimb, LoadThreshold, Policy,
    Reason, Weights, Window, Zone,
};
pub use stats::{
    BatchesByTrigger, ClosedCounts, DecisionCounts, FailedCalls, Histogram, LaneStats, Phase,
    Quantiles, Refused, Retrying, SignalValue, Stats,
};
pub use ticket::{Outcome, Ticket};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/concurrency.md")]
struct SeveralCalls;

#[cfg(doctest)]
#[doc = include_str!("../docs/recipes.md")]
struct Recipes;

#[cfg(test)]
#[path = "../loom-tests/mod.rs"]
mod models;
