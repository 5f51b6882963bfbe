//! How many calls at once, learnt from paired trials of the gain of further calls.
//!
//! `gain = (throughput ratio − 1) / (ratio of calls at once − 1)`: 1 if each further call brings as
//! much as the present ones, 0 if it brings nothing. A trial compares the number in force with
//! another one, at one size of batches. More calls are taken over a gain of 0.15, fewer under 0.075.
//!
//! Twice as many are tried first, then four times as many, then the most allowed: where commits share
//! a flush, two calls at once bring nothing and four do. Larger batches need fewer calls at once: once
//! the size is four times that of the last trial, half as many are tried soon. Between trials there is a
//! rest, which doubles while trials change nothing. There is no trial while batches are not full, while calls at once
//! are left unused, or while the backend complains.
//!
//! A call that fails in less than half of its expected time was refused, with more than one at once:
//! the number falls. Such a number is tried again after 200, 400, … calls. A call that fails late was
//! too much for the backend: the number and the size halve, and the number returns after some clean
//! calls. Any other failure concerns the size alone.

use crate::feedback::{BatchSample, CallOutcome};
use crate::policy::Reason;

use super::limit::is_too_early;
use super::model::Model;

mod trial;

use trial::{Trial, Verdict, block_calls};

/// The rest before a trial, in trials' worth of calls: after a trial that changed nothing, and at
/// most. One trial in 17 costs under 1 % of the throughput.
const REST_TRIALS: u32 = 4;
const REST_TRIALS_MAX: u32 = 16;
/// After a trial with a larger gain, twice as many are tried next.
const GAIN_MIN_RAMP: f64 = 0.5;
/// After a batch that was not full, so many full ones must pass before a trial.
const FULL_BATCHES_MIN: u32 = 16;
/// The share of the calls at once that must be in use before more are tried.
const USED_SHARE_MIN: f64 = 0.8;
/// How fast the mean of that share follows.
const USED_GAIN: f64 = 0.1;
/// No more calls are tried while an item takes this many times its shortest time.
const ITEM_STRETCH_MAX: f64 = 3.0;
/// The shortest time is forgotten: it doubles in this many seconds.
const BEST_ITEM_DOUBLES_SECONDS: f64 = 300.0;
/// How fast the mean time of an item follows.
const ITEM_GAIN: f64 = 0.05;
/// The model's item is trusted from this many probes on.
const TRUSTED_PROBES_MIN: u32 = 4;
/// In a trial, this many failures are tolerated, or this part of its calls.
const TRIAL_FAILURES_MAX: u32 = 2;
const TRIAL_FAILURES_DIVISOR: u32 = 8;
/// A call that fails after this many times its expected time is late, as an error.
const LATE_ERROR_MIN: f64 = 0.5;
/// The number returns after this many clean calls for each call at once.
const CLEAN_ROUNDS: usize = 4;
/// A comparison of calls at once holds for sizes up to this many times larger or smaller.
const COMPARED_SIZE_RATIO: usize = 4;
/// After this many calls, times a factor that doubles, a refused number may be tried again.
const CEILING_CALLS: u32 = 200;
const CEILING_WAIT_MAX: u32 = 64;

/// The most calls at once that the backend did not refuse.
#[derive(Clone, Debug)]
struct Ceiling {
    calls: usize,
    /// Calls of the handler since it moved.
    since: u32,
    wait: u32,
}

impl Ceiling {
    fn refused(&mut self, most: usize) {
        self.calls = most;
        self.since = 0;
        self.wait = (2 * self.wait).min(CEILING_WAIT_MAX);
    }

    fn count(&mut self) {
        self.since = self.since.saturating_add(1);
        if self.calls < usize::MAX && self.since > CEILING_CALLS * self.wait {
            self.calls += 1;
            self.since = 0;
        }
    }
}

/// What a call means for the size's law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// The size's law learns from it.
    Size,
    /// It belongs to a trial, or to another number of calls at once.
    None,
}

#[derive(Clone, Debug)]
pub(super) struct Calls {
    /// The number in force, outside a trial.
    calls: usize,
    min: usize,
    max: usize,
    trial: Option<Trial>,
    /// Calls since the last trial or change.
    rested: u32,
    rest_more: u32,
    rest_fewer: u32,
    /// The length of the last trial, in calls.
    trial_calls: u32,
    /// No trial of more calls was refused at every distance yet.
    is_ramp: bool,
    is_more_next: bool,
    /// Which distance is tried next: near, four times as many, the most.
    distance: usize,
    is_last_distance: bool,
    /// The size of the last trial's batches; 0 before the first.
    compared_size: usize,
    /// Half as many are tried next, not three quarters.
    is_half_next: bool,
    ceiling: Ceiling,
    /// The number before a call failed late.
    back: Option<usize>,
    clean: usize,
    /// Full batches that must pass before a trial.
    partial: u32,
    used: f64,
    /// The mean time of an item, in seconds, and the shortest.
    item: Option<f64>,
    best_item: f64,
    best_at: f64,
    /// The time of a call at the number just taken, by that before.
    time_ratio: Option<f64>,
    /// Why the number, or the one on trial, has just changed.
    pub(super) reason: Option<Reason>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            calls: 1,
            min: 1,
            max: 1,
            trial: None,
            rested: 0,
            rest_more: 1,
            rest_fewer: REST_TRIALS,
            trial_calls: 2 * block_calls(1) as u32,
            is_ramp: true,
            is_more_next: true,
            distance: 0,
            is_last_distance: true,
            compared_size: 0,
            is_half_next: false,
            ceiling: Ceiling {
                calls: usize::MAX,
                since: 0,
                wait: 1,
            },
            back: None,
            clean: 0,
            partial: 0,
            used: 1.0,
            item: None,
            best_item: f64::INFINITY,
            best_at: 0.0,
            time_ratio: None,
            reason: None,
        }
    }

    /// Takes the bounds, and what is in force. Bounds that moved end a trial.
    pub(super) fn adopt(&mut self, in_force: usize, min: usize, max: usize, size: usize) {
        (self.min, self.max) = (min.max(1), max.max(min).max(1));
        if self.permits() != in_force {
            self.calls = in_force;
            self.end_trial();
        } else if self.trial.as_ref().is_some_and(|trial| trial.size != size) {
            self.end_trial();
        }
    }

    /// Whether there is anything to decide.
    pub(super) fn is_range(&self) -> bool {
        self.max > self.min
    }

    /// Whether the number can fall.
    fn can_fall(&self) -> bool {
        self.calls > self.min
    }

    /// Whether fewer calls at once can relieve the backend.
    pub(super) fn can_relieve(&self) -> bool {
        self.is_range() && (self.can_fall() || self.trial.as_ref().is_some_and(Trial::is_more))
    }

    /// How many calls at once to ask for.
    pub(super) fn permits(&self) -> usize {
        self.trial.as_ref().map_or(self.calls, Trial::permits)
    }

    /// A trial is running: the size stays, and there are no probes.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// The time of a call at the number just taken, by the time before, once.
    pub(super) fn take_time_ratio(&mut self) -> Option<f64> {
        self.time_ratio.take()
    }

    fn end_trial(&mut self) {
        self.trial = None;
        self.rested = 0;
    }

    /// The next trial of more calls is twice as late.
    fn rest_longer(&mut self) {
        self.rest_more = (2 * self.rest_more).clamp(REST_TRIALS, REST_TRIALS_MAX);
    }

    /// Takes a call. `error` is by how much it was slower than expected, as a share.
    pub(super) fn take(&mut self, batch: &BatchSample, error: Option<f64>) -> Lesson {
        if let Some(trial) = &mut self.trial {
            trial.calls = trial.calls.saturating_add(1);
        }
        if batch.outcome != CallOutcome::Ok {
            return self.failed(batch, error);
        }
        self.clean = self.clean.saturating_add(1);
        if self.clean >= CLEAN_ROUNDS * self.calls {
            if let Some(back) = self.back.take() {
                self.calls = self.calls.max(back).min(self.max);
            }
        }
        self.ceiling.count();
        let is_current = batch.concurrency == self.permits();
        if self.trial.is_some() {
            if is_current && !batch.full {
                self.end_trial();
                self.partial = FULL_BATCHES_MIN;
            } else if is_current {
                self.add_to_trial(batch, false);
            }
            return Lesson::None;
        }
        self.partial = if batch.full {
            self.partial.saturating_sub(1)
        } else {
            FULL_BATCHES_MIN
        };
        if !is_current {
            return Lesson::None;
        }
        self.rested = self.rested.saturating_add(1);
        let used = (batch.in_flight as f64 / self.calls as f64).min(1.0);
        self.used += USED_GAIN * (used - self.used);
        Lesson::Size
    }

    fn failed(&mut self, batch: &BatchSample, error: Option<f64>) -> Lesson {
        let is_early = error.is_some_and(is_too_early);
        let is_late = error.is_none_or(|error| error > LATE_ERROR_MIN);
        let is_current = batch.concurrency == self.permits() && batch.attempt == 1;
        if let Some(trial) = &mut self.trial {
            if is_current && !is_early {
                trial.failures += 1;
                if trial.failures <= TRIAL_FAILURES_MAX.max(trial.calls / TRIAL_FAILURES_DIVISOR) {
                    self.add_to_trial(batch, true);
                    return Lesson::None;
                }
            }
            let (is_more, tried) = (trial.is_more(), trial.tried);
            self.end_trial();
            if is_more && batch.concurrency > self.calls {
                // No further, and later. It is no evidence on the number in force.
                self.is_ramp = false;
                if is_early {
                    let most = self
                        .calls
                        .max((tried - 1).min(batch.in_flight.saturating_sub(1)));
                    self.ceiling.refused(most);
                }
                if is_early && self.ceiling.calls > self.calls {
                    // What is left between them is tried soon.
                    self.changed();
                } else {
                    self.rest_longer();
                }
                self.fell(batch, tried);
                return Lesson::None;
            }
        }
        if !self.can_fall() {
            return Lesson::Size;
        }
        if batch.concurrency != self.calls {
            return Lesson::None;
        }
        let from = self.calls;
        if batch.attempt > 1 || !(is_early || is_late) {
            return Lesson::Size;
        }
        self.rested = 0;
        if is_early {
            self.ceiling.refused(self.min.max(from - 1));
            self.calls = (from - (from / 4).max(1)).max(self.min);
            self.fell(batch, from);
            return Lesson::None;
        }
        self.back = Some(from.min(self.ceiling.calls));
        self.calls = (from / 2).max(self.min);
        self.clean = 0;
        self.is_ramp = false;
        self.fell(batch, from);
        Lesson::Size
    }

    fn fell(&mut self, batch: &BatchSample, from: usize) {
        self.reason = Some(Reason::FewerCallsAfterFailure {
            after: batch.service_time,
            from,
            to: self.calls,
        });
    }

    fn add_to_trial(&mut self, batch: &BatchSample, failed: bool) {
        let Some(trial) = &mut self.trial else { return };
        if batch.cut_at != trial.size || batch.probe || batch.attempt > 1 {
            return;
        }
        let seconds = batch.service_time.as_secs_f64().max(1e-9);
        if let Some(verdict) = trial.add(seconds, failed) {
            let (is_more, tried) = (trial.is_more(), trial.tried);
            self.trial_calls = trial.calls;
            self.compared_size = trial.size;
            self.end_trial();
            self.conclude(verdict, is_more, tried);
        }
    }

    fn conclude(&mut self, verdict: Verdict, is_more: bool, tried: usize) {
        let from = self.calls;
        if verdict.is_taken {
            self.calls = tried;
            self.time_ratio = Some(verdict.time_ratio);
        }
        match (is_more, verdict.is_taken) {
            (true, true) => {
                self.rest_more = 1;
                self.distance = 0;
                let gain = (verdict.throughput_ratio - 1.0) / (tried as f64 / from as f64 - 1.0);
                self.is_ramp = tried < self.max && (self.is_ramp || gain > GAIN_MIN_RAMP);
                // A small gain may be that of fewer calls.
                self.rest_fewer = if gain > GAIN_MIN_RAMP { REST_TRIALS } else { 1 };
            }
            (true, false) => {
                self.distance += 1;
                let is_ramp = self.is_ramp;
                self.is_ramp &= !self.is_last_distance;
                if is_ramp && !self.is_ramp && from > 1 {
                    // Half as many more may still be worth it.
                    self.distance = 0;
                    self.changed();
                } else if !self.is_ramp {
                    self.rest_longer();
                }
            }
            (false, true) => {
                self.rest_more = self.rest_more.max(REST_TRIALS);
                self.rest_fewer = if self.is_half_next { 1 } else { REST_TRIALS };
                // Half of them may still be too many.
                self.is_more_next &= !self.is_half_next;
            }
            (false, false) if self.is_half_next => {
                // Three quarters may still suffice.
                self.is_half_next = false;
                (self.rest_fewer, self.is_more_next) = (1, false);
            }
            (false, false) => {
                self.rest_fewer = (2 * self.rest_fewer).clamp(REST_TRIALS, REST_TRIALS_MAX);
            }
        }
        self.reason = Some(Reason::CallsCompared {
            tried,
            throughput: verdict.throughput_ratio - 1.0,
            from,
            to: self.calls,
        });
    }

    /// The backend complains: three quarters as many calls at once, and no more for a while.
    pub(super) fn relieve(&mut self) -> (usize, usize) {
        let from = self.calls.max(self.permits());
        self.end_trial();
        self.is_ramp = false;
        self.rest_longer();
        self.calls = (self.calls - (self.calls / 4).max(1)).max(self.min);
        (from, self.calls)
    }

    /// Postpones trials: the backend complains, or has just done so.
    pub(super) fn wait(&mut self) {
        self.end_trial();
    }

    /// The backend has become faster or slower at once: what trials have shown is void.
    pub(super) fn changed(&mut self) {
        (self.rest_more, self.is_more_next) = (1, true);
    }

    /// Follows the size in force. If it has moved far since the last trial, that one is void.
    fn follow_size(&mut self, size: usize) {
        let compared = self.compared_size;
        if compared == 0 {
            return;
        }
        let has_grown = size >= COMPARED_SIZE_RATIO.saturating_mul(compared);
        if has_grown || size.saturating_mul(COMPARED_SIZE_RATIO) <= compared {
            self.compared_size = size;
            self.changed();
            if has_grown && self.can_fall() {
                self.is_ramp = false;
                self.is_half_next = true;
                (self.rest_fewer, self.is_more_next) = (1, false);
            }
        }
    }

    /// Follows the time of an item, in seconds.
    pub(super) fn follow_item(&mut self, model: &Model, now: f64) {
        if model.probes < TRUSTED_PROBES_MIN {
            return;
        }
        let item = self
            .item
            .map_or(model.item, |item| item + ITEM_GAIN * (model.item - item));
        let forgotten = ((now - self.best_at) / BEST_ITEM_DOUBLES_SECONDS).exp2();
        self.item = Some(item);
        self.best_item = item.min(self.best_item * forgotten);
        self.best_at = now;
    }

    /// Begins a trial at this size, if one is due.
    pub(super) fn plan(&mut self, model: &Model, size: usize) {
        if self.trial.is_some() || self.partial > 0 || self.back.is_some() {
            return;
        }
        self.follow_size(size);
        let round = (2 * block_calls(self.calls)).max(self.trial_calls as usize);
        let rested = self.rested as usize;
        let is_rested = |trials: u32| rested >= (trials as usize).saturating_mul(round);
        let most = self.max.min(self.ceiling.calls);
        let may_grow = most > self.calls && (self.is_more_next || self.calls == 1 || self.is_ramp);
        if may_grow && is_rested(self.rest_more) {
            let is_stretched = model.item > ITEM_STRETCH_MAX * self.best_item;
            if is_stretched || self.used < USED_SHARE_MIN {
                self.is_more_next = !self.is_more_next;
                self.rested = 0;
                return;
            }
            let tried = self.next_more(most);
            self.is_more_next = false;
            self.begin(tried, size);
        } else if self.can_fall() && !self.is_ramp && !self.is_more_next {
            if is_rested(self.rest_fewer) {
                self.is_more_next = true;
                let less = if self.is_half_next { 2 } else { 4 };
                let tried = (self.calls - (self.calls / less).max(1)).max(self.min);
                self.begin(tried, size);
            }
        } else if is_rested(self.rest_more.max(self.rest_fewer)) {
            self.is_more_next = !self.is_more_next;
        }
    }

    /// The number of calls at once to try next: near, four times as many, then the most.
    fn next_more(&mut self, most: usize) -> usize {
        let near = if self.is_ramp || self.calls == 1 {
            2 * self.calls
        } else {
            self.calls + (self.calls / 2).max(1)
        };
        let far = 4 * self.calls;
        let mut distances = [near, near, near];
        let mut count = 1;
        for distance in [
            (far.min(most) > near).then_some(far),
            (most > far).then_some(most),
        ]
        .into_iter()
        .flatten()
        {
            distances[count] = distance;
            count += 1;
        }
        self.distance %= count;
        self.is_last_distance = self.distance == count - 1;
        distances[self.distance].min(most)
    }

    fn begin(&mut self, tried: usize, size: usize) {
        self.reason = Some(Reason::TryingCalls {
            tried,
            from: self.calls,
        });
        self.trial = Some(Trial::new(self.calls, tried, size.max(1)));
    }
}

#[cfg(all(test, not(loom)))]
#[path = "calls/tests.rs"]
mod tests;
