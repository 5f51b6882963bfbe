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
use crate::measure::{Call, DueTimes, Metered, Record, median, quantile};
use crate::neighbours::Storm;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Calm,
    Storm,
    After,
}

pub const PHASES: [Phase; 3] = [Phase::Calm, Phase::Storm, Phase::After];

/// How long each phase is, and how rows come.
#[derive(Clone)]
pub struct Plan {
    pub warm_up: Duration,
    pub calm: Duration,
    pub storm: Duration,
    pub after: Duration,
    /// Rows a second; `None` is a closed loop.
    pub rate: Option<u64>,
}

/// What one phase of a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub rows_per_s: f64,
    pub calls: usize,
    pub failed_calls: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The median row's batch.
    pub batch_size: f64,
}

impl Figures {
    pub fn failed_share(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.failed_calls as f64 / self.calls as f64 }
    }
}

pub struct Run {
    pub backend: &'static str,
    pub storm: Storm,
    pub law: Law,
    pub round: usize,
    /// Calm, storm, after.
    pub figures: [Figures; 3],
    /// From the end of the storm until 90 % of the calm's throughput; infinite if it never came back.
    pub recovery_s: f64,
    /// Rows that were given up.
    pub failed_rows: u64,
    pub calls: Vec<Call>,
}

pub fn run(backend: &mut dyn Backend, storm: Storm, law: Law, round: usize, plan: &Plan) -> Run {
    backend.reset();
    let start = Instant::now();
    let (due, record) = (DueTimes::new(start), Arc::<Mutex<Record>>::default());
    let phase = Arc::new(Mutex::new(Phase::WarmUp));
    let (handler, sensor) = backend.handler();
    let handler = Metered { handler, due: Arc::clone(&due), phase: Arc::clone(&phase), record: Arc::clone(&record) };
    let batcher = Arc::new(builder(law).spawn(handler).expect("a batcher"));
    let monitor = Monitor::start(&batcher, vec![Box::new(HostCpu::new()), sensor], Duration::from_millis(100));
    let stop = AtomicBool::new(false);
    let ends = std::thread::scope(|scope| {
        scope.spawn(|| feed(&batcher, &due, plan.rate, &stop));
        let mut ends = Vec::new();
        for (now, length) in [
            (Phase::WarmUp, plan.warm_up),
            (Phase::Calm, plan.calm),
            (Phase::Storm, plan.storm),
            (Phase::After, plan.after),
        ] {
            let neighbours = (now == Phase::Storm).then(|| backend.neighbours(storm));
            *phase.lock().expect("no panic") = now;
            std::thread::sleep(length);
            // They are gone before the next phase begins.
            drop(neighbours);
            ends.push(start.elapsed().as_secs_f64());
        }
        *phase.lock().expect("no panic") = Phase::WarmUp;
        stop.store(true, Ordering::Relaxed);
        ends
    });
    let failed_rows = batcher.stats().failed;
    // What is pending does not matter any more, but the call under way must be over before the next run.
    drop(batcher.shutdown(Duration::ZERO));
    while batcher.stats().abandoned > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(monitor);
    let record = std::mem::take(&mut *record.lock().expect("no panic"));
    let figures = [0, 1, 2].map(|place| figures(&record, PHASES[place], ends[place + 1] - ends[place]));
    let recovery_s = recovery(&record.calls, ends[2], ends[3], figures[0].rows_per_s);
    Run { backend: backend.name(), storm, law, round, figures, recovery_s, failed_rows, calls: record.calls }
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

fn feed(batcher: &Batcher<Row>, due: &DueTimes, rate: Option<u64>, stop: &AtomicBool) {
    let begun = Instant::now();
    for id in 0.. {
        let mut at = Instant::now();
        if let Some(rate) = rate {
            at = begun + Duration::from_secs_f64(id as f64 / rate as f64);
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

fn figures(record: &Record, phase: Phase, seconds: f64) -> Figures {
    let calls: Vec<&Call> = record.calls.iter().filter(|call| call.phase == phase).collect();
    let rows: usize = calls.iter().filter(|call| call.ok).map(|call| call.rows).sum();
    let mut ages: Vec<f64> = record.ages_ms.iter().filter(|(of, _)| *of == phase).map(|(_, age)| *age).collect();
    let mut sizes: Vec<f64> = calls.iter().filter(|call| call.ok).map(|call| call.rows as f64).collect();
    Figures {
        rows_per_s: rows as f64 / seconds,
        calls: calls.len(),
        failed_calls: calls.iter().filter(|call| !call.ok).count(),
        p50_ms: median(&mut ages),
        p99_ms: quantile(&mut ages, 0.99),
        batch_size: median(&mut sizes),
    }
}

/// Windows of a quarter of a second: the end of the first that reaches 90 %.
fn recovery(calls: &[Call], from: f64, to: f64, calm: f64) -> f64 {
    const WINDOW: f64 = 0.25;
    let windows = ((to - from) / WINDOW) as usize;
    let rows_in = |window: usize| -> usize {
        let begin = from + window as f64 * WINDOW;
        let inside = calls.iter().filter(|call| call.ok && call.ended_s > begin && call.ended_s <= begin + WINDOW);
        inside.map(|call| call.rows).sum()
    };
    let back = (0..windows).find(|window| rows_in(*window) as f64 / WINDOW >= 0.9 * calm);
    back.map_or(f64::INFINITY, |window| (window + 1) as f64 * WINDOW)
}
