//! The results of a run.

use std::time::Duration;

use super::backend::Backend;
use crate::feedback::Signals;
use crate::policy::Reason;

/// The step at which a run is compared with the best fixed size.
const ORACLE_STEP: Duration = Duration::from_millis(50);

/// One call of the handler, and what was in force after it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// When it ended, since the start.
    pub at: Duration,
    /// The batcher that made it, from 0.
    pub batcher: usize,
    /// Its items.
    pub len: usize,
    /// Whether it reached the size it was cut at.
    pub full: bool,
    /// Whether it was a probe.
    pub probe: bool,
    /// How long it took.
    pub service_time: Duration,
    /// Whether it was refused at once, so that its items were tried again.
    pub refused: bool,
    /// How many of its items were not handled.
    pub failed: usize,
    /// The handler's signals. Empty if the call failed, or if the handler reports none.
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
    /// The seconds from the add of each handled item to the end of its call. Empty in a closed
    /// loop.
    pub(super) waits: Vec<f64>,
    /// When items were handled, and how many waits were known before that.
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

    /// Items lost: those of failed calls, and those refused one by one.
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

    /// Items lost in calls that ended in this time. Items of refused calls are tried again, and not
    /// lost.
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

    /// The items that the best fixed size of each moment would have handled in this time, with a
    /// bound on its calls or without one.
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

    /// The items handled, as a share of those of the best fixed size of each moment. It exceeds 1
    /// if the policy was better.
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

    /// How many cores the calls of these batchers used, as a mean over the run, failed calls
    /// included.
    #[must_use]
    pub fn cores_busy(&self) -> f64 {
        self.worked / self.duration.as_secs_f64()
    }

    /// Items that had arrived and were not handed over at the end. 0 in a closed loop.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// A quantile of the time from the add of an item to the end of its call; 0.99 is the 99th
    /// percentile. `None` in a closed loop.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        self.latency_since(Duration::ZERO, share)
    }

    /// The same for the items of calls that ended after this time.
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
