//! The oracle that a run is compared with, and the sums of a report.

use super::*;
use load_aware_batcher::Fixed;

const NOW: Duration = Duration::ZERO;

#[test]
fn the_expected_throughput_is_items_over_time() {
    let one = plain(4.0, 16.0, 1.0);
    // Backend, batchers, items, and items a second.
    let table = [
        ("a call takes 70 ms", one.clone(), 1, 50, 50.0 / 0.07),
        (
            "a background load of a fifth",
            one.clone().load(Load::Constant(0.2)),
            1,
            50,
            50.0 / 0.0865,
        ),
        ("four on four cores", one.clone(), 4, 50, 4.0 * 50.0 / 0.07),
        (
            "eight on four cores without latency",
            plain(0.0, 16.0, 1.0),
            8,
            50,
            4.0 * 50.0 / 0.066,
        ),
        (
            "a full background load",
            one.clone().load(Load::Constant(1.0)),
            1,
            50,
            0.0,
        ),
        (
            "longer than the timeout",
            one.clone().timeout(millis(69.0)),
            1,
            50,
            0.0,
        ),
        (
            "shorter than the timeout",
            one.clone().timeout(millis(71.0)),
            1,
            50,
            50.0 / 0.07,
        ),
        (
            "a latency longer than the timeout",
            one.clone().timeout(millis(3.0)).noise(0.1),
            1,
            50,
            0.0,
        ),
        (
            "rows refused",
            one.clone().row_errors(0.1),
            1,
            50,
            0.9 * 50.0 / 0.07,
        ),
        (
            "calls refused",
            one.clone().call_errors(0.2),
            1,
            50,
            0.8 * 50.0 / 0.07,
        ),
        (
            "conflicts",
            one.clone().lock_conflicts(1e-4),
            1,
            50,
            (-0.25_f64).exp() * 50.0 / 0.07,
        ),
        (
            "both",
            one.clone().lock_conflicts(1e-4).call_errors(0.2),
            1,
            50,
            0.8 * (-0.25_f64).exp() * 50.0 / 0.07,
        ),
        (
            "outliers",
            one.clone().outliers(0.1, 11.0),
            1,
            50,
            50.0 / 0.136,
        ),
        (
            "super-linear",
            one.clone().super_linear(40, millis(0.1)),
            1,
            50,
            50.0 / 0.08,
        ),
        (
            "over capacity",
            plain(0.0, 16.0, 1.0).cores(1).overload_errors(0.2),
            2,
            50,
            0.8 * 50.0 / 0.066,
        ),
        (
            "far over capacity",
            plain(0.0, 16.0, 1.0).cores(1).overload_errors(9.0),
            2,
            50,
            0.5 * 50.0 / 0.066,
        ),
    ];
    for (name, backend, batchers, n, expected) in table {
        let found = backend.expected(NOW, batchers, n, None);
        assert!(
            (found - expected).abs() < 1e-3,
            "{name}: {found} instead of {expected}"
        );
    }
}

#[test]
fn a_run_has_the_throughput_that_the_oracle_expects() {
    let steady = Backend::new().timeout(None);
    let table = [
        (
            "noise and a timeout",
            Backend::new().noise(0.4),
            1,
            200,
            0.02,
        ),
        ("close to the timeout", Backend::new(), 1, 290, 0.03),
        (
            "latency and too few cores",
            steady
                .clone()
                .costs(costs(20.0, 16.0, 1.0))
                .cores(2)
                .noise(0.3),
            5,
            50,
            0.02,
        ),
        (
            "overload",
            steady.clone().cores(2).overload_errors(0.15),
            4,
            50,
            0.02,
        ),
        (
            "super-linear",
            steady.clone().super_linear(30, millis(0.05)),
            1,
            90,
            0.01,
        ),
        (
            "everything",
            Backend::new()
                .row_errors(0.05)
                .call_errors(0.05)
                .outliers(0.05, 3.0)
                .lock_conflicts(1e-5),
            1,
            80,
            0.03,
        ),
    ];
    for (name, backend, batchers, n, tolerance) in table {
        let run = Simulation::new(backend.clone()).duration(secs(400.0));
        let found = run.run_all(vec![Fixed(n); batchers]).handled() as f64;
        let ratio = found / (400.0 * backend.expected(NOW, batchers, n, None));
        assert!((ratio - 1.0).abs() < tolerance, "{name}: {ratio} of it");
    }
}

#[test]
fn no_size_is_better_than_the_best_and_the_best_is_at_most_the_largest() {
    let backends = [
        plain(4.0, 16.0, 1.0).timeout(millis(333.0)),
        Backend::new().lock_conflicts(3e-5),
        Backend::new().super_linear(20, millis(1.0)),
        Backend::new().load(Load::Constant(1.0)),
        plain(1.0, 0.0, 1.0).timeout(millis(2.5)),
    ];
    for (place, backend) in backends.iter().enumerate() {
        for (max, bound) in [
            (1, None),
            (37, None),
            (977, None),
            (977, Some(millis(90.0))),
        ] {
            let best = backend.best(NOW, 2, max, bound);
            let brought = |n| backend.expected(NOW, 2, n, bound);
            let most = (1..=max).map(brought).fold(0.0, f64::max);
            near(best.throughput, most, most * 1e-9);
            assert!(best.batch_size <= max, "{place}: {best:?}");
            assert!(
                most == 0.0 || brought(best.batch_size) == best.throughput,
                "{place}: {best:?}"
            );
        }
    }
}

#[test]
fn a_bound_is_exceeded_by_one_call_in_twenty() {
    for (noise, batchers) in [(0.05, 1), (0.15, 1), (0.4, 1), (0.15, 12)] {
        let backend = Backend::new()
            .noise(noise)
            .timeout(None)
            .costs(costs(2.0, 16.0, 0.2));
        let bound = millis(300.0);
        let best = backend.best(NOW, batchers, 5_000, Some(bound));
        let report = Simulation::new(backend)
            .max_batch_size(5_000)
            .duration(secs(3_000.0));
        let report = report.run_all(vec![Fixed(best.batch_size); batchers]);
        let over = report
            .calls()
            .iter()
            .filter(|call| call.service_time > bound)
            .count();
        let share = over as f64 / report.calls().len() as f64;
        // With several batchers, noise evens out.
        let range = if batchers == 1 {
            0.043..0.057
        } else {
            0.0..0.057
        };
        assert!(
            range.contains(&share),
            "{share} are over it with noise {noise}, {batchers} batchers, {best:?}"
        );
    }
}

#[test]
fn the_oracle_follows_load_and_costs_along_the_run() {
    // Batches of 100 items, of 1 ms each and then of 2 ms. Then half of the backend is taken, then
    // all of it.
    let backend = plain(0.0, 0.0, 1.0).costs_from(secs(10.0), costs(0.0, 0.0, 2.0));
    let backend = backend.load(Load::Steps(
        0.0,
        vec![(secs(20.0), 0.5), (secs(30.0), 1.0), (secs(40.0), 0.5)],
    ));
    let report = Simulation::new(backend.clone())
        .duration(secs(40.0))
        .max_batch_size(100)
        .run(Fixed(100));
    let sum = |from, to| report.oracle_between(secs(from), secs(to), None);
    for (from, to, expected) in [
        (0.0, 10.0, 10_000.0),
        (10.0, 20.0, 5_000.0),
        (20.0, 30.0, 2_500.0),
        (30.0, 40.0, 0.0),
        (0.0, 40.0, 17_500.0),
        (3.0, 3.02, 20.0),
        (5.0, 5.0, 0.0),
    ] {
        near(sum(from, to), expected, 1e-3);
    }
    // It is computed every 50 ms.
    near(sum(9.97, 10.3), 30.0 + 150.0, 25.0);
    near(report.share_of_oracle(), 1.0, 0.02);
    near(
        report.share_of_oracle_between(secs(10.0), secs(20.0)),
        1.0,
        0.02,
    );
    assert!(
        report
            .share_of_oracle_between(secs(30.0), secs(40.0))
            .is_nan(),
        "there was nothing to be had"
    );
    let half = Simulation::new(backend.clone())
        .duration(secs(40.0))
        .max_batch_size(100);
    let pausing = |_: &Window<'_>, current: &Setpoint| Decision {
        pause_ratio: 1.0,
        ..Decision::hold(current, "half")
    };
    let half = half
        .initial_batch_size(100)
        .load_check_interval(millis(1.0));
    near(
        Listener::new(Cadence::EveryCheck, pausing)
            .listen(&half)
            .1
            .share_of_oracle(),
        0.5,
        0.02,
    );
    let late = Simulation::new(plain(0.0, 0.0, 1.0).timeout(millis(10.0))).run(Fixed(20));
    assert!(
        late.failed() > 0 && late.share_of_oracle() == 0.0,
        "what failed does not count"
    );
    // Two batchers have two cores, and a bound limits the oracle, too.
    let both = Simulation::new(plain(0.0, 10.0, 1.0))
        .duration(secs(10.0))
        .max_batch_size(90)
        .run_all(vec![Fixed(90); 2]);
    near(
        both.oracle_between(NOW, secs(10.0), None),
        2.0 * 900.0 * 10.0,
        1e-6,
    );
    near(both.share_of_oracle(), 1.0, 1e-9);
    near(
        both.oracle_between(NOW, secs(10.0), Some(millis(50.5))),
        2.0 * 10.0 * 40.0 / 0.05,
        1e-6,
    );
}

#[test]
fn a_call_counts_where_it_ends() {
    let report = Simulation::new(plain(0.0, 1_000.0, 0.0).row_errors(1.0))
        .duration(secs(10.0))
        .run(Fixed(3));
    let failed = |from, to| report.failed_between(secs(from), secs(to));
    // The beginning is excluded, the end is included.
    assert_eq!(
        [
            failed(0.0, 0.9),
            failed(0.0, 1.0),
            failed(1.0, 2.0),
            failed(1.5, 3.5),
            failed(0.0, 10.0)
        ],
        [0, 3, 3, 6, 30]
    );
    assert_eq!(
        (
            report.failed(),
            report.handled(),
            report.handled_between(NOW, secs(10.0))
        ),
        (30, 0, 0)
    );
    assert!(
        report
            .calls()
            .windows(2)
            .all(|pair| pair[0].at <= pair[1].at)
    );
    let report = Simulation::new(plain(0.0, 1_000.0, 0.0))
        .duration(secs(10.0))
        .run(Fixed(3));
    assert_eq!(
        (
            report.failed(),
            report.handled(),
            report.handled_between(secs(1.0), secs(4.0))
        ),
        (0, 30, 9)
    );
}
