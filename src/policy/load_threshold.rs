//! The threshold policy. It grows the size while the load score is low, shrinks it while the score
//! is high, and holds it in between.
//!
//! `score = 0.4·cpu + 0.3·errors + 0.2·min(queue/100, 1) + 0.1·min(locks/50, 1)`, plus the declared
//! custom signals with their weights. Every check averages the newest ten feedbacks since the last
//! check. Below 0.3 the size grows by `size × factor`. Above 0.7 it shrinks by the same amount. The
//! step is rounded to the nearest integer and is at least 1. The controller clamps the size.
//!
//! # Guards
//! The bare rule has two known faults. With few signals the sum cannot reach 0.7, so the size grows
//! even while calls fail. And the size grows while batches never fill. There are four guards. Each
//! is a switch, on by default and off in [`LoadThreshold::strict`]:
//!
//! - The weights are normalised over the signals that were reported.
//! - The score is at least the error rate.
//! - The size grows only if a batch since the last check was full.
//! - A failed batch halves the size at once, until calls go through again.
//!
//! # Limits
//! The policy does not measure throughput. On a host that is busy for other reasons it holds a
//! small size forever. On an idle host it grows to the maximum, whether that helps or not.
//!
//! A score that equals a threshold changes nothing. There is one exception: a full CPU, 100 waiting
//! requests and 50 locks add up to 0.7000000000000001 in binary. This counts as over 0.7 on
//! purpose, since a backend with three signals at their maximum is stressed.

use crate::error::BuildError;
use crate::feedback::{CallOutcome, CustomSignal, Signals};
use crate::policy::score::{Means, Scale, Weights};
use crate::policy::setpoint::Setpoint;
use crate::policy::{Decision, Policy, Reason, Window, Zone, is_evidence};

mod size_return;

use size_return::SizeReturn;

/// How many feedbacks the average covers at most.
const FEEDBACKS_MAX: usize = 10;
/// The reason when a halved size returns.
const RETURNED_REASON: &str = "calls go through again: back to the size before the failure";
/// The reason while no signal was ever reported.
const NO_SIGNAL_REASON: &str = "no signal since start: this policy cannot grow";

/// The threshold policy. It grows the batch size while the reported load is low, shrinks it while
/// the load is high, and does not change it in between. [`LoadThreshold::new`] has the figures, and
/// `docs/load-threshold.md` the full description. Where the concurrency is a range, it asks for the
/// most calls at once.
///
/// The builder's default is [`CostModel`](crate::CostModel). Choose this one by name where small
/// batches keep up with the arrival rate, the signals come from the database itself, and a rule
/// simple enough for a runbook matters more than peak throughput.
///
/// # Which policy
/// This policy takes one step at each check, by its signals and two thresholds. Its decisions are
/// easy to predict. It does not measure throughput, cannot grow without signals, and detects a
/// timeout only when calls fail by it. [`CostModel`](crate::CostModel) learns what a call costs
/// from times and failures alone.
///
/// The figures are from simulation, with 20 seeds each. Where the table does not say otherwise, the
/// largest size is 500 and calls over 400 ms fail. `cargo bench --bench scenarios` prints them all:
///
/// | | `Fixed(50)` | `LoadThreshold` | its `strict` | `Aimd`, target 200 ms | `HillClimb` | `CostModel` |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | steady, share of the best fixed size | 0.79 | 0.92 | 0.06 | 0.94 | 0.92 | 0.99 |
/// | steady, share of items lost | 0 | 0.10 | 0.96 | 0 | 0.02 | 0.01 |
/// | steady, no signal reported | 0.79 | 0.56 | 0.56 | 0.94 | 0.92 | 0.99 |
/// | items lost in a spike of load, nothing set | 1 358 | 1 848 | 34 393 | 795 | 3 301 | 480 |
/// | costs grow faster than the batch | 0.89 | 0.76 | 0.01 | 0.93 | 0.96 | 0.88 |
/// | 16 batchers on one backend | 0.97 | 0.77 | 0.77 | 0.82 | 0.95 | 0.98 |
/// | random backends, disturbed: worst twentieth | 0.17 | 0.82 | 0 | 0.01 | 0.84 | 0.95 |
/// | random backends, disturbed: median | 0.78 | 1.00 | 1.00 | 0.99 | 0.96 | 0.99 |
/// | p99 latency at 40 % load, by natural batching | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.04 |
///
/// On an idle backend without a timeout the largest size is the best. To grow there without a check
/// is worth 1 % more than to stop at 95 % efficiency. Measured with a call of 2 ms and 5 µs for
/// each item, and without a signal, this policy stays at 0.06 of the best fixed size.
///
/// # When not to use it
/// Small batches mean many calls, and many calls are load. If these calls alone keep the score over
/// the low threshold, the size never grows. The size may stay where it began in two cases: rows
/// come as fast as they are taken and the host's CPU is among the signals, or others keep the host
/// busy.
///
/// The table has the throughput, divided by that of the best fixed size, in runs of 15 seconds.
/// Writer and database shared two cores, the size began at 20, the largest was 1 000, and there
/// were four checks a second:
///
/// | | before the competing load | during it | after it |
/// | --- | --- | --- | --- |
/// | PostgreSQL, CPU-heavy competing load | 0.72 | 1.05 | 0.88 |
/// | MariaDB, CPU-heavy competing load | 0.50 | 1.09 | 0.78 |
/// | SQLite, another process locks the file | 0.60 | 0.51 | 0.47 |
///
/// One of three runs on MariaDB stayed at 29 rows, at a twelfth of the best. In runs of four
/// seconds, while the size still grows, the figures are 0.15 to 0.71. If you use the policy there,
/// begin at a size that is known to be good, and set a minimum that is known to be harmless.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadThreshold {
    adjustment_factor: f64,
    low: f64,
    high: f64,
    scale: Scale,
    normalise: bool,
    error_floor: bool,
    grow_only_when_full: bool,
    halve_on_failure: bool,
    /// The newest feedbacks since the last check, as a ring: `newest[received % FEEDBACKS_MAX]` is
    /// the next to be replaced.
    newest: [Signals; FEEDBACKS_MAX],
    received: usize,
    seen_full: bool,
    size_return: SizeReturn,
    /// Whether any signal, and any batch, was reported since the start.
    seen_signal: bool,
    seen_batch: bool,
    /// The zone in which the size is at its bound. The reason for that is given once.
    pinned: Option<Zone>,
}

impl Default for LoadThreshold {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadThreshold {
    /// The policy with its guards: factor 0.2, thresholds 0.3 and 0.7, scales of 100 requests and
    /// 50 locks.
    ///
    /// The score is `0.4·cpu + 0.3·errors + 0.2·min(queue/100, 1) + 0.1·min(locks/50, 1)`, averaged
    /// over the newest ten feedbacks since the last check. Below the low threshold the batch size
    /// grows by `size × factor`. Above the high threshold it shrinks by as much. The step is
    /// rounded to the nearest integer and is at least 1. The guards:
    ///
    /// - Absent signals take no part: the weights are normalised over the signals present.
    /// - The score is at least the error rate.
    /// - Growth needs a full batch since the last check.
    /// - A failed batch halves the size at once. The size returns after 4 clean full batches in a
    ///   row. If the failed call took half of a clean call's time or longer, it returns after 32,
    ///   and after up to 256 if the last return failed. Calls refused unseen and broken statements
    ///   halve nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let batcher = Batcher::builder()
    ///     .policy(LoadThreshold::new())
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Self {
            adjustment_factor: 0.2,
            low: 0.3,
            high: 0.7,
            scale: Scale::default(),
            normalise: true,
            error_floor: true,
            grow_only_when_full: true,
            halve_on_failure: true,
            newest: [Signals::default(); FEEDBACKS_MAX],
            received: 0,
            seen_full: false,
            size_return: SizeReturn::new(),
            seen_signal: false,
            seen_batch: false,
            pinned: None,
        }
    }

    /// The bare rule, without a guard: an absent signal counts as 0.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let batcher = Batcher::builder()
    ///     .policy(LoadThreshold::strict())
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strict() -> Self {
        Self {
            normalise: false,
            error_floor: false,
            grow_only_when_full: false,
            halve_on_failure: false,
            ..Self::new()
        }
    }

    /// The share of the size by which it changes, greater than 0 and at most 1. Default 0.2.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let refused = Batcher::builder()
    ///     .policy(LoadThreshold::new().adjustment_factor(0.0)) // must be greater than 0
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert!(refused.is_err());
    /// ```
    pub fn adjustment_factor(mut self, share: f64) -> Self {
        self.adjustment_factor = share;
        self
    }

    /// Below `low` the size grows, above `high` it shrinks: `0 <= low <= high <= 1`. Defaults 0.3
    /// and 0.7.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let refused = Batcher::builder()
    ///     .policy(LoadThreshold::new().thresholds(0.8, 0.2)) // low exceeds high
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// assert!(refused.is_err());
    /// ```
    pub fn thresholds(mut self, low: f64, high: f64) -> Self {
        (self.low, self.high) = (low, high);
        self
    }

    /// The weight of each signal: none may be negative, and at least one must be positive.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold, Weights};
    /// let batcher = Batcher::builder()
    ///     .policy(LoadThreshold::new().weights(Weights { db_locks: 0.0, ..Weights::default() }))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn weights(mut self, weights: Weights) -> Self {
        self.scale.weights = weights;
        self
    }

    /// The queue depth that counts as full load, in requests, greater than 0. Default 100.
    ///
    /// ```
    /// # use load_aware_batcher::{LoadThreshold, Policy};
    /// let policy = LoadThreshold::new().queue_scale(400.0); // now 100 requests are a load of 0.25
    /// assert!(policy.validate().is_ok());
    /// let refused = LoadThreshold::new().queue_scale(0.0).validate();
    /// assert_eq!(refused.unwrap_err().to_string(), "queue_scale is 0: must be greater than 0");
    /// ```
    pub fn queue_scale(mut self, requests: f64) -> Self {
        self.scale.queue = requests;
        self
    }

    /// The number of waiting locks that counts as full load, greater than 0. Default 50.
    ///
    /// ```
    /// # use load_aware_batcher::{LoadThreshold, Policy};
    /// let policy = LoadThreshold::new().lock_scale(10.0); // a database that rarely waits for locks
    /// assert!(policy.validate().is_ok());
    /// assert!(LoadThreshold::new().lock_scale(-1.0).validate().is_err());
    /// ```
    pub fn lock_scale(mut self, locks: f64) -> Self {
        self.scale.locks = locks;
        self
    }

    /// Guard: whether the weights are normalised over the signals present. Default true.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let batcher = Batcher::builder()
    ///     .load_check_interval(Duration::from_millis(1))
    ///     .policy(LoadThreshold::new().normalise(false))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().cpu_load(1.0)); // and no other signal
    /// # while batcher.stats().average_load.is_none() { std::thread::yield_now() }
    /// assert_eq!(batcher.stats().average_load, Some(0.4)); // the guard makes it 1
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn normalise(mut self, on: bool) -> Self {
        self.normalise = on;
        self
    }

    /// Guard: whether the score is at least the error rate. Default true.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let batcher = Batcher::builder()
    ///     .load_check_interval(Duration::from_millis(1))
    ///     .policy(LoadThreshold::new().error_floor(false))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().cpu_load(0.0).error_rate(0.8)); // idle, since calls fail
    /// # while batcher.stats().average_load.is_none() { std::thread::yield_now() }
    /// assert!(batcher.stats().average_load < Some(0.4)); // the guard makes it 0.8
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn error_floor(mut self, on: bool) -> Self {
        self.error_floor = on;
        self
    }

    /// Guard: whether growth needs a full batch since the last check. Default true.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, LoadThreshold};
    /// let batcher = Batcher::builder()
    ///     .load_check_interval(Duration::from_millis(1))
    ///     .policy(LoadThreshold::new().grow_only_when_full(false))
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().cpu_load(0.1)); // and no batch
    /// # while batcher.stats().decisions.grow == 0 { std::thread::yield_now() }
    /// assert_eq!(batcher.stats().batch_size, 24); // the guard keeps it at 20
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grow_only_when_full(mut self, on: bool) -> Self {
        self.grow_only_when_full = on;
        self
    }

    /// Guard: whether a failed batch halves the size at once. Default true.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadThreshold, Retry};
    /// let batcher = Batcher::builder()
    ///     .retry(Retry::none())
    ///     .policy(LoadThreshold::new().halve_on_failure(false))
    ///     .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("connection lost")))?;
    /// batcher.add(1)?;
    /// assert!(batcher.flush(Duration::from_secs(9)).is_err());
    /// assert_eq!(batcher.stats().batch_size, 20); // the guard makes it 10
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn halve_on_failure(mut self, on: bool) -> Self {
        self.halve_on_failure = on;
        self
    }

    /// The mean score of the feedbacks kept; `None` without one.
    fn score(&self, custom: &[CustomSignal]) -> Option<f64> {
        let kept = &self.newest[..self.received.min(FEEDBACKS_MAX)];
        if kept.is_empty() {
            return None;
        }
        if !self.normalise {
            let sum: f64 = kept
                .iter()
                .map(|signals| {
                    let terms = self.scale.terms(signals, custom);
                    terms
                        .iter()
                        .map(|term| term.weight * term.value.unwrap_or(0.0))
                        .sum::<f64>()
                        .min(1.0)
                })
                .sum();
            return Some(self.floored(sum / kept.len() as f64, kept));
        }
        // First each signal's mean over the feedbacks that carry it, then the weighted mean of
        // these. If all feedbacks carry all signals, this equals the mean of the plain sums.
        let mut means = Means::default();
        for signals in kept {
            means.add(&self.scale.terms(signals, custom));
        }
        means.score().map(|score| self.floored(score, kept))
    }

    /// Guard: the score is at least the mean error rate.
    fn floored(&self, score: f64, kept: &[Signals]) -> f64 {
        let (sum, count) = kept
            .iter()
            .filter_map(|s| s.error_rate)
            .fold((0.0, 0u32), |(sum, n), rate| (sum + rate, n + 1));
        if self.error_floor && count > 0 {
            score.max(sum / f64::from(count))
        } else {
            score
        }
    }

    /// Takes the samples. True if a call failed as a whole.
    fn take(&mut self, window: &Window<'_>, from: usize) -> bool {
        let mut failed = false;
        for sample in window.samples {
            if !sample.signals.is_empty() {
                self.seen_signal = true;
                self.newest[self.received % FEEDBACKS_MAX] = sample.signals;
                // The count stays below twice the maximum, which still tells the next place and
                // whether the ring is full.
                self.received = if self.received + 1 == 2 * FEEDBACKS_MAX {
                    FEEDBACKS_MAX
                } else {
                    self.received + 1
                };
            }
            if let Some(batch) = sample.batch.filter(|batch| is_evidence(batch.outcome)) {
                self.seen_batch = true;
                self.seen_full |= batch.full && !batch.probe;
                if batch.outcome == CallOutcome::Ok {
                    // A batch cut at a larger size is older than the halving.
                    if batch.full && !batch.probe && batch.cut_at <= from {
                        self.size_return.clean_batch(batch.service_time);
                    }
                } else if batch.attempt == 1 {
                    failed = true;
                    self.size_return.failed(from, batch.service_time);
                }
            }
        }
        failed
    }

    /// Size × factor, rounded to the nearest integer, at least 1.
    fn step(&self, size: usize) -> usize {
        ((size as f64 * self.adjustment_factor).round() as usize).max(1)
    }

    fn check(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let score = self.score(window.custom);
        let seen_full = std::mem::take(&mut self.seen_full);
        self.received = 0;
        let hot = score.is_some_and(|score| score > self.high);
        let returned = if self.halve_on_failure && !hot {
            self.size_return.take(current.batch_size)
        } else {
            None
        };
        let from = returned.map_or(current.batch_size, |size| {
            size.clamp(window.min_batch_size, window.max_batch_size)
        });
        let Some(score) = score else {
            return match returned {
                Some(_) => Decision::resize(from, RETURNED_REASON),
                None if self.seen_batch && !self.seen_signal => {
                    Decision::hold(current, NO_SIGNAL_REASON)
                }
                None => Decision::hold(current, "no feedback since the last check: unchanged"),
            };
        };
        let (low, high) = (self.low, self.high);
        let (zone, wanted) = if score < low {
            (Zone::Low, from.saturating_add(self.step(from)))
        } else if score > high {
            self.size_return.size = self
                .size_return
                .size
                .map(|size| size.saturating_sub(self.step(size)));
            (Zone::High, from.saturating_sub(self.step(from)))
        } else {
            (Zone::Normal, from)
        };
        let idle = zone == Zone::Low && self.grow_only_when_full && !seen_full;
        let to = if idle {
            from
        } else {
            wanted.clamp(window.min_batch_size, window.max_batch_size)
        };
        let pinned = (to == from && wanted != from && !idle).then_some(zone);
        let reason = match pinned {
            _ if returned.is_some() && to == from => Reason::from(RETURNED_REASON),
            _ if idle => Reason::from("no full batch since the last check: unchanged"),
            Some(zone) if self.pinned == Some(zone) => current.reason.clone(),
            Some(Zone::Low) => Reason::from("the load is low and the size is at its maximum"),
            Some(_) => Reason::from("the load is high and the size is at its minimum"),
            None => Reason::Score {
                score,
                low,
                high,
                from: current.batch_size,
                to,
            },
        };
        self.pinned = pinned;
        Decision {
            zone,
            score: Some(score),
            ..Decision::resize(to, reason)
        }
    }

    /// The decision on the size alone.
    fn resize(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let failed = self.take(window, current.batch_size);
        if self.halve_on_failure && failed {
            let half = (current.batch_size / 2).max(window.min_batch_size);
            if window.is_check {
                self.received = 0;
                self.seen_full = false;
            }
            return Decision {
                zone: Zone::High,
                ..Decision::resize(half, "a batch failed: halved")
            };
        }
        if window.is_check {
            self.check(window, current)
        } else {
            Decision {
                zone: current.zone,
                score: current.score,
                ..Decision::hold(current, current.reason.clone())
            }
        }
    }
}

impl Policy for LoadThreshold {
    fn name(&self) -> &'static str {
        "LoadThreshold"
    }

    fn initial_batch_size(&self) -> Option<usize> {
        Some(20)
    }

    fn thresholds(&self) -> Option<(f64, f64)> {
        Some((self.low, self.high))
    }

    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        Decision {
            concurrency: Some(window.max_concurrency),
            ..self.resize(window, current)
        }
    }

    fn validate(&self) -> Result<(), BuildError> {
        let factor = self.adjustment_factor;
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(BuildError::setting(
                "adjustment_factor",
                factor,
                "must be greater than 0 and at most 1",
            ));
        }
        let (low, high) = (self.low, self.high);
        if !(0.0..=1.0).contains(&low) || !(0.0..=1.0).contains(&high) {
            let value = if (0.0..=1.0).contains(&low) {
                high
            } else {
                low
            };
            return Err(BuildError::setting(
                "thresholds",
                value,
                "must be between 0 and 1",
            ));
        }
        if low > high {
            return Err(BuildError::conflict(
                ("low threshold", low),
                ("high threshold", high),
                "low must not exceed high",
            ));
        }
        let Weights {
            cpu_load,
            error_rate,
            queue_depth,
            db_locks,
        } = self.scale.weights;
        let weights = [cpu_load, error_rate, queue_depth, db_locks];
        if let Some(bad) = weights
            .iter()
            .find(|weight| !(weight.is_finite() && **weight >= 0.0))
        {
            return Err(BuildError::setting(
                "weights",
                bad,
                "must be finite and not negative",
            ));
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(BuildError::setting(
                "weights",
                "all zero",
                "at least one must be greater than 0",
            ));
        }
        for (setting, scale) in [
            ("queue_scale", self.scale.queue),
            ("lock_scale", self.scale.locks),
        ] {
            if !(scale.is_finite() && scale > 0.0) {
                return Err(BuildError::setting(
                    setting,
                    scale,
                    "must be greater than 0",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "load_threshold/tests.rs"]
mod tests;
