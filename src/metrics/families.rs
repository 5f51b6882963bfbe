//! The samples of one batcher: from the snapshot to the rows of the table.

use std::fmt;
use std::time::Duration;

use super::{Metric, NAMES};
use crate::policy::Zone;
use crate::stats::{Histogram, Phase, Stats};

/// What a batcher has under one row of [`NAMES`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Family<'a> {
    /// The row of the table.
    pub metric: &'static Metric,
    /// The numbers.
    pub values: FamilyValues<'a>,
}

/// The numbers of a [`Family`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FamilyValues<'a> {
    /// The samples of a counter, a gauge, a state set or an info.
    Samples(Vec<Sample<'a>>),
    /// A histogram.
    Histogram(&'a Histogram),
}

/// One number with its labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// The labels other than `batcher`, in the order of the text formats.
    pub labels: Vec<(&'static str, &'a str)>,
    /// The number.
    pub value: f64,
}

impl Stats {
    /// The metrics as numbers, in the order of [`NAMES`], for who writes them elsewhere than into a
    /// text. A row for which the batcher has no value is absent. A snapshot gives the same numbers
    /// as its text.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, metrics::FamilyValues};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let stats = batcher.stats();
    /// for family in stats.families() {
    ///     if let FamilyValues::Samples(samples) = &family.values {
    ///         samples.iter().for_each(|sample| println!("{} {sample:?}", family.metric.name));
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn families(&self) -> Vec<Family<'_>> {
        let families = Families::new("", self);
        let rows = NAMES.iter().filter_map(|metric| {
            let values = families.family(metric)?;
            Some(Family { metric, values })
        });
        rows.collect()
    }
}

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
        match self.family(metric) {
            None => Ok(()),
            Some(FamilyValues::Samples(samples)) => samples.iter().try_for_each(|sample| {
                let labels: Vec<(&str, &str)> = [own]
                    .into_iter()
                    .chain(sample.labels.iter().copied())
                    .collect();
                write("", &labels, sample.value)
            }),
            Some(FamilyValues::Histogram(histogram)) => {
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
        }
    }

    /// `None` where the batcher has no value.
    fn family(&self, metric: &Metric) -> Option<FamilyValues<'a>> {
        let stats = self.stats;
        let sample = |labels, value| Sample { labels, value };
        let samples = match self.values(metric.name)? {
            Values::Histogram(histogram) => return Some(FamilyValues::Histogram(histogram)),
            Values::One(value) => vec![sample(Vec::new(), value)],
            Values::ByLabel(values) => {
                let (label, names) = metric.label.unwrap_or_default();
                debug_assert_eq!(names.len(), values.len(), "{}", metric.name);
                let named = names.iter().zip(values);
                named
                    .map(|(name, value)| sample(vec![(label, *name)], value))
                    .collect()
            }
            Values::Signals => {
                let signals = stats.signals.iter();
                signals
                    .map(|signal| sample(vec![("signal", signal.name)], signal.value))
                    .collect()
            }
            Values::Info => {
                let idempotent = if stats.idempotent { "true" } else { "false" };
                let labels = vec![
                    ("version", env!("CARGO_PKG_VERSION")),
                    ("policy", stats.policy),
                    ("idempotent", idempotent),
                    ("retry", stats.retry),
                ];
                vec![sample(labels, 1.0)]
            }
        };
        Some(FamilyValues::Samples(samples))
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
            "batcher_events_dropped_total" => count(stats.events_dropped),
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
