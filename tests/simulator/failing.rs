//! How calls and items fail.

use super::*;
use load_aware_batcher::{CallOutcome, Fixed, Signals};

fn share_failed(report: &Report, from: f64) -> f64 {
    let (from, to) = (secs(from), Duration::MAX);
    let failed = report.failed_between(from, to) as f64;
    failed / (failed + report.handled_between(from, to) as f64)
}

#[test]
fn a_call_ends_at_the_timeout_and_all_its_items_are_lost() {
    for (n, end, failed) in [(94, 99.0, 0), (96, 100.0, 96), (500, 100.0, 500)] {
        let report = Simulation::new(plain(4.0, 1.0, 1.0).timeout(millis(100.0)))
            .duration(secs(10.0))
            .run(Fixed(n));
        for call in report.calls() {
            near(call.service_time.as_secs_f64() * 1e3, end, 1e-5);
            assert_eq!((call.len, call.failed), (n, failed));
            assert_eq!(
                call.signals == Signals::default(),
                failed > 0,
                "an answer that did not come reports nothing"
            );
        }
        // No item is tried again.
        let calls = (10_000.0 / end) as usize;
        assert_eq!(
            (report.failed(), report.handled()),
            (failed * calls, (n - failed) * calls)
        );
    }
    // A call that takes exactly the timeout succeeds.
    let run = Simulation::new(plain(0.0, 0.0, 1.0).timeout(millis(100.0))).duration(secs(0.15));
    assert_eq!(run.run(Fixed(100)).handled(), 100);
    // Without a timeout no call fails.
    let report = Simulation::new(plain(4.0, 1e6, 0.0).timeout(None))
        .duration(secs(2_000.0))
        .run(Fixed(1));
    assert_eq!((report.handled(), report.failed()), (1, 0));
    // The latency alone may exceed the timeout.
    let report = Simulation::new(plain(200.0, 1.0, 0.0).timeout(millis(100.0)))
        .duration(secs(1.0))
        .run(Fixed(1));
    assert_eq!((report.handled(), report.failed()), (0, 10));
}

/// Begins with this size, and pauses forever after a failure.
struct Rests(usize);

impl Policy for Rests {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let failed = window
            .samples
            .iter()
            .filter_map(|sample| sample.batch)
            .any(|batch| batch.failed > 0);
        Decision {
            pause_ratio: if failed { 1e6 } else { 0.0 },
            ..Decision::hold(current, "rests")
        }
    }

    fn initial_batch_size(&self) -> Option<usize> {
        Some(self.0)
    }
}

#[test]
fn a_call_that_is_given_up_frees_its_core() {
    let run =
        Simulation::new(plain(0.0, 0.0, 1.0).cores(1).timeout(millis(30.0))).duration(secs(0.5));
    let report = run.run_all(vec![Rests(10), Rests(1_000)]);
    all_near(&ends(&report, 1, 9), &[30.0], 1e-6);
    // The second call has half of the core from 20 to 30, and then all of it.
    all_near(&ends(&report, 0, 4), &[20.0, 35.0, 45.0, 55.0], 1e-6);
}

#[test]
fn rows_are_refused_with_their_probability_and_the_call_succeeds() {
    for probability in [0.02, 0.3, 0.8, 1.0] {
        let report = Simulation::new(plain(0.0, 1.0, 0.1).row_errors(probability))
            .duration(secs(100.0))
            .run(Fixed(90));
        near(share_failed(&report, 0.0), probability, 0.002);
        let (mean, deviation) =
            mean_and_deviation(report.calls().iter().map(|call| call.failed as f64));
        near(mean, 90.0 * probability, 0.2);
        // The deviation of a binomial distribution, and of the rounding.
        near(
            deviation,
            (90.0 * probability * (1.0 - probability) + 1.0 / 12.0).sqrt(),
            0.3,
        );
        for call in report.calls() {
            assert_eq!(call.signals.error_rate, Some(call.failed as f64 / 90.0));
        }
    }
}

#[test]
fn no_more_rows_are_refused_than_there_are() {
    let report = Simulation::new(plain(0.0, 1.0, 0.0).row_errors(0.97))
        .duration(secs(20.0))
        .run(Fixed(5));
    assert!(report.calls().iter().all(|call| call.failed <= 5));
    near(share_failed(&report, 0.0), 0.97, 0.02);
}

#[test]
fn calls_fail_as_a_whole_with_their_probability_whatever_their_size() {
    for n in [1, 400] {
        let report = Simulation::new(plain(0.0, 10.0, 0.0).call_errors(0.2))
            .duration(secs(200.0))
            .run(Fixed(n));
        assert!(
            report
                .calls()
                .iter()
                .all(|call| [0, n].contains(&call.failed))
        );
        assert!(
            report
                .calls()
                .iter()
                .all(|call| call.signals.is_empty() == (call.failed > 0))
        );
        near(share_failed(&report, 0.0), 0.2, 0.01);
    }
    let run = Simulation::new(plain(0.0, 10.0, 0.0).call_errors(0.2)).duration(secs(20.0));
    let (asked, _) = Listener::new(Cadence::EveryBatch, hold).listen(&run);
    for batch in asked
        .iter()
        .flat_map(|asked| &asked.samples)
        .filter_map(|sample| sample.batch)
    {
        assert_eq!(batch.outcome == CallOutcome::Ok, batch.failed == 0);
        assert_eq!(
            batch.outcome == CallOutcome::Transient,
            batch.failed == batch.len
        );
    }
}

#[test]
fn every_pair_of_items_may_conflict() {
    for (n, together) in [(50, 0.0), (200, 0.0), (200, 0.25)] {
        let backend = plain(0.0, 10.0, 0.0)
            .lock_conflicts(1e-5)
            .call_errors(together);
        let report = Simulation::new(backend).duration(secs(300.0)).run(Fixed(n));
        let through = (-1e-5 * (n * n) as f64).exp() * (1.0 - together);
        assert!(
            report
                .calls()
                .iter()
                .all(|call| [0, n].contains(&call.failed))
        );
        near(share_failed(&report, 0.0), 1.0 - through, 0.01);
    }
}

#[test]
fn a_backend_over_its_capacity_refuses_items_in_proportion_and_half_at_most() {
    // Gain, cores, batchers, background load, probability of `row_errors`; the share refused, which
    // is gain · (load + batchers/cores − 1).
    let table = [
        (0.2, 1, 1, 0.0, 0.0, 0.0),
        (0.2, 1, 2, 0.0, 0.0, 0.2),
        (0.2, 1, 2, 0.5, 0.0, 0.3),
        (0.2, 4, 8, 0.0, 0.0, 0.2),
        (0.2, 4, 2, 0.4, 0.0, 0.0),
        (0.2, 4, 3, 0.5, 0.0, 0.05),
        (0.2, 1, 2, 0.0, 0.1, 0.3),
        (0.2, 4, 1, 0.0, 0.1, 0.1),
        (9.0, 1, 3, 0.0, 0.0, 0.5),
        (9.0, 1, 3, 0.0, 0.7, 0.7),
    ];
    for (gain, cores, batchers, load, rows, expected) in table {
        let backend = plain(0.0, 20.0, 0.5)
            .cores(cores)
            .load(Load::Constant(load));
        let run =
            Simulation::new(backend.overload_errors(gain).row_errors(rows)).duration(secs(120.0));
        // The demand is a mean over two seconds that begins at 0.
        near(
            share_failed(&run.run_all(vec![Fixed(100); batchers]), 20.0),
            expected,
            0.004,
        );
    }
    let run =
        Simulation::new(plain(0.0, 100.0, 0.0).cores(1).overload_errors(0.5)).duration(secs(1.2));
    let early = share_failed(&run.run_all(vec![Fixed(1_000); 2]), 0.0);
    assert_eq!(
        early, 0.0,
        "over its capacity after two seconds, not at once"
    );
}

#[test]
fn lost_items_are_counted_and_not_tried_again() {
    let backend = Backend::new()
        .row_errors(0.05)
        .call_errors(0.05)
        .overload_errors(0.3)
        .load(Load::Constant(0.6));
    let report = Simulation::new(backend).run_all(vec![Fixed(90), Fixed(150), Fixed(20)]);
    let called: usize = report.calls().iter().map(|call| call.len).sum();
    assert!(report.handled() > 0 && report.failed() > 0);
    assert_eq!(report.handled() + report.failed(), called);
    assert!(report.calls().iter().all(|call| call.failed <= call.len));
}
