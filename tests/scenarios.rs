//! Known failures of adaptive batching, each repeated in virtual time.
#![cfg(not(loom))]

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load, Report, Simulation};
use load_aware_batcher::{
    Aimd, BatchSample, CallOutcome, CostModel, Fixed, HillClimb, LoadThreshold, Policy, Reason,
    Sample, Setpoint, Signals, Window, Zone,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reference(backend: Backend) -> Simulation {
    Simulation::new(backend).max_batch_size(500)
}

fn last_size(report: &Report) -> usize {
    report.calls().last().expect("there were calls").batch_size
}

/// Each policy that should pass, with the settings that it needs. `LoadThreshold::strict` would
/// not.
fn policies() -> Vec<(&'static str, Box<dyn Policy>)> {
    vec![
        ("LoadThreshold", Box::new(LoadThreshold::new())),
        ("Aimd", Box::new(Aimd::new(Duration::from_millis(200)))),
        ("HillClimb", Box::new(HillClimb::new())),
        ("CostModel", Box::new(CostModel::new())),
    ]
}

fn setpoint(batch_size: usize) -> Setpoint {
    Setpoint {
        batch_size,
        linger: secs(1),
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
        min_batch_size: 5,
        max_batch_size: 500,
        linger: secs(1),
        min_concurrency: 1,
        max_concurrency: 1,
        custom: &[],
    }
}

#[test]
fn thirty_no_traffic_for_a_thousand_checks_changes_no_size() {
    for (name, mut policy) in policies() {
        let mut at = setpoint(20);
        for check in 1..=1_000 {
            let decision = policy.decide(&window(&[], secs(check), true), &at);
            at.batch_size = decision.batch_size;
            assert_eq!(
                (at.batch_size, decision.probe),
                (20, None),
                "{name} at check {check}"
            );
        }
    }
}

#[test]
fn thirty_one_failures_alone_never_make_the_size_grow() {
    for (name, policy) in policies() {
        let report = reference(Backend::new().call_errors(1.0)).run(policy);
        let grown = report.calls().iter().find(|call| call.batch_size > 20);
        assert!(grown.is_none(), "{name}: {grown:?}");
        assert_eq!(report.handled(), 0);
    }
}

#[test]
fn thirty_two_calls_that_end_at_the_timeout_do_not_count_as_stable() {
    // The oracle's size is a third of the former one after the change.
    let backend = Backend::new().load(Load::Steps(0.2, vec![(secs(30), 0.85)]));
    for (name, policy) in [
        ("LoadThreshold", policies().remove(0).1),
        ("CostModel", policies().remove(3).1),
    ] {
        let report = reference(backend.clone()).run(policy);
        let late = report.failed_between(secs(45), secs(60)) as f64;
        let all = late + report.handled_between(secs(45), secs(60)) as f64;
        assert!(late / all < 0.25, "{name} keeps losing {late} of {all}");
    }
}

#[test]
fn thirty_three_a_steady_overload_does_not_grow_the_size_without_end() {
    // 1.2 times the capacity of the backend.
    let run = reference(Backend::new())
        .max_batch_size(100_000)
        .duration(secs(300))
        .arrivals_per_second(880.0);
    let report = run.run(CostModel::new());
    let largest = report
        .calls()
        .iter()
        .map(|call| call.batch_size)
        .max()
        .unwrap();
    assert!(largest <= 640, "{largest}");
    assert!(
        report.share_of_oracle() > 0.9,
        "{}",
        report.share_of_oracle()
    );
}

#[test]
fn thirty_four_background_load_does_not_keep_the_size_at_its_minimum() {
    let backend = Backend::new().load(Load::spike(0.2, 0.9, secs(20), secs(20)));
    let report = reference(backend.clone()).run(CostModel::new());
    let recovered = report
        .calls()
        .iter()
        .filter(|call| call.at > secs(40))
        .take(20)
        .last()
        .unwrap();
    let best = backend.best(secs(41), 1, 500, None).throughput;
    let share = backend.expected(secs(41), 1, recovered.batch_size, None) / best;
    assert!(
        share > 0.9,
        "after 20 batches at {share} of the oracle with {}",
        recovered.batch_size
    );
}

#[test]
fn thirty_five_samples_of_an_older_size_do_not_change_the_size_twice() {
    let sample = |len: usize, outcome| Sample {
        signals: Signals::default(),
        batch: Some(BatchSample {
            len,
            cut_at: len,
            full: true,
            probe: false,
            attempt: 1,
            service_time: Duration::from_millis(400),
            queue_wait: Duration::ZERO,
            failed: len,
            outcome,
            in_flight: 1,
            concurrency: 1,
        }),
    };
    let old = [sample(100, CallOutcome::Transient); 2];
    for (name, mut policy) in policies()
        .into_iter()
        .filter(|(name, _)| ["Aimd", "CostModel"].contains(name))
    {
        let first = policy
            .decide(&window(&old[..1], secs(1), false), &setpoint(100))
            .batch_size;
        assert!(first < 100, "{name}");
        let second = policy
            .decide(&window(&old[1..], secs(1), false), &setpoint(first))
            .batch_size;
        assert_eq!(second, first, "{name} answers the same failure twice");
    }
}

#[test]
fn thirty_six_a_costly_call_does_not_shrink_the_size_into_a_higher_load() {
    // At 450 items a second, the backend is saturated with half of the best size. After a spike,
    // the whole backlog must be handled again.
    let backend = Backend::new().load(Load::spike(0.2, 0.85, secs(30), secs(15)));
    let run = reference(backend)
        .duration(secs(120))
        .arrivals_per_second(450.0)
        .linger(Duration::from_millis(20));
    let report = run.run(CostModel::new());
    assert!(report.backlog() < 450, "{} wait", report.backlog());
    assert!(last_size(&report) > 50, "{}", last_size(&report));
}

/// Scenario 60: 2 ms a call and 5 µs an item, no signal, every tenth call refused at once.
#[test]
fn sixty_without_a_signal_and_with_refused_calls_it_is_near_the_best_fixed_size() {
    let costs = Costs::of_secs(0.0005, 0.0015, 5e-6);
    let backend = Backend::new()
        .costs(costs)
        .cores(1)
        .load(Load::Constant(0.0))
        .noise(0.05)
        .timeout(None)
        .signals(false)
        .refusals(0.1);
    for seed in [1, 21, 101] {
        // From the start on, with nothing set.
        let run = Simulation::new(backend.clone()).max_batch_size(10_000);
        let run = run.duration(secs(30)).seed(seed);
        let default = run.run(CostModel::new()).handled();
        let best = [500, 2_000, 10_000].map(|size| run.run(Fixed(size)).handled());
        let best = best.into_iter().max().expect("three sizes");
        let share = default as f64 / best as f64;
        assert!(share >= 0.85, "seed {seed}: {share} of {best}");
    }
}

#[test]
fn a_host_that_is_always_busy_does_not_keep_the_size_small() {
    // A background load takes seven tenths of every core. `LoadThreshold` sees a high load and
    // shrinks to the smallest size.
    let busy =
        reference(Backend::new().load(Load::Constant(0.7)).timeout(None)).duration(secs(120));
    let share = |report: Report| report.share_of_oracle_between(secs(60), secs(120));
    let learnt = share(busy.run(CostModel::new()));
    assert!(learnt > 0.9, "{learnt}");
    let threshold = share(busy.run(LoadThreshold::new()));
    assert!(
        threshold < 0.75,
        "{threshold}: the load does not affect LoadThreshold, so this shows nothing"
    );
}

#[test]
fn few_calls_exceed_the_time_bound_and_the_bound_is_used() {
    let bound = Duration::from_millis(200);
    let (mut calls, mut over, mut handled, mut best) = (0, 0, 0, 0.0);
    for seed in 1..=20 {
        let report = reference(Backend::new())
            .seed(seed)
            .run(CostModel::new().max_batch_time(bound));
        calls += report.calls().len();
        over += report
            .calls()
            .iter()
            .filter(|call| call.service_time > bound)
            .count();
        handled += report.handled();
        best += report.oracle_between(Duration::ZERO, secs(60), Some(bound));
    }
    let (over, share) = (over as f64 / calls as f64, handled as f64 / best);
    assert!(
        over < 0.05 && share > 0.95,
        "{over} of the calls are longer, {share} of the best is handled"
    );
}

#[test]
fn costs_that_grow_faster_than_the_batch_limit_the_size() {
    let backend = Backend::new()
        .super_linear(80, Duration::from_micros(30))
        .timeout(None);
    let mut shares = Vec::new();
    for seed in 1..=4 {
        let run = reference(backend.clone()).seed(seed).duration(secs(240));
        shares.push(
            run.run(CostModel::new())
                .share_of_oracle_between(secs(60), secs(240)),
        );
    }
    let mean = shares.iter().sum::<f64>() / 4.0;
    assert!(mean > 0.8, "{shares:?}");
}

#[test]
fn probes_take_little_of_the_time_even_where_items_cost_almost_nothing() {
    let run =
        reference(Backend::new().costs(Costs::of_secs(0.0, 0.1, 0.000_01))).duration(secs(120));
    let report = run.run(CostModel::new());
    let time = |probe: bool| -> f64 {
        let calls = report.calls().iter().filter(|call| !probe || call.probe);
        calls.map(|call| call.service_time.as_secs_f64()).sum()
    };
    let share = time(true) / time(false);
    assert!((0.005..=0.04).contains(&share), "{share}");
}

#[test]
fn a_fixed_size_has_no_pauses_and_no_probes() {
    let report = reference(Backend::new()).run(Fixed(50));
    assert!(
        report
            .calls()
            .iter()
            .all(|call| call.len == 50 && !call.probe && call.pause_ratio == 0.0)
    );
}
