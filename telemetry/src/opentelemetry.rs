//! For OpenTelemetry: observable instruments and histograms of a meter. Feature `opentelemetry`.
//!
//! An instrument is named as its row of [the table](load_aware_batcher::metrics::NAMES), with a dot
//! behind `batcher`, without `_total`, and without a unit: `batcher_producer_wait_seconds_total` is
//! `batcher.producer_wait` of unit `s`. An exporter for Prometheus appends both again. The counter
//! `batcher.stalled_seconds` keeps its unit, since `batcher.stalled` is a gauge. A number without a
//! dimension has no unit, since exporters append `_ratio` to the unit `1`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use load_aware_batcher::metrics::{FamilyValues, Metric, MetricKind, NAMES};
use load_aware_batcher::{CallEvent, Listener, Stats};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use crate::Observers;
use crate::measures::Measures;

/// Registers an observable counter or gauge for each row of the table but the histograms, which
/// [`Histograms`] records. A collection takes one snapshot of each batcher.
///
/// The instruments live as long as the meter's provider. Register a list once; batchers are added
/// to the list.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::opentelemetry::{Histograms, register};
///
/// let meter = opentelemetry::global::meter("load-aware-batcher");
/// let batcher = Batcher::builder()
///     .name("orders")
///     .listener(Histograms::new(&meter, "orders"))
///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// register(&meter, batcher.observer());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register(meter: &Meter, observers: impl Into<Observers>) {
    let collection = Arc::new(Mutex::new(Collection {
        observers: observers.into(),
        snapshots: Vec::new(),
        served: BTreeSet::new(),
    }));
    for metric in NAMES {
        let (name, unit) = (instrument_name(metric), unit(metric));
        let collection = Arc::clone(&collection);
        match (metric.kind, metric.unit) {
            (MetricKind::Histogram, _) => (),
            (MetricKind::Counter, "s") => {
                let instrument = meter.f64_observable_counter(name).with_unit(unit);
                let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
                    each(&collection, metric, |value, labels| {
                        observer.observe(value, labels)
                    });
                };
                instrument
                    .with_description(metric.help)
                    .with_callback(observe)
                    .build();
            }
            (MetricKind::Counter, _) => {
                let instrument = meter.u64_observable_counter(name).with_unit(unit);
                let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
                    each(&collection, metric, |value, labels| {
                        observer.observe(value as u64, labels);
                    });
                };
                instrument
                    .with_description(metric.help)
                    .with_callback(observe)
                    .build();
            }
            _ => {
                let instrument = meter.f64_observable_gauge(name).with_unit(unit);
                let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
                    each(&collection, metric, |value, labels| {
                        observer.observe(value, labels)
                    });
                };
                instrument
                    .with_description(metric.help)
                    .with_callback(observe)
                    .build();
            }
        }
    }
}

/// The snapshots of one collection, shared by all instruments, so that their numbers agree. The
/// first instrument that asks a second time begins the next collection.
struct Collection {
    observers: Observers,
    snapshots: Vec<(String, Stats)>,
    served: BTreeSet<&'static str>,
}

fn each(
    collection: &Mutex<Collection>,
    metric: &'static Metric,
    mut observe: impl FnMut(f64, &[KeyValue]),
) {
    let mut collection = collection.lock().unwrap_or_else(PoisonError::into_inner);
    if collection.served.is_empty() || !collection.served.insert(metric.name) {
        collection.snapshots = collection.observers.snapshots();
        collection.served = BTreeSet::from([metric.name]);
    }
    for (batcher, stats) in &collection.snapshots {
        let families = stats.families();
        let own = families
            .iter()
            .filter(|family| family.metric.name == metric.name);
        for family in own {
            let FamilyValues::Samples(samples) = &family.values else {
                continue;
            };
            for sample in samples {
                let mut labels = vec![KeyValue::new("batcher", batcher.clone())];
                for (label, value) in &sample.labels {
                    labels.push(KeyValue::new(*label, (*value).to_owned()));
                }
                observe(sample.value, &labels);
            }
        }
    }
}

/// Records the histograms of a batcher, once a call: a listener for
/// [`Builder::listener`](load_aware_batcher::Builder::listener).
pub struct Histograms {
    measures: Measures,
    own: [KeyValue; 1],
    histograms: Vec<(&'static str, Histogram<f64>)>,
}

impl Histograms {
    /// For the batcher of this name.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::opentelemetry::Histograms;
    /// let meter = opentelemetry::global::meter("load-aware-batcher");
    /// let listener = Histograms::new(&meter, "orders");
    /// # let _ = listener;
    /// ```
    #[must_use]
    pub fn new(meter: &Meter, batcher: impl Into<String>) -> Self {
        let build = |metric: &Metric| {
            meter
                .f64_histogram(instrument_name(metric))
                .with_unit(unit(metric))
                .with_description(metric.help)
                .with_boundaries(metric.bounds().to_vec())
                .build()
        };
        let rows = Measures::rows();
        Self {
            measures: Measures::default(),
            own: [KeyValue::new("batcher", batcher.into())],
            histograms: rows.map(|metric| (metric.name, build(metric))).collect(),
        }
    }
}

impl Listener for Histograms {
    fn call(&mut self, call: &CallEvent) {
        for (name, value) in self.measures.of(call) {
            let own = self.histograms.iter().find(|(own, _)| *own == name);
            if let Some((_, histogram)) = own {
                histogram.record(value, &self.own);
            }
        }
    }
}

impl fmt::Debug for Histograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histograms").finish_non_exhaustive()
    }
}

fn instrument_name(metric: &Metric) -> String {
    let plain = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    let short = plain.strip_suffix("_seconds").unwrap_or(plain);
    let is_taken = NAMES.iter().any(|row| row.name == short);
    let name = if is_taken { plain } else { short };
    name.replacen('_', ".", 1)
}

fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        "1" => "",
        unit => unit,
    }
}
