//! The flusher's thread: gather → handle → settle, and sleep when there is nothing to do.
//!
//! All decisions are the intake's, under its lock; this thread runs the user's code, the handler, the hook and the drops of
//! items, outside it and under `catch_unwind`. One lock a batch: settling a call and gathering the next batch is one visit; two visits
//! where threads wait for tickets of the batch, which are notified in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::batch::{Batch, Failed, Handler};
use crate::close::{OnClose, deliver_unclaimed};
use crate::error::{BatchError, ErrorClass};
use crate::feedback::{BatchSample, CallOutcome, LoadFeedback};
use crate::gather::{Step, Target};
use crate::intake::Phase;
use crate::queue::Queue;
use crate::regroup::Regroup;
use crate::reporter::Reporter;
use crate::setpoint::{Setpoint, SetpointCell};
use crate::settle::{Finished, Rules};
use crate::sync::{Arc, LOOKS_BEFORE_SLEEP, Mutex, Parker, looks_end, mutant, now, yield_now};

/// The dead-letter hook.
pub(crate) type OnFailed<T> = Box<dyn FnMut(Failed<T>) + Send>;

/// A sleep shorter than this is not worth its wake-up: while batches fill faster, the flusher looks again a few times first.
/// With 20 µs, eight producers on two cores, batches of a thousand: 26.6 ns an item for 24.4.
const SHORT_SLEEP: Duration = Duration::from_micros(50);

/// What the thread owns.
pub(crate) struct Flusher<T> {
    pub(crate) queue: Arc<Queue<T>>,
    pub(crate) setpoint: Arc<SetpointCell>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) parker: Parker,
    pub(crate) on_failed: Option<OnFailed<T>>,
    pub(crate) rules: Rules,
    /// For the backoff's jitter.
    pub(crate) chance: Chance,
}

impl<T> Flusher<T> {
    /// Runs; should this crate's own code panic, closes the batcher, so that nobody waits for this thread.
    pub(crate) fn run_to_the_end(&mut self, handler: &mut impl Handler<T>) {
        if catch_unwind(AssertUnwindSafe(|| self.run(handler))).is_err() {
            self.queue.lock().close(&self.queue, None);
            self.queue.credit.wake_all();
            self.reporter.alarm.close();
            self.reporter.alarm.ring();
        }
    }

    /// Until the batcher is closed and empty, or abandoned.
    fn run(&mut self, handler: &mut impl Handler<T>) {
        let mut finished = None;
        let mut probe_used = 0;
        let mut fills_fast = false;
        let (mut regroup, mut call_time) = (Regroup::default(), Duration::ZERO);
        let mut at = now();
        let mut lent_at = at;
        loop {
            let (target, probe) = self.target(probe_used);
            let mut flushed = false;
            let mut intake = self.queue.lock();
            let mut dropped_late = Vec::new();
            if let Some(finished) = finished.take() {
                // A probe is one batch; the buffers are kept for the size in force.
                let size = self.setpoint.batch_size();
                dropped_late = intake.settle(finished, &self.rules, size);
            }
            if !intake.wakes.is_empty() {
                // Before the next batch is gathered: whoever comes back at once goes with it.
                let mut wakes = std::mem::take(&mut intake.wakes);
                drop(intake);
                let notified = wakes.notify();
                regroup.moment(notified, call_time, target.batch_size, || self.queue.items_in_channel());
                intake = self.queue.lock();
            }
            let step = intake.next(&self.queue, target, at, &mut flushed);
            drop(intake);
            if flushed && !mutant("flush: nobody is told") {
                self.queue.changed.notify_all();
            }
            self.drop_caught(&mut dropped_late);
            match step {
                Step::Lend(batch) => {
                    if batch.course.probe && batch.attempt == 1 && batch.parent.is_none() {
                        probe_used = probe;
                    }
                    // After a long sleep too, should more than one batch have come meanwhile.
                    fills_fast |= at.saturating_duration_since(lent_at) < SHORT_SLEEP;
                    lent_at = at;
                    let done = self.call(handler, batch);
                    at = done.now;
                    call_time = done.service_time;
                    finished = Some(done);
                }
                Step::Hook(failed) => {
                    self.hook(failed);
                    at = now();
                }
                Step::Sleep { wanted, deadline } => {
                    let slept = self.sleep(wanted, deadline, target, fills_fast);
                    at = now();
                    fills_fast = slept.is_none_or(|begun| at.saturating_duration_since(begun) < SHORT_SLEEP);
                }
                Step::Stop => return,
            }
        }
    }

    /// What the setpoint asks for, and which probe it holds.
    fn target(&self, probe_used: u64) -> (Target, u64) {
        self.setpoint.read_with_waited_linger(|setpoint, waited_linger| {
            let probe = setpoint.probe.filter(|probe| probe.sequence != probe_used);
            let batch_size = probe.map_or(setpoint.batch_size, |probe| probe.batch_size);
            let Setpoint { linger, pause_ratio, .. } = *setpoint;
            let target = Target { batch_size, linger, waited_linger, pause_ratio, probe: probe.is_some() };
            (target, probe.map_or(probe_used, |probe| probe.sequence))
        })
    }

    fn call(&mut self, handler: &mut impl Handler<T>, mut batch: Box<Batch<T>>) -> Finished<T> {
        let begun = now();
        batch.course.since.get_or_insert(begun);
        let result = catch_unwind(AssertUnwindSafe(|| handler.handle(&mut *batch)));
        let now = now();
        let service_time = now.saturating_duration_since(begun);
        let result = result.unwrap_or_else(|panic| Err(BatchError::panicked(message(panic))));
        let len = batch.items.len();
        // Errors are the user's values: none is dropped under the lock, and what their drops do is caught.
        let mut spent_errors = Vec::new();
        if let Some(error) = batch.course.error.take() {
            spent_errors.push(error);
        }
        let rejected = batch.rejected.get_mut();
        if result.is_err() {
            spent_errors.extend(rejected.drain(..).map(|(_, error)| error));
        } else if rejected.len() > 1 {
            // The first rejection of a row counts: the sort is stable.
            rejected.sort_by_key(|(index, _)| *index);
            rejected.dedup_by(|(index, error), (before, _)| {
                index == before && {
                    spent_errors.push(error.clone());
                    true
                }
            });
        }
        self.drop_caught(&mut spent_errors);
        let (outcome, failed) = match &result {
            Ok(_) => (CallOutcome::Ok, batch.rejected.get_mut().len()),
            Err(error) => (outcome(error), len),
        };
        let whole = batch.parent.is_none();
        let sample = BatchSample {
            len,
            cut_at: batch.course.cut_at,
            full: batch.course.full && whole,
            probe: batch.course.probe && whole,
            attempt: batch.course.calls_before + batch.attempt,
            service_time,
            queue_wait: batch.course.queue_wait,
            failed,
            outcome,
        };
        self.reporter.report_batch(result.as_ref().ok(), sample);
        let result = result.map(|_: LoadFeedback| self.take_rejected(&mut batch));
        Finished { batch, result, service_time, now, chance: self.chance.next() }
    }

    /// Takes the rejected rows, sorted by index, out of a batch that went through, and drops the rest.
    fn take_rejected(&mut self, batch: &mut Batch<T>) -> Vec<(usize, T, BatchError)> {
        let mut rejected = Vec::new();
        let refused = batch.rejected.get_mut();
        if !refused.is_empty() {
            let mut errors = refused.drain(..).peekable();
            let mut handled = Vec::with_capacity(batch.items.len());
            for (index, item) in batch.items.drain(..).enumerate() {
                match errors.next_if(|(at, _)| *at == index) {
                    Some((_, error)) => rejected.push((index, item, error)),
                    None => handled.push(item),
                }
            }
            drop(errors);
            batch.items = handled;
        }
        if std::mem::needs_drop::<T>() {
            self.drop_caught(&mut batch.items);
        }
        batch.items.clear();
        rejected
    }

    fn hook(&mut self, failed: Failed<T>) {
        let Some(on_failed) = &mut self.on_failed else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_failed(failed))) {
            drop(message(panic));
            self.queue.lock().counts.hook_panics += 1;
        }
    }

    /// Sleeps, and returns since when; or finds a full batch without.
    fn sleep(&self, wanted: usize, deadline: Option<Instant>, target: Target, fills_fast: bool) -> Option<Instant> {
        // Announcing a sleep and being woken costs two system calls: while batches fill in less, look again a few times.
        if wanted > 1 && fills_fast && self.looks_full(wanted, deadline) {
            return None;
        }
        let begun = now();
        self.queue.sleep(&self.parker, wanted, deadline, || {
            self.setpoint.read_with_waited_linger(|setpoint, waited_linger| {
                let size =
                    setpoint.probe.filter(|_| target.probe).map_or(setpoint.batch_size, |probe| probe.batch_size);
                size < target.batch_size
                    || setpoint.linger < target.linger
                    || waited_linger < target.waited_linger
                    || setpoint.pause_ratio < target.pause_ratio
            })
        });
        Some(begun)
    }

    fn looks_full(&self, wanted: usize, deadline: Option<Instant>) -> bool {
        let end = looks_end(deadline);
        (0..LOOKS_BEFORE_SLEEP).take_while(|_| now() < end).any(|_| {
            yield_now();
            self.queue.items_in_channel() >= wanted || self.queue.waiters.has_come() || self.queue.doorbell.is_closed()
        })
    }

    fn drop_caught<D>(&self, values: &mut Vec<D>) {
        let panics = drop_each(values);
        if panics > 0 {
            self.queue.lock().counts.drop_panics += panics;
        }
    }

    /// The end of the thread. The handler and the hook go first, so that their connections are closed when `close` returns.
    pub(crate) fn finish<H>(mut self, handler: H, on_close: &Mutex<Option<OnClose<T>>>) {
        let on_failed = self.on_failed.take();
        let mut intake = self.queue.lock();
        if intake.phase != Phase::Abandoned || mutant("finish: done over abandoned") {
            intake.phase = Phase::Done;
        }
        drop(intake);
        if !mutant("finish: nobody is told") {
            self.queue.changed.notify_all();
        }
        self.drop_caught(&mut vec![handler]);
        self.drop_caught(&mut vec![on_failed]);
        if self.queue.lock().deliver_at_end && !mutant("finish: the report is kept") {
            deliver_unclaimed(&self.queue, on_close);
        }
    }
}

fn outcome(error: &BatchError) -> CallOutcome {
    match error.class() {
        _ if error.is_panic() => CallOutcome::Panicked,
        ErrorClass::Permanent => CallOutcome::Permanent,
        ErrorClass::InDoubt => CallOutcome::InDoubt,
        ErrorClass::Unavailable => CallOutcome::Unavailable,
        ErrorClass::Misconfigured => CallOutcome::Misconfigured,
        ErrorClass::Transient | ErrorClass::Unclassified => CallOutcome::Transient,
    }
}

/// Drops values one by one, in order, and returns how many panicked: two that panic in one drop of the whole vector would
/// abort the process.
pub(crate) fn drop_each<D>(values: &mut Vec<D>) -> u64 {
    let mut panics = 0;
    let mut rest = values.drain(..);
    while rest.len() > 0 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| rest.by_ref().for_each(drop))) {
            drop(message(panic));
            panics += 1;
        }
    }
    panics
}

/// A panic's message. The payload may panic when dropped: then what it throws is leaked.
pub(crate) fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    text
}

/// Pseudo-random bits: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
