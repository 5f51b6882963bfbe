//! The results of a run.

use std::time::Duration;

use super::backend::Backend;
use crate::feedback::Signals;
use crate::policy::Reason;

/// The step in which a run is compared with the best fixed size.
const ORACLE_STEP: Duration = Duration::from_millis(50);

/// One call of the handler, and what was in force after it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// When it ended, since the start.
    pub at: Duration,
    /// The batcher that called, from 0.
    pub batcher: usize,
    /// Its items.
    pub len: usize,
    /// Whether it reached the size it was cut at.
    pub full: bool,
    /// Whether it was a probe.
    pub probe: bool,
    /// How long it took.
    pub service_time: Duration,
    /// Whether it was refused at once: its items were tried again.
    pub refused: bool,
    /// How many of its items were not handled.
    pub failed: usize,
    /// What the handler reported; empty if it failed or reports nothing.
    pub signals: Signals,
    /// The size in force after it.
    pub batch_size: usize,
    /// How many calls at once were allowed after it.
    pub concurrency: usize,
    /// The pause in force after it, as a multiple of the service time.
    pub pause_ratio: f64,
    /// Why.
    pub reason: Reason,
}

/// The results of a run: every call, and sums over them.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    pub(super) calls: Vec<Call>,
    pub(super) backend: Backend,
    pub(super) batchers: usize,
    pub(super) max_batch_size: usize,
    pub(super) duration: Duration,
    /// Core-seconds of work that the calls received.
    pub(super) worked: f64,
    /// From add to the end of the call, in seconds, of each item handled; empty in a closed loop.
    pub(super) waits: Vec<f64>,
    /// When items were handled, and how many waits were known before.
    pub(super) waits_at: Vec<(f64, usize)>,
    pub(super) backlog: usize,
}

impl Report {
    /// Every call, in the order of their ends.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Items handled.
    #[must_use]
    pub fn handled(&self) -> usize {
        self.handled_between(Duration::ZERO, self.duration)
    }

    /// Items lost: in calls that failed, or refused one by one.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed_between(Duration::ZERO, self.duration)
    }

    /// Items of calls that ended in this time.
    #[must_use]
    pub fn handled_between(&self, from: Duration, to: Duration) -> usize {
        self.between(from, to)
            .map(|call| call.len - call.failed)
            .sum()
    }

    /// Items lost in calls that ended in this time; what was refused and tried again is not lost.
    #[must_use]
    pub fn failed_between(&self, from: Duration, to: Duration) -> usize {
        self.between(from, to)
            .filter(|call| !call.refused)
            .map(|call| call.failed)
            .sum()
    }

    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Call> {
        self.calls
            .iter()
            .filter(move |call| from < call.at && call.at <= to)
    }

    /// What the best fixed size of each moment would have handled in this time, with its calls kept
    /// within a bound or not.
    #[must_use]
    pub fn oracle_between(&self, from: Duration, to: Duration, bound: Option<Duration>) -> f64 {
        let mut sum = 0.0;
        let mut last = None;
        let mut at = from;
        while at < to {
            let step = ORACLE_STEP.min(to - at);
            let same = (
                self.backend.load.at(at),
                self.backend.costs_at(at),
                self.backend.holder_at(at),
            );
            let best = match last {
                Some((known, throughput)) if known == same => throughput,
                _ => {
                    self.backend
                        .best(at, self.batchers, self.max_batch_size, bound)
                        .throughput
                }
            };
            last = Some((same, best));
            sum += best * step.as_secs_f64();
            at += step;
        }
        sum
    }

    /// Items handled, as a share of what the best fixed size of each moment would have; over 1
    /// where the policy was better.
    #[must_use]
    pub fn share_of_oracle(&self) -> f64 {
        self.share_of_oracle_between(Duration::ZERO, self.duration)
    }

    /// The same over a part of the run.
    #[must_use]
    pub fn share_of_oracle_between(&self, from: Duration, to: Duration) -> f64 {
        let oracle = self.oracle_between(from, to, None);
        if oracle > 0.0 {
            self.handled_between(from, to) as f64 / oracle
        } else {
            f64::NAN
        }
    }

    /// How much the calls of these batchers worked the backend: core-seconds a second, those of
    /// calls that failed included.
    #[must_use]
    pub fn cores_busy(&self) -> f64 {
        self.worked / self.duration.as_secs_f64()
    }

    /// Items that had arrived and were not handed over at the end. 0 in a closed loop.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// How long items took from their add to the end of their call: the time that this share of
    /// them (0..=1) did not exceed. `None` in a closed loop.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        self.latency_since(Duration::ZERO, share)
    }

    /// The same of the items of calls that ended after this time.
    #[must_use]
    pub fn latency_since(&self, from: Duration, share: f64) -> Option<Duration> {
        let from = from.as_secs_f64();
        let call = self.waits_at.partition_point(|(at, _)| *at <= from);
        let first = self.waits_at.get(call)?.1;
        let mut waits = self.waits[first..].to_vec();
        let last = waits.len().checked_sub(1)?;
        let place = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        let (_, wait, _) = waits.select_nth_unstable_by(place, f64::total_cmp);
        Some(Duration::from_secs_f64(*wait))
    }
}
