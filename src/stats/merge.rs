//! Snapshots of several batchers as one.

use super::{
    BatchesByTrigger, ClosedCounts, DecisionCounts, FailedCalls, Quantiles, Refused, SignalValue,
    Stats,
};

impl Stats {
    /// Adds the snapshot of another batcher to this one, for a view of several as one.
    ///
    /// | fields | merged |
    /// | --- | --- |
    /// | counters, times waited, histograms | added |
    /// | `pending`, `items_in_flight`, `calls_in_flight`, `queue_capacity`, `producers_blocked`, `kept_failed`, `concurrency` with its bounds | added |
    /// | `oldest_item_age`, `running_call_age`, `load_age`, `last_success_age` | the longest |
    /// | `retrying`, `retrying_age` | the one that has failed for the longest |
    /// | `service_time`, `queue_wait` | the larger of each quantile: quantiles cannot be added, so read the histograms |
    /// | `batch_size`, `max_batch_size`, `average_load` | the larger |
    /// | `min_batch_size` | the smaller |
    /// | `signals` | the larger value of each name |
    /// | `stalled` | true if one is |
    /// | `lanes` | this one's, then the other's |
    /// | `phase` | the earlier in the order of a life: open if one is open |
    /// | `name`, `policy`, `thresholds`, `idempotent`, `retry`, `setpoint` | this one's |
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let start = || Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// let (orders, readings) = (start()?, start()?);
    /// orders.add(1)?;
    /// readings.add_many([2, 3])?;
    /// let mut all = orders.stats();
    /// all.merge(&readings.stats());
    /// assert_eq!(all.added, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(&mut self, other: &Self) {
        self.merge_gauges(other);
        self.added += other.added;
        self.handled += other.handled;
        self.failed += other.failed;
        self.in_doubt += other.in_doubt;
        self.rejected += other.rejected;
        self.rejected_in_doubt += other.rejected_in_doubt;
        self.told += other.told;
        self.unsent += other.unsent;
        self.abandoned += other.abandoned;
        self.dropped_late += other.dropped_late;
        self.refused.add(&other.refused);
        self.producer_wait += other.producer_wait;
        self.batches.add(&other.batches);
        self.batch_items.add(&other.batch_items);
        self.calls += other.calls;
        self.ok_calls += other.ok_calls;
        self.retries += other.retries;
        self.split_retries += other.split_retries;
        self.bisections += other.bisections;
        self.failed_calls.add(&other.failed_calls);
        self.retried_rows += other.retried_rows;
        self.retry_after_capped += other.retry_after_capped;
        self.handler_panics += other.handler_panics;
        self.hook_panics += other.hook_panics;
        self.policy_panics += other.policy_panics;
        self.sensor_panics += other.sensor_panics;
        self.events_dropped += other.events_dropped;
        self.drop_panics += other.drop_panics;
        self.bad_rejects += other.bad_rejects;
        self.stalled_time += other.stalled_time;
        self.paused_time += other.paused_time;
        self.backoff_time += other.backoff_time;
        self.service_time_histogram
            .add(&other.service_time_histogram);
        self.queue_wait_histogram.add(&other.queue_wait_histogram);
        self.samples_lost += other.samples_lost;
        self.values_corrected += other.values_corrected;
        self.unknown_signals += other.unknown_signals;
        self.decisions.add(&other.decisions);
        self.probes += other.probes;
        self.closed.add(&other.closed);
        self.lanes.extend(other.lanes.iter().cloned());
    }

    fn merge_gauges(&mut self, other: &Self) {
        self.pending += other.pending;
        self.items_in_flight += other.items_in_flight;
        self.calls_in_flight += other.calls_in_flight;
        self.queue_capacity += other.queue_capacity;
        self.producers_blocked += other.producers_blocked;
        self.kept_failed += other.kept_failed;
        self.concurrency += other.concurrency;
        self.min_concurrency += other.min_concurrency;
        self.max_concurrency += other.max_concurrency;
        self.oldest_item_age = self.oldest_item_age.max(other.oldest_item_age);
        self.running_call_age = self.running_call_age.max(other.running_call_age);
        self.load_age = self.load_age.max(other.load_age);
        self.last_success_age = self.last_success_age.max(other.last_success_age);
        if self.retrying_age < other.retrying_age {
            self.retrying_age = other.retrying_age;
            self.retrying.clone_from(&other.retrying);
        }
        self.service_time.take_larger(&other.service_time);
        self.queue_wait.take_larger(&other.queue_wait);
        self.batch_size = self.batch_size.max(other.batch_size);
        self.max_batch_size = self.max_batch_size.max(other.max_batch_size);
        self.min_batch_size = self.min_batch_size.min(other.min_batch_size);
        self.average_load = match (self.average_load, other.average_load) {
            (Some(own), Some(other)) => Some(own.max(other)),
            (own, other) => own.or(other),
        };
        for signal in &other.signals {
            match self.signals.iter_mut().find(|own| own.name == signal.name) {
                Some(SignalValue { value, .. }) => *value = value.max(signal.value),
                None => self.signals.push(*signal),
            }
        }
        self.stalled |= other.stalled;
        self.phase = self.phase.min(other.phase);
    }
}

impl Quantiles {
    fn take_larger(&mut self, other: &Self) {
        self.p50 = self.p50.max(other.p50);
        self.p90 = self.p90.max(other.p90);
        self.p99 = self.p99.max(other.p99);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.window = self.window.max(other.window);
    }
}

impl BatchesByTrigger {
    pub(crate) fn add(&mut self, other: &Self) {
        self.size += other.size;
        self.linger += other.linger;
        self.wait += other.wait;
        self.flush += other.flush;
        self.close += other.close;
        self.retry += other.retry;
    }
}

impl FailedCalls {
    pub(crate) fn add(&mut self, other: &Self) {
        self.unclassified += other.unclassified;
        self.transient += other.transient;
        self.permanent += other.permanent;
        self.in_doubt += other.in_doubt;
        self.unavailable += other.unavailable;
        self.misconfigured += other.misconfigured;
        self.panicked += other.panicked;
    }
}

impl Refused {
    pub(crate) fn add(&mut self, other: &Self) {
        self.full += other.full;
        self.timeout += other.timeout;
        self.closed += other.closed;
        self.reentrant += other.reentrant;
        self.too_heavy += other.too_heavy;
        self.stalled += other.stalled;
    }
}

impl ClosedCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.clean += other.clean;
        self.failed += other.failed;
        self.unsent += other.unsent;
        self.abandoned += other.abandoned;
    }
}

impl DecisionCounts {
    fn add(&mut self, other: &Self) {
        self.grow += other.grow;
        self.shrink += other.shrink;
        self.hold += other.hold;
    }
}
