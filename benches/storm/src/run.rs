//! One round: the laws through warm-up, calm, storm and after, turn by turn.
//!
//! # Turns
//! A shared machine changes its speed by a half for seconds at a time, and a disk now and then
//! stops for a quarter of a second: runs one after the other are compared by the weather. So the
//! laws share each phase in short turns, one law at a time, each with a batcher, a connection and a
//! table of its own: the same machine, and the same neighbours all through the storm.
//!
//! A turn ends when its rows are stored. Rows count towards throughput only while others are still
//! added, so that the batches at a turn's end, the last of them smaller, cost nobody anything;
//! their calls count among the calls, and their rows' ages among the ages. A law's own time is the
//! time in which rows were added for it, and all figures are in it. What a law learns at the end of
//! a turn costs it nothing either: that makes the first seconds of a storm a little easier for laws
//! that learn.
//!
//! An open loop cannot stop in between: there each law has a round to itself, and its own time is
//! that of the clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, FlushError, LoadFeedback, Retry, Sensor};
use testkit::writers::{Row, SIGNALS};

use crate::backend::Backend;
use crate::host_cpu::HostCpu;
use crate::laws::Law;
use crate::measure::{Age, Call, DueTimes, EVERY, Metered, Record, median, quantile};
use crate::neighbours::Storm;

/// What is measured; before them there is the warm-up.
pub const PHASES: [&str; 3] = ["calm", "storm", "after"];
pub const CALM: usize = 0;
pub const STORM: usize = 1;
pub const AFTER: usize = 2;

/// How long each phase is for each law, in how many turns, and how rows come.
#[derive(Clone)]
pub struct Plan {
    pub warm_up: Duration,
    pub calm: Duration,
    pub storm: Duration,
    pub after: Duration,
    /// Of calm, storm and after each; the warm-up is one.
    pub turns: u32,
    /// Rows a second; `None` is a closed loop.
    pub rate: Option<f64>,
}

impl Plan {
    /// The first round on a new server pays for files that grow: nobody looks at this one.
    pub fn rehearsal() -> Self {
        let [calm, storm, after] = [Duration::ZERO; 3];
        Self {
            warm_up: Duration::from_millis(1_500),
            calm,
            storm,
            after,
            turns: 1,
            rate: None,
        }
    }
}

/// What one phase of a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub rows_per_s: f64,
    /// Calls that ended in one of its turns, or after the turn's rows were added.
    pub calls: usize,
    pub failed_calls: usize,
    /// Closed loop: of the rows that were added in it. Open loop: of those that were due in it.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The median call's.
    pub batch_size: f64,
    /// Open loop: rows that were due by its end and not stored.
    pub behind: f64,
}

/// One law's part of a round.
pub struct Run {
    pub backend: &'static str,
    pub storm: Storm,
    pub law: Law,
    pub round: usize,
    /// Calm, storm, after.
    pub figures: [Figures; 3],
    /// When each of them began, in seconds of the law's own time, and when the last ended.
    pub bounds: [f64; 4],
    /// What the neighbours got done in the whole storm, in all laws' turns.
    pub neighbours_per_s: f64,
    /// Rows that were given up.
    pub failed_rows: u64,
    /// In the law's own time.
    pub record: Record,
}

/// A law with all that is its own.
struct Lane {
    law: Law,
    batcher: Arc<Batcher<Row>>,
    due: Arc<DueTimes>,
    record: Arc<Mutex<Record>>,
    /// Whether it is this law's turn.
    active: Arc<AtomicBool>,
    rows: i64,
    /// When its turns began and ended, in seconds since the round began.
    turns: Vec<(f64, f64)>,
    /// Where its phases begin and end, in its own time.
    bounds: Vec<f64>,
}

/// All laws through all phases. Where there is a rate, they must be one.
pub fn round(
    backend: &mut dyn Backend,
    storm: Storm,
    laws: &[Law],
    round: usize,
    plan: &Plan,
) -> Vec<Run> {
    backend.reset(laws.len());
    settle_disk();
    let start = Instant::now();
    let mut lanes: Vec<Lane> = laws
        .iter()
        .enumerate()
        .map(|(place, law)| Lane::new(backend, *law, place, start))
        .collect();
    share(&mut lanes, plan.warm_up, 1, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    share(&mut lanes, plan.calm, plan.turns, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    let stormy = Instant::now();
    let neighbours = backend.neighbours(storm);
    share(&mut lanes, plan.storm, plan.turns, start, plan.rate);
    // They are gone before the next phase begins.
    let steps = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| neighbours.stop());
        while plan.rate.is_some() && !stopping.is_finished() {
            lanes[0].take_turn(start, Duration::from_millis(5), plan.rate);
        }
        stopping.join().expect("no panic")
    });
    let neighbours_per_s = steps as f64 / stormy.elapsed().as_secs_f64();
    lanes.iter_mut().for_each(Lane::bound);
    share(&mut lanes, plan.after, plan.turns, start, plan.rate);
    lanes.iter_mut().for_each(Lane::bound);
    lanes
        .into_iter()
        .map(|lane| {
            let (law, bounds) = (lane.law, lane.bounds.clone());
            let bounds = [CALM, STORM, AFTER, AFTER + 1].map(|phase| bounds[phase]);
            let (record, failed_rows) = lane.finish(plan.rate);
            let figures = [CALM, STORM, AFTER]
                .map(|phase| figures(&record, bounds[phase], bounds[phase + 1], plan.rate));
            Run {
                backend: backend.name(),
                storm,
                law,
                round,
                figures,
                bounds,
                neighbours_per_s,
                failed_rows,
                record,
            }
        })
        .collect()
}

/// One phase: each law has so many turns, and another one is the first each time.
fn share(lanes: &mut [Lane], phase: Duration, turns: u32, start: Instant, rate: Option<f64>) {
    for turn in 0..turns as usize {
        for place in 0..lanes.len() {
            let lane = (turn + place) % lanes.len();
            if rate.is_none() {
                // In turn the same law comes before the same other: what it left to be written would
                // slow down the commits of that one alone.
                settle_disk();
            }
            lanes[lane].take_turn(start, phase / turns, rate);
        }
    }
}

/// What was left to be written before would slow down the commits that come.
fn settle_disk() {
    let _ = std::process::Command::new("sync").status();
}

impl Lane {
    fn new(backend: &dyn Backend, law: Law, place: usize, start: Instant) -> Self {
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
        let batcher = builder(law)
            .sensor(Duration::from_millis(100), sensor)
            .spawn(handler)
            .expect("a batcher");
        let batcher = Arc::new(batcher);
        let (rows, turns, bounds) = (0, Vec::new(), Vec::new());
        Self {
            law,
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
            // What fails shows in the figures.
            if let Err(FlushError::Timeout) = self.batcher.flush(Duration::from_secs(60)) {
                eprintln!("{} goes on in the others' turns", self.law);
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
                // Not for each row: a sleep is longer than what it waits for.
                while Instant::now() < at.min(end) {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            if rate.is_some() && Instant::now() >= end {
                // It is the first of the next turn.
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

    /// The law's own time at a moment, in seconds.
    fn own(&self, moment: f64) -> f64 {
        self.turns
            .iter()
            .map(|(begun, ended)| (moment.min(*ended) - begun).max(0.0))
            .sum()
    }

    /// What was recorded, in its own time, and how many rows were given up.
    fn finish(self, rate: Option<f64>) -> (Record, u64) {
        let failed_rows = self.batcher.stats().failed;
        // What is pending does not matter any more, but the call under way must be over, and the
        // connection closed, before the next round: the second close waits for that.
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

/// Sensors that measure only while it is their law's turn: they cost the others nothing, and report
/// nothing of them. What they measure at one time is one report.
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
        // The first one is about all that happened since the turn before.
        if was_active { sampled } else { feedback }
    }
}

fn builder(law: Law) -> Builder<Row> {
    let builder = Batcher::builder()
        .max_batch_size(law.max_batch_size())
        .queue_capacity(law.queue_capacity())
        .linger(Duration::from_millis(50))
        .load_check_interval(Duration::from_millis(250))
        .policy(law.policy())
        // With a shorter wait than the default's: no server restarts here.
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

/// Rows that were due and not stored when the run ended have waited at least till then. To leave
/// them out would make a law that falls behind look better than it is.
fn count_what_is_waiting(record: &mut Record, rate: f64, end: f64) {
    // Those of a call that was still under way are among them.
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
