//! The controller's thread: take → decide → publish.
//!
//! Every `load_check_interval`, and earlier when a sample deserves it (a failed batch, or any batch
//! for a policy of the cadence `EveryBatch`), it takes the samples from the ring, asks the policy,
//! and puts the answer in force. After an early decision it rests for a millisecond, so that fast
//! batches are told of together and control costs the data plane nothing. It ends at once when the
//! batcher is closed.
//!
//! The policy is the user's code: it runs outside every lock and under `catch_unwind`. While it
//! decides, `reconfigure` may change the limits or exchange the policy; the decision is clamped to
//! the limits in force when it is published, and a policy that was exchanged meanwhile has no say
//! any more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::error::BuildError;
use crate::feedback::Sample;
use crate::policy::{Cadence, Decision, Policy, Reason, Window, Zone};
use crate::reporter::Reporter;
use crate::ring::Reader;
use crate::setpoint::{Bounds, Setpoint, SetpointCell};
use crate::sync::{Arc, Mutex, MutexGuard, Parker, now};
use crate::unwind::message;

/// Decisions kept for people to look at.
const DECISIONS_MAX: usize = 128;
/// The shortest time between two early decisions.
const REST: Duration = Duration::from_millis(1);

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
    policy: Option<Box<dyn Policy>>,
}

impl Limits {
    pub(crate) fn new(min_batch_size: usize, max_batch_size: usize, linger: Duration) -> Self {
        Self {
            min_batch_size,
            max_batch_size,
            linger,
            policy: None,
        }
    }

    /// Sets the smallest batch size.
    pub fn min_batch_size(&mut self, items: usize) {
        self.min_batch_size = items;
    }

    /// Sets the largest batch size.
    pub fn max_batch_size(&mut self, items: usize) {
        self.max_batch_size = items;
    }

    /// Sets how long the oldest item may wait.
    pub fn linger(&mut self, linger: Duration) {
        self.linger = linger;
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
            .finish_non_exhaustive()
    }
}

/// A decision that was put in force. One that changes nothing and only says again what the one
/// before said is not kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecisionRecord {
    /// The batch size before.
    pub from: usize,
    /// The batch size from then on.
    pub to: usize,
    /// Where the policy saw the load.
    pub zone: Zone,
    /// Why.
    pub reason: Reason,
    /// The load score it went by, 0..=1.
    pub score: Option<f64>,
    /// When, since the batcher started.
    pub at: Duration,
}

impl DecisionRecord {
    /// Whether it changes nothing and says the same as the one before, figures aside.
    fn repeats(&self, last: &Self) -> bool {
        let same_words = match (&self.reason, &last.reason) {
            (Reason::Text(words), Reason::Text(before)) => words == before,
            (reason, before) => std::mem::discriminant(reason) == std::mem::discriminant(before),
        };
        self.from == self.to && last.to == self.to && last.zone == self.zone && same_words
    }
}

/// What controller and `reconfigure` share.
pub(crate) struct Control {
    state: Mutex<ControlState>,
    setpoint: Arc<SetpointCell>,
    start: Instant,
    capacity: usize,
}

pub(crate) struct ControlState {
    limits: Limits,
    decisions: VecDeque<DecisionRecord>,
    /// The score of the last decision that had one, and when that was made.
    pub(crate) score: Option<(f64, Instant)>,
    probes: u64,
    pub(crate) policy_panics: u64,
}

impl Control {
    pub(crate) fn new(
        limits: Limits,
        setpoint: Arc<SetpointCell>,
        start: Instant,
        capacity: usize,
    ) -> Self {
        let decisions = VecDeque::with_capacity(DECISIONS_MAX);
        let state = ControlState {
            limits,
            decisions,
            score: None,
            probes: 0,
            policy_panics: 0,
        };
        Self {
            state: Mutex::new(state),
            setpoint,
            start,
            capacity,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock()
    }

    pub(crate) fn decisions(&self) -> Vec<DecisionRecord> {
        self.lock().decisions.iter().cloned().collect()
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
        let (min, max) = (limits.min_batch_size, limits.max_batch_size);
        check_sizes(min, max, self.capacity)?;
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

    fn publish(&self, state: &mut ControlState, next: Setpoint, policy_linger: Duration) {
        let from = self.setpoint.batch_size();
        let record = DecisionRecord {
            from,
            to: next.batch_size,
            zone: next.zone,
            reason: next.reason.clone(),
            score: next.score,
            at: now().saturating_duration_since(self.start),
        };
        self.setpoint.publish(next, policy_linger);
        if state
            .decisions
            .back()
            .is_some_and(|last| record.repeats(last))
        {
            return;
        }
        if state.decisions.len() == DECISIONS_MAX {
            state.decisions.pop_front();
        }
        state.decisions.push_back(record);
    }

    /// Puts a decision in force, within the limits.
    fn apply(&self, decision: Decision) {
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
        };
        let policy_linger = decision.linger.unwrap_or(Duration::ZERO);
        let mut probes = state.probes;
        let next = self
            .setpoint
            .read(|current| current.follow(decision, &bounds, &mut probes));
        state.probes = probes;
        self.publish(&mut state, next, policy_linger);
    }
}

impl Limits {
    fn copy(&self) -> Self {
        Self::new(self.min_batch_size, self.max_batch_size, self.linger)
    }
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

/// What the thread owns.
pub(crate) struct Controller {
    pub(crate) control: Arc<Control>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) reader: Reader,
    pub(crate) parker: Parker,
    pub(crate) interval: Duration,
}

impl Controller {
    /// Until the batcher is closed. The cadence has been told.
    pub(crate) fn run(mut self, mut policy: Box<dyn Policy>) {
        let reporter = Arc::clone(&self.reporter);
        let mut samples: Vec<Sample> = Vec::new();
        let mut next_check = self.control.start.checked_add(self.interval);
        while !reporter.alarm.is_closed() {
            reporter
                .alarm
                .sleep(&self.parker, 1, next_check, || reporter.is_pending());
            let time = now();
            let is_check = next_check.is_some_and(|check| check <= time);
            if reporter.alarm.is_closed() || !(reporter.take_pending() || is_check) {
                continue;
            }
            // A statement of its own: in the condition the lock would be held over the user's code.
            let exchanged = self.control.lock().limits.policy.take();
            if let Some(exchanged) = exchanged {
                let old = std::mem::replace(&mut policy, exchanged);
                self.caught(|| drop(old));
                self.tell_cadence(&*policy);
            }
            let lost = self.reader.take(&mut samples);
            self.decide(&mut *policy, &samples, lost, is_check);
            samples.clear();
            if is_check {
                // Never twice at once after a delay: checks that were missed are past.
                next_check = time.checked_add(self.interval);
            } else if !reporter.alarm.is_closed() {
                // Nobody's batch ends this rest, only close does.
                reporter
                    .alarm
                    .sleep(&self.parker, 0, time.checked_add(REST), || false);
            }
        }
        self.caught(|| drop(policy));
    }

    fn decide(&self, policy: &mut dyn Policy, samples: &[Sample], lost: u64, is_check: bool) {
        let current = self.control.setpoint.read(Setpoint::clone);
        let (min_batch_size, max_batch_size, linger) = {
            let limits = &self.control.lock().limits;
            (limits.min_batch_size, limits.max_batch_size, limits.linger)
        };
        let window = Window {
            samples,
            lost,
            now: now().saturating_duration_since(self.control.start),
            is_check,
            min_batch_size,
            max_batch_size,
            linger,
            custom: &self.reporter.custom,
        };
        if let Some(decision) = self.caught(|| policy.decide(&window, &current)) {
            self.control.apply(decision);
        }
    }

    /// Asks the policy for its cadence.
    pub(crate) fn tell_cadence(&self, policy: &dyn Policy) {
        let cadence = self.caught(|| policy.cadence());
        self.reporter
            .set_every_batch(cadence == Some(Cadence::EveryBatch));
    }

    /// Runs the user's code; its panic is counted.
    fn caught<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(code)) {
            Ok(value) => Some(value),
            Err(panic) => {
                drop(message(panic));
                self.control.lock().policy_panics += 1;
                None
            }
        }
    }
}
