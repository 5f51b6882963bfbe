//! The calls of a run: how each begins, waits for the lock, ends and is reported.

use std::cmp::Reverse;
use std::time::Duration;

use super::Engine;
use crate::feedback::{BatchSample, CallOutcome, LoadFeedback, Sample, Signals};
use crate::policy::Policy;
use crate::sim::event::{Event, Time};
use crate::sim::lock::LockHolder;
use crate::sim::oracle::REFUSAL_SECONDS;
use crate::sim::report::Call;
use crate::sim::unit::Cut;

/// A call in flight.
pub(super) struct Job {
    unit: usize,
    cut: Cut,
    /// When it began, in seconds.
    begun: f64,
    /// In seconds.
    latency: f64,
    /// In core-seconds.
    pub(super) work: f64,
    /// Whether it holds the lock.
    pub(super) entered: bool,
    /// Whether it is at work, with its latency over.
    pub(super) working: bool,
    /// Whether its latency is over. Then it is at work, or waits for a flush.
    connected: bool,
}

impl<P: Policy> Engine<'_, P> {
    pub(super) fn begin(&mut self, unit: usize, cut: Cut) {
        let cut = self.units[unit].call(cut);
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
                connected: false,
            }));
            self.at(begun + REFUSAL_SECONDS, Event::Refuse { call });
            return;
        }
        let costs = backend.costs_at(Duration::from_secs_f64(self.now));
        let noise = backend.noise;
        let mut work = backend.work(&costs, cut.len)
            * (noise * self.chance.normal() - noise * noise / 2.0).exp();
        let outliers = backend.outliers;
        if outliers.share > 0.0 && self.chance.uniform() < outliers.share {
            work *= outliers.factor;
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
            connected: false,
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

    pub(super) fn enter(&mut self, call: usize) {
        let Some(job) = &mut self.jobs[call] else {
            return;
        };
        job.entered = self.lock.enter(call);
        if job.entered {
            let begins = self.now + job.latency;
            self.at(begins, Event::Join { call });
        }
    }

    /// A call's latency is over: it begins to work, if there is a connection left.
    pub(super) fn join(&mut self, call: usize) {
        let most = self.simulation.backend.parallel.connections;
        let Some(job) = &mut self.jobs[call] else {
            return;
        };
        if most.is_some_and(|most| self.connected >= most) {
            self.finish(call, true);
            return;
        }
        (job.working, job.connected) = (true, true);
        self.connected += 1;
        self.at_work += 1;
        self.ends
            .push(Reverse((Time(self.received + job.work), call)));
    }

    /// A call's work is done: it ends, or waits for a flush.
    pub(super) fn worked(&mut self, call: usize) {
        if self.simulation.backend.parallel.flush.is_none() {
            self.finish(call, false);
            return;
        }
        if let Some(job) = &mut self.jobs[call] {
            job.working = false;
            self.at_work -= 1;
            self.unflushed.push(call);
            if self.flushing.is_empty() {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let backend = &self.simulation.backend;
        let Some(flush) = backend.parallel.flush else {
            return;
        };
        let noise = backend.noise;
        let scatter = (noise * self.chance.normal() - noise * noise / 2.0).exp();
        self.flushing = std::mem::take(&mut self.unflushed);
        self.at(self.now + flush.as_secs_f64() * scatter, Event::Flushed);
    }

    /// A flush is over: its calls end, after the next one has begun.
    pub(super) fn flushed(&mut self) {
        let done = std::mem::take(&mut self.flushing);
        if !self.unflushed.is_empty() {
            self.flush();
        }
        for call in done {
            self.finish(call, false);
        }
    }

    pub(super) fn ask(&mut self) {
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

    pub(super) fn release(&mut self) {
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

    /// A call is refused: its items are tried again at once.
    pub(super) fn refuse(&mut self, call: usize) {
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

    pub(super) fn finish(&mut self, call: usize, timed_out: bool) {
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
        self.connected -= usize::from(job.connected);
        self.in_flight -= cut.len;
        let backend = &self.simulation.backend;
        let call_failure = backend.call_failure(cut.len);
        let conflict = backend.parallel.conflict(cut.len, self.connected);
        let broken = timed_out
            || (call_failure > 0.0 && self.chance.uniform() < call_failure)
            || (conflict > 0.0 && self.chance.uniform() < conflict);
        let refused = self
            .chance
            .binomial(cut.len, backend.item_failure(self.load, self.demand));
        let failed = if broken { cut.len } else { refused };
        let signals = if broken || !backend.signals {
            Signals::default()
        } else if backend.parallel.cpu_only {
            LoadFeedback::new().cpu_load(self.cpu).resolve(&[]).0
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
            let known = self.report.waits.len();
            self.report.waits_at.push((self.now, known));
            self.report
                .waits
                .extend(items.iter().map(|added| self.now - added));
        }
        let too_large = self.units[unit].was_taken(cut.lane, broken);
        self.answer(unit, (cut, begun), (failed, broken), signals, too_large);
    }

    /// Reports a call that has ended, and plans what follows.
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
            in_flight: cut.in_flight,
            concurrency: cut.concurrency,
        };
        self.units[unit].in_flight -= 1;
        // After a failed call a batcher backs off, so the controller decides before the next call.
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
            concurrency: setpoint.concurrency,
            pause_ratio: setpoint.pause_ratio,
            reason: setpoint.reason.clone(),
        });
        let backoff = self.simulation.backend.parallel.backoff.as_secs_f64();
        let pause = if broken && backoff > 0.0 {
            pause + backoff * self.chance.uniform()
        } else {
            pause
        };
        let lane = cut.lane;
        self.at(now + pause, Event::Free { unit, lane });
    }
}
