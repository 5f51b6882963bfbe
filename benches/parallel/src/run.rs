//! One run: rows are added as fast as they are taken, with one way to set size and concurrency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, CostModel, Fixed, Setpoint, Sink};

use crate::cells::{Cell, Way};
use crate::measure::{Meter, Metered, Record, Row};

/// Threads that add.
const PRODUCERS: usize = 2;
/// How often the setpoint is read.
const LOOK: Duration = Duration::from_millis(50);

/// How long a run lasts, and which part of it counts.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub total: Duration,
    /// The last part of the run, the only one that is compared.
    pub counted: Duration,
}

/// The figures of a run.
pub struct Run {
    pub way: Way,
    pub rows_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The size and the concurrency in force at the end.
    pub size: usize,
    pub calls: usize,
    /// The mean concurrency of the part that is compared.
    pub mean_calls: f64,
    pub failed_calls: usize,
    record: Record,
    total_s: f64,
}

impl Run {
    /// After how many seconds the rate of one second first reached this rate.
    pub fn reached_s(&self, rows_per_s: f64) -> Option<f64> {
        let moments = (0..).map(|step| f64::from(step) * 0.1);
        moments
            .take_while(|from| from + 1.0 <= self.total_s)
            .find(|from| self.record.rows_per_s(*from, from + 1.0) >= rows_per_s)
    }
}

/// Runs the sink under this way. The table is empty before.
///
/// # Panics
/// If the sink does not start or a row fails.
pub fn measure<S: Sink<Row> + 'static>(sink: S, cell: Cell, way: Way, span: Span) -> Run {
    let meter = Meter::new();
    let sink = Metered {
        sink,
        meter: Arc::clone(&meter),
    };
    let builder = Batcher::builder().close_timeout(Duration::ZERO);
    let builder = match way {
        // The queue has room for two batches in each lane, so that rows do not wait longer than
        // needed.
        Way::Fixed { size, calls } => builder
            .policy(Fixed(size))
            .max_batch_size(size)
            .concurrency(calls),
        Way::Model { calls } => builder
            .policy(CostModel::new())
            .max_batch_size(cell.max_batch_size)
            .concurrency(1..=calls),
    };
    let batcher = builder.sink(sink).expect("the sink fits its table");
    // The connections are open, so the start does not count.
    let begun = Instant::now();
    let from_s = meter.seconds(begun);
    let stop = AtomicBool::new(false);
    let next = AtomicI64::new(0);
    let mut seen: Vec<Setpoint> = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if batcher.add(row(&next)).is_err() {
                        break;
                    }
                }
            });
        }
        let counted_from = span.total.saturating_sub(span.counted);
        while begun.elapsed() < span.total {
            let left = span.total.saturating_sub(begun.elapsed());
            std::thread::sleep(left.min(LOOK));
            if begun.elapsed() >= counted_from {
                seen.push(batcher.stats().setpoint);
            }
        }
        stop.store(true, Ordering::Relaxed);
        // Rows that wait are returned. Running calls end by themselves.
        let report = batcher.shutdown(Duration::ZERO);
        assert!(
            report.failed.is_empty(),
            "{:?}",
            report.failed.first().map(|row| &row.error)
        );
    });
    let record = meter.take();
    let last = seen.last().expect("looked at");
    let calls = seen.iter().map(|setpoint| setpoint.concurrency as f64);
    let total_s = from_s + span.total.as_secs_f64();
    let counted = total_s - span.counted.as_secs_f64();
    let [p50_ms, p99_ms] = record.ages_ms(counted, f64::INFINITY);
    Run {
        way,
        rows_per_s: record.rows_per_s(counted, total_s),
        p50_ms,
        p99_ms,
        size: last.batch_size,
        calls: last.concurrency,
        mean_calls: calls.sum::<f64>() / seen.len() as f64,
        failed_calls: record.failed_calls(),
        record,
        total_s,
    }
}

fn row(next: &AtomicI64) -> Row {
    let id = next.fetch_add(1, Ordering::Relaxed);
    Row {
        id,
        // In random order, for the second index.
        value: (id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 11) as f64,
        text: "what a sensor has to say about it",
        added: Instant::now(),
    }
}
