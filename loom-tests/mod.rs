//! The protocols as models, each a few threads on a part of the batcher, and whole batchers as
//! scenarios.
//!
//! Each model is named after the promise it keeps. `mutants.list` has the deliberate mistakes, each
//! with the models that must fail with it. The sources hold no trace of them: `weave` copies the
//! tree, writes the mistakes into the copy and runs the models there. `.ci/run` runs
//!
//! `cargo run --manifest-path loom-tests/weave/Cargo.toml --target-dir target/weave/tool`
//!
//! and a part of a mutant's name after `--` runs this one alone.
//!
//! | how | what it shows | what it cannot |
//! | --- | --- | --- |
//! | `RUSTFLAGS="--cfg loom" cargo test --profile loom --lib` | every order of the models' steps and every value a load may return, within `LOOM_MAX_PREEMPTIONS` (3 in the gate and by default) | the real channel and arc-swap; see below |
//! | `RUSTFLAGS="--cfg shuttle" cargo test --profile loom --lib` | random orders of the models' and the scenarios' steps, `SHUTTLE_SCHEDULES` of each | weak memory |
//! | `cargo +nightly miri test --lib` | the models on the real parts, weak memory and data races, one order a seed | most orders |
//! | `cargo test --lib` | the models on the real parts and the real machine | most orders, weak memory on x86-64 |
//!
//! `-- --nocapture` prints how many executions each model had, and how long they took.
//!
//! # Mistakes that no model shows
//! - `ring`: a claim by a relaxed compare-exchange. The Acquire keeps the last writer's stores of
//!   the fields before the new writer's; the checkers, and Miri, order the stores to one location
//!   by when they execute, so the wrong order has no way to appear.
//! - `ring`: a lapped writer that goes on, over a later sample. It costs a sample, which is
//!   counted.
//! - `ring`: relaxed loads of `head`; they bound the search, a stale one reads less.
//! - `wakeup`: a ring or a completing add that leaves the number in the word, and a count before
//!   the send. They cost wake-ups.
//! - `wakeup`: a lease that is refused although `credits` held it (`>` for `>=`), that is kept
//!   smaller than it is, or that a ticket's or a chunk's add does not spend. The word holds the
//!   number sooner and more adds count; the same add wakes the flusher.
//! - `wakeup`: a producer that counts although its compare-exchange of step (c3) failed. The
//!   producer whose compare-exchange succeeded counts that add, too.
//! - `wakeup`: relaxed accesses of `credits`. The word orders the swap before every lease of that
//!   sleep.
//! - `gate`: the weight read by a relaxed load. In a sleep's second look it stands behind the
//!   length, whose fence, all that loom knows of SeqCst, orders it too.
//! - `weight_room`: `pressed` read by a relaxed load. It stands behind the loads of the length and
//!   of the word, with their fences.
//! - `wakeup`, `gate`, `permits`, `reporter`: a read-modify-write that is AcqRel instead of
//!   SeqCst. A store-then-load pair is ordered only if both are SeqCst, and the models have the
//!   fence with the load: that mistake and a load that orders nothing are the same model.
//! - `close`: a close that moves all there is instead of exactly n. Who sends after the close and
//!   is moved was accepted, finds nothing to take back and reports that; with producers that never
//!   stop such a close never ends, which is no order of few steps.
//! - `ticket`: a relay that is attached to a cell whose waiter has left. A waiter that nobody
//!   notified leaves only by its deadline or by a spurious wake-up; in the models time stands
//!   still. A test alongside the code has it.
//! - `flusher`: no look at the setpoint in a sleep's second look. The ring of a publication leaves
//!   a token that ends the park; the look saves the way into it.

mod admission;
mod close;
mod flush;
mod parts;
mod permits;
mod reporter;
mod ring;
mod setpoint;
mod ticket;
mod waiters;
mod wake_up;
mod weight_room;
mod whole;

#[cfg(loom)]
mod exhausted;
#[cfg(loom)]
use exhausted::{model, thread};

#[cfg(shuttle)]
mod sampled;
#[cfg(shuttle)]
mod scenarios;
#[cfg(shuttle)]
use sampled::{model, thread};

#[cfg(not(any(loom, shuttle)))]
mod repeated;
#[cfg(not(any(loom, shuttle)))]
use repeated::{model, thread};

use parts::{Parts, begin_close, close_and_seize};
