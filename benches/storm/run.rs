//! One law on one database through warm-up, calm, storm and after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, Retry};

use crate::backend::Backend;
use crate::ingest::host_cpu::HostCpu;
use crate::ingest::monitor::{Monitor, SIGNALS};
use crate::ingest::rows::Row;
use crate::laws::{Law, MAX};
use crate::measure::{Age, Call, DueTimes, EVERY, Metered, Record, median, quantile};
use crate::neighbours::Storm;

/// What is measured; before them there is the warm-up.
pub const PHASES: [&str; 3] = ["calm", "storm", "after"];
pub const CALM: usize = 0;
pub const STORM: usize = 1;
pub const AFTER: usize = 2;

/// How long each phase is, and how rows come.
#[derive(Clone)]
pub struct Plan {
    pub warm_up: Duration,
    pub calm: Duration,
    pub storm: Duration,
    pub after: Duration,
    /// Rows a second; `None` is a closed loop.
    pub rate: Option<f64>,
}

impl Plan {
    /// The first run on a new server pays for files that grow: nobody looks at this one.
    pub fn rehearsal() -> Self {
        let [calm, storm, after] = [Duration::ZERO; 3];
        Self { warm_up: Duration::from_millis(1_500), calm, storm, after, rate: None }
    }
}

/// What one phase of a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub rows_per_s: f64,
    /// Calls that ended in it.
    pub calls: usize,
    pub failed_calls: usize,
    /// Open loop: of the rows that were due in it. Closed loop: of the rows that were stored in it, without the time that they
    /// had waited before it began, since there always is a queue full of rows from the phase before.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The median call's.
    pub batch_size: f64,
    /// Open loop: rows that were due by its end and not stored.
    pub behind: f64,
}

pub struct Run {
    pub backend: &'static str,
    pub storm: Storm,
    pub law: Law,
    pub round: usize,
    /// Calm, storm, after.
    pub figures: [Figures; 3],
    /// When each of them began, in seconds since the start, and when the last ended.
    pub bounds: [f64; 4],
    /// What the neighbours got done: a law that starves them has another storm than the others.
    pub neighbours_per_s: f64,
    /// Rows that were given up.
    pub failed_rows: u64,
    pub record: Record,
}

pub fn run(backend: &mut dyn Backend, storm: Storm, law: Law, round: usize, plan: &Plan) -> Run {
    backend.reset();
    settle_disk();
    let start = Instant::now();
    let (due, record) = (DueTimes::new(start), Arc::<Mutex<Record>>::default());
    let (handler, sensor) = backend.handler();
    let handler = Metered { handler, due: Arc::clone(&due), record: Arc::clone(&record) };
    let batcher = Arc::new(builder(law).spawn(handler).expect("a batcher"));
    let monitor = Monitor::start(&batcher, vec![Box::new(HostCpu::new()), sensor], Duration::from_millis(100));
    let stop = AtomicBool::new(false);
    let (bounds, steps) = std::thread::scope(|scope| {
        scope.spawn(|| feed(&batcher, &due, start, plan.rate, &stop));
        std::thread::sleep(plan.warm_up);
        let calm = start.elapsed();
        std::thread::sleep(plan.calm);
        let stormy = start.elapsed();
        let neighbours = backend.neighbours(storm);
        std::thread::sleep(plan.storm);
        // They are gone before the next phase begins.
        let steps = neighbours.stop();
        let after = start.elapsed();
        std::thread::sleep(plan.after);
        let end = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        ([calm, stormy, after, end].map(|moment| moment.as_secs_f64()), steps)
    });
    let failed_rows = batcher.stats().failed;
    // What is pending does not matter any more, but the call under way must be over before the next run.
    drop(batcher.shutdown(Duration::ZERO));
    while batcher.stats().abandoned > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(monitor);
    let mut record = std::mem::take(&mut *record.lock().expect("no panic"));
    if let Some(rate) = plan.rate {
        count_what_is_waiting(&mut record, rate, bounds[3]);
    }
    let figures = [CALM, STORM, AFTER].map(|phase| figures(&record, bounds[phase], bounds[phase + 1], plan.rate));
    let neighbours_per_s = steps as f64 / (bounds[AFTER] - bounds[STORM]);
    Run { backend: backend.name(), storm, law, round, figures, bounds, neighbours_per_s, failed_rows, record }
}

/// What the run before left to be written would slow down the commits of this one: the next law would pay for the last.
fn settle_disk() {
    let _ = std::process::Command::new("sync").status();
}

fn builder(law: Law) -> Builder<Row> {
    let builder = Batcher::builder()
        .max_batch_size(law.max_batch_size())
        .queue_capacity(2 * MAX)
        .linger(Duration::from_millis(50))
        .load_check_interval(Duration::from_millis(250))
        .policy(law.policy())
        // What fails is tried once more and then in halves: a size that the database cannot take shows as failed calls.
        .retry(Retry::attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(20)))
        .idempotent(true)
        .on_failed(drop);
    SIGNALS.iter().fold(builder, |builder, (name, weight)| builder.custom_signal(name, *weight))
}

fn feed(batcher: &Batcher<Row>, due: &DueTimes, start: Instant, rate: Option<f64>, stop: &AtomicBool) {
    for id in 0.. {
        let mut at = Instant::now();
        if let Some(rate) = rate {
            at = start + Duration::from_secs_f64(id as f64 / rate);
            // Not for each row: a sleep is longer than what it waits for.
            while Instant::now() < at && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        due.note(id, at);
        // A time-out only so that the end of the run is seen.
        let mut row = Row { id, value: (id % 1_000) as f64, text: format!("reading {id} of a bench") };
        while let Err(refused) = batcher.add_timeout(row, Duration::from_millis(100)) {
            if stop.load(Ordering::Relaxed) || refused.is_closed() {
                return;
            }
            row = refused.into_inner();
        }
    }
}

/// Rows that were due and not stored when the run ended have waited at least till then. To leave them out would make a law that
/// falls behind look better than it is.
fn count_what_is_waiting(record: &mut Record, rate: f64, end: f64) {
    // Rows are stored in order, so these are the last.
    let (due, behind) = (rate * end, record.behind(rate, end));
    let waiting = ((due - behind) as i64..due as i64).filter(|id| id % EVERY == 0);
    record.ages.extend(waiting.map(|id| {
        let due_s = id as f64 / rate;
        Age { due_s, stored_s: end }
    }));
}

fn figures(record: &Record, from: f64, to: f64, rate: Option<f64>) -> Figures {
    let calls: Vec<&Call> = record.calls.iter().filter(|call| call.ended_s > from && call.ended_s <= to).collect();
    let inside = |moment: f64| moment > from && moment <= to;
    let mut ages: Vec<f64> = match rate {
        Some(_) => record.ages.iter().filter(|age| inside(age.due_s)).map(Age::ms).collect(),
        None => {
            let stored = record.ages.iter().filter(|age| inside(age.stored_s));
            stored.map(|age| (age.stored_s - age.due_s.max(from)) * 1e3).collect()
        }
    };
    let mut sizes: Vec<f64> = calls.iter().filter(|call| call.ok).map(|call| call.rows as f64).collect();
    Figures {
        rows_per_s: record.rows_per_s(from, to),
        calls: calls.len(),
        failed_calls: calls.iter().filter(|call| !call.ok).count(),
        p50_ms: median(&mut ages),
        p99_ms: quantile(&mut ages, 0.99),
        batch_size: median(&mut sizes),
        behind: rate.map_or(0.0, |rate| record.behind(rate, to)),
    }
}
