//! The controller's thread: take → decide → publish.
//!
//! Every `load_check_interval`, and earlier when a sample deserves it (a failed batch, or any batch
//! for a policy of the cadence `EveryBatch`), it takes the samples from the ring, asks the policy,
//! and puts the answer in force. After an early decision it rests for a millisecond, so that fast
//! batches are reported together and control costs the data plane nothing. It ends at once when the
//! batcher is closed.
//!
//! The policy is the user's code: it runs outside every lock and under `catch_unwind`. While it
//! decides, `reconfigure` may change the limits or exchange the policy; the decision is clamped to
//! the limits in force when it is published, and a policy that was exchanged meanwhile has no say
//! any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::control::limits::Control;
use crate::exchange::reporter::Reporter;
use crate::exchange::ring::Reader;
use crate::feedback::Sample;
use crate::policy::setpoint::Setpoint;
use crate::policy::{Cadence, Policy, Reason, Window};
use crate::sync::{Arc, Parker, now};
use crate::unwind::message;

/// The shortest time between two early decisions.
const REST: Duration = Duration::from_millis(1);

/// What the thread owns.
pub(crate) struct Controller {
    pub(crate) control: Arc<Control>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) reader: Reader,
    pub(crate) parker: Parker,
    pub(crate) interval: Duration,
    /// Looks at the lanes at every check, where there are several.
    pub(crate) watch: Option<Box<dyn FnMut() -> Option<Reason> + Send>>,
    /// Looks at every check who waits for room, where there are listeners.
    pub(crate) queue_watch: Option<Box<dyn FnMut() + Send>>,
}

impl Controller {
    /// Until the batcher is closed. The cadence has been set.
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
                if let Some(remark) = self.watch.as_mut().and_then(|look| look()) {
                    self.control.remark(remark);
                    self.control.deliver();
                }
                if let Some(look) = self.queue_watch.as_mut() {
                    look();
                }
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
        let (min_batch_size, max_batch_size, linger, concurrency) = {
            let mut state = self.control.lock();
            state.note_signals(samples);
            let limits = &state.limits;
            let sizes = (limits.min_batch_size, limits.max_batch_size);
            (sizes.0, sizes.1, limits.linger, limits.concurrency)
        };
        let window = Window {
            samples,
            lost,
            now: now().saturating_duration_since(self.control.start),
            is_check,
            min_batch_size,
            max_batch_size,
            linger,
            min_concurrency: concurrency.min(),
            max_concurrency: concurrency.max(),
            custom: &self.reporter.custom,
        };
        if let Some(decision) = self.caught(|| policy.decide(&window, &current)) {
            self.control.apply(decision);
            self.control.deliver();
        }
    }

    /// Asks the policy for its name, its thresholds and its cadence.
    pub(crate) fn tell_cadence(&self, policy: &dyn Policy) {
        if let Some(name) = self.caught(|| policy.name()) {
            self.control.lock().policy_name = name;
        }
        let thresholds = self.caught(|| policy.thresholds()).flatten();
        self.control.lock().thresholds = thresholds;
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
