//! The loop of a run: events in the order of virtual time. Between events the calls share the cores
//! evenly.
//!
//! All calls at work advance at the same rate. So one number orders their ends: the work that each
//! call has received since the start of the run. A call that joins ends when that number has grown
//! by the call's own work. Between two events the rate does not change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::chance::Chance;
use super::event::{Event, Time};
use super::lock::Lock;
use super::report::Report;
use super::simulation::Simulation;
use super::unit::Unit;
use crate::policy::Policy;

mod calls;

use calls::Job;

/// The time over which the backend averages its CPU, in seconds.
const CPU_AVERAGE_SECONDS: f64 = 1.0;
/// The time over which the backend averages its demand, in seconds.
const DEMAND_AVERAGE_SECONDS: f64 = 2.0;

pub(super) struct Engine<'a, P> {
    simulation: &'a Simulation,
    units: Vec<Unit<P>>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    /// Calls in flight by number; `None` once ended.
    jobs: Vec<Option<Job>>,
    /// Calls at work, by the received work at which they end. May hold calls that timed out.
    ends: BinaryHeap<Reverse<(Time, usize)>>,
    lock: Lock,
    at_work: usize,
    in_flight: usize,
    /// Calls whose latency is over.
    connected: usize,
    /// Calls that a flush commits, and those that wait for the next one. There is no flush if both
    /// are empty.
    flushing: Vec<usize>,
    unflushed: Vec<usize>,
    cores: f64,
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
            waits_at: Vec::new(),
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
            connected: 0,
            flushing: Vec::new(),
            unflushed: Vec::new(),
            cores: simulation.backend.cores,
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
        for (time, cores) in self.simulation.backend.parallel.cores.clone() {
            self.at(time.as_secs_f64(), Event::Cores { cores });
        }
        // The checks of several batchers are at different times.
        let mut phases = Chance::new(self.simulation.seed, 2);
        let interval = self.simulation.check_interval.as_secs_f64();
        for unit in 0..self.units.len() {
            let phase = if self.units.len() == 1 {
                1.0
            } else {
                phases.uniform()
            };
            let begin = self.simulation.start_interval.as_secs_f64() * unit as f64;
            self.at(begin + interval * phase, Event::Check { unit });
            self.at(begin, Event::Begin { unit });
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
                    self.worked(call);
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
        (1.0 - self.load)
            * (self.cores / self.at_work as f64).min(1.0)
            * self.simulation.backend.parallel.speed(self.at_work)
    }

    fn advance(&mut self, to: f64) {
        let passed = to - self.now;
        if passed <= 0.0 {
            return;
        }
        if self.at_work == 0 {
            // No call needs the sum any more. A small sum stays exact.
            self.received = 0.0;
            self.ends.clear();
        } else {
            self.received += self.rate() * passed;
        }
        let at_work = self.at_work as f64;
        let busy = (self.load + (1.0 - self.load) * (at_work / self.cores).min(1.0)).min(1.0);
        self.cpu += (busy - self.cpu) * (1.0 - (-passed / CPU_AVERAGE_SECONDS).exp());
        self.demand += (at_work - self.demand) * (1.0 - (-passed / DEMAND_AVERAGE_SECONDS).exp());
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
            Event::Cores { cores } => self.cores = f64::from(cores),
            Event::Join { call } => self.join(call),
            Event::Flushed => self.flushed(),
            Event::Begin { unit } => {
                self.units[unit].begun = true;
                self.gather(unit);
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
            Event::Free { unit, lane } => {
                if let Some(part) = self.units[unit].next_part(lane) {
                    self.begin(unit, part);
                } else {
                    self.units[unit].rest(lane);
                    self.gather(unit);
                }
            }
            Event::Cut { unit, plan } => {
                if self.units[unit].plan == plan {
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
        // A new setpoint reaches the lanes that wait for items or for a permit.
        if decided {
            self.gather(unit);
        }
    }

    fn gather(&mut self, unit: usize) {
        while self.units[unit].has_room() {
            self.units[unit].plan += 1;
            match self.units[unit].gather(self.now) {
                Ok(cut) => self.begin(unit, cut),
                Err(next) => {
                    let plan = self.units[unit].plan;
                    self.at(next, Event::Cut { unit, plan });
                    return;
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "engine/tests.rs"]
mod tests;
