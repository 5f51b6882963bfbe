//! The metrics of a batcher as text, for Prometheus and for OpenMetrics, without any dependency.
//!
//! [`NAMES`] is the one table of names: what is here is an interface, and a name that is published
//! is not changed. [`write_prometheus`] and [`write_openmetrics`] write several batchers as one
//! exposition; [`Stats::write_prometheus`] and [`Stats::write_openmetrics`] write one.
//! [`Stats::families`] has the same numbers for other libraries. All numbers
//! of a batcher come from one snapshot, so in every exposition
//! `batcher_items_added_total` is the sum of `batcher_items_total`, `batcher_items_abandoned` and
//! `batcher_items_pending`.
//!
//! Every sample has the label `batcher`, the batcher's [name](crate::Builder::name). No label holds
//! an id or an error's text, so the number of series is bounded.

use std::fmt::{self, Write};

use crate::stats::{Histogram, Stats};

mod families;

use families::Families;
pub use families::{Family, FamilyValues, Sample};

/// One family of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with the suffix of its samples for a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The unit in UCUM: `s`, `1`, `{item}`, and so on.
    pub unit: &'static str,
    /// The label other than `batcher`, with its values. Empty values: they depend on the batcher.
    pub label: Option<(&'static str, &'static [&'static str])>,
    /// What it says, in one line.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A count or a time that never falls while the batcher lives.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// Values in buckets.
    Histogram,
    /// One sample for each state, of which one is 1 and the others are 0.
    StateSet,
    /// A sample that is always 1 and tells by its labels.
    Info,
}

const fn row(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        label: None,
        help,
    }
}

impl Metric {
    const fn by(mut self, label: &'static str, values: &'static [&'static str]) -> Self {
        self.label = Some((label, values));
        self
    }

    /// The bounds of a histogram's buckets in increasing order, without infinity: seconds or items.
    /// Empty for the other kinds.
    ///
    /// ```
    /// use load_aware_batcher::metrics::NAMES;
    /// let duration = NAMES.iter().find(|row| row.name == "batcher_call_duration_seconds").unwrap();
    /// assert_eq!(duration.bounds().first(), Some(&0.0005));
    /// ```
    #[must_use]
    pub fn bounds(&self) -> &'static [f64] {
        match self.name {
            "batcher_batch_items" => Histogram::batch_items().bounds(),
            "batcher_queue_wait_seconds" => Histogram::queue_wait().bounds(),
            "batcher_call_duration_seconds" => Histogram::service_time().bounds(),
            _ => &[],
        }
    }
}

use MetricKind::{Counter, Gauge, Info, StateSet};

/// Every metric, in the order in which they are written.
///
/// ```
/// use load_aware_batcher::metrics::{MetricKind, NAMES};
/// let pending = NAMES.iter().find(|metric| metric.name == "batcher_items_pending").unwrap();
/// assert_eq!((pending.kind, pending.unit), (MetricKind::Gauge, "{item}"));
/// ```
#[rustfmt::skip]
pub const NAMES: &[Metric] = &[
    row("batcher_items_added_total", Counter, "{item}", "Items accepted."),
    row("batcher_items_total", Counter, "{item}", "Items with an outcome, each under one: failed has neither the rejected nor those in doubt.")
        .by("outcome", &["handled", "failed", "rejected", "in_doubt", "unsent"]),
    row("batcher_items_pending", Gauge, "{item}", "Items accepted that have no outcome yet."),
    row("batcher_items_in_flight", Gauge, "{item}", "Items in the hands of the handler."),
    row("batcher_items_abandoned", Gauge, "{item}", "Items left in the hands of a handler by a close out of time. It falls when that handler returns."),
    row("batcher_items_retried_total", Counter, "{item}", "Rows that the handler asked for again."),
    row("batcher_items_told_total", Counter, "{item}", "Failed rows that were dropped because their ticket had returned the failure."),
    row("batcher_queue_capacity", Gauge, "{item}", "How many items wait at most."),
    row("batcher_refused_total", Counter, "{call}", "Adds that were refused.")
        .by("reason", &["full", "timeout", "closed", "reentrant", "too_heavy", "stalled"]),
    row("batcher_producers_blocked", Gauge, "{thread}", "Threads that wait in an add for room."),
    row("batcher_producer_wait_seconds_total", Counter, "s", "Time that threads have waited in an add for room."),
    row("batcher_oldest_item_age_seconds", Gauge, "s", "How long the oldest item in no batch has waited. 0 if none waits."),
    row("batcher_batches_total", Counter, "{batch}", "Batches by what made them go. Attempts at the same batch count once.")
        .by("trigger", &["size", "linger", "wait", "flush", "close", "retry"]),
    row("batcher_batch_items", MetricKind::Histogram, "{item}", "Items in a batch."),
    row("batcher_queue_wait_seconds", MetricKind::Histogram, "s", "How long the oldest item of a batch had waited, where that was measured."),
    row("batcher_calls_total", Counter, "{call}", "Calls of the handler that returned, by result.")
        .by("result", &["ok", "transient", "permanent", "in_doubt", "unclassified", "unavailable", "misconfigured", "panicked"]),
    row("batcher_call_duration_seconds", MetricKind::Histogram, "s", "Time of a call of the handler."),
    row("batcher_calls_in_flight", Gauge, "{call}", "Calls of the handler that have not returned."),
    row("batcher_call_in_flight_seconds", Gauge, "s", "How long the running call has lasted. 0 if there is none."),
    row("batcher_retries_total", Counter, "{call}", "Further attempts: at the same items again, or in two halves.")
        .by("kind", &["again", "in_halves"]),
    row("batcher_retrying_seconds", Gauge, "s", "How long the batch that is tried again has failed. 0 if there is none."),
    row("batcher_bisections_total", Counter, "{batch}", "Batches and parts that were split to find their bad rows."),
    row("batcher_pause_seconds_total", Counter, "s", "Time in pauses after calls, as the policy asked."),
    row("batcher_backoff_seconds_total", Counter, "s", "Time in waits before another attempt."),
    row("batcher_stalled_seconds_total", Counter, "s", "Time in stalls: nobody takes the kept failed rows."),
    row("batcher_batch_size", Gauge, "{item}", "The batch size in force."),
    row("batcher_batch_size_min", Gauge, "{item}", "The smallest batch size that the limits allow."),
    row("batcher_batch_size_max", Gauge, "{item}", "The largest batch size that the limits allow."),
    row("batcher_concurrency", Gauge, "{call}", "How many calls of the handler there may be at once."),
    row("batcher_concurrency_min", Gauge, "{call}", "The smallest concurrency that the limits allow."),
    row("batcher_concurrency_max", Gauge, "{call}", "The largest concurrency that the limits allow."),
    row("batcher_linger_seconds", Gauge, "s", "How long the oldest item may wait."),
    row("batcher_pause_ratio", Gauge, "1", "The pause after a call as a multiple of its time."),
    row("batcher_load_score", Gauge, "1", "The load score of the last decision that had one. Absent if none had."),
    row("batcher_signal", Gauge, "1", "The last value of each signal that was ever reported.")
        .by("signal", &[]),
    row("batcher_policy_zone", StateSet, "1", "Where the policy sees the load.")
        .by("zone", &["unknown", "low", "normal", "high"]),
    row("batcher_decisions_total", Counter, "{decision}", "Decisions of the policy by what they did to the batch size.")
        .by("direction", &["grow", "shrink", "hold"]),
    row("batcher_probes_total", Counter, "{batch}", "Probes that the policy asked for."),
    row("batcher_samples_lost_total", Counter, "{sample}", "Samples overwritten before the controller read them."),
    row("batcher_events_dropped_total", Counter, "{event}", "Events that the listeners missed, because 1 024 others waited."),
    row("batcher_values_corrected_total", Counter, "{value}", "Feedback values that were out of range or NaN."),
    row("batcher_unknown_signals_total", Counter, "{value}", "Custom signals under a name that was not declared."),
    row("batcher_bad_rejects_total", Counter, "{row}", "Marks of an index that the batch did not have."),
    row("batcher_dropped_late_total", Counter, "{item}", "Rows that failed when nobody was left to take them."),
    row("batcher_panics_total", Counter, "{panic}", "Panics of the user's code, caught.")
        .by("where", &["handler", "hook", "policy", "sensor", "drop"]),
    row("batcher_failed_kept", Gauge, "{item}", "Failed rows kept for take_failed and the close report."),
    row("batcher_stalled", Gauge, "1", "1 while nothing is handed over because as many failed rows are kept as may be."),
    row("batcher_phase", StateSet, "1", "How far the batcher is on its way to its end.")
        .by("phase", &["open", "closing", "done", "abandoned"]),
    row("batcher_closed_total", Counter, "{batcher}", "Closes by the worst that an item met.")
        .by("result", &["clean", "failed", "unsent", "abandoned"]),
    row("batcher_info", Info, "1", "How the batcher was built.").by("version", &[]),
];

/// Writes several batchers, each under its name, in the text format 0.0.4 of Prometheus, content
/// type `text/plain; version=0.0.4`. States and information are gauges there.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, metrics};
/// # let start = || Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
/// let (orders, readings) = (start()?, start()?);
/// let mut text = String::new();
/// let batchers = [("orders", orders.stats()), ("readings", readings.stats())];
/// metrics::write_prometheus(&mut text, &batchers)?;
/// assert_eq!(text.matches("# TYPE batcher_items_pending gauge").count(), 1);
/// assert!(text.contains("batcher_items_pending{batcher=\"readings\"} 0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn write_prometheus(
    out: &mut impl Write,
    batchers: &[(impl AsRef<str>, Stats)],
) -> fmt::Result {
    write_all(&mut Exposition::new(out, Format::Prometheus), batchers)
}

/// Writes several batchers, each under its name, in the text format 1.0.0 of OpenMetrics, content
/// type `application/openmetrics-text; version=1.0.0; charset=utf-8`. A state has two labels: the
/// one of [`NAMES`], and the family's name, which the format demands.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, metrics};
/// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// let mut text = String::new();
/// metrics::write_openmetrics(&mut text, &[("orders", batcher.stats())])?;
/// assert!(text.contains("# TYPE batcher_items_added counter"));
/// assert!(text.ends_with("# EOF\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn write_openmetrics(
    out: &mut impl Write,
    batchers: &[(impl AsRef<str>, Stats)],
) -> fmt::Result {
    write_all(&mut Exposition::new(out, Format::OpenMetrics), batchers)?;
    out.write_str("# EOF\n")
}

impl Stats {
    /// Writes the metrics under the batcher's own [`name`](Self::name) as
    /// [`metrics::write_prometheus`](write_prometheus) does.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().name("orders").spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let mut text = String::new();
    /// batcher.stats().write_prometheus(&mut text)?;
    /// assert!(text.contains("batcher_items_added_total{batcher=\"orders\"} 0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_prometheus(&self, out: &mut impl Write) -> fmt::Result {
        write_all(
            &mut Exposition::new(out, Format::Prometheus),
            &[(&self.name, self)],
        )
    }

    /// Writes the metrics under this name as [`metrics::write_openmetrics`](write_openmetrics)
    /// does.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let mut text = String::new();
    /// batcher.stats().write_openmetrics(&mut text, "orders")?;
    /// assert!(text.contains("batcher_items_added_total{batcher=\"orders\"} 0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_openmetrics(&self, out: &mut impl Write, name: &str) -> fmt::Result {
        write_all(
            &mut Exposition::new(out, Format::OpenMetrics),
            &[(name, self)],
        )?;
        out.write_str("# EOF\n")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Prometheus,
    OpenMetrics,
}

/// A text in the making.
struct Exposition<'a, W> {
    out: &'a mut W,
    format: Format,
}

fn write_all<W: Write>(
    exposition: &mut Exposition<'_, W>,
    batchers: &[(impl AsRef<str>, impl std::borrow::Borrow<Stats>)],
) -> fmt::Result {
    let batchers: Vec<Families<'_>> = batchers
        .iter()
        .map(|(name, stats)| Families::new(name.as_ref(), stats.borrow()))
        .collect();
    for metric in NAMES {
        exposition.head(metric)?;
        for families in &batchers {
            families.write(metric, &mut |suffix, labels, value| {
                exposition.sample(metric, suffix, labels, value)
            })?;
        }
    }
    Ok(())
}

impl<'a, W: Write> Exposition<'a, W> {
    fn new(out: &'a mut W, format: Format) -> Self {
        Self { out, format }
    }

    fn head(&mut self, metric: &Metric) -> fmt::Result {
        let (name, kind) = match (self.format, metric.kind) {
            (Format::Prometheus, Counter) => (metric.name, "counter"),
            (Format::OpenMetrics, Counter) => (without_suffix(metric.name, "_total"), "counter"),
            (Format::OpenMetrics, StateSet) => (metric.name, "stateset"),
            (Format::OpenMetrics, Info) => (without_suffix(metric.name, "_info"), "info"),
            (_, MetricKind::Histogram) => (metric.name, "histogram"),
            (_, Gauge | StateSet | Info) => (metric.name, "gauge"),
        };
        writeln!(self.out, "# HELP {name} {}", metric.help)?;
        writeln!(self.out, "# TYPE {name} {kind}")?;
        if self.format == Format::OpenMetrics && name.ends_with("_seconds") {
            writeln!(self.out, "# UNIT {name} seconds")?;
        }
        Ok(())
    }

    fn sample(
        &mut self,
        metric: &Metric,
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> fmt::Result {
        write!(self.out, "{}{suffix}", metric.name)?;
        let mut separator = '{';
        for (label, value) in labels {
            write!(self.out, "{separator}{label}=\"{}\"", Escaped(value))?;
            separator = ',';
        }
        if let (Format::OpenMetrics, StateSet, Some((_, state))) =
            (self.format, metric.kind, labels.last())
        {
            write!(self.out, ",{}=\"{state}\"", metric.name)?;
        }
        writeln!(self.out, "}} {value}")
    }
}

fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    name.strip_suffix(suffix).unwrap_or(name)
}

/// The value of a label, as both formats quote it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|sign| match sign {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            sign => f.write_char(sign),
        })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod tests;
