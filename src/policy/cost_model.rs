//! The policy that learns the cost of a call and of an item.

use std::time::Duration;

use crate::error::BuildError;
use crate::feedback::{BatchSample, CallOutcome};
use crate::policy::setpoint::Setpoint;
use crate::policy::throttle::{Evaluation, Throttle};
use crate::policy::{Cadence, Decision, Policy, Reason, Window, Zone, is_evidence};

mod calls;
mod learn;
mod limit;
mod model;
mod probes;
mod size_bounds;
mod start;
mod wall;
mod why;

use calls::{Calls, Lesson};
use learn::learn;
use limit::{Limit, is_too_early};
use model::{CallTime, Model};
use probes::{Probes, Probing};
use size_bounds::SizeBounds;
use start::Start;
use wall::{BatchKind, Wall};
use why::{BatchTimes, Why, duration};

/// The budget must have room for this many deviations of the noise: 3 % of the batches are longer.
const NOISE_MARGIN_DEVIATIONS: f64 = 1.85;
/// A batch whose prediction error is larger, as a share, may have met a cliff.
const CLIFF_ERROR_MIN: f64 = 0.75;

/// The builder's default policy. It learns what a call and an item cost, and sizes the batches
/// accordingly. Nothing needs to be tuned, and no signal needs to be reported.
///
/// A call has a fixed cost, however many items it carries: a round trip, a transaction, a flush to
/// disk. The policy estimates two numbers: the time per item, and the fixed cost of a call
/// expressed in items. At a size of 19 times the fixed cost, 95 % of a call's time is spent on
/// items. Larger batches gain almost nothing and only add latency. That size is the target. It is
/// capped by [`max_batch_time`](Self::max_batch_time), by the time of calls that failed, and by the
/// lengths that the backend refuses or handles badly.
///
/// **Load.** The policy pauses between calls while the reported signals give a load score over 0.7,
/// or while over 5 % of the items are refused. Its reason is then
/// `load 0.82, 0 % of items refused: pausing 30 % of the time`. The size stays, because smaller
/// batches would only mean more calls. The score is that of
/// [`LoadThreshold::new`](crate::LoadThreshold::new). The pauses grow in cuts of the time that is
/// spent in calls. If four cuts do not lower the score, it has another cause. It is then ignored
/// for half a minute, and for twice as long each further time.
///
/// ```text
/// time(n) = item · (call + n)             item: seconds an item takes; call: what a call costs, in items
/// knee    = call · efficiency/(1 − efficiency)                                             19 · call at 0.95
/// budget  = min(max_batch_time, limit · (0.83 + 0.2 · call/(call + size)))     limit: time of a call that failed
/// longest : (1 + 1.85 · noise) · time(longest) = budget                noise: how far calls of one size scatter
/// size    = min(max(knee, floor), longest, ceiling, edge), at least one call's worth, within the builder's bounds
/// pause   = service time · (1 − duty)/duty                           duty: share of the time in calls, 0.1 to 1
/// linger  = min(the builder's, item · call/2)           before the two numbers are known: half of the shortest call
/// ```
///
/// **Start.** The size doubles with each full batch until two batches differ enough in time to
/// distinguish the two numbers. Batches of any length count, whatever triggered them. If they never
/// differ enough, the best line through the first 13 is the first estimate. Only full batches make
/// the size grow.
///
/// **Steady.** Each batch moves `item` by an eighth of its prediction error: load makes items
/// slower, not calls more expensive. Errors beyond the noise are clipped. Three in a row with the
/// same sign are a change, and the estimate follows in one step. The size at most doubles after a
/// full batch.
///
/// **Probes.** Sometimes a batch is a probe, which has another size. Probes are rare while nothing
/// changes. There are three kinds:
///
/// - A batch of a sixteenth of the size shows what a call costs.
/// - Half a batch shows whether an item is cheaper there, as where cost grows faster than size. If
///   it is, the size stays under `ceiling`, which rises again slowly, and is removed when the
///   estimate changes much.
/// - A batch 16 times as large, or larger still, or the largest, shows whether an item is cheaper
///   there, as where rows share the pages of an index. If it is cheaper by 15 % or more, twice in a
///   row, the size stays over `floor` from then on.
///
/// Over time, large probes carry about 3 % of the items. The other probes cost at most 5 % of the
/// time, unless a call hangs.
///
/// **Edges.** `edge` is a length beyond which the formula does not hold. Either the backend refuses
/// longer batches at once ([`CallOutcome::TooLarge`]). Or a batch takes at least 1.75 times as long
/// as expected while a smaller one right after it does not, as where a sort spills. An edge is
/// assumed after two such events with no success at or above the smaller length in between. Probes
/// then halve the distance between the largest success and the smallest failure, and the size is
/// the largest success. A probe of the smallest failure follows after 32, 64, 128 … full batches.
/// One success at or above it removes the edge.
///
/// **Locks.** Time spent waiting for another client's lock belongs to neither estimate. If rare,
/// such calls are clipped as outliers. If common, they raise `noise`, and `longest` backs away from
/// the budget.
///
/// **Failure.** A call that fails as a whole halves the size at once. Its time becomes the limit
/// for later calls. The limit rises again as full batches go through, faster the more there is to
/// gain. A second failure at a similar size sets `ceiling`.
///
/// A call that failed in less than half of its expected time was not too long, whatever its class.
/// It sets no limit and no `ceiling`, and only the first of several in a row halves the size. A
/// failed probe does not change the size if it was larger or failed early. Rejected rows and
/// permanent errors do not change the size. Calls refused unseen and broken statements are no
/// evidence.
///
/// **Calls at once.** Where the concurrency is a range, the policy also decides how many calls of
/// the handler there are at once. It begins with the fewest. A trial compares the number in force
/// with another one, in up to four pairs of blocks of calls of one size. More calls at once stay if
/// each further one brings over 15 % of a call's share of the throughput. A quarter of them is
/// taken away if each brings under 7.5 %. Twice as many are tried first, then four times as many,
/// then the most: two calls that share a flush to disk bring nothing, four do. Between two trials
/// there are at least as many calls as in four trials, and as in sixteen while nothing changes.
///
/// There is no trial while batches are not full, while the allowed calls are not in use, or while
/// the backend is under load. Under load the policy does not pause at first: it takes away a
/// quarter of the calls at once every two seconds, and pauses when the fewest are left. It adds no
/// calls while the score is over its threshold, not even while the score is ignored for the pauses.
///
/// With more than one call at once, a call that fails early was refused: a quarter of the calls is
/// taken away, and the size stays. A call that fails late halves both, and the calls return after
/// some without a failure.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, CostModel, LoadFeedback};
/// let batcher = Batcher::builder()
///     .policy(CostModel::new())
///     .concurrency(1..=8)
///     .unordered()
///     .spawn_workers(|_| Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new())))?;
/// assert_eq!(batcher.stats().concurrency, 1); // before it has learnt anything
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CostModel {
    efficiency: f64,
    max_batch_time: f64,
    throttle: Throttle,
    /// The size in force, with its fraction.
    size: f64,
    /// The largest size within the budget, the ceiling and the edge.
    longest: f64,
    /// `None` until the start is over.
    model: Option<Model>,
    start: Start,
    limit: Limit,
    /// Failed calls in a row.
    failures: u32,
    size_bounds: SizeBounds,
    wall: Wall,
    probes: Probes,
    calls: Calls,
    why: Why,
}

impl Default for CostModel {
    fn default() -> Self {
        Self::new()
    }
}

impl CostModel {
    /// Efficiency 0.95, a second for a batch, the throttle at a load score of 0.7 or 5 % of the items
    /// refused.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, CostModel, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .policy(CostModel::new()) // as without this line
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.stats().policy, "CostModel");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Self {
            efficiency: 0.95,
            max_batch_time: 1.0,
            throttle: Throttle::new(0.7, 0.05),
            size: 0.0,
            longest: 0.0,
            model: None,
            start: Start::default(),
            limit: Limit::new(),
            failures: 0,
            size_bounds: SizeBounds::new(),
            wall: Wall::new(),
            probes: Probes::new(),
            calls: Calls::new(),
            why: Why::Start,
        }
    }

    /// The share of a batch's time that should be work on items, greater than 0 and less than 1.
    /// Default 0.95; 0.9 halves the batches.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, CostModel};
    /// let refused = Batcher::builder()
    ///     .policy(CostModel::new().efficiency(1.0)) // must be under 1
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert!(refused.is_err());
    /// ```
    pub fn efficiency(mut self, share: f64) -> Self {
        self.efficiency = share;
        self
    }

    /// The longest that a call should take, greater than zero: 3 % of the calls are longer. Default
    /// 1 s. There is no need to configure the backend's own timeout here: the policy learns it from
    /// calls that fail.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, CostModel};
    /// let batcher = Batcher::builder()
    ///     .policy(CostModel::new().max_batch_time(Duration::from_millis(200)))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_batch_time(mut self, time: Duration) -> Self {
        self.max_batch_time = time.as_secs_f64();
        self
    }

    /// The load score and the share of refused items above which to pause between calls, each
    /// between 0 and 1; 1 is never. Defaults 0.7 and 0.05. The score is that of
    /// [`LoadThreshold`](crate::LoadThreshold), over the signals reported.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, CostModel};
    /// let batcher = Batcher::builder()
    ///     .policy(CostModel::new().throttle_above(1.0, 1.0)) // never pauses
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn throttle_above(mut self, score: f64, refused: f64) -> Self {
        self.throttle = Throttle::new(score, refused);
        self
    }

    fn budget(&self) -> f64 {
        let limit = self
            .model
            .as_ref()
            .map_or(f64::INFINITY, |model| self.limit.budget(model, self.size));
        self.max_batch_time.min(limit)
    }

    fn take(&mut self, batch: &BatchSample, min: f64, max: f64) {
        let items = batch.len as f64;
        let call = CallTime {
            items,
            seconds: batch.service_time.as_secs_f64().max(1e-9),
        };
        let failed = batch.outcome != CallOutcome::Ok;
        if self.calls.is_range() {
            let error = self.model.as_ref().map(|model| model.error(call));
            let lesson = self.calls.take(batch, error);
            self.follow_calls();
            if lesson == Lesson::None {
                if batch.probe {
                    self.probes.forget(failed);
                }
                if !failed {
                    self.throttle.items(items, batch.failed as f64);
                }
                return;
            }
        }
        let full = batch.full && !batch.probe;
        let probing = self.probes.take(batch.probe, batch.full, failed);
        if !failed {
            self.throttle.items(items, batch.failed as f64);
        }
        // A full batch at most doubles the size. It may have been cut at an older, smaller one.
        let reach = if full && !failed && self.failures == 0 {
            (2.0 * self.size).min(4.0 * items)
        } else {
            0.0
        };
        let Some(model) = &mut self.model else {
            if !failed {
                self.wall.passed(items, full);
            }
            self.begin(batch, call, reach, min);
            return self.resize(reach, min, max);
        };
        let error = model.error(call);
        if failed {
            let stale = batch.attempt > 1 || (!batch.probe && batch.cut_at > self.size as usize);
            // If samples were lost while a probe was in flight, the probe was forgotten. Its size
            // then shows that it was a large one.
            let is_forgotten = probing.is_none() && batch.probe && batch.attempt == 1;
            let is_larger = probing == Some(Probing::Large) || (is_forgotten && items > self.size);
            if batch.probe && is_too_early(error) {
                // It is no evidence on the size in force. The event shows whether it was too long.
                if is_larger {
                    self.probes.large_probe_failed();
                    self.size_bounds.large_probe_failed();
                }
                return;
            }
            if is_larger || probing == Some(Probing::Length) {
                // It was too long. That is no evidence on much smaller batches.
                self.limit.failed(call.seconds, error, true);
                self.probes.large_probe_failed();
                self.size_bounds.large_probe_failed();
            } else {
                self.fail(call, error, stale, min);
            }
            self.resize(0.0, min, max);
            self.why = Why::Failed {
                len: batch.len,
                after: batch.service_time,
            };
            return;
        }
        self.failures = 0;
        let is_slow = error > CLIFF_ERROR_MIN && model.is_surprise(error);
        if is_slow && probing == Some(Probing::Length) {
            self.wall.slow(items);
        }
        let kind = match (full, batch.probe) {
            (_, true) => BatchKind::Probe,
            (true, false) => BatchKind::Full,
            (false, false) => BatchKind::Partial,
        };
        if let Some(good) = self.wall.judge(items, kind, is_slow, !model.is_young()) {
            self.size = self.size.min(good).max(min);
            self.why = Why::DearWhenLarge;
            return;
        }
        let reach = if model.run > 0 && model.is_surprise(error) && error > 0.0 {
            0.0
        } else {
            reach
        };
        learn(
            model,
            &mut self.size_bounds,
            &mut self.probes,
            call,
            self.size,
            probing,
        );
        if model.is_change() {
            self.calls.changed();
        }
        if full && batch.failed as f64 <= self.throttle.refused_threshold() * items {
            self.size_bounds.clean_batch();
            self.limit.clean_batch(model, items);
        }
        self.resize(reach, min, max);
    }

    /// Another number of calls at once is in force: calls take as long as they took in its trial.
    fn follow_calls(&mut self) {
        if let (Some(ratio), Some(model)) = (self.calls.take_time_ratio(), &mut self.model) {
            model.item *= ratio;
            model.run = 0;
        }
    }

    /// Begins a trial of another number of calls at once, if one is due.
    fn plan_calls(&mut self, size: usize, now: Duration) {
        let Some(model) = &self.model else { return };
        self.calls.follow_item(model, now.as_secs_f64());
        if !self.throttle.is_calm() {
            self.calls.wait();
        } else if self.failures == 0 && self.probes.pending.is_none() {
            self.calls.plan(model, size);
        }
    }

    /// Why the size went from `from` to `to`, or the previous reason if nothing has changed.
    /// `failure` is the reason of the window's last failed call.
    fn explain(&self, failure: Option<Why>, from: usize, to: usize, previous: &Reason) -> Reason {
        let times = match (&self.model, self.why) {
            (Some(model), Why::BatchTime) => BatchTimes {
                expected: (1.0 + NOISE_MARGIN_DEVIATIONS * model.noise)
                    * model.expected(from as f64),
                budget: self.budget(),
            },
            _ => BatchTimes::default(),
        };
        let cost = || {
            self.model
                .as_ref()
                .map_or(Why::Start, |model| Why::CallCost(model.call))
        };
        let why = if self.why.explains(from, to, times) {
            self.why
        } else {
            failure
                .filter(|why| why.explains(from, to, times))
                .unwrap_or_else(cost)
        };
        why.or_previous(from, to, times, previous)
    }

    /// Takes a batch of the start, which ends when there is a model.
    fn begin(&mut self, batch: &BatchSample, call: CallTime, reach: f64, min: f64) {
        let CallTime { items, seconds } = call;
        if batch.outcome != CallOutcome::Ok {
            if self.start.is_too_early(call) {
                return;
            }
            self.size = (items / 2.0).min(self.size).max(min);
            self.why = Why::Failed {
                len: batch.len,
                after: batch.service_time,
            };
            return;
        }
        self.model = self.start.take(call);
        self.why = Why::Start;
        if batch.full && self.model.is_none() {
            // Twice the size must fit with a quarter of its time to spare.
            let next = (2.0 * self.size).min(4.0 * items);
            let fits = 1.25 * seconds * next / items <= self.budget();
            self.size = if fits {
                self.size.max(reach).min(self.wall.edge())
            } else {
                self.size.min((items / 4.0).max(min))
            };
        }
    }

    /// A call failed that was no large probe. `stale`: it was a retry, or was cut at an older size.
    /// The policy answers a failure once.
    fn fail(&mut self, call: CallTime, error: f64, stale: bool, min: f64) {
        let CallTime { items, seconds } = call;
        let Some(model) = &mut self.model else { return };
        if !stale {
            self.failures = self.failures.saturating_add(1);
            if self.failures == 1 && !is_too_early(error) {
                self.size_bounds.failed(model, items);
            }
            if self.failures == 2 {
                model.adopt_failed_time(error);
            }
            self.limit.failed(seconds, error, self.failures == 1);
        }
        model.failed(error);
        // A batch that is refused at once, repeated or in parts, is not too large.
        if !(is_too_early(error) && (stale || self.failures > 1)) {
            let half = if stale { items } else { items.min(self.size) } / 2.0;
            self.size = self.size.min(half).max(min);
        }
    }

    /// Sets the size that the model asks for, up to `reach` if that is larger than the size in
    /// force.
    fn resize(&mut self, reach: f64, min: f64, max: f64) {
        let Some(model) = &self.model else { return };
        let budget = self.budget();
        let scatter = 1.0 + NOISE_MARGIN_DEVIATIONS * model.noise;
        let knee = self.efficiency / (1.0 - self.efficiency) * model.call;
        let edge = self.wall.edge();
        let in_time = budget / (scatter * model.item) - model.call;
        self.longest = in_time.min(self.size_bounds.ceiling).min(edge);
        let wanted = knee
            .max(self.size_bounds.floor)
            .min(self.longest)
            .max(model.call.min(edge));
        self.size = wanted.clamp(min, max).min(self.size.max(reach));
        self.why = if wanted >= max && self.size >= max {
            Why::Maximum
        } else if wanted < min {
            Why::Minimum
        } else if knee.max(self.size_bounds.floor) <= self.longest {
            if knee < self.size_bounds.floor {
                Why::CheapWhenLarge
            } else {
                Why::CallCost(model.call)
            }
        } else if edge <= self.longest {
            if self.wall.is_slow() {
                Why::DearWhenLarge
            } else {
                Why::TooLarge(self.wall.refused() as usize)
            }
        } else if self.size_bounds.ceiling <= self.longest {
            Why::DearWhenLarge
        } else if self.longest < model.call {
            Why::CallCost(model.call)
        } else {
            Why::BatchTime
        };
    }
}

impl Policy for CostModel {
    fn name(&self) -> &'static str {
        "CostModel"
    }

    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let min = window.min_batch_size.max(1) as f64;
        let max = (window.max_batch_size as f64).max(min);
        let from = current.batch_size;
        // They differ at the beginning, and when the bounds have moved the size.
        self.size = if self.size as usize == from {
            self.size
        } else {
            from as f64
        };
        self.calls.adopt(
            current.concurrency,
            window.min_concurrency,
            window.max_concurrency,
            from,
        );
        let mut taken = false;
        let mut failure = None;
        for sample in window.samples {
            self.throttle.signals(&sample.signals, window.custom);
            if let Some(batch) = &sample.batch {
                // The first attempt of a probe is evidence, a retry is not. A permanent error is
                // caused by the rows, so its time is no evidence.
                if batch.probe && batch.attempt > 1 {
                    continue;
                }
                if batch.outcome == CallOutcome::TooLarge {
                    self.wall.event(batch.len as f64);
                    self.size = self.size.min(self.wall.edge());
                    self.resize(0.0, min, max);
                    taken = true;
                } else if !is_evidence(batch.outcome) {
                    // The batch is tried again, but only a first attempt counts as a probe.
                    if batch.probe {
                        self.probes.forget(false);
                    }
                } else if batch.outcome != CallOutcome::Permanent && batch.len > 0 {
                    self.take(batch, min, max);
                    taken = true;
                    if batch.outcome != CallOutcome::Ok {
                        failure = Some(self.why);
                    }
                } else if batch.probe {
                    self.probes.forget(true);
                }
            }
        }
        if window.lost > 0 {
            // The probe's sample may be among them.
            self.probes.forget(false);
        }
        self.size = self.size.clamp(min, max);
        let to = self.size as usize;
        let evaluation = self.throttle.evaluate(window.now, self.calls.can_relieve());
        let load = (evaluation == Evaluation::FewerCalls).then(|| self.calls.relieve());
        if taken && self.calls.is_range() && current.probe.is_none() {
            self.plan_calls(to, window.now);
        }
        // While a probe is in force, a new one of the same size would be the same probe.
        if self.model.is_some()
            && self.failures == 0
            && current.probe.is_none()
            && !self.calls.is_on_trial()
        {
            if self.probes.pending.is_none() {
                self.probes.pending = self.wall.plan(max).map(|length| (Probing::Length, length));
            }
            self.probes.plan(to, self.longest.min(max) as usize);
        }
        let calls_reason = self.calls.reason.take();
        let reason = if let Some((from, to)) = load {
            self.throttle.fewer_calls(from, to)
        } else if evaluation == Evaluation::Pause {
            self.throttle.reason()
        } else if let Some(reason) = calls_reason {
            reason
        } else if from == to && current.reason.is_about_calls() {
            // A size that stays says nothing new.
            current.reason.clone()
        } else if taken {
            self.explain(failure, from, to, &current.reason)
        } else {
            current.reason.clone()
        };
        // A wait is worth at most half of a call's cost: it saves a call or fills one better.
        let linger = self.model.as_ref().map_or_else(
            || self.start.linger(),
            |model| Some(model.item * model.call / 2.0),
        );
        Decision {
            linger: linger.map(duration),
            pause_ratio: self.throttle.pause_ratio(),
            probe: self.probes.pending.map(|(_, size)| size),
            concurrency: Some(if self.calls.is_range() {
                self.calls.permits()
            } else {
                window.max_concurrency
            }),
            zone: if self.throttle.is_hot || self.failures > 0 {
                Zone::High
            } else {
                Zone::Normal
            },
            score: self.throttle.last_score,
            ..Decision::resize(to, reason)
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }

    fn validate(&self) -> Result<(), BuildError> {
        if !(self.efficiency > 0.0 && self.efficiency < 1.0) {
            return Err(BuildError::setting(
                "efficiency",
                self.efficiency,
                "must be greater than 0 and less than 1",
            ));
        }
        if self.max_batch_time <= 0.0 {
            return Err(BuildError::setting(
                "max_batch_time",
                "0s",
                "must be greater than zero",
            ));
        }
        self.throttle.validate()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "cost_model/tests.rs"]
mod tests;
