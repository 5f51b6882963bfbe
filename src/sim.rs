//! A deterministic simulator in virtual time, to evaluate a policy before it runs against a real
//! backend.
//!
//! Batchers share a [`Backend`] that you describe: what a call and an item cost, how noisy it is,
//! its background load, and when it fails. The policy is the same type that a real batcher runs,
//! and is called in the same way. A minute of traffic takes milliseconds. The same seed gives
//! exactly the same run.
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
//! **A call.** A call of `n` items first waits for its `latency`, which does not depend on the
//! load. Then it needs `call + item·n` of work, times lognormal noise. Where rows share pages, the
//! first items of a call need more work. The calls at work share the cores evenly, and together
//! they get what the background load leaves. A [`LockHolder`] makes a call wait before all that,
//! until the lock is free or a lock timeout fails the call.
//!
//! **Failures.** A call that exceeds the timeout fails as a whole, and its items are lost. It is
//! not tried again, so the losses of a policy are counted. Only a call that is *refused* is tried
//! again. It is tried as the batcher does after an error that comes at once: the whole batch once
//! more, then halves, depth first, without a wait. When every part of a batch that was refused
//! twice has succeeded, the policy gets the event [`TooLarge`](crate::CallOutcome::TooLarge).
//!
//! **Several calls at once.** A batcher has as many calls at once as its setpoint allows. That is
//! one, unless [`Simulation::concurrency`] says otherwise. Calls at once share the cores. They also
//! share [flushes](Backend::group_commit), [contention](Backend::contention), a
//! [limit](Backend::connections) and [conflicts](Backend::conflicts), where the backend has them.
//!
//! **Decisions.** The controller decides shortly after a sample. By then a busy batcher has cut its
//! next batch, as with threads.
//!
//! **The oracle.** [`Report::share_of_oracle`] compares a run with the best fixed size for the
//! parameters of each moment, which no policy knows. The oracle assumes one call at once.
//!
//! The bound of the queue, weights and other retries are not simulated.

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
