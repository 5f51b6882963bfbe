//! The policy: from samples to the next setpoint. [`Policy`] and the plain data it reads and
//! writes.
//!
//! A policy is pure: no clock, no atomics, no randomness. Time comes in as a number, so that the
//! threads and the simulator drive the same code and the same samples always give the same
//! decisions.

use std::fmt;
use std::time::Duration;

use crate::error::BuildError;
use crate::feedback::{CallOutcome, CustomSignal, Sample};
use crate::policy::setpoint::Setpoint;

mod aimd;
mod concurrency;
mod cost_model;
mod fixed;
mod hill_climb;
mod load_threshold;
mod reason;
mod score;
pub(crate) mod setpoint;
mod throttle;

pub use aimd::Aimd;
pub use concurrency::Concurrency;
pub use cost_model::CostModel;
pub use fixed::Fixed;
pub use hill_climb::HillClimb;
pub use load_threshold::LoadThreshold;
pub use reason::Reason;
pub use score::Weights;

/// Whether a sample is evidence of the time and the outcome of a call of its length. A call that
/// was refused unseen is not, nor is a broken statement. `TooLarge` is an event and not a call.
fn is_evidence(outcome: CallOutcome) -> bool {
    !matches!(
        outcome,
        CallOutcome::Unavailable | CallOutcome::Misconfigured | CallOutcome::TooLarge
    )
}

/// How often a policy decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cadence {
    /// Every `load_check_interval`, and at once after a failed batch. After a failed batch
    /// [`Window::is_check`] is false.
    #[default]
    EveryCheck,
    /// Also after every batch. Batches that follow one another within a millisecond are reported
    /// together.
    EveryBatch,
}

/// What happened since the last decision. Each sample is in exactly one window.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The samples, oldest first.
    pub samples: &'a [Sample],
    /// Samples that were overwritten before they could be read.
    pub lost: u64,
    /// Time since the batcher started. The policy reads no clock.
    pub now: Duration,
    /// Whether a `load_check_interval` has passed. False when a batch woke the controller before
    /// that.
    pub is_check: bool,
    /// The smallest batch size allowed. The controller clamps a decision to the two bounds.
    pub min_batch_size: usize,
    /// The largest batch size allowed.
    pub max_batch_size: usize,
    /// The linger that the user set. A policy may ask for a shorter one, not for a longer one.
    pub linger: Duration,
    /// The smallest number of calls at once. The controller clamps a decision to the two bounds.
    pub min_concurrency: usize,
    /// The largest number of calls at once.
    pub max_concurrency: usize,
    /// The declared custom signals with their weights, in the order of
    /// [`Signals::custom`](crate::Signals::custom).
    pub custom: &'a [CustomSignal],
}

/// How loaded the policy takes the backend to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Zone {
    /// There is no evidence.
    #[default]
    Unknown,
    /// The backend is idle: grow.
    Low,
    /// Neither idle nor stressed: stay.
    Normal,
    /// The backend is stressed: shrink.
    High,
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}

/// The decision of a policy. Start from [`Decision::hold`] and set what should change.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The batch size from now on, in items. The controller clamps it to the window's bounds.
    pub batch_size: usize,
    /// A shorter linger than the user's; `None` keeps the user's.
    pub linger: Option<Duration>,
    /// The pause after each call, as a multiple of the call's service time; 0 is none. NaN and
    /// negative values count as 0.
    pub pause_ratio: f64,
    /// The size of one batch, to learn from it. A busy batcher has usually gathered its next batch
    /// when the decision is made, so the probe is the one after that. Keep requesting it until its
    /// sample arrives, or until samples were [`lost`](Window::lost), since its own may be one of
    /// them. The same size in consecutive decisions requests one batch. A decision without a probe
    /// cancels it.
    pub probe: Option<usize>,
    /// How many calls of the handler there may be at once from now on. `None` keeps the number in
    /// force. The controller clamps it to the window's bounds. The crate's policies other than
    /// [`CostModel`] ask for [`Window::max_concurrency`].
    pub concurrency: Option<usize>,
    /// How loaded the policy takes the backend to be.
    pub zone: Zone,
    /// The load score that the decision is based on, 0..=1.
    pub score: Option<f64>,
    /// The reason, as users read it in [`Batcher::decisions`](crate::Batcher::decisions).
    pub reason: Reason,
}

impl Decision {
    /// Keeps the current size, without a pause or a probe.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, Decision, LoadFeedback, Zone};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let current = batcher.stats().setpoint; // what a policy is given
    /// let decision = Decision { zone: Zone::High, ..Decision::hold(&current, "replica lags") };
    /// assert_eq!(decision.batch_size, current.batch_size);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hold(current: &Setpoint, reason: impl Into<Reason>) -> Self {
        Self::resize(current.batch_size, reason)
    }

    /// Changes to this size, without a pause or a probe.
    ///
    /// ```
    /// # use load_aware_batcher::Decision;
    /// let decision = Decision { pause_ratio: 0.5, ..Decision::resize(200, "vacuum is running") };
    /// assert_eq!((decision.batch_size, decision.probe), (200, None));
    /// assert_eq!(decision.reason.to_string(), "vacuum is running");
    /// ```
    #[must_use]
    pub fn resize(batch_size: usize, reason: impl Into<Reason>) -> Self {
        Self {
            batch_size,
            linger: None,
            pause_ratio: 0.0,
            probe: None,
            concurrency: None,
            zone: Zone::Unknown,
            score: None,
            reason: reason.into(),
        }
    }
}

/// Decides on the size of the batches. [`decide`](Self::decide) runs on the controller's thread. If
/// it panics, the panic is caught and counted in
/// [`Stats::policy_panics`](crate::Stats::policy_panics), and the setpoint stays in force.
///
/// ```
/// use load_aware_batcher::{Decision, Policy, Setpoint, Window};
///
/// /// Doubles the size after a window without a failure, and halves it after one with a failure.
/// struct Doubling;
///
/// impl Policy for Doubling {
///     fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
///         if window.samples.is_empty() {
///             return Decision::hold(current, "no evidence");
///         }
///         let failed = window.samples.iter().filter_map(|s| s.batch).any(|batch| batch.failed > 0);
///         if failed {
///             Decision::resize(current.batch_size / 2, "a batch failed")
///         } else {
///             Decision::resize(current.batch_size * 2, "all is well")
///         }
///     }
/// }
/// ```
pub trait Policy: Send {
    /// Decides from what happened since the last decision, and from the values in force.
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision;

    /// The policy's name in [`Stats::policy`](crate::Stats::policy) and in metrics. Default the
    /// path of its type. The method is called once, as [`cadence`](Self::cadence) is.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The two load scores between which the policy leaves the batch size alone, from 0 to 1, if it
    /// has such scores. [`Stats::thresholds`](crate::Stats::thresholds) shows them. Default none. It
    /// is called once, as [`cadence`](Self::cadence) is.
    fn thresholds(&self) -> Option<(f64, f64)> {
        None
    }

    /// When the policy wants to decide. It is called once: by the thread that starts the batcher,
    /// or by the controller's thread when the policy is replaced. A panic counts as
    /// [`Cadence::EveryCheck`].
    fn cadence(&self) -> Cadence {
        Cadence::EveryCheck
    }

    /// The batch size to start with, unless the builder sets one.
    fn initial_batch_size(&self) -> Option<usize> {
        None
    }

    /// Checks the policy's own settings. The method is called once, before the batcher starts or
    /// the policy is replaced.
    ///
    /// # Errors
    /// A [`BuildError`] that names the setting and its value.
    fn validate(&self) -> Result<(), BuildError> {
        Ok(())
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        (**self).decide(window, current)
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn thresholds(&self) -> Option<(f64, f64)> {
        (**self).thresholds()
    }

    fn cadence(&self) -> Cadence {
        (**self).cadence()
    }

    fn initial_batch_size(&self) -> Option<usize> {
        (**self).initial_batch_size()
    }

    fn validate(&self) -> Result<(), BuildError> {
        (**self).validate()
    }
}
