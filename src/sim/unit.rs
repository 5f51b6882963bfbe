//! One batcher in virtual time: its lanes, which cut batches, and its controller, which decides.

use std::time::Duration;

use super::chance::Chance;
use super::simulation::Simulation;
use crate::feedback::Sample;
use crate::policy::setpoint::{Bounds, Setpoint};
use crate::policy::{Cadence, Policy, Reason, Window, Zone};

/// The shortest time from an early decision to the next one, in seconds, as in the controller.
const EARLY_DECISION_INTERVAL_SECONDS: f64 = 0.001;

/// A batch that was cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) len: usize,
    pub(super) cut_at: usize,
    pub(super) probe: bool,
    /// When its oldest item was added.
    pub(super) oldest: f64,
    /// Where it begins among the arrivals.
    pub(super) first: usize,
    pub(super) attempt: u32,
    /// The lane that cut it.
    pub(super) lane: usize,
    /// Calls in flight with it when its call began, itself included, and how many were allowed.
    pub(super) in_flight: usize,
    pub(super) concurrency: usize,
}

/// A batch that was refused, until all its items have succeeded.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) len: usize,
    /// How long the last refusal of the whole took.
    pub(super) took: Duration,
    /// The parts to be tried next, the last one first.
    pub(super) parts: Vec<Cut>,
    /// Whether it was split, since the whole batch failed twice.
    pub(super) split: bool,
    /// Whether a part was lost in another way.
    pub(super) lost: bool,
}

pub(super) struct Unit<P> {
    policy: P,
    every_batch: bool,
    bounds: Bounds,
    pub(super) setpoint: Setpoint,
    probes: u64,
    probe_used: u64,
    /// Whether it has begun.
    pub(super) begun: bool,
    /// Lanes with a call in flight, or in the pause after it.
    busy: usize,
    /// Lanes that are free; more are made when none is.
    free: Vec<usize>,
    /// The number of the latest plan to cut. An event of an older plan is ignored.
    pub(super) plan: u64,
    /// When each item arrives, in ascending order; `None` in a closed loop.
    pub(super) arrivals: Option<Vec<f64>>,
    /// How many arrivals were handed over.
    pub(super) taken: usize,
    /// The refused batch of each lane.
    refused: Vec<Option<Refused>>,
    pub(super) in_flight: usize,
    samples: Vec<Sample>,
    pending: bool,
    rest_until: f64,
}

impl<P: Policy> Unit<P> {
    pub(super) fn new(simulation: &Simulation, place: usize, policy: P) -> Self {
        let bounds = simulation.bounds;
        let wanted = simulation
            .initial_batch_size
            .or_else(|| policy.initial_batch_size())
            .unwrap_or(20);
        let setpoint = Setpoint {
            batch_size: wanted.clamp(bounds.min, bounds.max),
            linger: bounds.linger,
            pause_ratio: 0.0,
            probe: None,
            concurrency: bounds.concurrency.min(),
            zone: Zone::Unknown,
            score: None,
            reason: Reason::from("the initial size"),
        };
        let arrivals = simulation.arrivals.map(|rate| {
            let mut chance = Chance::new(simulation.seed, 1_000 + place as u64);
            let end = simulation.duration.as_secs_f64();
            let mut arrivals = Vec::new();
            let mut at = chance.exponential() / rate;
            while at < end {
                arrivals.push(at);
                at += chance.exponential() / rate;
            }
            arrivals
        });
        Self {
            every_batch: policy.cadence() == Cadence::EveryBatch,
            policy,
            bounds,
            setpoint,
            probes: 0,
            probe_used: 0,
            begun: false,
            busy: 0,
            free: Vec::new(),
            plan: 0,
            arrivals,
            taken: 0,
            refused: Vec::new(),
            in_flight: 0,
            samples: Vec::new(),
            pending: false,
            rest_until: 0.0,
        }
    }

    /// Whether another lane may cut a batch.
    pub(super) fn has_room(&self) -> bool {
        self.begun && self.busy < self.setpoint.concurrency
    }

    /// A lane's pause is over, and it has no part of a refused batch.
    pub(super) fn rest(&mut self, lane: usize) {
        self.busy -= 1;
        self.free.push(lane);
    }

    /// A call of this lane begins: the batch with the calls at once.
    pub(super) fn call(&mut self, cut: Cut) -> Cut {
        self.in_flight += 1;
        Cut {
            in_flight: self.in_flight,
            concurrency: self.setpoint.concurrency,
            ..cut
        }
    }

    /// The batch that a free lane cuts now. Without one, the time at which to try again, infinite
    /// for never.
    pub(super) fn gather(&mut self, now: f64) -> Result<Cut, f64> {
        let probe = self
            .setpoint
            .probe
            .filter(|probe| probe.sequence != self.probe_used);
        let cut_at = probe.map_or(self.setpoint.batch_size, |probe| probe.batch_size);
        let (first, oldest) = (self.taken, now);
        let cut = match &self.arrivals {
            None => Cut {
                len: cut_at,
                cut_at,
                probe: probe.is_some(),
                oldest,
                first,
                attempt: 1,
                lane: 0,
                in_flight: 0,
                concurrency: 0,
            },
            Some(arrivals) => {
                let Some(&oldest) = arrivals.get(first) else {
                    return Err(f64::INFINITY);
                };
                let due = oldest + self.setpoint.linger.as_secs_f64();
                let filled = arrivals
                    .get(first + cut_at - 1)
                    .copied()
                    .unwrap_or(f64::INFINITY);
                if now < filled.min(due) {
                    return Err(filled.min(due));
                }
                let waiting = arrivals[first..]
                    .iter()
                    .take(cut_at)
                    .take_while(|at| **at <= now)
                    .count();
                Cut {
                    len: waiting,
                    cut_at,
                    probe: probe.is_some(),
                    oldest,
                    first,
                    attempt: 1,
                    lane: 0,
                    in_flight: 0,
                    concurrency: 0,
                }
            }
        };
        self.taken += cut.len;
        if let Some(probe) = probe {
            self.probe_used = probe.sequence;
        }
        self.busy += 1;
        let lane = self.free.pop().unwrap_or_else(|| {
            self.refused.push(None);
            self.refused.len() - 1
        });
        Ok(Cut { lane, ..cut })
    }

    /// The next part of the lane's refused batch to try.
    pub(super) fn next_part(&mut self, lane: usize) -> Option<Cut> {
        self.refused[lane].as_mut()?.parts.pop()
    }

    /// Plans what follows a refused call: the whole batch again, then halves, depth first.
    pub(super) fn was_refused(&mut self, cut: Cut, took: Duration) {
        let attempt = cut.attempt + 1;
        let (len, parts) = (cut.len, Vec::new());
        let batch = self.refused[cut.lane].get_or_insert(Refused {
            len,
            took,
            parts,
            split: false,
            lost: false,
        });
        if cut.attempt == 1 || cut.len == 1 {
            batch.parts.push(Cut { attempt, ..cut });
            return;
        }
        if cut.len == batch.len {
            (batch.took, batch.split) = (took, true);
        }
        let half = cut.len.div_ceil(2);
        batch.parts.push(Cut {
            len: cut.len - half,
            first: cut.first + half,
            attempt,
            ..cut
        });
        batch.parts.push(Cut {
            len: half,
            attempt,
            ..cut
        });
    }

    /// Notes a call that was not refused. If it was the last part of a refused batch that was too
    /// long, returns the length and the time of that batch.
    pub(super) fn was_taken(&mut self, lane: usize, lost: bool) -> Option<(usize, Duration)> {
        let batch = self.refused[lane].as_mut()?;
        batch.lost |= lost;
        if !batch.parts.is_empty() {
            return None;
        }
        self.refused[lane]
            .take()
            .filter(|batch| batch.split && !batch.lost)
            .map(|batch| (batch.len, batch.took))
    }

    /// Takes a sample that does not wake the controller: it is read with the next one.
    pub(super) fn report_event(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Takes a sample. Returns when the controller will decide, if the sample wakes it.
    pub(super) fn report(
        &mut self,
        sample: Sample,
        failed: bool,
        now: f64,
        lag: f64,
    ) -> Option<f64> {
        self.samples.push(sample);
        if self.pending || !(failed || self.every_batch) {
            return None;
        }
        self.pending = true;
        Some((now + lag).max(self.rest_until))
    }

    /// Lets the controller decide. True if it made a decision.
    pub(super) fn decide(&mut self, now: f64, is_check: bool) -> bool {
        if !is_check && !std::mem::take(&mut self.pending) {
            return false;
        }
        self.pending = false;
        let window = Window {
            samples: &self.samples,
            lost: 0,
            now: Duration::from_secs_f64(now),
            is_check,
            min_batch_size: self.bounds.min,
            max_batch_size: self.bounds.max,
            linger: self.bounds.linger,
            min_concurrency: self.bounds.concurrency.min(),
            max_concurrency: self.bounds.concurrency.max(),
            custom: &[],
        };
        let decision = self.policy.decide(&window, &self.setpoint);
        self.samples.clear();
        self.setpoint = self
            .setpoint
            .follow(decision, &self.bounds, &mut self.probes);
        if !is_check {
            self.rest_until = now + EARLY_DECISION_INTERVAL_SECONDS;
        }
        true
    }
}
