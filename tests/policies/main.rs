//! The policies as plain functions, from samples to sizes.
#![cfg(not(loom))]

mod any_input;
mod baselines;
mod concurrency;
mod no_evidence;
mod settings;

use std::time::Duration;

use load_aware_batcher::{
    BatchSample, CallOutcome, Policy, Reason, Sample, Setpoint, Signals, Window, Zone,
};

/// The smallest and the largest size in these tests.
const MIN: usize = 5;
const MAX: usize = 500;

fn setpoint(batch_size: usize) -> Setpoint {
    Setpoint {
        batch_size,
        linger: Duration::from_secs(1),
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: Zone::Unknown,
        score: None,
        reason: Reason::from("the initial size"),
    }
}

fn window<'a>(samples: &'a [Sample], now: Duration, is_check: bool) -> Window<'a> {
    Window {
        samples,
        lost: 0,
        now,
        is_check,
        min_batch_size: MIN,
        max_batch_size: MAX,
        linger: Duration::from_secs(1),
        min_concurrency: 1,
        max_concurrency: 1,
        custom: &[],
    }
}

/// A full batch that succeeded.
fn batch(len: usize, millis: f64) -> BatchSample {
    BatchSample {
        len,
        cut_at: len,
        full: true,
        probe: false,
        attempt: 1,
        service_time: Duration::from_secs_f64(millis / 1e3),
        queue_wait: Duration::ZERO,
        failed: 0,
        outcome: CallOutcome::Ok,
        in_flight: 1,
        concurrency: 1,
    }
}

fn failing(len: usize, millis: f64, outcome: CallOutcome) -> BatchSample {
    BatchSample {
        failed: len,
        outcome,
        ..batch(len, millis)
    }
}

fn reported(batches: &[BatchSample]) -> Vec<Sample> {
    batches
        .iter()
        .map(|batch| Sample {
            signals: Signals::default(),
            batch: Some(*batch),
        })
        .collect()
}

/// The size after one decision on these batches.
fn after(policy: &mut impl Policy, size: usize, batches: &[BatchSample]) -> usize {
    policy
        .decide(
            &window(&reported(batches), Duration::ZERO, false),
            &setpoint(size),
        )
        .batch_size
}
