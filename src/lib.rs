//! Collects items from many threads and writes them to a blocking backend, typically a database, in
//! batches whose size follows the backend's load. Every accepted item is accounted for, through
//! panics, errors, timeouts and shutdown. No async runtime.
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
//! # The line of data
//!
//! ```text
//! producers ─add→ queue ─gather→ Batch ─handle→ handler ─→ outcome of every item
//!                   ▲ item back       │                │
//!                   on refusal        │◄── Sample ─────┘ size, wait, service time, errors, LoadFeedback
//!                                     ▼ report
//!             Setpoint ▲         feedback ring (lock-free, overwrites its oldest)
//!       publish        │              ▼ take
//!                      └── Controller ─decide(&window)→ Policy      every load_check_interval
//! ```
//!
//! Producers' threads and one flusher thread for each connection carry the data; one controller
//! thread closes the loop underneath.
//!
//! # The life of a batcher
//!
//! **Start.** [`Batcher::builder`] has a default for everything; [`Builder::spawn`] checks the
//! settings, starts the two threads and returns. A bad setting is a [`BuildError`] that names it
//! and its value.
//!
//! **Add.** `add`, `try_add`, `add_timeout` and the `add_many` variants enqueue items from any
//! thread, through `&Batcher` or a cloneable [`Producer`]. When the queue is full, `add` blocks,
//! `try_add` returns `Full`, and `add_timeout` blocks up to its timeout. A refused item is always
//! returned inside the error. [`Producer::submit`] returns a [`Ticket`] for the item's own outcome;
//! an item whose ticket a thread waits for is handed over as soon as the handler is free. Otherwise
//! the flusher hands a batch over when it has the size in force, or when its oldest item has waited
//! for one linger.
//!
//! **Connect.** [`Builder::spawn_workers`] takes a factory of handlers. It is called again when a
//! connection has to be made anew: after a panic, after an error marked
//! [`handler_broken`](BatchError::handler_broken), and in an outage. A handler that owns one
//! connection forever (`spawn`) must reconnect by itself.
//!
//! **Flush.** [`Producer::flush`] hands over what was added before the call and waits for its
//! outcome. It reports failures of all threads that share the handle; a web worker that shares
//! `&Batcher` learns what became of its own row from its [`Ticket`].
//!
//! **Close.** [`Batcher::close`] refuses new items at once, hands over the rest, and returns a
//! [`CloseReport`] at the latest at its deadline, whatever the handler does. Until then it goes on
//! trying, as long as a further attempt fits. Dropping the batcher does the same with
//! [`close_timeout`](Builder::close_timeout), but gives up after
//! [`drop_patience`](Builder::drop_patience) without an answer.
//!
//! # What happens to my items
//!
//! An item whose add returned `Ok` ends in exactly one way, and [`Stats`] counts it there.
//!
//! | what happens | where the item ends | what the caller sees |
//! | --- | --- | --- |
//! | the handler returns `Ok` | handled, dropped by the flusher | `Stats::handled`, [`Outcome::Handled`] |
//! | [`Batch::reject`], and the handler returns `Ok` | failed with that error, not called again | `on_failed`, `take_failed` or the report; [`Outcome::Failed`]; `flush` returns `Failed` |
//! | [`Batch::reject`] with a permanent error, and the handler returns `Err` | failed with that error; the rest is called again | as above |
//! | [`Batch::retry`] or [`retry_after`](Batch::retry_after), and the handler returns `Ok` | set aside until it is due, then among the first of a later batch; failed when its patience ends | no outcome yet; `Stats::retried_rows` |
//! | the handler returns an error or panics | the batch is called once more under its id, unless the error is permanent, and then searched for bad rows without waits (not with [`Retry::bisect`]`(false)`) | `Stats::retries`, `Stats::bisections`, [`Batch::attempt`], [`Batch::parent`] |
//! | the search: a group goes through | handled | as for `Ok` |
//! | the search: a row fails alone | set aside, called again after the next answer; failed if it fails alone on both sides of an answer; if its error is permanent, failed at once | no outcome yet; then as for a rejected row |
//! | an outage: nothing answers | kept, called after backoffs (all, one row, a witness) for [`Retry`]'s patience, 60 s by default; then failed, the undecided rows together | [`Stats::retrying`]; then [`Failed::outage`] |
//! | the error is unavailable | kept; the same call is repeated after a wait, of at least `retry_after`; no search; patience as in an outage | as for an outage |
//! | the error is misconfigured | five attempts within a second, then its first row alone; if that fails alike, the batch fails | as for a rejected row; later batches get one attempt while the error stays the same |
//! | the error is transient, with [`Retry::split_on_retry`] | the halves are called after a backoff | `Stats::split_retries`, [`Batch::parent`] |
//! | the error is in doubt | failed, marked `in_doubt`, never sent twice; with [`Builder::idempotent`] called again | [`Failed::in_doubt`], [`Outcome::InDoubt`] |
//! | its ticket has returned `Failed` or `InDoubt`, there is no hook, and nobody took the row before | dropped | `Stats::told`; in no list |
//! | [`keep_failed`](Builder::keep_failed) rows are kept and nobody takes them | waits; handed over once rows are taken | after [`stall_timeout`](Builder::stall_timeout): [`AddError::Stalled`], [`Outcome::Stalled`], [`FlushError::Stalled`]; [`Stats::stalled`] |
//! | close, in time | handled; or failed, as without a close | the report's `failed`, or the hook |
//! | close, no further attempt fits before the deadline, or out of time: not handed to the handler before | unsent | `CloseReport::unsent`, [`Outcome::Unsent`] |
//! | the same: called before, and not in a call now | failed with its last error, marked `in_doubt` where it was | `CloseReport::failed` |
//! | close, out of time, in a call | abandoned | `CloseReport::abandoned`, [`Outcome::InDoubt`] |
//! | the abandoned handler comes back | handled, or failed: to the hook, without one counted as `dropped_late` | `Stats` only; the report is not changed |
//! | the batcher is dropped | as for close, within [`close_timeout`](Builder::close_timeout), and no longer than [`drop_patience`](Builder::drop_patience), 5 s, without an answer; in a panic, one attempt a batch | the report goes to [`on_close`](Builder::on_close); without a hook its items are dropped with it |
//!
//! A call *answers* if it returns `Ok` or a permanent error. While the backend answers, a good row
//! never fails because of bad rows alongside it, of whatever class. Where no call answers, bad rows
//! and an outage look alike, so it counts as an outage until patience ends. A batch of one bad row
//! with nothing in line behind it is such a case, unless its error is permanent. [`Retry`] sets the
//! patience.
//!
//! Rows that were set aside may be handled after later ones; [`Retry::keep_order`] prevents that.
//!
//! An item whose add returned `Err` is in the error.
//!
//! # The end of the process
//!
//! A batcher in a variable of `main` closes when it is dropped. One in a `static` is never dropped:
//! at the return of `main`, and at [`std::process::exit`] anywhere, what waits in it is lost and
//! nothing reports it. So call [`Batcher::shutdown`], which takes `&self`, at the end of `main` and
//! from the thread of a signal handler. The first caller gets the report's lists.
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
//! Give `shutdown` less than the grace after which a supervisor kills: 10 s for Docker, 30 s for
//! Kubernetes. The example `graceful_shutdown` does all this.
//!
//! # What this does not promise
//!
//! - **A killed process loses what is in memory.** Acknowledge upstream from tickets: an item is
//!   safe when its outcome is `Handled`, not when its add returned.
//! - **Whether a commit whose answer was lost took effect.** Only the backend knows. Return
//!   `in_doubt` for it, not for a commit that was refused, and see below.
//! - **An abandoned handler is not stopped.** No thread can be stopped from outside: it may still
//!   write what it holds, long after the close.
//! - **A handler must not wait for a thread that adds to the same full queue.** The batcher detects
//!   when one of its own threads would wait for itself. It cannot detect a cycle that goes through
//!   one of your threads.
//! - **A forked child has no batcher.** It has a copy of the memory and none of the threads. What
//!   would wait there is answered at once: adds and flushes with `Closed`, tickets with `InDoubt`,
//!   a close with an empty report that says [`forked`](CloseReport::forked); a drop returns. All
//!   rows, the failed ones included, stay the parent's, and the child runs none of their
//!   destructors. From the first such answer on every add is refused; before it, an add with room
//!   is accepted into the child's copy, where nobody handles it, and `try_add` on a full queue says
//!   `Full`. Start a batcher of the child's own, and call nothing else on the parent's.
//! - **A panic under `panic = "abort"`.** Panics of the handler, the hooks and the policy are
//!   caught by unwinding; a program that is built to abort ends at the first, and what is in memory
//!   with it.
//! - **That old rows are dropped.** Rows wait as long as the backend is away. Where a row is
//!   worthless after some time, carry an [`Instant`](std::time::Instant) or `SystemTime` in the
//!   item, and let the handler call `batch.reject(index, BatchError::permanent("too old"))` before
//!   it calls the backend. A permanent rejection counts even if the call then returns an error.
//! - **An exact age.** An add reads no clock. An item is handed over at the latest one linger after
//!   its add if the handler is free and no pause or backoff is in force, and may go up to one call
//!   of the handler earlier.
//!
//! # Stored exactly once
//!
//! There are two ways, both tested against servers that were killed in mid-batch. In both, the
//! handler classifies each error by its code and by the stage of the transaction. A refusal is
//! definite at every stage, the commit included: a deferred constraint or a serialization failure
//! rolled the transaction back. Only an answer that is lost at the commit is in doubt.
//!
//! Below, `failed` is the function of the driver's [recipe](classify#recipes).
//!
//! The first way: rows have a key, and the backend ignores rows that it has already. Sending a row
//! again then does no harm, and the builder may say so:
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
//! The second way: rows have no key, and a table of batch ids is written in the same transaction.
//! An id stays the same on every attempt at the same items, so an id that is there already means
//! that the attempt before was applied. Parts have ids of their own, hence without bisection
//! ([`Retry::split_on_retry`] does no harm: it leaves alone what may have been applied):
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
//! [`CostModel`], the default, sets the batch size. It learns from each call what a call costs and
//! how long an item takes, and chooses the size at which 95 % of the time goes to items, unless
//! such a batch takes too long. It needs no signal. If signals of [`LoadFeedback`] are over its
//! threshold, it pauses between calls, since smaller batches would only mean more calls. Its reason
//! then says so: `load 0.81, 0 % of items refused: pausing 25 % of the time`.
//!
//! [`LoadThreshold`] is a rule on the signals alone: with a score below 0.3 the size grows by its
//! factor, above 0.7 it shrinks, in between it stays. It suits where a rule in a runbook matters
//! more than throughput; its docs [compare](LoadThreshold#which-law) the policies, with figures.
//! [`Fixed`] never changes the size. [`Aimd`] and [`HillClimb`] are baselines. A [`Policy`] of your
//! own is one method on plain numbers. [`Batcher::decisions`] returns the last decisions with their
//! reasons, as sentences.
//!
//! # Several calls at once
//!
//! [`Builder::concurrency`] gives a batcher several connections, each with a queue, a thread and a
//! handler of its own. One of [`order_by`](Builder::order_by),
//! [`order_by_producer`](Builder::order_by_producer) and [`unordered`](Builder::unordered) says
//! which items may overtake one another. Flush, close, tickets, failed rows and statistics are over
//! all of them. `docs/concurrency.md` says when more connections bring more, with figures.
//!
//! # Watching
//!
//! [`Batcher::stats`] is one consistent snapshot. [`Batcher::observer`] is a handle for any thread
//! that keeps nothing open; it also has the last calls, decisions and failed rows, for whoever comes
//! later. [`Stats::write_prometheus`] and [`metrics`] write the numbers as text, without a
//! dependency; docs/observability.md says which metric answers which question. A [`Listener`] is
//! told once a call, a decision, a backoff, a stall and a close. None of this costs an add
//! anything.
//!
//! # Cost
//!
//! On two cores of a shared Xeon, `cargo bench --bench channel -- --quick`, medians: an `add` of 8
//! bytes takes 1.00 to 1.07 times a bare `crossbeam_channel` send (14 ns); saturated, 1 to 8
//! producers reach 0.9 to 1.1 of the bare channel's throughput, 30 to 39 M items/s, with items of
//! 256 bytes, which go through it without drop glue, 1.4 to 2.5; `add_many` in chunks of 64 has
//! four to seven times the rate of single sends. From an add into an idle batcher to its handler it
//! is 1.25 to 1.3 times a hand-over between two threads. At an even pace of 10 000 a second an
//! `add` takes 0.06 µs, 0.2 µs at the 99th percentile, a hundredth of what it takes alongside a
//! thread that blocks in the channel's own receive. Nothing is allocated for an item of `add` or
//! `add_many`, nor for a batch; `submit`, which allocates twice, has a sixth of the rate of `add`,
//! 5 M items/s.
//!
//! As work grows (`-- --growth --quick`), ns an item, the bare channel's in brackets: 10^4 to 10^6
//! items 29–35 (20–30); capacity 2^6 137 (67), 2^10 33 (27), 2^20 16 (34): a small queue hands over
//! at every turn; producers 1 to 64 27–41 (23–47), 256 96 (116): their start is counted in. A
//! decision of [`CostModel`] costs 90 ns a sample (`cargo bench --bench decide`).
//!
//! Other batchers with the same work (`benches/peers`, a package of its own; batches of 1 000, 1 to
//! 8 producers), M items/s: this one 32 to 38 with `add`, 132 to 223 with `add_many(64)`; tokio's
//! mpsc with `chunks_timeout` 5 to 6, futures-batch 5 to 6, emit_batcher 4, multistream-batch 2 to
//! 4, batched-fn and batch-aint-one 1. Processor time for an item at 10 000, 100 000 and 1 000 000
//! a second: 3.1, 0.38 and 0.07 µs, the pacing alone being 3.3, 0.34 and 0.04; the next batcher
//! 3.7, 0.45 and 0.11.
//!
//! # How many batchers
//!
//! Each batcher has two threads, and one more for each further connection; its memory is allocated at the start. Measured with `u64`
//! items (`cargo bench --bench batchers`; 100 and 1 000 batchers on two cores of a shared Xeon):
//! 260 to 270 KiB resident for each with the defaults; 27 to 33 KiB with `queue_capacity`,
//! `max_batch_size` and `feedback_capacity` of 64; about 4 MiB of address space, most of it the two
//! stacks. Each controller wakes once every `load_check_interval`, also when nothing is added. The
//! number of threads that a process may have is what ends it: a batcher whose threads do not start
//! is a [`BuildError::Thread`].
//!
//! So tens of batchers are no question, and one for each tenant or each key is the wrong shape. Use
//! one batcher whose items say where they belong, an enum or a struct with the key, and group the
//! batch by key in the handler: `Batch` is a slice, so sort its indices by key. One batcher for
//! each *backend* is right, since its size follows that backend's load; more connections to it are
//! [`Builder::concurrency`].
//!
//! # Features
//!
//! `sim` (off): a deterministic simulator of batchers that share a backend, to judge a policy with.
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
