//! The settings of a run.

use std::time::Duration;

use super::backend::Backend;
use super::engine::Engine;
use super::report::Report;
use super::unit::Unit;
use crate::policy::Concurrency;
use crate::policy::Policy;
use crate::policy::setpoint::Bounds;

/// The settings of a run: a [`Backend`], how items arrive, and those settings of a
/// [`Builder`](crate::Builder) that are simulated, with the same defaults.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a simulation does nothing until it runs"]
pub struct Simulation {
    pub(super) backend: Backend,
    pub(super) duration: Duration,
    pub(super) seed: u64,
    pub(super) arrivals: Option<f64>,
    pub(super) initial_batch_size: Option<usize>,
    pub(super) bounds: Bounds,
    pub(super) check_interval: Duration,
    pub(super) decision_lag: Duration,
    pub(super) start_interval: Duration,
}

impl Simulation {
    /// A minute against this backend, in a closed loop: there are always items for the next batch.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            duration: Duration::from_secs(60),
            seed: 1,
            arrivals: None,
            initial_batch_size: None,
            bounds: Bounds {
                min: 1,
                max: 1_000,
                linger: Duration::from_secs(1),
                concurrency: Concurrency::default(),
            },
            check_interval: Duration::from_secs(1),
            decision_lag: Duration::from_micros(50),
            start_interval: Duration::ZERO,
        }
    }

    /// How much virtual time to run. Default a minute.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// The seed of noise and arrivals. Default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Items arrive at random at each batcher, this many a second on average. Default a closed
    /// loop.
    pub fn arrivals_per_second(mut self, rate: f64) -> Self {
        self.arrivals = Some(rate);
        self
    }

    /// As [`Builder::initial_batch_size`](crate::Builder::initial_batch_size).
    pub fn initial_batch_size(mut self, items: usize) -> Self {
        self.initial_batch_size = Some(items);
        self
    }

    /// As [`Builder::min_batch_size`](crate::Builder::min_batch_size). Default 1.
    pub fn min_batch_size(mut self, items: usize) -> Self {
        self.bounds.min = items.max(1);
        self.bounds.max = self.bounds.max.max(self.bounds.min);
        self
    }

    /// As [`Builder::max_batch_size`](crate::Builder::max_batch_size). Default 1 000.
    pub fn max_batch_size(mut self, items: usize) -> Self {
        self.bounds.max = items.max(1);
        self.bounds.min = self.bounds.min.min(self.bounds.max);
        self
    }

    /// As [`Builder::linger`](crate::Builder::linger). Default 1 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.bounds.linger = linger;
        self
    }

    /// As [`Builder::concurrency`](crate::Builder::concurrency). Default 1.
    ///
    /// ```
    /// use load_aware_batcher::sim::{Backend, Simulation};
    /// use load_aware_batcher::Fixed;
    ///
    /// let minute = Simulation::new(Backend::new().cores(4));
    /// let (one, four) = (minute.run(Fixed(50)), minute.clone().concurrency(4).run(Fixed(50)));
    /// assert!(four.handled() > 3 * one.handled());
    /// ```
    pub fn concurrency(mut self, calls: impl Into<Concurrency>) -> Self {
        self.bounds.concurrency = calls.into();
        self
    }

    /// How long after one batcher the next begins. Default zero.
    pub fn start_interval(mut self, interval: Duration) -> Self {
        self.start_interval = interval;
        self
    }

    /// As [`Builder::load_check_interval`](crate::Builder::load_check_interval). Default 1 s.
    pub fn load_check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The time from a sample to the decision. Default 50 µs, so that a busy batcher has cut its
    /// next batch by then, as with threads. With zero the decision applies to the next batch.
    pub fn decision_lag(mut self, lag: Duration) -> Self {
        self.decision_lag = lag;
        self
    }

    /// Runs one batcher under this policy.
    pub fn run(&self, policy: impl Policy) -> Report {
        self.run_all(vec![policy])
    }

    /// Runs one batcher for each of these policies, all against the same backend.
    pub fn run_all<P: Policy>(&self, policies: Vec<P>) -> Report {
        let units: Vec<_> = policies
            .into_iter()
            .enumerate()
            .map(|(place, policy)| Unit::new(self, place, policy))
            .collect();
        Engine::new(self, units).run()
    }
}
