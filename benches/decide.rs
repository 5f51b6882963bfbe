//! What a decision costs for each sample: `cargo bench --bench decide`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use load_aware_batcher::{
    Aimd, BatchSample, CallOutcome, CostModel, HillClimb, LoadThreshold, Policy, Reason, Sample,
    Setpoint, Signals, Window, Zone,
};

/// Samples of one measurement. Most of them are past the start of the policy, and its probes and
/// its throttle take part.
const SAMPLES: u32 = 1_000;

/// Drives a policy through a run against `S = 24 + 1.25 n` ms, which varies by a tenth.
fn drive(mut policy: impl Policy) {
    let mut setpoint = Setpoint {
        batch_size: 20,
        linger: Duration::from_secs(1),
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: Zone::Unknown,
        score: None,
        reason: Reason::from("the initial size"),
    };
    let signals = Signals {
        cpu_load: Some(0.4),
        queue_depth: Some(3),
        error_rate: Some(0.0),
        db_locks: Some(0),
        ..Signals::default()
    };
    let mut now = Duration::ZERO;
    let mut probe = None;
    for turn in 0..SAMPLES {
        let len = probe.unwrap_or(setpoint.batch_size);
        let service_time =
            Duration::from_micros(24_000 + 1_250 * len as u64) * (95 + turn % 11) / 100;
        now += service_time;
        let batch = BatchSample {
            len,
            cut_at: len,
            full: true,
            probe: probe.is_some(),
            attempt: 1,
            service_time,
            queue_wait: Duration::ZERO,
            failed: 0,
            outcome: CallOutcome::Ok,
            in_flight: 1,
            concurrency: 1,
        };
        let samples = [Sample {
            signals,
            batch: Some(batch),
        }];
        let window = Window {
            samples: &samples,
            lost: 0,
            now,
            is_check: turn % 4 == 0,
            min_batch_size: 1,
            max_batch_size: 500,
            linger: Duration::from_secs(1),
            min_concurrency: 1,
            max_concurrency: 1,
            custom: &[],
        };
        let decision = policy.decide(black_box(&window), &setpoint);
        setpoint.batch_size = decision.batch_size.clamp(1, 500);
        setpoint.reason = decision.reason;
        probe = decision.probe;
    }
    black_box(setpoint);
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    group.throughput(criterion::Throughput::Elements(SAMPLES.into()));
    macro_rules! bench {
        ($name:literal, $policy:expr) => {
            group.bench_function($name, |bencher| {
                bencher.iter_batched(|| $policy, drive, BatchSize::SmallInput)
            });
        };
    }
    bench!("LoadThreshold", LoadThreshold::new());
    bench!("Aimd", Aimd::new(Duration::from_millis(200)));
    bench!("HillClimb", HillClimb::new());
    bench!("CostModel", CostModel::new());
    group.finish();
}

#[allow(missing_docs)]
mod group {
    use super::{criterion_group, decide};
    criterion_group!(benches, decide);
}
use group::benches;

criterion_main!(benches);
