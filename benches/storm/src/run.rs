//! One round: the candidates take turns in the warm-up and before, during and after the storm.
//!
//! # Turns
//! The speed of a shared machine changes by half for seconds at a time, and its disk sometimes
//! stops for a quarter of a second. Runs one after the other would compare such moments. So the
//! candidates share each phase in short turns, one candidate at a time. Each has its own batcher,
//! connection and table. All have the same machine, and the same competitors throughout the storm.
//!
//! A turn ends when its rows are stored. Rows count towards throughput only while rows are still
//! added. So the last batches of a turn, which may be smaller, cost no candidate anything. Their
//! calls count among the calls, and the ages of their rows among the ages. A candidate's own time
//! is the time in which rows were added for it. All figures are in that time. What a policy learns
//! at the end of a turn costs it no time, either. That makes the first seconds of a storm slightly
//! easier for a policy that learns.
//!
//! An open loop cannot stop for a turn. There each candidate has a round to itself, and its own
//! time is that of the clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, FlushError, LoadFeedback, Retry, Sensor};
use testkit::writers::{Row, SIGNALS};

use crate::backend::Backend;
use crate::candidates::Candidate;
use crate::competitors::Storm;
use crate::host_cpu::HostCpu;
use crate::measure::{Age, Call, DueTimes, EVERY, Metered, Record, median, quantile};

/// The measured phases. The warm-up precedes them.
pub const PHASES: [&str; 3] = ["before", "during", "after"];
pub const BEFORE: usize = 0;
pub const DURING: usize = 1;
pub const AFTER: usize = 2;

/// How long each phase is for each candidate, in how many turns, and how rows come.
#[derive(Clone)]
pub struct Plan {
    pub warm_up: Duration,
    pub before: Duration,
    pub storm: Duration,
    pub after: Duration,
    /// In each measured phase. The warm-up is one turn.
    pub turns: u32,
    /// Rows a second; `None` is a closed loop.
    pub rate: Option<f64>,
}

impl Plan {
    /// A round whose figures are dropped: the first round on a new server pays for files that grow.
    pub fn rehearsal() -> Self {
        let [before, storm, after] = [Duration::ZERO; 3];
        Self {
            warm_up: Duration::from_millis(1_500),
            before,
            storm,
            after,
            turns: 1,
            rate: None,
        }
    }
}

/// The figures of one phase of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub rows_per_s: f64,
    /// Calls that ended in one of its turns, or after the turn's rows were added.
    pub calls: usize,
    pub failed_calls: usize,
    /// In a closed loop, of the rows that were added in the phase. In an open loop, of those that
    /// were due in it.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the median call.
    pub batch_size: f64,
    /// In an open loop, the rows that were due by the end of the phase and not stored.
    pub behind: f64,
}

/// One candidate's part of a round.
pub struct Run {
    pub backend: &'static str,
    pub storm: Storm,
    pub candidate: Candidate,
    pub round: usize,
    /// Before, during and after the storm.
    pub figures: [Figures; 3],
    /// When each of them began, in seconds of the candidate's own time, and when the last ended.
    pub bounds: [f64; 4],
    /// The competitors' steps a second in the whole storm, over the turns of all candidates.
    pub competitors_per_s: f64,
    /// Rows that were given up.
    pub failed_rows: u64,
    /// In the candidate's own time.
    pub record: Record,
}

/// A candidate with its own batcher, and the record of its turns.
struct Lane {
    candidate: Candidate,
    batcher: Arc<Batcher<Row>>,
    due: Arc<DueTimes>,
    record: Arc<Mutex<Record>>,
    /// Whether it is this candidate's turn.
    active: Arc<AtomicBool>,
    rows: i64,
    /// When its turns began and ended, in seconds since the round began.
    turns: Vec<(f64, f64)>,
    /// Where its phases begin and end, in its own time.
    bounds: Vec<f64>,
}

/// Runs all candidates through all phases. With a rate, there must be only one candidate.
pub fn round(
    backend: &mut dyn Backend,
    storm: Storm,
    candidates: &[Candidate],
    round: usize,
    plan: &Plan,
) -> Vec<Run> {
    backend.reset(candidates.len());
    settle_disk();
    let start = Instant::now();
    let mut lanes: Vec<Lane> = candidates
        .iter()
        .enumerate()
        .map(|(place, candidate)| Lane::new(backend, *candidate, place, start))
        .collect();
    share(&mut lanes, plan.warm_up, 1, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    share(&mut lanes, plan.before, plan.turns, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    let stormy = Instant::now();
    let competitors = backend.competitors(storm);
    share(&mut lanes, plan.storm, plan.turns, start, plan.rate);
    // The competitors end before the next phase begins.
    let steps = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| competitors.stop());
        while plan.rate.is_some() && !stopping.is_finished() {
            lanes[0].take_turn(start, Duration::from_millis(5), plan.rate);
        }
        stopping.join().expect("no panic")
    });
    let competitors_per_s = steps as f64 / stormy.elapsed().as_secs_f64();
    lanes.iter_mut().for_each(Lane::bound);
    share(&mut lanes, plan.after, plan.turns, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    lanes
        .into_iter()
        .map(|lane| {
            let (candidate, bounds) = (lane.candidate, lane.bounds.clone());
            let bounds = [BEFORE, DURING, AFTER, AFTER + 1].map(|phase| bounds[phase]);
            let (record, failed_rows) = lane.finish(plan.rate);
            let figures = [BEFORE, DURING, AFTER]
                .map(|phase| figures(&record, bounds[phase], bounds[phase + 1], plan.rate));
            Run {
                backend: backend.name(),
                storm,
                candidate,
                round,
                figures,
                bounds,
                competitors_per_s,
                failed_rows,
                record,
            }
        })
        .collect()
}

/// One phase: each candidate has this many turns, and another one is the first each time.
fn share(lanes: &mut [Lane], phase: Duration, turns: u32, start: Instant, rate: Option<f64>) {
    for turn in 0..turns as usize {
        for place in 0..lanes.len() {
            let lane = (turn + place) % lanes.len();
            if rate.is_none() {
                // In most turns the same candidate precedes the same other one. What it has left to
                // be written would slow down the commits of that one alone.
                settle_disk();
            }
            lanes[lane].take_turn(start, phase / turns, rate);
        }
    }
}

/// Flushes the disk: what is left to be written would slow down the commits that follow.
fn settle_disk() {
    let _ = std::process::Command::new("sync").status();
}

impl Lane {
    fn new(backend: &dyn Backend, candidate: Candidate, place: usize, start: Instant) -> Self {
        let (due, record) = (DueTimes::new(start), Arc::<Mutex<Record>>::default());
        let (handler, sensor) = backend.handler(place);
        let handler = Metered {
            handler,
            due: Arc::clone(&due),
            record: Arc::clone(&record),
        };
        let active = Arc::<AtomicBool>::default();
        let sensors: [Box<dyn Sensor>; 2] = [Box::new(HostCpu::new()), sensor];
        let sensor = InTurn {
            sensors,
            active: Arc::clone(&active),
            was_active: false,
        };
        let batcher = builder(candidate)
            .sensor(Duration::from_millis(100), sensor)
            .spawn(handler)
            .expect("a batcher");
        let batcher = Arc::new(batcher);
        let (rows, turns, bounds) = (0, Vec::new(), Vec::new());
        Self {
            candidate,
            batcher,
            due,
            record,
            active,
            rows,
            turns,
            bounds,
        }
    }

    fn take_turn(&mut self, start: Instant, length: Duration, rate: Option<f64>) {
        let seconds = |moment: Instant| moment.saturating_duration_since(start).as_secs_f64();
        self.active.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        self.feed(start, begun + length, rate);
        let mut turn = (seconds(begun), seconds(Instant::now()));
        if rate.is_some() {
            // Rows were due between the turns as well.
            turn.0 = self.turns.last().map_or(0.0, |last| last.1);
        } else {
            // Failures show in the figures.
            if let Err(FlushError::Timeout) = self.batcher.flush(Duration::from_secs(60)) {
                eprintln!("{} still writes in the turns of the others", self.candidate);
            }
        }
        self.turns.push(turn);
        self.active.store(false, Ordering::Relaxed);
    }

    fn feed(&mut self, start: Instant, end: Instant, rate: Option<f64>) {
        loop {
            let mut at = Instant::now();
            if let Some(rate) = rate {
                at = start + Duration::from_secs_f64(self.rows as f64 / rate);
                // Not for each row: a sleep lasts longer than asked for.
                while Instant::now() < at.min(end) {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            if rate.is_some() && Instant::now() >= end {
                // This row is the first of the next turn.
                return;
            }
            let id = self.rows;
            let mut row = Row {
                id,
                value: (id % 1_000) as f64,
                text: format!("reading {id} of a bench"),
            };
            self.due.note(id, at);
            while let Err(refused) = self
                .batcher
                .add_timeout(row, end.saturating_duration_since(Instant::now()))
            {
                if Instant::now() >= end || refused.is_closed() {
                    return;
                }
                row = refused.into_inner();
            }
            self.rows += 1;
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// A phase ends here.
    fn bound(&mut self) {
        self.bounds.push(self.own(f64::INFINITY));
    }

    /// The candidate's own time at a moment, in seconds.
    fn own(&self, moment: f64) -> f64 {
        self.turns
            .iter()
            .map(|(begun, ended)| (moment.min(*ended) - begun).max(0.0))
            .sum()
    }

    /// The record, in the candidate's own time, and how many rows were given up.
    fn finish(self, rate: Option<f64>) -> (Record, u64) {
        let failed_rows = self.batcher.stats().failed;
        // Pending rows do not matter any more. But the running call must end, and the connection
        // must close, before the next round. The second close waits for that.
        drop(self.batcher.shutdown(Duration::ZERO));
        while self.batcher.stats().abandoned > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(self.batcher.shutdown(Duration::from_secs(60)));
        let mut record = std::mem::take(&mut *self.record.lock().expect("no panic"));
        if let Some(rate) = rate {
            count_what_is_waiting(&mut record, rate, self.own(f64::INFINITY));
            return (record, failed_rows);
        }
        for call in &mut record.calls {
            let (begun_s, ended_s) = (self.own(call.begun_s), self.own(call.ended_s));
            call.inside = (ended_s - begun_s) / (call.ended_s - call.begun_s).max(1e-9);
            (call.begun_s, call.ended_s) = (begun_s, ended_s);
        }
        for age in &mut record.ages {
            age.due_s = self.own(age.due_s);
        }
        (record, failed_rows)
    }
}

/// Sensors that measure only during their candidate's turn. They cost the others nothing, and
/// report nothing about them. All that they measure at one moment is one report.
struct InTurn {
    sensors: [Box<dyn Sensor>; 2],
    active: Arc<AtomicBool>,
    was_active: bool,
}

impl Sensor for InTurn {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let was_active =
            std::mem::replace(&mut self.was_active, self.active.load(Ordering::Relaxed));
        if !self.was_active {
            return feedback;
        }
        let sensors = self.sensors.iter_mut();
        let sampled = sensors.fold(feedback, |sampled, sensor| sensor.sample(sampled));
        // The first sample covers all that happened since the previous turn.
        if was_active { sampled } else { feedback }
    }
}

fn builder(candidate: Candidate) -> Builder<Row> {
    let builder = Batcher::builder()
        .max_batch_size(candidate.max_batch_size())
        .queue_capacity(candidate.queue_capacity())
        .linger(Duration::from_millis(50))
        .load_check_interval(Duration::from_millis(250))
        .policy(candidate.policy())
        // A shorter wait than by default, since no server restarts here.
        .retry(
            Retry::attempts(30)
                .split_on_retry(true)
                .backoff(Duration::from_millis(1), Duration::from_millis(20)),
        )
        .idempotent(true)
        .on_failed(drop);
    SIGNALS.iter().fold(builder, |builder, (name, weight)| {
        builder.custom_signal(name, *weight)
    })
}

/// Rows that were due and not stored at the end of the run have waited at least until then. Without
/// them, a candidate that falls behind would look better than it is.
fn count_what_is_waiting(record: &mut Record, rate: f64, end: f64) {
    // The rows of a call that was still running are among them.
    record.ages.retain(|age| age.due_s + age.ms / 1e3 <= end);
    // Rows are stored in order, so these are the last.
    let (due, behind) = (rate * end, record.behind(rate, end));
    let waiting = ((due - behind) as i64..due as i64).filter(|id| id % EVERY == 0);
    record.ages.extend(waiting.map(|id| {
        let due_s = id as f64 / rate;
        Age {
            due_s,
            ms: (end - due_s) * 1e3,
        }
    }));
}

fn figures(record: &Record, from: f64, to: f64, rate: Option<f64>) -> Figures {
    let calls: Vec<&Call> = record
        .calls
        .iter()
        .filter(|call| call.ended_s > from && call.ended_s <= to)
        .collect();
    let due = record
        .ages
        .iter()
        .filter(|age| age.due_s > from && age.due_s <= to);
    let mut ages: Vec<f64> = due.map(|age| age.ms).collect();
    let mut sizes: Vec<f64> = calls
        .iter()
        .filter(|call| call.ok)
        .map(|call| call.rows as f64)
        .collect();
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
