//! T16, the golden run, and T17, the cost of a decision.

use std::hint::black_box;
use std::time::{Duration, Instant};

use load_aware_batcher::{
    BatchSample, CallOutcome, CostModel, Decision, Fixed, Policy, Reason, Sample, Setpoint,
    Signals, Window, Zone,
};

use crate::targets::Target;

/// Sizes of the first 26 batches against `S = 24 + 1.25 n` ms without noise.
const GOLDEN: [usize; 26] = [
    20, 40, 80, 160, 320, 364, 364, 364, 22, 364, 364, 364, 364, 364, 364, 364, 182, 364, 364, 364,
    364, 364, 364, 364, 22, 364,
];

/// A policy and a backend without delay: after each sample, the size of the next batch.
struct Loop<P> {
    policy: P,
    setpoint: Setpoint,
    probe: Option<usize>,
    now: Duration,
}

impl<P: Policy> Loop<P> {
    fn new(policy: P) -> Self {
        let setpoint = Setpoint {
            batch_size: 20,
            linger: Duration::from_secs(1),
            pause_ratio: 0.0,
            probe: None,
            concurrency: 1,
            zone: Zone::Unknown,
            score: None,
            reason: Reason::from("the initial size"),
        };
        Self {
            policy,
            setpoint,
            probe: None,
            now: Duration::ZERO,
        }
    }

    fn next_size(&self) -> usize {
        self.probe.unwrap_or(self.setpoint.batch_size)
    }

    fn batch(&mut self) {
        let len = self.next_size();
        let service_time = Duration::from_micros(24_000 + 1_250 * len as u64);
        self.now += service_time;
        let batch = BatchSample {
            len,
            cut_at: len,
            full: true,
            probe: self.probe.is_some(),
            attempt: 1,
            service_time,
            queue_wait: Duration::ZERO,
            failed: 0,
            outcome: CallOutcome::Ok,
            in_flight: 1,
            concurrency: 1,
        };
        let signals = Signals {
            cpu_load: Some(0.4),
            queue_depth: Some(0),
            error_rate: Some(0.0),
            ..Signals::default()
        };
        let samples = [Sample {
            signals,
            batch: Some(batch),
        }];
        let window = Window {
            samples: &samples,
            lost: 0,
            now: self.now,
            is_check: false,
            min_batch_size: 1,
            max_batch_size: 500,
            linger: Duration::from_secs(1),
            min_concurrency: 1,
            max_concurrency: 1,
            custom: &[],
        };
        let Decision {
            batch_size, probe, ..
        } = black_box(self.policy.decide(black_box(&window), &self.setpoint));
        self.setpoint.batch_size = batch_size.clamp(1, 500);
        self.probe = probe;
    }
}

fn golden() -> Target {
    let mut course = Loop::new(CostModel::new());
    let wrong = GOLDEN.iter().filter(|expected| {
        let size = course.next_size();
        course.batch();
        size != **expected
    });
    let value = wrong.count() as f64;
    Target {
        stretch: false,
        value,
        at_least: false,
        limit: 0.0,
        what: "batches of the golden run with another size",
    }
}

/// Nanoseconds for one turn of the loop: the best of many rounds. Each is shorter than a time slice
/// of the scheduler, since the machine has other users.
fn turn(policy: impl Policy + Clone) -> f64 {
    const SAMPLES: u32 = 2_000;
    (0..500)
        .map(|_| {
            let mut course = Loop::new(policy.clone());
            let begun = Instant::now();
            (0..SAMPLES).for_each(|_| course.batch());
            begun.elapsed().as_nanos() as f64 / f64::from(SAMPLES)
        })
        .fold(f64::INFINITY, f64::min)
}

/// A decision, less the loop around it; `benches/decide.rs` measures it with its spread.
fn cost() -> Target {
    let value = turn(CostModel::new()) - turn(Fixed(364));
    Target {
        stretch: false,
        value,
        at_least: false,
        limit: 100.0,
        what: "ns a decision",
    }
}

pub fn targets() -> Vec<(&'static str, Vec<Target>)> {
    vec![("T16", vec![golden()]), ("T17", vec![cost()])]
}
