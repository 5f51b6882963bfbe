//! What a running batcher may be changed in, and what controller and `reconfigure` share: the
//! limits, the decisions, and the one way to put a setpoint in force.

use std::time::{Duration, Instant};

use crate::error::BuildError;
use crate::events::DecisionRecord;
use crate::exchange::published::SetpointCell;
use crate::exchange::reporter::Reporter;
use crate::feedback::{CustomSignal, Sample, Signals};
use crate::journal::Journal;
use crate::policy::setpoint::{Bounds, Setpoint};
use crate::policy::{Concurrency, Decision, Policy, Reason};
use crate::snapshot::{ControlPart, Identity};
use crate::stats::{DecisionCounts, SignalValue};
use crate::sync::{Arc, Mutex, MutexGuard, Shared, now};

/// What can be changed while the batcher runs, in
/// [`Batcher::reconfigure`](crate::Batcher::reconfigure).
#[derive(Default)]
pub struct Limits {
    /// The smallest batch size, in items, at least 1.
    pub min_batch_size: usize,
    /// The largest batch size, in items, at most the queue's capacity.
    pub max_batch_size: usize,
    /// How long the oldest item may wait.
    pub linger: Duration,
    /// How many calls of the handler there may be at once, at most as many as the builder's
    /// [`concurrency`](crate::Builder::concurrency) allows.
    pub concurrency: Concurrency,
    pub(super) policy: Option<Box<dyn Policy>>,
}

impl Limits {
    pub(crate) fn new(
        min_batch_size: usize,
        max_batch_size: usize,
        linger: Duration,
        concurrency: Concurrency,
    ) -> Self {
        Self {
            min_batch_size,
            max_batch_size,
            linger,
            concurrency,
            policy: None,
        }
    }

    fn copy(&self) -> Self {
        Self::new(
            self.min_batch_size,
            self.max_batch_size,
            self.linger,
            self.concurrency,
        )
    }

    /// Sets the smallest batch size.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| limits.min_batch_size(50))?;
    /// assert!(batcher.stats().batch_size >= 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn min_batch_size(&mut self, items: usize) {
        self.min_batch_size = items;
    }

    /// Sets the largest batch size.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| limits.max_batch_size(10))?;
    /// assert!(batcher.stats().batch_size <= 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_batch_size(&mut self, items: usize) {
        self.max_batch_size = items;
    }

    /// Sets how long the oldest item may wait.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| limits.linger(std::time::Duration::from_millis(20)))?;
    /// assert!(batcher.stats().setpoint.linger <= std::time::Duration::from_millis(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn linger(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// Sets how many calls of the handler there may be at once: a number, or a range within which
    /// the policy decides.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().concurrency(1..=8).unordered().spawn_workers(|_| {
    ///     Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
    /// })?;
    /// batcher.reconfigure(|limits| limits.concurrency(2..=4))?;
    /// assert_eq!(batcher.stats().concurrency, 2);
    /// assert!(batcher.reconfigure(|limits| limits.concurrency(9)).is_err()); // there are 8 handlers
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn concurrency(&mut self, calls: impl Into<Concurrency>) {
        self.concurrency = calls.into();
    }

    /// Exchanges the policy. The new one begins without memory.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| limits.policy(load_aware_batcher::Fixed(50)))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(&mut self, policy: impl Policy + 'static) {
        self.policy = Some(Box::new(policy));
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("min_batch_size", &self.min_batch_size)
            .field("max_batch_size", &self.max_batch_size)
            .field("linger", &self.linger)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What controller and `reconfigure` share.
pub(crate) struct Control {
    state: Mutex<ControlState>,
    pub(super) setpoint: Arc<SetpointCell>,
    pub(super) start: Instant,
    capacity: usize,
    /// How many calls there can be at once.
    lanes: usize,
    identity: Identity,
    journal: Shared<Journal>,
}

pub(crate) struct ControlState {
    pub(super) limits: Limits,
    /// The score of the last decision that had one, and when that was made.
    pub(crate) score: Option<(f64, Instant)>,
    probes: u64,
    directions: DecisionCounts,
    /// The last value of each signal.
    signals: Signals,
    pub(super) policy_name: &'static str,
    pub(super) thresholds: Option<(f64, f64)>,
    pub(crate) policy_panics: u64,
}

impl Control {
    pub(crate) fn new(
        limits: Limits,
        setpoint: Arc<SetpointCell>,
        start: Instant,
        capacity: usize,
        lanes: usize,
    ) -> Self {
        let state = ControlState {
            limits,
            score: None,
            probes: 0,
            directions: DecisionCounts::default(),
            signals: Signals::default(),
            policy_name: "",
            thresholds: None,
            policy_panics: 0,
        };
        Self {
            state: Mutex::new(state),
            setpoint,
            start,
            capacity,
            lanes,
            identity: Identity::default(),
            journal: Shared::new(Journal::new(start)),
        }
    }

    /// Tells the listeners what was decided. Without a lock.
    pub(super) fn deliver(&self) {
        self.journal.deliver();
    }

    /// With what the batcher is called and how it was built.
    pub(crate) fn of(mut self, identity: Identity, journal: &Shared<Journal>) -> Self {
        self.identity = identity;
        self.journal = Shared::clone(journal);
        self
    }

    /// What the control plane adds to a snapshot.
    pub(crate) fn part(&self, reporter: &Reporter) -> ControlPart {
        let setpoint = self.setpoint.read(Setpoint::clone);
        let state = self.lock();
        ControlPart {
            identity: self.identity.clone(),
            policy: state.policy_name,
            setpoint,
            min_batch_size: state.limits.min_batch_size,
            max_batch_size: state.limits.max_batch_size,
            concurrency: state.limits.concurrency,
            score: state.score,
            thresholds: state.thresholds,
            signals: named(&state.signals, &reporter.custom),
            decisions: state.directions,
            probes: state.probes,
            policy_panics: state.policy_panics,
            listener_panics: self.journal.listener_panics(),
            events_dropped: self.journal.events_dropped(),
            sensor_panics: reporter.sensor_panics(),
            samples_lost: reporter.lost(),
            values_corrected: reporter.corrected(),
            unknown_signals: reporter.unknown(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock()
    }

    pub(crate) fn decisions(&self) -> Vec<DecisionRecord> {
        self.journal.decisions()
    }

    /// Changes the limits as the closure says; the fields it leaves alone keep what concurrent
    /// calls give them.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Limits)) -> Result<(), BuildError> {
        let before = self.lock().limits.copy();
        let mut wanted = before.copy();
        // The user's code, outside the lock.
        change(&mut wanted);
        if let Some(policy) = &wanted.policy {
            policy.validate()?;
        }
        let mut state = self.lock();
        let mut limits = state.limits.copy();
        if wanted.min_batch_size != before.min_batch_size {
            limits.min_batch_size = wanted.min_batch_size;
        }
        if wanted.max_batch_size != before.max_batch_size {
            limits.max_batch_size = wanted.max_batch_size;
        }
        if wanted.linger != before.linger {
            limits.linger = wanted.linger;
        }
        if wanted.concurrency != before.concurrency {
            limits.concurrency = wanted.concurrency;
        }
        let (min, max) = (limits.min_batch_size, limits.max_batch_size);
        check_sizes(min, max, self.capacity)?;
        let calls = limits.concurrency;
        check_concurrency(calls, self.lanes)?;
        let relinger = (limits.linger != before.linger).then_some(limits.linger);
        // Not `or`: that would drop a policy that was never asked under the lock, and its drop is
        // the user's code.
        limits.policy = wanted.policy.or_else(|| state.limits.policy.take());
        let replaced = std::mem::replace(&mut state.limits, limits);
        let next = self.setpoint.read(|current| {
            let batch_size = current.batch_size.clamp(min, max);
            let reason = if batch_size == current.batch_size {
                current.reason.clone()
            } else {
                "reconfigured".into()
            };
            let linger = relinger.unwrap_or(current.linger);
            Setpoint {
                concurrency: current.concurrency.clamp(calls.min(), calls.max()),
                batch_size,
                linger,
                reason,
                probe: None,
                ..current.clone()
            }
        });
        // A linger that the policy asked for itself stays, as far as the new one allows, until it
        // decides again.
        let policy_linger = self
            .setpoint
            .read_with_waited_linger(|_, waited_linger| waited_linger);
        self.publish(&mut state, next, policy_linger);
        drop(state);
        drop(replaced);
        Ok(())
    }

    /// With the state locked, so that the record has the order of the setpoints.
    fn publish(&self, _: &mut ControlState, next: Setpoint, policy_linger: Duration) {
        let from = self.setpoint.batch_size();
        let record = DecisionRecord {
            sequence: 0,
            from,
            to: next.batch_size,
            concurrency: next.concurrency,
            zone: next.zone,
            reason: next.reason.clone(),
            score: next.score,
            at: now().saturating_duration_since(self.start),
        };
        self.setpoint.publish(next, policy_linger);
        self.journal.decision(record);
    }

    /// Notes what the lanes show, next to the decisions.
    pub(super) fn remark(&self, reason: Reason) {
        let record = self.setpoint.read(|current| DecisionRecord {
            sequence: 0,
            from: current.batch_size,
            to: current.batch_size,
            concurrency: current.concurrency,
            zone: current.zone,
            reason,
            score: current.score,
            at: now().saturating_duration_since(self.start),
        });
        self.journal.decision(record);
    }

    /// Puts a decision in force, within the limits.
    pub(super) fn apply(&self, decision: Decision) {
        let mut state = self.lock();
        if state.limits.policy.is_some() {
            // Its successor waits.
            return;
        }
        state.score = decision.score.map(|score| (score, now())).or(state.score);
        let limits = &state.limits;
        let bounds = Bounds {
            min: limits.min_batch_size,
            max: limits.max_batch_size,
            linger: limits.linger,
            concurrency: limits.concurrency,
        };
        let policy_linger = decision.linger.unwrap_or(Duration::ZERO);
        let mut probes = state.probes;
        let next = self
            .setpoint
            .read(|current| current.follow(decision, &bounds, &mut probes));
        state.probes = probes;
        let from = self.setpoint.batch_size();
        state.directions.count(from, next.batch_size);
        self.publish(&mut state, next, policy_linger);
    }
}

/// Whether this concurrency makes sense, where there are `lanes` handlers.
pub(crate) fn check_concurrency(calls: Concurrency, lanes: usize) -> Result<(), BuildError> {
    let problem = match () {
        () if calls.min() == 0 => "must be at least 1",
        () if calls.min() > calls.max() => "the smallest must not exceed the largest",
        () if calls.max() > lanes => {
            "must not exceed the builder's largest concurrency: a running batcher makes no handlers"
        }
        () => return Ok(()),
    };
    let value = if calls.is_fixed() {
        calls.max().to_string()
    } else {
        format!("{}..={}", calls.min(), calls.max())
    };
    Err(BuildError::setting("concurrency", value, problem))
}

impl ControlState {
    /// Keeps the last value of each signal.
    pub(super) fn note_signals(&mut self, samples: &[Sample]) {
        let kept = &mut self.signals;
        for Sample { signals, .. } in samples {
            kept.cpu_load = signals.cpu_load.or(kept.cpu_load);
            kept.queue_depth = signals.queue_depth.or(kept.queue_depth);
            kept.error_rate = signals.error_rate.or(kept.error_rate);
            kept.db_locks = signals.db_locks.or(kept.db_locks);
            for (kept, value) in kept.custom.iter_mut().zip(signals.custom) {
                *kept = value.or(*kept);
            }
        }
    }
}

/// The signals that were ever reported, by name.
fn named(signals: &Signals, custom: &[CustomSignal]) -> Vec<SignalValue> {
    let own = [
        ("cpu_load", signals.cpu_load),
        ("queue_depth", signals.queue_depth.map(|depth| depth as f64)),
        ("error_rate", signals.error_rate),
        ("db_locks", signals.db_locks.map(|locks| locks as f64)),
    ];
    let custom = custom.iter().zip(signals.custom);
    own.into_iter()
        .chain(custom.map(|(signal, value)| (signal.name, value)))
        .filter_map(|(name, value)| value.map(|value| SignalValue::new(name, value)))
        .collect()
}

/// Whether sizes make sense among themselves and in a queue of this capacity.
pub(crate) fn check_sizes(min: usize, max: usize, capacity: usize) -> Result<(), BuildError> {
    if min == 0 {
        return Err(BuildError::setting(
            "min_batch_size",
            min,
            "must be at least 1",
        ));
    }
    if max == 0 {
        return Err(BuildError::setting(
            "max_batch_size",
            max,
            "must be at least 1",
        ));
    }
    if min > max {
        let problem = "the smallest must not exceed the largest";
        return Err(BuildError::conflict(
            ("min_batch_size", min),
            ("max_batch_size", max),
            problem,
        ));
    }
    if capacity < max {
        let problem = "the queue must hold a whole batch";
        return Err(BuildError::conflict(
            ("queue_capacity", capacity),
            ("max_batch_size", max),
            problem,
        ));
    }
    Ok(())
}
