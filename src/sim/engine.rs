//! The course of a run: events in the order of virtual time, and cores shared fairly in between.
//!
//! All calls at work advance at the same rate, so one number, the work that each has received so
//! far, orders their ends: a call that joins ends when that number has grown by its own work.
//! Between two events the rate does not change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::chance::Chance;
use super::event::{Event, Time};
use super::lock::{Lock, LockHolder};
use super::oracle::REFUSED_AFTER;
use super::report::{Call, Report};
use super::simulation::Simulation;
use super::unit::{Cut, State, Unit};
use crate::feedback::{BatchSample, CallOutcome, LoadFeedback, Sample, Signals};
use crate::policy::Policy;

/// Over which time the backend's own view of its CPU and of its demand is averaged, in seconds.
const CPU_MEMORY: f64 = 1.0;
const DEMAND_MEMORY: f64 = 2.0;

struct Job {
    unit: usize,
    cut: Cut,
    begun: f64,
    latency: f64,
    work: f64,
    entered: bool,
    working: bool,
}

pub(super) struct Engine<'a, P> {
    simulation: &'a Simulation,
    units: Vec<Unit<P>>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    /// Calls under way by number; `None` once ended.
    jobs: Vec<Option<Job>>,
    /// Calls at work, by the received work at which they end. May hold calls that timed out.
    ends: BinaryHeap<Reverse<(Time, usize)>>,
    lock: Lock,
    at_work: usize,
    in_flight: usize,
    /// The work that each call at work has received.
    received: f64,
    now: f64,
    load: f64,
    cpu: f64,
    demand: f64,
    chance: Chance,
    report: Report,
}

impl<'a, P: Policy> Engine<'a, P> {
    pub(super) fn new(simulation: &'a Simulation, units: Vec<Unit<P>>) -> Self {
        let load = simulation.backend.load.at(Duration::ZERO);
        let report = Report {
            calls: Vec::new(),
            backend: simulation.backend.clone(),
            batchers: units.len(),
            max_batch_size: simulation.bounds.max,
            duration: simulation.duration,
            worked: 0.0,
            waits: Vec::new(),
            backlog: 0,
        };
        Self {
            simulation,
            units,
            events: BinaryHeap::new(),
            order: 0,
            jobs: Vec::new(),
            ends: BinaryHeap::new(),
            lock: Lock::default(),
            at_work: 0,
            in_flight: 0,
            received: 0.0,
            now: 0.0,
            load,
            cpu: load,
            demand: 0.0,
            chance: Chance::new(simulation.seed, 1),
            report,
        }
    }

    pub(super) fn run(mut self) -> Report {
        let end = self.simulation.duration.as_secs_f64();
        self.plan_load();
        if let Some(holder) = &self.simulation.backend.lock_holder {
            self.at(holder.begin.as_secs_f64(), Event::Ask);
        }
        // Checks of several batchers do not fall together.
        let mut phases = Chance::new(self.simulation.seed, 2);
        let interval = self.simulation.check_interval.as_secs_f64();
        for unit in 0..self.units.len() {
            let phase = if self.units.len() == 1 {
                1.0
            } else {
                phases.uniform()
            };
            self.at(interval * phase, Event::Check { unit });
            self.at(0.0, Event::Free { unit });
        }
        loop {
            while self
                .ends
                .peek()
                .is_some_and(|Reverse((_, call))| self.jobs[*call].is_none())
            {
                self.ends.pop();
            }
            let rate = self.rate();
            let finish = match self.ends.peek() {
                Some(Reverse((Time(end), _))) if rate > 0.0 => {
                    self.now + (end - self.received).max(0.0) / rate
                }
                _ => f64::INFINITY,
            };
            let event = self
                .events
                .peek()
                .map_or(f64::INFINITY, |Reverse((time, ..))| time.0);
            if finish.min(event) > end {
                break;
            }
            if finish <= event {
                self.advance(finish);
                if let Some(Reverse((_, call))) = self.ends.pop() {
                    self.finish(call, false);
                }
            } else if let Some(Reverse((time, _, event))) = self.events.pop() {
                self.advance(time.0);
                self.handle(event);
            }
        }
        self.advance(end);
        let waiting = |unit: &Unit<P>| {
            unit.arrivals
                .as_ref()
                .map_or(0, |arrivals| arrivals.len() - unit.taken)
        };
        self.report.backlog = self.units.iter().map(waiting).sum();
        self.report
    }

    fn at(&mut self, time: f64, event: Event) {
        if time.is_finite() {
            self.order += 1;
            self.events.push(Reverse((Time(time), self.order, event)));
        }
    }

    fn plan_load(&mut self) {
        let next = self.simulation.backend.load.next_change(self.now);
        self.at(next, Event::Load);
    }

    /// Work per second that each call at work receives.
    fn rate(&self) -> f64 {
        if self.at_work == 0 {
            return 0.0;
        }
        (1.0 - self.load) * (self.simulation.backend.cores / self.at_work as f64).min(1.0)
    }

    fn advance(&mut self, to: f64) {
        let passed = to - self.now;
        if passed <= 0.0 {
            return;
        }
        if self.at_work == 0 {
            // Nobody remembers what was received: the sum stays small and exact.
            self.received = 0.0;
            self.ends.clear();
        } else {
            self.received += self.rate() * passed;
        }
        let at_work = self.at_work as f64;
        let busy = (self.load
            + (1.0 - self.load) * (at_work / self.simulation.backend.cores).min(1.0))
        .min(1.0);
        self.cpu += (busy - self.cpu) * (1.0 - (-passed / CPU_MEMORY).exp());
        self.demand += (at_work - self.demand) * (1.0 - (-passed / DEMAND_MEMORY).exp());
        self.report.worked += self.rate() * at_work * passed;
        self.now = to;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Load => {
                self.load = self
                    .simulation
                    .backend
                    .load
                    .at(Duration::from_secs_f64(self.now));
                self.plan_load();
            }
            Event::Join { call } => {
                if let Some(job) = &mut self.jobs[call] {
                    job.working = true;
                    self.at_work += 1;
                    self.ends
                        .push(Reverse((Time(self.received + job.work), call)));
                }
            }
            Event::TimeOut { call } => self.finish(call, true),
            Event::Refuse { call } => self.refuse(call),
            Event::GiveUp { call } => {
                if self.jobs[call].as_ref().is_some_and(|job| !job.entered) {
                    self.finish(call, true);
                }
            }
            Event::Enter { call } => self.enter(call),
            Event::Ask => self.ask(),
            Event::Release => self.release(),
            Event::Free { unit } => {
                if let Some(part) = self.units[unit].next_part() {
                    self.begin(unit, part);
                } else {
                    self.units[unit].state = State::Gathering;
                    self.gather(unit);
                }
            }
            Event::Cut { unit, plan } => {
                if self.units[unit].plan == plan && self.units[unit].state == State::Gathering {
                    self.gather(unit);
                }
            }
            Event::Decide { unit } => self.decide(unit, false),
            Event::Check { unit } => {
                let interval = self.simulation.check_interval.as_secs_f64();
                self.at(self.now + interval, Event::Check { unit });
                self.decide(unit, true);
            }
        }
    }

    fn decide(&mut self, unit: usize, is_check: bool) {
        let decided = self.units[unit].decide(self.now, is_check);
        // A new setpoint reaches a flusher that waits for items.
        if decided && self.units[unit].state == State::Gathering {
            self.gather(unit);
        }
    }

    fn gather(&mut self, unit: usize) {
        let now = self.now;
        self.units[unit].plan += 1;
        match self.units[unit].gather(now) {
            Ok(cut) => self.begin(unit, cut),
            Err(next) => {
                let plan = self.units[unit].plan;
                self.at(next, Event::Cut { unit, plan });
            }
        }
    }

    fn begin(&mut self, unit: usize, cut: Cut) {
        self.units[unit].state = State::Busy;
        let backend = &self.simulation.backend;
        if cut.len > backend.length_limit
            || (backend.refusals > 0.0 && self.chance.uniform() < backend.refusals)
        {
            let call = self.jobs.len();
            let (begun, latency, work) = (self.now, 0.0, 0.0);
            self.jobs.push(Some(Job {
                unit,
                cut,
                begun,
                latency,
                work,
                entered: false,
                working: false,
            }));
            self.at(begun + REFUSED_AFTER, Event::Refuse { call });
            return;
        }
        let costs = backend.costs_at(Duration::from_secs_f64(self.now));
        let noise = backend.noise;
        let mut work = backend.work(&costs, cut.len)
            * (noise * self.chance.normal() - noise * noise / 2.0).exp();
        let (share, times) = backend.outliers;
        if share > 0.0 && self.chance.uniform() < share {
            work *= times;
        }
        let call = self.jobs.len();
        let latency = costs.latency.as_secs_f64();
        self.jobs.push(Some(Job {
            unit,
            cut,
            begun: self.now,
            latency,
            work,
            entered: false,
            working: false,
        }));
        self.in_flight += cut.len;
        self.enter(call);
        if let Some(timeout) = backend.timeout {
            self.at(self.now + timeout.as_secs_f64(), Event::TimeOut { call });
        }
        if let Some(patience) = backend.lock_holder.and_then(|holder| holder.patience) {
            self.at(self.now + patience.as_secs_f64(), Event::GiveUp { call });
        }
    }

    fn enter(&mut self, call: usize) {
        let Some(job) = &mut self.jobs[call] else {
            return;
        };
        job.entered = self.lock.enter(call);
        if job.entered {
            let begins = self.now + job.latency;
            self.at(begins, Event::Join { call });
        }
    }

    fn ask(&mut self) {
        let asks = |holder: &LockHolder| holder.asks_at(Duration::from_secs_f64(self.now));
        if self
            .simulation
            .backend
            .lock_holder
            .as_ref()
            .is_some_and(asks)
            && self.lock.ask()
        {
            self.hold();
        }
    }

    fn hold(&mut self) {
        if let Some(holder) = &self.simulation.backend.lock_holder {
            self.at(self.now + holder.held.as_secs_f64(), Event::Release);
        }
    }

    fn release(&mut self) {
        let Some(holder) = &self.simulation.backend.lock_holder else {
            return;
        };
        self.at(self.now + holder.free.as_secs_f64(), Event::Ask);
        for call in self.lock.release() {
            let late = if holder.poll.is_zero() {
                0.0
            } else {
                holder.poll.as_secs_f64() * self.chance.uniform()
            };
            self.at(self.now + late, Event::Enter { call });
        }
    }

    /// A call ends before anything was done: its items are tried again at once.
    fn refuse(&mut self, call: usize) {
        let Some(Job {
            unit, cut, begun, ..
        }) = self.jobs[call].take()
        else {
            return;
        };
        let service_time = Duration::from_secs_f64(self.now - begun);
        self.units[unit].was_refused(cut, service_time);
        self.answer(
            unit,
            (cut, begun),
            (cut.len, true),
            Signals::default(),
            None,
        );
        if let Some(call) = self.report.calls.last_mut() {
            call.refused = true;
        }
    }

    fn finish(&mut self, call: usize, timed_out: bool) {
        let Some(job) = self.jobs[call].take() else {
            return;
        };
        let Job {
            unit, cut, begun, ..
        } = job;
        if job.entered && self.lock.leave() {
            self.hold();
        }
        self.at_work -= usize::from(job.working);
        self.in_flight -= cut.len;
        let backend = &self.simulation.backend;
        let call_failure = backend.call_failure(cut.len);
        let broken = timed_out || (call_failure > 0.0 && self.chance.uniform() < call_failure);
        let refused = self
            .chance
            .binomial(cut.len, backend.item_failure(self.load, self.demand));
        let failed = if broken { cut.len } else { refused };
        let signals = if broken || !backend.signals {
            Signals::default()
        } else {
            let feedback = LoadFeedback::new()
                .cpu_load(self.cpu)
                .queue_depth(self.in_flight as u64);
            feedback
                .error_rate(failed as f64 / cut.len as f64)
                .db_locks(backend.locks)
                .resolve(&[])
                .0
        };
        if let Some(arrivals) = self.units[unit].arrivals.as_ref().filter(|_| !broken) {
            let items = &arrivals[cut.first..cut.first + cut.len];
            self.report
                .waits
                .extend(items.iter().map(|added| self.now - added));
        }
        let too_large = self.units[unit].was_taken(broken);
        self.answer(unit, (cut, begun), (failed, broken), signals, too_large);
    }

    /// Reports a call that has ended, and goes on behind it.
    fn answer(
        &mut self,
        unit: usize,
        (cut, begun): (Cut, f64),
        (failed, broken): (usize, bool),
        signals: Signals,
        too_large: Option<(usize, Duration)>,
    ) {
        let service_time = Duration::from_secs_f64(self.now - begun);
        let full = cut.len >= cut.cut_at;
        let batch = BatchSample {
            len: cut.len,
            cut_at: cut.cut_at,
            full,
            probe: cut.probe,
            attempt: cut.attempt,
            service_time,
            queue_wait: Duration::from_secs_f64((begun - cut.oldest).max(0.0)),
            failed,
            outcome: if broken {
                CallOutcome::Transient
            } else {
                CallOutcome::Ok
            },
        };
        // Behind a failed call a batcher backs off, and the controller has decided before the next
        // one.
        let (now, lag) = (
            self.now,
            if broken {
                0.0
            } else {
                self.simulation.decision_lag.as_secs_f64()
            },
        );
        let wake = self.units[unit].report(
            Sample {
                signals,
                batch: Some(batch),
            },
            broken,
            now,
            lag,
        );
        if let Some((len, service_time)) = too_large {
            let outcome = CallOutcome::TooLarge;
            let event = BatchSample {
                len,
                service_time,
                outcome,
                attempt: 3,
                failed: 0,
                full: false,
                probe: false,
                ..batch
            };
            self.units[unit].report_event(Sample {
                signals: Signals::default(),
                batch: Some(event),
            });
        }
        if let Some(time) = wake {
            if broken || time <= now {
                self.decide(unit, false);
            } else {
                self.at(time, Event::Decide { unit });
            }
        }
        let setpoint = &self.units[unit].setpoint;
        let pause = service_time.as_secs_f64() * setpoint.pause_ratio;
        self.report.calls.push(Call {
            at: Duration::from_secs_f64(now),
            batcher: unit,
            len: cut.len,
            full,
            probe: cut.probe,
            service_time,
            refused: false,
            failed,
            signals,
            batch_size: setpoint.batch_size,
            pause_ratio: setpoint.pause_ratio,
            reason: setpoint.reason.clone(),
        });
        self.at(now + pause, Event::Free { unit });
    }
}

#[cfg(all(test, not(loom)))]
#[path = "engine/tests.rs"]
mod tests;
