use crate::policy::Fixed;
use crate::sim::{Backend, Simulation};

/// The engine's events and the oracle's formula are two ways to the same figure.
#[test]
fn a_fixed_size_brings_what_the_formula_says() {
    let table = [
        (Backend::new(), 1, 50, 0.01),
        (Backend::new(), 1, 230, 0.02),
        (Backend::new().row_errors(0.1), 1, 100, 0.01),
        (Backend::new().call_errors(0.2), 1, 100, 0.05),
        (Backend::new().lock_conflicts(1e-5), 1, 100, 0.02),
        (
            Backend::new().outliers(0.02, 5.0).timeout(None),
            1,
            100,
            0.03,
        ),
        (Backend::new().cores(1).timeout(None), 3, 50, 0.02),
        (Backend::new(), 16, 30, 0.03),
    ];
    for (backend, batchers, size, tolerance) in table {
        let run = Simulation::new(backend.clone()).duration(std::time::Duration::from_secs(300));
        let report = run.run_all(vec![Fixed(size); batchers]);
        let expected = backend.expected(std::time::Duration::ZERO, batchers, size, None) * 300.0;
        let ratio = report.handled() as f64 / expected;
        assert!(
            (ratio - 1.0).abs() < tolerance,
            "{batchers} of {size}: {ratio} of the formula, {backend:?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    let run = |seed| {
        Simulation::new(Backend::new())
            .seed(seed)
            .arrivals_per_second(200.0)
            .run(Fixed(50))
    };
    let (one, same, other) = (run(1), run(1), run(2));
    assert_eq!(one.calls(), same.calls());
    assert_eq!(one.latency(0.99), same.latency(0.99));
    assert_ne!(one.calls(), other.calls());
}

#[test]
fn every_arrival_is_handed_over_once_and_in_time() {
    let linger = std::time::Duration::from_millis(20);
    let report = Simulation::new(Backend::new())
        .arrivals_per_second(100.0)
        .linger(linger)
        .max_batch_size(500)
        .run(Fixed(500));
    let offered = report.handled() + report.failed() + report.backlog();
    assert!((5_700..6_300).contains(&offered), "{offered}");
    assert!(report.backlog() < 60, "{}", report.backlog());
    // At worst it comes just after a batch was cut: that call, then its own.
    let worst = report.latency(1.0).unwrap();
    assert!(
        worst < linger + 2 * std::time::Duration::from_millis(120),
        "{worst:?}"
    );
}
