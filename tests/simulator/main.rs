//! The simulator compared with results worked out by hand. A wrong simulator would misjudge every
//! policy.
#![cfg(not(loom))]

mod arriving;
mod asking;
mod baseline;
mod failing;
mod sharing;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::sim::{Backend, Call, Costs, Load, Report, Simulation};
use load_aware_batcher::{Cadence, Decision, Policy, Sample, Setpoint, Window};

fn millis(time: f64) -> Duration {
    Duration::from_secs_f64(time / 1e3)
}

fn secs(time: f64) -> Duration {
    Duration::from_secs_f64(time)
}

/// Costs in milliseconds.
fn costs(latency: f64, call: f64, item: f64) -> Costs {
    Costs::of_secs(latency / 1e3, call / 1e3, item / 1e3)
}

/// Without background load, noise and timeout, so that the time of a call is known to the
/// nanosecond. Costs in milliseconds.
fn plain(latency: f64, call: f64, item: f64) -> Backend {
    Backend::new()
        .costs(costs(latency, call, item))
        .load(Load::Constant(0.0))
        .noise(0.0)
        .timeout(None)
}

/// The calls of one batcher.
fn of(report: &Report, batcher: usize) -> Vec<&Call> {
    report
        .calls()
        .iter()
        .filter(|call| call.batcher == batcher)
        .collect()
}

/// When the first calls of one batcher ended, in milliseconds.
fn ends(report: &Report, batcher: usize, first: usize) -> Vec<f64> {
    of(report, batcher)
        .iter()
        .take(first)
        .map(|call| call.at.as_secs_f64() * 1e3)
        .collect()
}

/// When a call began, in seconds.
fn begun(call: &Call) -> f64 {
    call.at.as_secs_f64() - call.service_time.as_secs_f64()
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} instead of {expected}"
    );
}

#[track_caller]
fn all_near(found: &[f64], expected: &[f64], tolerance: f64) {
    let same = |(one, other): (&f64, &f64)| (one - other).abs() <= tolerance;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(same),
        "{found:?} instead of {expected:?}"
    );
}

fn mean_and_deviation(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (
        mean,
        (values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / count)
            .sqrt(),
    )
}

/// One call of `decide`.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    samples: Vec<Sample>,
    now: Duration,
    is_check: bool,
    bounds: (usize, usize, Duration),
    /// The samples lost, and the custom signals.
    more: (u64, usize),
    current: Setpoint,
}

/// Records its windows, and decides as `answer` says.
#[derive(Clone)]
struct Listener<F> {
    cadence: Cadence,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: F,
}

impl<F: FnMut(&Window<'_>, &Setpoint) -> Decision + Send> Listener<F> {
    fn new(cadence: Cadence, answer: F) -> Self {
        Self {
            cadence,
            asked: Arc::default(),
            answer,
        }
    }

    /// Runs the simulation with it. Returns what it recorded, and the report.
    fn listen(self, simulation: &Simulation) -> (Vec<Asked>, Report) {
        let asked = Arc::clone(&self.asked);
        let report = simulation.run(self);
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        (asked, report)
    }
}

impl<F: FnMut(&Window<'_>, &Setpoint) -> Decision + Send> Policy for Listener<F> {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        self.asked.lock().unwrap().push(Asked {
            samples: window.samples.to_vec(),
            now: window.now,
            is_check: window.is_check,
            bounds: (window.min_batch_size, window.max_batch_size, window.linger),
            more: (window.lost, window.custom.len()),
            current: current.clone(),
        });
        (self.answer)(window, current)
    }

    fn cadence(&self) -> Cadence {
        self.cadence
    }
}

/// A decision that changes nothing.
fn hold(_: &Window<'_>, current: &Setpoint) -> Decision {
    Decision::hold(current, "holds")
}
