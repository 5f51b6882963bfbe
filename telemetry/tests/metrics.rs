//! What a recorder of the facade is given has the names and the numbers of the crate's own text.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use load_aware_batcher::metrics::{MetricKind, NAMES};
use load_aware_batcher_telemetry::Observers;
use load_aware_batcher_telemetry::metrics::{Histograms, Publisher};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, set_global_recorder, with_local_recorder,
};

mod at_work;

type Series = (String, Vec<String>);

/// Keeps what was set, and the values of histograms one by one.
#[derive(Clone, Default)]
struct Kept {
    numbers: Arc<Mutex<BTreeMap<Series, f64>>>,
    values: Arc<Mutex<BTreeMap<Series, Vec<f64>>>>,
    described: Arc<Mutex<BTreeMap<String, Option<Unit>>>>,
}

struct One(Kept, Series);

impl One {
    fn set(&self, value: f64) {
        self.0.numbers.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl CounterFn for One {
    fn increment(&self, _value: u64) {
        unreachable!("counters are set");
    }

    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, _value: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _value: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        let mut values = self.0.values.lock().unwrap();
        values.entry(self.1.clone()).or_default().push(value);
    }
}

impl Kept {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key.labels();
        let mut labels: Vec<String> = labels
            .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
            .collect();
        labels.sort();
        Arc::new(One(self.clone(), (key.name().to_owned(), labels)))
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        let mut described = self.described.lock().unwrap();
        described.insert(name.as_str().to_owned(), unit);
    }

    fn number(&self, name: &str, batcher: &str) -> Option<f64> {
        let series = (name.to_owned(), vec![format!("batcher=\"{batcher}\"")]);
        self.numbers.lock().unwrap().get(&series).copied()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

#[test]
fn a_recorder_is_given_the_names_the_labels_and_the_numbers_of_the_crates_own_text() {
    let kept = Kept::default();
    let orders = with_local_recorder(&kept, || {
        let histograms = Histograms::new("orders");
        let orders = at_work::ended_with("orders", |builder| builder.listener(histograms));
        Publisher::new(orders.clone()).publish();
        orders
    });
    let is_of_histogram = |name: &str| {
        let mut rows = NAMES.iter().filter(|row| row.kind == MetricKind::Histogram);
        rows.any(|row| name.starts_with(row.name))
    };
    let (histograms, numbers): (BTreeMap<_, _>, BTreeMap<_, _>) = at_work::samples(&orders)
        .into_iter()
        .partition(|((name, _), _)| is_of_histogram(name));
    assert_eq!(*kept.numbers.lock().unwrap(), numbers);

    let values = kept.values.lock().unwrap();
    assert_eq!(values.len(), 3);
    for ((name, labels), values) in &*values {
        let of = |suffix: &str| histograms[&(format!("{name}{suffix}"), labels.clone())];
        assert_eq!(values.len() as f64, of("_count"), "{name}");
        assert!(
            (values.iter().sum::<f64>() - of("_sum")).abs() < 1e-6,
            "{name}"
        );
    }
}

#[test]
fn every_row_of_the_table_is_described_and_nothing_else() {
    let kept = Kept::default();
    with_local_recorder(&kept, || Publisher::new(Observers::new()).publish());
    let described = kept.described.lock().unwrap();
    let mut names: Vec<&str> = NAMES.iter().map(|row| row.name).collect();
    names.sort_unstable();
    assert_eq!(described.keys().collect::<Vec<_>>(), names);
    for row in NAMES.iter().filter(|row| row.unit == "s") {
        assert_eq!(described[row.name], Some(Unit::Seconds), "{}", row.name);
    }
}

/// Says when the counter of added items was set.
#[derive(Clone)]
struct Told(Kept, mpsc::Sender<()>);

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        // The last row of the table.
        if key.name() == "batcher_info" {
            let _ = self.1.send(());
        }
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

#[test]
fn the_thread_publishes_at_once_and_a_last_time_at_its_end() {
    let kept = Kept::default();
    let (sender, published) = mpsc::channel();
    // The only test that uses the global recorder.
    assert!(set_global_recorder(Told(kept.clone(), sender)).is_ok());
    let (batcher, _handled) = at_work::open("thread", |builder| builder);
    let publisher = Publisher::new(batcher.observer());
    let publishing = publisher.every(Duration::MAX).unwrap();
    published.recv().unwrap();
    assert_eq!(
        kept.number("batcher_items_added_total", "thread"),
        Some(0.0)
    );
    batcher.add_many(0..5).unwrap();
    drop(publishing);
    assert_eq!(
        kept.number("batcher_items_added_total", "thread"),
        Some(5.0)
    );
    assert_eq!(published.try_iter().count(), 1);
}
