//! The measurements of a run, at the handler: each call, and for every eighth row the time from
//! when it was due to the end of its commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};

use testkit::writers::Row;

/// More rows than can be on their way at once, a power of two.
const ON_THEIR_WAY: usize = 1 << 16;
/// Rows whose id is a multiple of this are timed.
pub const EVERY: i64 = 8;

/// When each row on its way was due, by its id. In a closed loop a row is due when it is added. In
/// an open loop the rate decides, even if the thread that adds is late.
pub struct DueTimes {
    start: Instant,
    at_ns: Vec<AtomicU64>,
}

impl DueTimes {
    pub fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self {
            start,
            at_ns: (0..ON_THEIR_WAY).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    pub fn note(&self, id: i64, due: Instant) {
        let ns = due.saturating_duration_since(self.start).as_nanos() as u64;
        // Relaxed: the queue's own handing over orders it.
        self.at_ns[id as usize % ON_THEIR_WAY].store(ns, Ordering::Relaxed);
    }

    fn due_s(&self, id: i64) -> f64 {
        self.at_ns[id as usize % ON_THEIR_WAY].load(Ordering::Relaxed) as f64 / 1e9
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }
}

/// One call of the handler. Its times are in seconds since the round began, and at the end of the
/// run in seconds of the candidate's own time.
#[derive(Clone, Copy)]
pub struct Call {
    pub begun_s: f64,
    pub ended_s: f64,
    pub rows: usize,
    pub ok: bool,
    /// The share of the call during which rows were still added.
    pub inside: f64,
}

/// When a row was due, in the same seconds as a call, and how long it took.
#[derive(Clone, Copy)]
pub struct Age {
    pub due_s: f64,
    pub ms: f64,
}

#[derive(Default)]
pub struct Record {
    pub calls: Vec<Call>,
    pub ages: Vec<Age>,
}

impl Record {
    /// Rows stored a second between two moments. A call's rows count evenly over its time: counted
    /// at its end, one call more or less would be a tenth of half a second.
    pub fn rows_per_s(&self, from: f64, to: f64) -> f64 {
        let rows = self
            .calls
            .iter()
            .filter(|call| call.ok && call.ended_s > from && call.begun_s < to)
            .map(|call| {
                let inside = call.ended_s.min(to) - call.begun_s.max(from);
                call.rows as f64 * call.inside * inside / (call.ended_s - call.begun_s).max(1e-9)
            });
        rows.sum::<f64>() / (to - from)
    }

    /// Rows that were due at a rate by that moment and were not stored.
    pub fn behind(&self, rate: f64, at: f64) -> f64 {
        let stored = self
            .calls
            .iter()
            .filter(|call| call.ok && call.ended_s <= at)
            .map(|call| call.rows);
        (rate * at - stored.sum::<usize>() as f64).max(0.0)
    }
}

/// The handler under measurement.
pub struct Metered {
    pub handler: Box<dyn Handler<Row> + Send>,
    pub due: Arc<DueTimes>,
    pub record: Arc<Mutex<Record>>,
}

impl Handler<Row> for Metered {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        let begun_s = self.due.seconds(Instant::now());
        let result = self.handler.handle(batch);
        let ended_s = self.due.seconds(Instant::now());
        let mut record = self.record.lock().expect("no panic");
        record.calls.push(Call {
            begun_s,
            ended_s,
            rows: batch.len(),
            ok: result.is_ok(),
            inside: 1.0,
        });
        if result.is_ok() {
            let timed = batch.iter().filter(|row| row.id % EVERY == 0);
            record.ages.extend(timed.map(|row| {
                let due_s = self.due.due_s(row.id);
                Age {
                    due_s,
                    ms: (ended_s - due_s) * 1e3,
                }
            }));
        }
        result
    }
}

/// The value below which this share of the values lies; 0 without values.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values
        .get(place.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// The median: of an even number of values the mean of the two in the middle; 0 without values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}
