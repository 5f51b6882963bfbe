//! The samples of one batcher: from the snapshot to the rows of the table.

use std::fmt;
use std::time::Duration;

use super::Metric;
use crate::policy::Zone;
use crate::stats::{Histogram, Phase, Stats};

/// Writes one sample: the suffix of its name, its labels, its value.
type Write<'a> = dyn FnMut(&str, &[(&str, &str)], f64) -> fmt::Result + 'a;

/// One batcher under its name.
pub(super) struct Families<'a> {
    name: &'a str,
    stats: &'a Stats,
}

/// What a family of a batcher consists of.
enum Values<'a> {
    One(f64),
    /// In the order of the values in the table.
    ByLabel(Vec<f64>),
    Histogram(&'a Histogram),
    Signals,
    Info,
}

impl<'a> Families<'a> {
    pub(super) fn new(name: &'a str, stats: &'a Stats) -> Self {
        Self { name, stats }
    }

    /// Writes the samples of a row of the table.
    pub(super) fn write(&self, metric: &Metric, write: &mut Write<'_>) -> fmt::Result {
        let own = ("batcher", self.name);
        match self.values(metric.name) {
            None => Ok(()),
            Some(Values::One(value)) => write("", &[own], value),
            Some(Values::ByLabel(values)) => {
                let (label, names) = metric.label.unwrap_or_default();
                debug_assert_eq!(names.len(), values.len(), "{}", metric.name);
                names
                    .iter()
                    .zip(values)
                    .try_for_each(|(name, value)| write("", &[own, (label, name)], value))
            }
            Some(Values::Histogram(histogram)) => {
                for (bound, count) in histogram.buckets() {
                    let bound = if bound.is_finite() {
                        format!("{bound:?}")
                    } else {
                        "+Inf".to_owned()
                    };
                    write("_bucket", &[own, ("le", &bound)], count as f64)?;
                }
                write("_sum", &[own], histogram.sum)?;
                write("_count", &[own], histogram.count as f64)
            }
            Some(Values::Signals) => self
                .stats
                .signals
                .iter()
                .try_for_each(|signal| write("", &[own, ("signal", signal.name)], signal.value)),
            Some(Values::Info) => {
                let labels = [
                    own,
                    ("version", env!("CARGO_PKG_VERSION")),
                    ("policy", self.stats.policy),
                    (
                        "idempotent",
                        if self.stats.idempotent {
                            "true"
                        } else {
                            "false"
                        },
                    ),
                    ("retry", self.stats.retry),
                ];
                write("", &labels, 1.0)
            }
        }
    }

    /// `None` where the batcher has no value.
    fn values(&self, name: &str) -> Option<Values<'a>> {
        let stats = self.stats;
        let count = |count: u64| Values::One(count as f64);
        let size = |size: usize| Values::One(size as f64);
        let time = |time: Duration| Values::One(time.as_secs_f64());
        let age = |age: Option<Duration>| time(age.unwrap_or_default());
        let counts =
            |counts: &[u64]| Values::ByLabel(counts.iter().map(|count| *count as f64).collect());
        let state = |place: usize, states: usize| {
            Values::ByLabel(
                (0..states)
                    .map(|state| f64::from(u8::from(state == place)))
                    .collect(),
            )
        };
        Some(match name {
            "batcher_items_added_total" => count(stats.added),
            "batcher_items_total" => {
                let rejected = stats.rejected - stats.rejected_in_doubt;
                let failed = stats.failed - stats.in_doubt - rejected;
                counts(&[
                    stats.handled,
                    failed,
                    rejected,
                    stats.in_doubt,
                    stats.unsent,
                ])
            }
            "batcher_items_pending" => count(stats.pending),
            "batcher_items_in_flight" => size(stats.items_in_flight),
            "batcher_items_abandoned" => count(stats.abandoned),
            "batcher_items_retried_total" => count(stats.retried_rows),
            "batcher_items_told_total" => count(stats.told),
            "batcher_queue_capacity" => size(stats.queue_capacity),
            "batcher_refused_total" => {
                let refused = &stats.refused;
                counts(&[
                    refused.full,
                    refused.timeout,
                    refused.closed,
                    refused.reentrant,
                    refused.too_heavy,
                    refused.stalled,
                ])
            }
            "batcher_producers_blocked" => size(stats.producers_blocked),
            "batcher_producer_wait_seconds_total" => time(stats.producer_wait),
            "batcher_oldest_item_age_seconds" => age(stats.oldest_item_age),
            "batcher_batches_total" => {
                let batches = &stats.batches;
                counts(&[
                    batches.size,
                    batches.linger,
                    batches.wait,
                    batches.flush,
                    batches.close,
                    batches.retry,
                ])
            }
            "batcher_batch_items" => Values::Histogram(&stats.batch_items),
            "batcher_queue_wait_seconds" => Values::Histogram(&stats.queue_wait_histogram),
            "batcher_calls_total" => {
                let failed = &stats.failed_calls;
                counts(&[
                    stats.ok_calls,
                    failed.transient,
                    failed.permanent,
                    failed.in_doubt,
                    failed.unclassified,
                    failed.unavailable,
                    failed.misconfigured,
                    failed.panicked,
                ])
            }
            "batcher_call_duration_seconds" => Values::Histogram(&stats.service_time_histogram),
            "batcher_calls_in_flight" => size(stats.calls_in_flight),
            "batcher_call_in_flight_seconds" => age(stats.running_call_age),
            "batcher_retries_total" => counts(&[stats.retries, stats.split_retries]),
            "batcher_retrying_seconds" => age(stats.retrying_age),
            "batcher_bisections_total" => count(stats.bisections),
            "batcher_pause_seconds_total" => time(stats.paused_time),
            "batcher_backoff_seconds_total" => time(stats.backoff_time),
            "batcher_stalled_seconds_total" => time(stats.stalled_time),
            "batcher_batch_size" => size(stats.batch_size),
            "batcher_batch_size_min" => size(stats.min_batch_size),
            "batcher_batch_size_max" => size(stats.max_batch_size),
            "batcher_concurrency" => size(stats.concurrency),
            "batcher_concurrency_min" => size(stats.min_concurrency),
            "batcher_concurrency_max" => size(stats.max_concurrency),
            "batcher_linger_seconds" => time(stats.setpoint.linger),
            "batcher_pause_ratio" => Values::One(stats.setpoint.pause_ratio),
            "batcher_load_score" => {
                Values::One(stats.average_load.filter(|score| score.is_finite())?)
            }
            "batcher_signal" => Values::Signals,
            "batcher_policy_zone" => {
                let place = match stats.setpoint.zone {
                    Zone::Unknown => 0,
                    Zone::Low => 1,
                    Zone::Normal => 2,
                    Zone::High => 3,
                };
                state(place, 4)
            }
            "batcher_decisions_total" => {
                let decisions = &stats.decisions;
                counts(&[decisions.grow, decisions.shrink, decisions.hold])
            }
            "batcher_probes_total" => count(stats.probes),
            "batcher_samples_lost_total" => count(stats.samples_lost),
            "batcher_values_corrected_total" => count(stats.values_corrected),
            "batcher_unknown_signals_total" => count(stats.unknown_signals),
            "batcher_bad_rejects_total" => count(stats.bad_rejects),
            "batcher_dropped_late_total" => count(stats.dropped_late),
            "batcher_panics_total" => counts(&[
                stats.handler_panics,
                stats.hook_panics,
                stats.policy_panics,
                stats.sensor_panics,
                stats.drop_panics,
            ]),
            "batcher_failed_kept" => size(stats.kept_failed),
            "batcher_stalled" => size(usize::from(stats.stalled)),
            "batcher_phase" => {
                let place = match stats.phase {
                    Phase::Open => 0,
                    Phase::Closing => 1,
                    Phase::Done => 2,
                    Phase::Abandoned => 3,
                };
                state(place, 4)
            }
            "batcher_closed_total" => {
                let closed = &stats.closed;
                counts(&[closed.clean, closed.failed, closed.unsent, closed.abandoned])
            }
            "batcher_info" => Values::Info,
            name => {
                debug_assert!(false, "{name} has no value");
                return None;
            }
        })
    }
}
