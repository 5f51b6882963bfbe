//! One run of each scenario: a policy, a seed, and the resulting figures.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Call, Costs, Load, Report, Simulation};
use load_aware_batcher::{CostModel, Fixed, Policy};

use crate::candidates::{BOUND, Candidate};

/// The figures of a run, in the order of the scenario's columns.
pub type Figures = Vec<f64>;

const SPIKE: (Duration, Duration) = (secs(30), secs(15));

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The reference backend with the largest size of 500.
fn minute(backend: Backend, seed: u64) -> Simulation {
    Simulation::new(backend).max_batch_size(500).seed(seed)
}

/// The share of the oracle, the share of items lost, and the spread of the sizes other than probes.
fn steady(report: &Report, from: Duration, to: Duration) -> Figures {
    let mut sizes: Vec<_> = ordinary(report)
        .filter(|call| call.at > from)
        .map(|call| call.len as f64)
        .collect();
    let spread =
        (quantile(&mut sizes, 0.95) - quantile(&mut sizes, 0.05)) / quantile(&mut sizes, 0.5);
    vec![
        report.share_of_oracle_between(from, to),
        lost_share(report, from, to),
        spread,
    ]
}

fn ordinary(report: &Report) -> impl Iterator<Item = &Call> {
    report.calls().iter().filter(|call| !call.probe)
}

fn lost_share(report: &Report, from: Duration, to: Duration) -> f64 {
    let (handled, failed) = (
        report.handled_between(from, to),
        report.failed_between(from, to),
    );
    failed as f64 / (handled + failed).max(1) as f64
}

pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((share * last as f64).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

pub fn t1(candidate: Candidate, seed: u64) -> Figures {
    steady(
        &minute(Backend::new(), seed)
            .duration(secs(120))
            .run(candidate.policy(None)),
        secs(10),
        secs(120),
    )
}

pub fn t2(candidate: Candidate, seed: u64) -> Figures {
    let (from, to) = (secs(10), secs(120));
    let report = minute(Backend::new(), seed)
        .duration(to)
        .run(candidate.policy(Some(BOUND)));
    bounded(&report, from, to)
}

/// Share of the oracle that keeps the bound, share of calls over it.
fn bounded(report: &Report, from: Duration, to: Duration) -> Figures {
    let share =
        report.handled_between(from, to) as f64 / report.oracle_between(from, to, Some(BOUND));
    let calls: Vec<_> = report
        .calls()
        .iter()
        .filter(|call| call.at > from)
        .collect();
    let over = calls
        .iter()
        .filter(|call| call.service_time > BOUND)
        .count();
    vec![
        share,
        over as f64 / calls.len() as f64,
        lost_share(report, from, to),
    ]
}

/// How many calls end from this time on until the size in force is worth 90 % of the oracle for
/// five calls in a row.
fn calls_until_good(report: &Report, backend: &Backend, from: Duration, max: usize) -> f64 {
    let best = backend.best(from, 1, max, None).throughput;
    let good = |call: &Call| backend.expected(from, 1, call.batch_size, None) >= 0.9 * best;
    let calls: Vec<_> = report
        .calls()
        .iter()
        .filter(|call| call.at > from)
        .collect();
    let settled =
        (0..calls.len()).find(|place| calls[*place..].iter().take(5).all(|call| good(call)));
    settled.map_or(999.0, |place| (place + 1) as f64)
}

/// A backend whose calls cost as much as `r` items.
fn cold(r: f64) -> Backend {
    Backend::new().costs(Costs::of_secs(0.004, 0.016, 0.020 / r))
}

pub fn t3(candidate: Candidate, seed: u64) -> Figures {
    let calls = |r: f64| {
        let report = minute(cold(r), seed).run(candidate.policy(None));
        calls_until_good(&report, &cold(r), Duration::ZERO, 500)
    };
    [2.0, 20.0, 60.0, 200.0].into_iter().map(calls).collect()
}

pub fn t4(candidate: Candidate, seed: u64) -> Figures {
    let change = |costs: Costs, noise: f64| {
        let backend = Backend::new().noise(noise).costs_from(secs(60), costs);
        let report = minute(backend.clone(), seed)
            .duration(secs(120))
            .run(candidate.policy(None));
        calls_until_good(&report, &backend, secs(60), 500)
    };
    let (costly_calls, cheap_items) = (
        Costs::of_secs(0.020, 0.080, 0.001),
        Costs::of_secs(0.004, 0.016, 0.00025),
    );
    vec![
        change(costly_calls, 0.15),
        change(cheap_items, 0.15),
        change(costly_calls, 0.02),
        change(cheap_items, 0.02),
    ]
}

fn spike() -> Backend {
    Backend::new().load(Load::spike(0.2, 0.85, SPIKE.0, SPIKE.1))
}

/// The items lost from the spike on; the seconds until the setpoint is back to 90 % of the oracle
/// that keeps the bound; the share of the oracle without a bound over the whole run.
fn after_spike(report: &Report, backend: &Backend, bound: Option<Duration>) -> Figures {
    let end = SPIKE.0 + SPIKE.1;
    let best = backend.best(end, 1, 500, bound).throughput;
    let good = |call: &&Call| {
        let duty = 1.0 / (1.0 + call.pause_ratio);
        backend.expected(end, 1, call.batch_size, None) * duty >= 0.9 * best
    };
    let back = report
        .calls()
        .iter()
        .filter(|call| call.at > end)
        .find(good)
        .map_or(secs(15), |call| call.at - end);
    let lost = report.failed_between(SPIKE.0, secs(60));
    vec![lost as f64, back.as_secs_f64(), report.share_of_oracle()]
}

pub fn t5(candidate: Candidate, seed: u64) -> Figures {
    after_spike(
        &minute(spike(), seed).run(candidate.policy(Some(BOUND))),
        &spike(),
        Some(BOUND),
    )
}

/// The same without a bound.
pub fn t5_without_bound(candidate: Candidate, seed: u64) -> Figures {
    after_spike(
        &minute(spike(), seed).run(candidate.policy(None)),
        &spike(),
        None,
    )
}

pub fn t6(candidate: Candidate, seed: u64) -> Figures {
    let backend = spike().overload_errors(2.0);
    after_spike(
        &minute(backend.clone(), seed).run(candidate.policy(Some(BOUND))),
        &backend,
        Some(BOUND),
    )
}

pub fn t7(candidate: Candidate, seed: u64) -> Figures {
    let sine = Load::Sine {
        low: 0.1,
        high: 0.7,
        period: secs(40),
    };
    let ramp = Load::Ramp {
        from: 0.1,
        to: 0.8,
        begin: secs(30),
        end: secs(90),
    };
    let one = |load: Load| {
        let report = minute(Backend::new().load(load), seed)
            .duration(secs(130))
            .run(candidate.policy(Some(BOUND)));
        let figures = bounded(&report, secs(10), secs(130));
        [figures[0], figures[2]]
    };
    [one(sine), one(ramp)].concat()
}

pub fn t9(candidate: Candidate, seed: u64) -> Figures {
    let run = minute(spike(), seed)
        .duration(secs(180))
        .arrivals_per_second(450.0)
        .linger(Duration::from_millis(20));
    let report = run.run(candidate.policy(None));
    vec![report.backlog() as f64, report.failed() as f64]
}

pub fn t10(candidate: Candidate, seed: u64) -> Figures {
    let report = minute(Backend::new().row_errors(0.1), seed)
        .duration(secs(120))
        .run(candidate.policy(None));
    steady(&report, secs(10), secs(120))
}

pub fn t11(candidate: Candidate, seed: u64) -> Figures {
    let backend = Backend::new().super_linear(80, Duration::from_micros(30));
    steady(
        &minute(backend, seed)
            .duration(secs(120))
            .run(candidate.policy(None)),
        secs(10),
        secs(120),
    )
}

pub fn t12(candidate: Candidate, seed: u64) -> Figures {
    let (from, to) = (secs(20), secs(120));
    let one = |batchers: usize| {
        let policies = (0..batchers).map(|_| candidate.policy(None)).collect();
        let report = minute(Backend::new(), seed).duration(to).run_all(policies);
        let mut each = vec![0.0; batchers];
        for call in report.calls().iter().filter(|call| call.at > from) {
            each[call.batcher] += (call.len - call.failed) as f64;
        }
        let (sum, squares) = each
            .iter()
            .fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        let jain = if squares > 0.0 {
            sum * sum / (batchers as f64 * squares)
        } else {
            f64::NAN
        };
        [report.share_of_oracle_between(from, to), jain]
    };
    [one(4), one(16), one(64)].concat()
}

/// 300 items a second: 40 % of what the backend can do.
fn relaxed(seed: u64) -> Simulation {
    minute(Backend::new(), seed)
        .duration(secs(120))
        .arrivals_per_second(300.0)
}

pub fn t13(candidate: Candidate, seed: u64) -> Figures {
    // Natural batching: the handler gets whatever waits when it is free.
    let natural = relaxed(seed).linger(Duration::ZERO).run(Fixed(500));
    let report = relaxed(seed)
        .linger(Duration::from_millis(20))
        .run(candidate.policy(None));
    let p99 = |report: &Report| {
        report
            .latency(0.99)
            .map_or(f64::NAN, |wait| wait.as_secs_f64())
    };
    vec![
        p99(&report) / p99(&natural),
        p99(&report) * 1e3,
        report.cores_busy() / natural.cores_busy(),
    ]
}

/// With the throttle and without it, for a user who wants the backend's score below 0.25.
pub fn t14(candidate: Candidate, seed: u64) -> Figures {
    let run = |policy: Box<dyn Policy>| {
        let backend = Backend::new().cores(1);
        let run = minute(backend, seed)
            .duration(secs(120))
            .arrivals_per_second(300.0);
        run.linger(Duration::from_millis(20)).run(policy)
    };
    let (with, without) = match candidate {
        Candidate::CostModel => (
            run(Box::new(CostModel::new().throttle_above(0.25, 0.05))),
            run(Box::new(CostModel::new().throttle_above(1.0, 1.0))),
        ),
        _ => (run(candidate.policy(None)), run(Box::new(Fixed(500)))),
    };
    let ratio = |of: fn(&Report) -> f64| of(&with) / of(&without);
    vec![
        ratio(Report::cores_busy),
        ratio(|report| report.handled() as f64),
    ]
}

pub fn t15(candidate: Candidate, seed: u64) -> Figures {
    let silent = |backend: Backend| backend.signals(false);
    let steady_run = minute(silent(Backend::new()), seed)
        .duration(secs(120))
        .run(candidate.policy(None));
    let spike_run = minute(silent(spike()), seed).run(candidate.policy(Some(BOUND)));
    let mut figures = steady(&steady_run, secs(10), secs(120));
    figures.extend(&after_spike(&spike_run, &spike(), Some(BOUND))[..2]);
    figures
}
