//! What is measured of a run, at the handler: the moment after the commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};

use crate::ingest::rows::Row;
use crate::run::Phase;

/// More than can be on their way at once, a power of two.
const ON_THEIR_WAY: usize = 1 << 16;
/// Every so many rows the time of one is taken.
const EVERY: usize = 8;

/// When each row on its way was due, by its id.
pub struct DueTimes {
    start: Instant,
    at_ns: Vec<AtomicU64>,
}

impl DueTimes {
    pub fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self { start, at_ns: (0..ON_THEIR_WAY).map(|_| AtomicU64::new(0)).collect() })
    }

    pub fn note(&self, id: i64, due: Instant) {
        let ns = due.saturating_duration_since(self.start).as_nanos() as u64;
        // Relaxed: the queue's own handing over orders it.
        self.at_ns[id as usize % ON_THEIR_WAY].store(ns, Ordering::Relaxed);
    }

    fn age_ms(&self, id: i64, now: Instant) -> f64 {
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        now.saturating_sub(self.at_ns[id as usize % ON_THEIR_WAY].load(Ordering::Relaxed)) as f64 / 1e6
    }
}

/// One call of the handler.
#[derive(Clone, Copy)]
pub struct Call {
    pub phase: Phase,
    pub ended_s: f64,
    pub rows: usize,
    pub ok: bool,
}

#[derive(Default)]
pub struct Record {
    pub calls: Vec<Call>,
    pub ages_ms: Vec<(Phase, f64)>,
}

/// The handler under measurement.
pub struct Metered {
    pub handler: Box<dyn Handler<Row> + Send>,
    pub due: Arc<DueTimes>,
    pub phase: Arc<Mutex<Phase>>,
    pub record: Arc<Mutex<Record>>,
}

impl Handler<Row> for Metered {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        let result = self.handler.handle(batch);
        let now = Instant::now();
        let phase = *self.phase.lock().expect("no panic");
        let mut record = self.record.lock().expect("no panic");
        let ended_s = now.saturating_duration_since(self.due.start).as_secs_f64();
        record.calls.push(Call { phase, ended_s, rows: batch.len(), ok: result.is_ok() });
        if result.is_ok() {
            let first = record.ages_ms.len() % EVERY;
            let ages = batch.iter().skip(first.min(batch.len() - 1)).step_by(EVERY);
            record.ages_ms.extend(ages.map(|row| (phase, self.due.age_ms(row.id, now))));
        }
        result
    }
}

/// The value below which this share lies; 0 of nothing.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
