//! The measurements of a run, at the handler: each call, and for some rows the time from add to
//! commit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, Builder, Handler, LoadFeedback, Sensor, Sink, SinkError, Worker,
};

/// Rows whose id is a multiple of this are timed.
const EVERY: i64 = 64;

pub struct Row {
    pub id: i64,
    pub value: f64,
    pub text: &'static str,
    pub added: Instant,
}

#[derive(Clone, Copy)]
struct Call {
    begun_s: f64,
    ended_s: f64,
    rows: usize,
}

#[derive(Default)]
pub struct Record {
    calls: Vec<Call>,
    /// When it was committed, in seconds, and how long that took, in milliseconds.
    ages: Vec<(f64, f64)>,
    failed_calls: usize,
}

impl Record {
    /// Rows stored a second between two moments. A call's rows count evenly over its time.
    pub fn rows_per_s(&self, from: f64, to: f64) -> f64 {
        let rows = self.calls.iter().map(|call| {
            let inside = call.ended_s.min(to) - call.begun_s.max(from);
            let share = inside.max(0.0) / (call.ended_s - call.begun_s).max(1e-9);
            call.rows as f64 * share
        });
        rows.sum::<f64>() / (to - from)
    }

    /// The median and the 99th percentile of the time from add to commit, in milliseconds, of rows
    /// that were committed between two moments.
    pub fn ages_ms(&self, from: f64, to: f64) -> [f64; 2] {
        let inside = self.ages.iter().filter(|(at, _)| (from..to).contains(at));
        let mut ages: Vec<f64> = inside.map(|(_, ms)| *ms).collect();
        ages.sort_by(f64::total_cmp);
        [0.5, 0.99].map(|share| {
            let place = (ages.len() as f64 * share) as usize;
            ages.get(place).copied().unwrap_or(f64::NAN)
        })
    }

    pub fn failed_calls(&self) -> usize {
        self.failed_calls
    }
}

/// The record of all handlers of one run.
pub struct Meter {
    start: Instant,
    record: Mutex<Record>,
    in_calls: AtomicUsize,
}

impl Meter {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            record: Mutex::default(),
            in_calls: AtomicUsize::new(0),
        })
    }

    pub fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Waits until no handler is in a call. A call that was cut off would not be recorded.
    pub fn take(&self) -> Record {
        while self.in_calls.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::mem::take(&mut *self.record.lock().expect("no panic"))
    }
}

/// A sink whose handlers are measured.
pub struct Metered<S> {
    pub sink: S,
    pub meter: Arc<Meter>,
}

impl<S: Sink<Row>> Sink<Row> for Metered<S> {
    type Handler = MeteredHandler<S::Handler>;

    fn configure(&self, builder: Builder<Row>) -> Result<Builder<Row>, SinkError> {
        self.sink.configure(builder)
    }

    fn connect(&self, worker: Worker) -> Result<Self::Handler, BatchError> {
        Ok(MeteredHandler {
            handler: self.sink.connect(worker)?,
            meter: Arc::clone(&self.meter),
        })
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        self.sink.sensor()
    }
}

pub struct MeteredHandler<H> {
    handler: H,
    meter: Arc<Meter>,
}

impl<H: Handler<Row>> Handler<Row> for MeteredHandler<H> {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        let meter = &*self.meter;
        meter.in_calls.fetch_add(1, Ordering::SeqCst);
        let begun_s = meter.seconds(Instant::now());
        let result = self.handler.handle(batch);
        let ended = Instant::now();
        let ended_s = meter.seconds(ended);
        let mut record = meter.record.lock().expect("no panic");
        if result.is_ok() {
            record.calls.push(Call {
                begun_s,
                ended_s,
                rows: batch.len(),
            });
            let timed = batch.iter().filter(|row| row.id % EVERY == 0);
            let ages = timed.map(|row| (ended_s, (ended - row.added).as_secs_f64() * 1e3));
            record.ages.extend(ages);
        } else {
            record.failed_calls += 1;
        }
        drop(record);
        meter.in_calls.fetch_sub(1, Ordering::SeqCst);
        result
    }
}
