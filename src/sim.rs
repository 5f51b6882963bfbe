//! A deterministic simulator in virtual time, to evaluate a policy before it runs against a real
//! backend.
//!
//! Batchers share a [`Backend`] that you describe: what a call and an item cost, how noisy it is,
//! who else uses it, when it fails. The policy is the same type that a real batcher runs, and is
//! called in the same way. A minute of traffic takes milliseconds. The same seed gives exactly the
//! same run.
//!
//! ```
//! use std::time::Duration;
//! use load_aware_batcher::sim::{Backend, Load, Simulation};
//! use load_aware_batcher::{Decision, Fixed, Policy, Setpoint, Window};
//!
//! /// Grows by ten until a call takes 200 ms, then shrinks by a tenth.
//! struct Mine;
//! impl Policy for Mine {
//!     fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
//!         let Some(last) = window.samples.iter().rev().find_map(|s| s.batch) else { return Decision::hold(current, "idle") };
//!         let size = current.batch_size;
//!         let long = last.service_time > Duration::from_millis(200);
//!         if long { Decision::resize(size * 9 / 10, "too long") } else { Decision::resize(size + 10, "room left") }
//!     }
//! }
//!
//! // A minute, in which competing load takes 85 % of the machine from second 30 to 45.
//! let seconds = Duration::from_secs;
//! let backend = Backend::new().load(Load::spike(0.2, 0.85, seconds(30), seconds(15)));
//! let minute = Simulation::new(backend).duration(seconds(60)).max_batch_size(500);
//! let (mine, fixed) = (minute.run(Mine), minute.run(Fixed(50)));
//! assert!(mine.share_of_oracle() > fixed.share_of_oracle());
//! assert!(mine.failed() < fixed.failed());
//! ```
//!
//! # What is simulated
//!
//! A call of `n` items first waits its `latency`, which no load stretches, and then needs `call +
//! item·n` of work, times lognormal noise; where rows share pages, the first items of a call need
//! more. Calls at work share the cores fairly, and all of them get only what the background load
//! leaves. A [`LockHolder`] makes a call wait before all that, for as long as it pleases or until a
//! lock timeout fails it. A call over the timeout fails as a whole and its items are lost: nothing
//! is tried again, so what a policy loses is counted, not hidden. A batcher has as many calls at once
//! as its setpoint allows, one unless [`Simulation::concurrency`] says otherwise. The controller decides a moment after a sample, so that the next batch of a
//! busy batcher is already cut, as with threads.
//!
//! Calls at once share the cores, and [flushes](Backend::group_commit),
//! [contention](Backend::contention), a [limit](Backend::connections) and
//! [conflicts](Backend::conflicts) where the backend has them.
//!
//! [`Report::share_of_oracle`] compares with the best fixed size for the parameters of each moment,
//! which no policy knows. The oracle knows nothing of several calls at once.
//!
//! Only a call that is *refused* is tried again, as the batcher does where an error comes at once:
//! the same whole once more, then halves depth first, without a wait. When every part of a batch
//! that was refused twice has gone through, the policy gets the event
//! [`TooLarge`](crate::CallOutcome::TooLarge).
//!
//! What is not: the queue's bound, weights, other retries.

mod backend;
mod chance;
mod engine;
mod event;
mod load;
mod lock;
mod oracle;
mod parallel;
mod report;
mod simulation;
mod unit;

pub use backend::{Backend, Costs};
pub use load::Load;
pub use lock::LockHolder;
pub use oracle::Best;
pub use report::{Call, Report};
pub use simulation::Simulation;
