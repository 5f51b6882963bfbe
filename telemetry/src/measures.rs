//! What a call adds to the three histograms.

use std::collections::VecDeque;

use load_aware_batcher::metrics::{Metric, MetricKind, NAMES};
use load_aware_batcher::{BatchId, CallEvent};

/// Failed batches that are remembered: more than a batcher has calls at once.
const REMEMBERED: usize = 256;

/// The values of one histogram.
pub(crate) type Measured = (&'static str, f64);

/// Reads calls in their order. Keeps the ids of batches that failed, since a batch counts once: an
/// attempt that the backend refused unseen leaves the number of attempts as it was.
#[derive(Debug, Default)]
pub(crate) struct Measures(VecDeque<BatchId>);

impl Measures {
    /// The rows of the table that a call has values for.
    pub(crate) fn of(&mut self, call: &CallEvent) -> impl Iterator<Item = Measured> + use<> {
        let is_new = call.parent.is_none() && call.attempt == 1 && !self.0.contains(&call.id);
        if is_new && call.error.is_some() {
            self.0.truncate(REMEMBERED - 1);
            self.0.push_front(call.id);
        }
        let service_time = call.service_time.as_secs_f64();
        let queue_wait = call.queue_wait.map(|wait| wait.as_secs_f64());
        let values = [
            ("batcher_batch_items", is_new.then_some(call.len as f64)),
            ("batcher_queue_wait_seconds", queue_wait),
            ("batcher_call_duration_seconds", Some(service_time)),
        ];
        values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// The histograms of the table.
    pub(crate) fn rows() -> impl Iterator<Item = &'static Metric> {
        let is_histogram = |row: &&Metric| row.kind == MetricKind::Histogram;
        NAMES.iter().filter(is_histogram)
    }
}
