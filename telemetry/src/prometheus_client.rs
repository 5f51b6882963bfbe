//! For the crate `prometheus-client`: a collector to register. Feature `prometheus-client`.

use std::fmt;

use load_aware_batcher::metrics::{Family, FamilyValues, Metric, MetricKind, NAMES};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::Observers;

/// Publishes batchers in a [`Registry`](prometheus_client::registry::Registry). Each scrape takes
/// one snapshot of each batcher.
///
/// The names come out as
/// [the table](load_aware_batcher::metrics::NAMES) has them. States are gauges, as in the text of
/// Prometheus.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::{Observers, prometheus_client::BatcherCollector};
/// use prometheus_client::{encoding::text::encode, registry::Registry};
///
/// let batcher = Batcher::builder().name("orders").spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// let mut registry = Registry::default();
/// let observers = Observers::from(batcher.observer());
/// registry.register_collector(Box::new(BatcherCollector::new(observers)));
///
/// let mut text = String::new();
/// encode(&mut text, &registry)?;
/// assert!(text.contains("batcher_items_added_total{batcher=\"orders\"} 0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatcherCollector(Observers);

impl BatcherCollector {
    /// A collector of these batchers.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::{Observers, prometheus_client::BatcherCollector};
    /// let observers = Observers::new();
    /// let collector = BatcherCollector::new(observers.clone()); // batchers may be added later
    /// # let _ = collector;
    /// ```
    #[must_use]
    pub fn new(observers: Observers) -> Self {
        Self(observers)
    }
}

impl Collector for BatcherCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshots = self.0.snapshots();
        let batchers: Vec<(&str, Vec<Family<'_>>)> = snapshots
            .iter()
            .map(|(name, stats)| (name.as_str(), stats.families()))
            .collect();
        if batchers.is_empty() {
            return Ok(());
        }
        for metric in NAMES {
            let (name, unit, kind) = descriptor(metric);
            let mut encoder = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
            for (batcher, families) in &batchers {
                let own = families
                    .iter()
                    .filter(|family| family.metric.name == metric.name);
                for family in own {
                    encode_family(&mut encoder, batcher, family)?;
                }
            }
        }
        Ok(())
    }
}

/// The name without what the encoder appends, the unit that it appends, and the type.
fn descriptor(metric: &Metric) -> (&'static str, Option<Unit>, MetricType) {
    let (kind, suffix) = match metric.kind {
        MetricKind::Counter => (MetricType::Counter, "_total"),
        MetricKind::Histogram => (MetricType::Histogram, ""),
        MetricKind::Info => (MetricType::Info, "_info"),
        _ => (MetricType::Gauge, ""),
    };
    let name = metric.name.strip_suffix(suffix).unwrap_or(metric.name);
    match name.strip_suffix("_seconds") {
        Some(name) => (name, Some(Unit::Seconds), kind),
        None => (name, None, kind),
    }
}

fn encode_family(
    encoder: &mut MetricEncoder<'_>,
    batcher: &str,
    family: &Family<'_>,
) -> fmt::Result {
    let own = ("batcher", batcher);
    let samples = match &family.values {
        FamilyValues::Samples(samples) => samples,
        FamilyValues::Histogram(histogram) => {
            // The encoder adds the buckets up by itself.
            let mut below = 0;
            let buckets: Vec<(f64, u64)> = histogram
                .buckets()
                .map(|(bound, count)| (bound, count - std::mem::replace(&mut below, count)))
                .collect();
            return encoder
                .encode_family(&[own])?
                .encode_histogram::<Labels<'_>>(histogram.sum, histogram.count, &buckets, None);
        }
        _ => return Ok(()),
    };
    for sample in samples {
        let labels: Labels<'_> = [own]
            .into_iter()
            .chain(sample.labels.iter().copied())
            .collect();
        match family.metric.kind {
            MetricKind::Info => encoder.encode_info(&labels)?,
            MetricKind::Counter => {
                let exemplar: Option<&Exemplar<Labels<'_>, f64>> = None;
                encoder
                    .encode_family(&labels)?
                    .encode_counter(&sample.value, exemplar)?;
            }
            _ => encoder
                .encode_family(&labels)?
                .encode_gauge(&sample.value)?,
        }
    }
    Ok(())
}

type Labels<'a> = Vec<(&'a str, &'a str)>;
