//! placeholder
#![forbid(unsafe_code)]

mod batch;
mod batcher;
mod builder;
mod close;
mod controller;
mod doorbell;
mod error;
mod feedback;
mod flusher;
mod intake;
mod policy;
mod queue;
mod reporter;
mod retry;
mod ring;
mod setpoint;
mod settle;
mod stats;
mod sync;
mod ticket;

pub use batch::{Batch, BatchId, Failed, Handler, Trigger};
pub use batcher::{Batcher, Producer};
pub use builder::Builder;
pub use close::CloseReport;
pub use controller::{DecisionRecord, Limits};
pub use error::{AddError, BatchError, BuildError, ErrorClass, FlushError};
pub use feedback::{BatchSample, CUSTOM_SIGNALS_MAX, CallOutcome, LoadFeedback, Sample, Signals};
pub use policy::{Cadence, Decision, Fixed, LoadThreshold, Policy, Reason, Weights, Window, Zone};
pub use retry::Retry;
pub use setpoint::{Probe, Setpoint};
pub use stats::{BatchesByTrigger, Quantiles, Refused, Stats};
pub use ticket::{Outcome, Ticket};

#[cfg(all(test, loom))]
#[path = "../loom-tests/mod.rs"]
mod loom_tests;
