//! What OpenTelemetry exports, translated by the rules of its exporters for Prometheus, has the
//! names and the numbers of the crate's own text.
#![cfg(feature = "opentelemetry")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::metrics::NAMES;
use load_aware_batcher_telemetry::Observers;
use load_aware_batcher_telemetry::opentelemetry::{Histograms, register};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

mod at_work;

type Samples = BTreeMap<(String, Vec<String>), f64>;

/// Keeps the last export.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Samples>>);

impl PushMetricExporter for Kept {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut kept = self.0.lock().unwrap();
        kept.clear();
        let mut names = BTreeSet::new();
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let name = metric.name();
            assert!(names.insert(name), "two instruments are {name}");
            let mut name = name.replace('.', "_");
            if metric.unit() == "s" && !name.ends_with("_seconds") {
                name += "_seconds";
            }
            assert_ne!(metric.unit(), "1", "{name}");
            assert!(!metric.description().is_empty(), "{name}");
            match metric.data() {
                AggregatedMetrics::F64(data) => read(&mut kept, &name, data, |value| value),
                AggregatedMetrics::U64(data) => read(&mut kept, &name, data, |value| value as f64),
                AggregatedMetrics::I64(_) => panic!("{name}"),
            }
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn read<T: Copy>(kept: &mut Samples, name: &str, data: &MetricData<T>, value: fn(T) -> f64) {
    let mut put = |name: String, labels: Vec<String>, value: f64| {
        let before = kept.insert((name, labels), value);
        assert_eq!(before, None, "twice");
    };
    match data {
        MetricData::Gauge(gauge) => gauge.data_points().for_each(|point| {
            put(
                name.to_owned(),
                labels(point.attributes()),
                value(point.value()),
            );
        }),
        MetricData::Sum(sum) => {
            assert!(sum.is_monotonic(), "{name}");
            sum.data_points().for_each(|point| {
                put(
                    format!("{name}_total"),
                    labels(point.attributes()),
                    value(point.value()),
                );
            });
        }
        MetricData::Histogram(histogram) => histogram.data_points().for_each(|point| {
            let own = labels(point.attributes());
            let mut below = 0;
            let bounds = point.bounds().chain([f64::INFINITY]);
            for (bound, count) in bounds.zip(point.bucket_counts()) {
                below += count;
                let bound = if bound.is_finite() {
                    format!("{bound:?}")
                } else {
                    "+Inf".into()
                };
                let mut labels = own.clone();
                labels.push(format!("le=\"{bound}\""));
                labels.sort();
                put(format!("{name}_bucket"), labels, below as f64);
            }
            put(format!("{name}_sum"), own.clone(), value(point.sum()));
            put(format!("{name}_count"), own, point.count() as f64);
        }),
        MetricData::ExponentialHistogram(_) => panic!("{name}"),
    }
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Vec<String> {
    let mut labels: Vec<String> = attributes
        .map(|label| format!("{}=\"{}\"", label.key, label.value))
        .collect();
    labels.sort();
    labels
}

#[test]
fn the_export_has_the_names_the_labels_and_the_numbers_of_the_crates_own_text() {
    let kept = Kept::default();
    let reader = PeriodicReader::builder(kept.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let meter = provider.meter("test");
    let observers = Observers::new();
    register(&meter, observers.clone());
    let orders = at_work::ended_with("orders", |builder| {
        builder.listener(Histograms::new(&meter, "orders"))
    });
    observers.add(orders.clone());
    provider.force_flush().unwrap();
    let exported = kept.0.lock().unwrap().clone();

    let own = at_work::samples(&orders);
    for (sample, value) in &own {
        let exported = exported.get(sample);
        // Sums of floating point numbers in another order.
        let is_same = exported.is_some_and(|exported| (exported - value).abs() < 1e-6);
        assert!(is_same, "{sample:?} is {exported:?} instead of {value}");
    }
    assert_eq!(exported.len(), own.len());
}

#[test]
fn every_collection_conserves_and_has_every_row_of_the_table() {
    let kept = Kept::default();
    let reader = PeriodicReader::builder(kept.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let meter = provider.meter("test");
    let (batcher, handled) = at_work::open("orders", |builder| {
        builder.listener(Histograms::new(&meter, "orders"))
    });
    register(&meter, batcher.observer());
    let value = |name: &str| {
        let kept = kept.0.lock().unwrap();
        let own = kept.iter().filter(|((own, _), _)| own == name);
        own.map(|(_, value)| value).sum::<f64>()
    };
    for round in 1..=3 {
        batcher.add_many(0..10).unwrap();
        handled.recv().unwrap();
        provider.force_flush().unwrap();
        let added = value("batcher_items_added_total");
        assert_eq!(added, f64::from(round * 10));
        let accounted = value("batcher_items_total")
            + value("batcher_items_pending")
            + value("batcher_items_abandoned");
        assert_eq!(added, accounted);
    }
    batcher.flush(Duration::from_secs(60)).unwrap();
    provider.force_flush().unwrap();
    for metric in NAMES {
        let kept = kept.0.lock().unwrap();
        let is_sample = |name: &str| name.strip_prefix(metric.name).is_some();
        // Nothing was reported and nothing was decided yet.
        let may_be_absent = ["batcher_load_score", "batcher_signal"].contains(&metric.name);
        let is_there = kept.keys().any(|(name, _)| is_sample(name));
        assert!(is_there || may_be_absent, "{}", metric.name);
    }
}
