//! The parts that a snapshot is made of: one of each lane, taken under its lock, and one of the
//! control plane. What users see of them is `stats`.

use std::time::{Duration, Instant};

use crate::observe::Counts;
use crate::policy::Concurrency;
use crate::policy::setpoint::Setpoint;
use crate::stats::{DecisionCounts, LaneStats, Phase, Refused, Retrying, SignalValue, Stats};

/// What one lane adds to a snapshot, as of one moment under its lock.
pub(crate) struct LanePart {
    pub(crate) counts: Counts,
    pub(crate) added: u64,
    pub(crate) refused: Refused,
    pub(crate) capacity: usize,
    /// Running calls, and their items.
    pub(crate) calls_in_flight: usize,
    pub(crate) items_in_flight: usize,
    pub(crate) call_begun: Option<Instant>,
    /// Since when the oldest item in line has waited.
    pub(crate) oldest_since: Option<Instant>,
    pub(crate) producers_blocked: usize,
    pub(crate) producer_wait: Duration,
    pub(crate) retrying: Option<Retrying>,
    pub(crate) kept_failed: usize,
    pub(crate) stalled: bool,
    pub(crate) phase: Phase,
}

/// What the control plane adds to a snapshot.
pub(crate) struct ControlPart {
    pub(crate) identity: Identity,
    pub(crate) policy: &'static str,
    pub(crate) setpoint: Setpoint,
    pub(crate) min_batch_size: usize,
    pub(crate) max_batch_size: usize,
    pub(crate) concurrency: Concurrency,
    /// The score of the last decision that had one, and when that was made.
    pub(crate) score: Option<(f64, Instant)>,
    pub(crate) thresholds: Option<(f64, f64)>,
    pub(crate) signals: Vec<SignalValue>,
    pub(crate) decisions: DecisionCounts,
    pub(crate) probes: u64,
    pub(crate) policy_panics: u64,
    pub(crate) listener_panics: u64,
    pub(crate) events_dropped: u64,
    pub(crate) sensor_panics: u64,
    pub(crate) samples_lost: u64,
    pub(crate) values_corrected: u64,
    pub(crate) unknown_signals: u64,
}

/// What a batcher is called and how it was built.
#[derive(Clone, Default)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) idempotent: bool,
    pub(crate) retry: &'static str,
}

impl LanePart {
    /// Adds another lane of the same batcher. Its age is the longer one, its phase the earlier one.
    fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.added += other.added;
        self.refused.add(&other.refused);
        self.capacity += other.capacity;
        self.calls_in_flight += other.calls_in_flight;
        self.items_in_flight += other.items_in_flight;
        self.call_begun = earlier(self.call_begun, other.call_begun);
        self.oldest_since = earlier(self.oldest_since, other.oldest_since);
        self.producers_blocked += other.producers_blocked;
        self.producer_wait += other.producer_wait;
        let retrying = self.retrying.take().into_iter().chain(other.retrying);
        self.retrying = retrying.min_by_key(|retrying| retrying.since);
        self.kept_failed += other.kept_failed;
        self.stalled |= other.stalled;
        self.phase = match (self.phase, other.phase) {
            // At the end, the worse one.
            (one @ (Phase::Done | Phase::Abandoned), two @ (Phase::Done | Phase::Abandoned)) => {
                one.max(two)
            }
            (one, two) => one.min(two),
        };
    }

    /// What is shown of this lane alone.
    fn shown(&self) -> LaneStats {
        LaneStats {
            added: self.added,
            handled: self.counts.handled,
            failed: self.counts.failed,
            pending: self.added - self.counts.with_outcome(),
            calls: self.counts.calls,
            in_call: self.calls_in_flight > 0,
            retrying: self.retrying.clone(),
        }
    }
}

impl ControlPart {
    /// The snapshot as of `now`, with the parts of all lanes, at least one.
    pub(crate) fn with(self, lanes: Vec<LanePart>, now: Instant) -> Stats {
        let shown = lanes.iter().map(LanePart::shown).collect();
        let sum = lanes.into_iter().reduce(|mut all, lane| {
            all.add(lane);
            all
        });
        self.with_sum(sum.expect("a batcher has a lane"), shown, now)
    }

    fn with_sum(self, lane: LanePart, lanes: Vec<LaneStats>, now: Instant) -> Stats {
        let since = |begun: Instant| now.saturating_duration_since(begun);
        let control = self;
        let counts = lane.counts;
        Stats {
            lanes,
            name: control.identity.name,
            policy: control.policy,
            idempotent: control.identity.idempotent,
            retry: control.identity.retry,
            phase: lane.phase,
            closed: counts.closed,
            batch_size: control.setpoint.batch_size,
            min_batch_size: control.min_batch_size,
            max_batch_size: control.max_batch_size,
            queue_capacity: lane.capacity,
            concurrency: control.setpoint.concurrency,
            min_concurrency: control.concurrency.min(),
            max_concurrency: control.concurrency.max(),
            average_load: control.score.map(|(score, _)| score),
            load_age: control.score.map(|(_, at)| since(at)),
            thresholds: control.thresholds,
            signals: control.signals,
            decisions: control.decisions,
            probes: control.probes,
            added: lane.added,
            pending: lane.added - counts.with_outcome(),
            items_in_flight: lane.items_in_flight,
            oldest_item_age: lane.oldest_since.map(since),
            refused: lane.refused,
            producers_blocked: lane.producers_blocked,
            producer_wait: lane.producer_wait,
            retrying_age: lane.retrying.as_ref().map(|retrying| since(retrying.since)),
            retrying: lane.retrying,
            kept_failed: lane.kept_failed,
            stalled: lane.stalled,
            handled: counts.handled,
            failed: counts.failed,
            in_doubt: counts.in_doubt,
            rejected: counts.rejected,
            rejected_in_doubt: counts.rejected_in_doubt,
            told: counts.told,
            unsent: counts.unsent,
            abandoned: counts.abandoned,
            dropped_late: counts.dropped_late,
            batches: counts.batches,
            batch_items: counts.batch_items,
            calls: counts.calls,
            ok_calls: counts.ok_calls,
            calls_in_flight: lane.calls_in_flight,
            running_call_age: lane.call_begun.map(since),
            last_success_age: counts.last_success.map(since),
            retries: counts.retries,
            split_retries: counts.search.splits,
            bisections: counts.search.bisections,
            retry_after_capped: counts.search.waits_capped,
            failed_calls: counts.failed_calls,
            retried_rows: counts.retried_rows,
            handler_panics: counts.handler_panics,
            hook_panics: counts.hook_panics + control.listener_panics,
            drop_panics: counts.drop_panics,
            bad_rejects: counts.bad_rejects,
            stalled_time: counts.stalled,
            paused_time: counts.paused,
            backoff_time: counts.backoff,
            service_time: counts.recent_service_time.quantiles(now),
            service_time_histogram: counts.service_time,
            queue_wait: counts.recent_queue_wait.quantiles(now),
            queue_wait_histogram: counts.queue_wait,
            policy_panics: control.policy_panics,
            sensor_panics: control.sensor_panics,
            events_dropped: control.events_dropped,
            samples_lost: control.samples_lost,
            values_corrected: control.values_corrected,
            unknown_signals: control.unknown_signals,
            setpoint: control.setpoint,
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
