//! What control costs: one report, one decision, and the whole controller while items are added at
//! full speed.
//!
//! `cargo bench --bench control -- [--check]`. With `--check` the exit code is 1 if the controller
//! takes more than a hundredth of the processor time.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::Criterion;
use load_aware_batcher::{
    Batch, Batcher, Cadence, Decision, Fixed, LoadFeedback, LoadThreshold, Policy, Sample,
    Setpoint, Window, Zone,
};
use rustix::time::{ClockId, clock_gettime};

use testkit::pairs::{Pairs, Quartiles, Report, Target};
use testkit::race;

/// Longer than any run.
const LONG: Duration = Duration::from_secs(600);
/// Samples in one decision.
const TEN: usize = 10;
/// The most that the controller may take of the processor time.
const SHARE_MAX: f64 = 0.01;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut criterion = Criterion::default()
        .without_plots()
        .measurement_time(Duration::from_secs(2));
    report(&mut criterion);
    decide(&mut criterion);
    let held = full_speed();
    if check && !held {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn idle_batcher() -> Batcher<u64> {
    let never = Duration::from_secs(86_400);
    Batcher::builder()
        .load_check_interval(never)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap()
}

fn report(criterion: &mut Criterion) {
    let batcher = idle_batcher();
    let feedback = LoadFeedback::new()
        .cpu_load(0.75)
        .queue_depth(120)
        .error_rate(0.05)
        .db_locks(25);
    criterion.bench_function(
        "report: a monitor's four signals, through the batcher",
        |bencher| {
            bencher.iter(|| batcher.report(black_box(feedback)));
        },
    );
    assert!(batcher.close(LONG).is_clean());
}

fn decide(criterion: &mut Criterion) {
    let signals = LoadFeedback::new()
        .cpu_load(0.75)
        .queue_depth(120)
        .error_rate(0.05)
        .db_locks(25);
    let samples = window_of(&signals);
    let window = Window {
        samples: &samples,
        lost: 0,
        now: Duration::from_secs(1),
        is_check: true,
        min_batch_size: 5,
        max_batch_size: 100,
        linger: Duration::from_secs(1),
        min_concurrency: 1,
        max_concurrency: 1,
        custom: &[],
    };
    let current = Setpoint {
        batch_size: 20,
        linger: Duration::from_secs(1),
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: Zone::Unknown,
        score: None,
        reason: "the start".into(),
    };
    let mut policy = LoadThreshold::new();
    criterion.bench_function("decide: LoadThreshold on ten feedbacks", |bencher| {
        bencher.iter(|| policy.decide(black_box(&window), black_box(&current)));
    });
}

/// Ten samples with these signals, as a policy gets them.
fn window_of(feedback: &LoadFeedback) -> Vec<Sample> {
    /// Keeps the samples that it gets.
    struct Keep(Arc<Mutex<Vec<Sample>>>);

    impl Policy for Keep {
        fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
            self.0.lock().unwrap().extend(window.samples);
            Decision::hold(current, "only recording")
        }
    }

    let kept = Arc::new(Mutex::new(Vec::new()));
    let batcher = Batcher::builder()
        .policy(Keep(Arc::clone(&kept)))
        .load_check_interval(Duration::from_millis(1))
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    (0..TEN).for_each(|_| batcher.report(*feedback));
    while kept.lock().unwrap().len() < TEN {
        std::thread::yield_now();
    }
    drop(batcher.close(LONG));
    std::mem::take(&mut kept.lock().unwrap())
}

/// `LoadThreshold` with the processor time that its thread used.
struct Timed {
    policy: LoadThreshold,
    cadence: Cadence,
    /// At the first decision and at the last.
    cpu_ns: Arc<Mutex<Option<(f64, f64)>>>,
}

impl Policy for Timed {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let decision = self.policy.decide(window, current);
        let cpu_ns = cpu_ns(ClockId::ThreadCPUTime);
        self.cpu_ns
            .lock()
            .unwrap()
            .get_or_insert((cpu_ns, cpu_ns))
            .1 = cpu_ns;
        decision
    }

    fn cadence(&self) -> Cadence {
        self.cadence
    }
}

const BATCH: usize = 1_000;
const ITEMS: u64 = 2_000_000;
/// A hundredth of the default, so that a short run has several checks.
const CHECK: Duration = Duration::from_millis(10);

/// Items at full speed under a policy that decides, against the same under `Fixed`. True if the
/// target is met.
fn full_speed() -> bool {
    let checks = share(
        "full speed, a decision every 10 ms, against Fixed",
        Cadence::EveryCheck,
    );
    println!("  target ≤ {:.0} %", SHARE_MAX * 100.0);
    // Tens of thousands of batches a second, in thousands of decisions. A handler that does any
    // work is far slower, so this has no target.
    share(
        "full speed, a decision at every batch, against Fixed",
        Cadence::EveryBatch,
    );
    checks <= SHARE_MAX
}

/// The controller's share of the processor time.
fn share(name: &str, cadence: Cadence) -> f64 {
    let mut shares = Vec::new();
    let pairs = Pairs::run(
        31,
        || {
            let cpu_ns = Arc::new(Mutex::new(None));
            let (process_ns, time) = run(Timed {
                policy: LoadThreshold::new(),
                cadence,
                cpu_ns: Arc::clone(&cpu_ns),
            });
            let (first, last) = cpu_ns.lock().unwrap().expect("it has decided");
            shares.push((last - first) / process_ns);
            time
        },
        || run(Fixed(BATCH)).1,
    );
    Report::default().line(name, &pairs, "ns an item", Target::None);
    let share = Quartiles::of(shares);
    println!(
        "  the controller's share of the processor time {:.3} %",
        share.median * 100.0
    );
    share.median
}

/// The processor time of the process in the run, and the nanoseconds for each item.
fn run(policy: impl Policy + 'static) -> (f64, f64) {
    let batcher = Batcher::builder()
        .initial_batch_size(BATCH)
        .max_batch_size(BATCH)
        .queue_capacity(2 * BATCH)
        .load_check_interval(CHECK)
        .policy(policy)
        .spawn(|batch: &mut Batch<u64>| {
            black_box(&batch[..]);
            // A normal load: the size stays, and both runs do the same work.
            Ok(LoadFeedback::new().cpu_load(0.5))
        })
        .unwrap();
    let before = cpu_ns(ClockId::ProcessCPUTime);
    let begun = race(2, |_| {
        let producer = batcher.producer();
        move || (0..ITEMS / 2).for_each(|number| assert!(producer.add(number).is_ok()))
    });
    batcher.flush(LONG).unwrap();
    let time = begun.elapsed();
    let process_ns = cpu_ns(ClockId::ProcessCPUTime) - before;
    assert!(batcher.close(LONG).is_clean());
    (process_ns, time.as_secs_f64() * 1e9 / ITEMS as f64)
}

fn cpu_ns(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
