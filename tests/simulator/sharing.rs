//! The time of a call: latency, work, shared cores and noise.

use super::*;
use load_aware_batcher::Fixed;

#[test]
fn a_call_takes_its_latency_plus_its_work_over_the_free_share_of_the_core() {
    // Background load, items, and latency + (call + item·n)/(1 − load) in ms.
    for (load, n, expected) in [
        (0.0, 1, 21.0),
        (0.0, 50, 70.0),
        (0.2, 50, 86.5),
        (0.5, 200, 436.0),
        (0.75, 4, 84.0),
    ] {
        let backend = plain(4.0, 16.0, 1.0).load(Load::Constant(load));
        let report = Simulation::new(backend).duration(secs(100.0)).run(Fixed(n));
        let calls = report.calls();
        assert!(
            calls
                .iter()
                .all(|call| call.len == n && call.full && !call.probe && call.failed == 0)
        );
        for (place, call) in calls.iter().enumerate() {
            near(call.service_time.as_secs_f64() * 1e3, expected, 1e-5);
            near(
                call.at.as_secs_f64() * 1e3,
                expected * (place + 1) as f64,
                1e-3,
            );
        }
        // n / (a + b·n).
        assert_eq!(report.handled(), n * (100_000.0 / expected) as usize);
    }
}

#[test]
fn the_default_backend_has_the_costs_in_its_documentation() {
    let described = Backend::new()
        .costs(costs(4.0, 16.0, 1.0))
        .cores(4)
        .load(Load::Constant(0.2))
        .noise(0.15);
    let nothing_else = described
        .outliers(0.0, 1.0)
        .overload_errors(0.0)
        .row_errors(0.0)
        .call_errors(0.0)
        .locks(0);
    assert_eq!(
        Backend::new(),
        nothing_else
            .lock_conflicts(0.0)
            .signals(true)
            .timeout(millis(400.0))
    );
}

#[test]
fn calls_share_the_cores_and_never_work_faster_than_one_core() {
    // Cores, batchers, and the factor by which a call takes longer than alone.
    assert_eq!(plain(0.0, 1.0, 0.0).cores(0), plain(0.0, 1.0, 0.0).cores(1));
    for (cores, batchers, times) in [
        (1, 1, 1.0),
        (1, 2, 2.0),
        (1, 7, 7.0),
        (4, 4, 1.0),
        (4, 5, 1.25),
        (4, 16, 4.0),
    ] {
        for load in [0.0, 0.5] {
            let backend = plain(0.0, 10.0, 1.0)
                .cores(cores)
                .load(Load::Constant(load));
            let run = Simulation::new(backend).duration(secs(10.001));
            let report = run.run_all(vec![Fixed(10); batchers]);
            for call in report.calls() {
                near(
                    call.service_time.as_secs_f64(),
                    0.02 * times / (1.0 - load),
                    1e-8,
                );
            }
            assert_eq!(
                report.calls().len(),
                (10.0 / (0.02 * times / (1.0 - load)) + 1e-6) as usize * batchers
            );
        }
    }
}

#[test]
fn a_call_slows_the_others_while_it_works() {
    let run = |latency| {
        let run = Simulation::new(plain(latency, 0.0, 1.0).cores(1)).duration(secs(1.0));
        run.run_all(vec![Fixed(10), Fixed(20)])
    };
    // One call needs 10 ms and the other 20. At 20 ms the first one has had its half and begins
    // again; then both need 10.
    let report = run(0.0);
    all_near(&ends(&report, 0, 4), &[20.0, 40.0, 60.0, 80.0], 1e-6);
    all_near(&ends(&report, 1, 2), &[40.0, 80.0], 1e-6);
    // While the first one waits 5 ms for the network, the second one has the whole core.
    let report = run(5.0);
    all_near(&ends(&report, 0, 2), &[25.0, 45.0], 1e-6);
    all_near(&ends(&report, 1, 1), &[40.0], 1e-6);
}

#[test]
fn a_load_that_changes_during_a_call_applies_to_the_rest_of_it() {
    let steps = |times: &[(f64, f64)]| {
        Load::Steps(
            0.0,
            times
                .iter()
                .map(|(at, share)| (secs(*at), *share))
                .collect(),
        )
    };
    let (sine, spikes, ramp) = (
        Load::Sine {
            low: 0.2,
            high: 0.6,
            period: secs(40.0),
        },
        Load::Spikes {
            base: 0.1,
            peak: 0.9,
            every: secs(10.0),
            lasting: secs(2.0),
        },
        Load::Ramp {
            from: 0.0,
            to: 0.8,
            begin: secs(10.0),
            end: secs(20.0),
        },
    );
    // The load, the work of a call in seconds, and the time at which the free share of the core has
    // added up to that work.
    let table = [
        (steps(&[(0.05, 0.5)]), 0.1, 0.15, 1e-9),
        (steps(&[(0.05, 0.5), (0.07, 0.0)]), 0.1, 0.11, 1e-9),
        (
            Load::spike(0.2, 0.85, secs(30.0), secs(15.0)),
            24.0 + 1.5 + 0.8,
            45.0 + 1.0 - 0.75 / 0.8,
            1e-9,
        ),
        (Load::outage(0.0, secs(0.05), secs(1.0)), 0.1, 1.1, 1e-9),
        (spikes.clone(), 9.0 + 0.2, 12.0, 1e-6),
        (spikes, 9.0 + 0.2 + 7.2 + 0.2 + 0.9, 23.0, 1e-6),
        (ramp.clone(), 10.0, 10.0, 1e-6),
        // Smooth loads change every 20 ms.
        (ramp.clone(), 10.0 + 6.0, 20.0, 0.05),
        (ramp, 10.0 + 6.0 + 2.0, 30.0, 0.05),
        (sine.clone(), 24.0, 40.0, 0.05),
        // The upper half wave has more of the load: 20·0.4 + 0.2·40/π.
        (sine, 12.0 - 8.0 / std::f64::consts::PI, 20.0, 0.05),
    ];
    for (load, work, end, tolerance) in table {
        let backend = plain(0.0, work * 1e3, 0.0).load(load.clone());
        let report = Simulation::new(backend).duration(secs(100.0)).run(Fixed(1));
        let found = report.calls()[0].at.as_secs_f64();
        assert!(
            (found - end).abs() <= tolerance,
            "{work} s of work under {load:?} end at {found} instead of {end}"
        );
    }
}

#[test]
fn a_call_has_the_costs_of_the_moment_at_which_it_begins() {
    let backend = plain(0.0, 10.0, 0.0).costs_from(millis(20.0), costs(0.0, 15.0, 0.0));
    let backend = backend.costs_from(millis(40.0), costs(5.0, 20.0, 1.0));
    let report = Simulation::new(backend).duration(secs(1.0)).run(Fixed(5));
    // The change applies from its exact time on. A call that began at 35 keeps its costs at 40.
    all_near(&ends(&report, 0, 5), &[10.0, 20.0, 35.0, 50.0, 80.0], 1e-6);
}

#[test]
fn super_linear_work_grows_with_the_square_of_the_items_beyond() {
    for (n, expected) in [(79, 89.0), (80, 90.0), (81, 91.5), (100, 310.0)] {
        let backend = plain(0.0, 10.0, 1.0).super_linear(80, millis(0.5));
        let report = Simulation::new(backend).duration(secs(5.0)).run(Fixed(n));
        near(
            report.calls()[0].service_time.as_secs_f64() * 1e3,
            expected,
            1e-6,
        );
    }
}

#[test]
fn noise_scatters_the_work_around_its_mean_and_leaves_the_latency_alone() {
    for deviation in [0.05, 0.3, 0.8] {
        let backend = plain(30.0, 5.0, 0.05).noise(deviation);
        let report = Simulation::new(backend)
            .duration(secs(1_000.0))
            .run(Fixed(100));
        let work = |call: &Call| (call.service_time.as_secs_f64() * 1e3 - 30.0) / 10.0;
        let (mean, _) = mean_and_deviation(report.calls().iter().map(work));
        near(mean, 1.0, 0.02 * deviation);
        let (_, found) = mean_and_deviation(report.calls().iter().map(|call| work(call).ln()));
        near(found / deviation, 1.0, 0.01);
    }
}

#[test]
fn outliers_are_a_share_of_the_calls_with_a_multiple_of_the_work() {
    let report = Simulation::new(plain(2.0, 8.0, 0.0).outliers(0.05, 20.0))
        .duration(secs(1_000.0))
        .run(Fixed(1));
    let calls = report.calls();
    let is = |call: &&Call, time: f64| (call.service_time.as_secs_f64() * 1e3 - time).abs() < 1e-6;
    let (usual, long) = (
        calls.iter().filter(|c| is(c, 10.0)).count(),
        calls.iter().filter(|c| is(c, 162.0)).count(),
    );
    assert_eq!(usual + long, calls.len());
    near(long as f64 / calls.len() as f64, 0.05, 0.003);
}

#[test]
fn the_cores_are_busy_for_the_time_that_calls_work_and_no_longer() {
    // Latency, load and batchers on two cores, and the cores that are busy.
    let table = [
        (0.0, 0.0, 1, 1.0),
        (10.0, 0.0, 1, 0.75),
        (0.0, 0.4, 1, 0.6),
        (0.0, 0.0, 2, 2.0),
        (0.0, 0.4, 5, 1.2),
    ];
    for (latency, load, batchers, expected) in table {
        let backend = plain(latency, 20.0, 1.0)
            .cores(2)
            .load(Load::Constant(load));
        let report = Simulation::new(backend)
            .duration(secs(20.0))
            .run_all(vec![Fixed(10); batchers]);
        near(report.cores_busy(), expected, 0.002);
    }
    // Calls that are given up count, too.
    let report = Simulation::new(plain(0.0, 20.0, 1.0).timeout(millis(10.0)))
        .duration(secs(20.0))
        .run(Fixed(10));
    assert_eq!(report.handled(), 0);
    near(report.cores_busy(), 1.0, 0.002);
}

#[test]
fn the_handler_reports_what_the_backend_sees() {
    // The reported CPU is a mean over a second that begins at the background load.
    let report = Simulation::new(plain(0.0, 500.0, 0.0).cores(1))
        .duration(secs(20.0))
        .run(Fixed(10));
    let cpu = |call: &Call| call.signals.cpu_load.unwrap();
    near(cpu(&report.calls()[0]), 1.0 - (-0.5_f64).exp(), 1e-9);
    near(cpu(&report.calls()[1]), 1.0 - (-1.0_f64).exp(), 1e-9);
    // The background load, plus the share of the rest that the calls use of four cores.
    let backend = plain(0.0, 20.0, 1.0).load(Load::Constant(0.2)).locks(7);
    let report = Simulation::new(backend.clone())
        .duration(secs(20.0))
        .run_all(vec![Fixed(3), Fixed(4)]);
    let (first, last) = (&report.calls()[0], report.calls().last().unwrap());
    assert!((0.2..0.25).contains(&cpu(first)), "{}", cpu(first));
    near(cpu(last), 0.2 + 0.8 * 2.0 / 4.0, 1e-3);
    // The items of the other calls in flight.
    let depths = |batcher| {
        of(&report, batcher)
            .iter()
            .map(|call| call.signals.queue_depth.unwrap())
            .max()
            .unwrap()
    };
    assert_eq!((depths(0), depths(1)), (4, 3));
    assert_eq!(
        (last.signals.db_locks, last.signals.error_rate),
        (Some(7), Some(0.0))
    );
    assert_eq!(
        (last.signals.processing_time, last.signals.custom),
        (None, [None; 8])
    );
    let report = Simulation::new(backend.signals(false)).run(Fixed(3));
    assert!(report.calls().iter().all(|call| call.signals.is_empty()));
}

#[test]
fn the_reported_cpu_of_an_overloaded_backend_is_one() {
    for (batchers, load) in [(9, 0.0), (1, 1.0), (9, 0.9)] {
        let backend = plain(0.0, 20.0, 1.0)
            .load(Load::Steps(load, vec![(secs(10.0), 0.5)]))
            .cores(2);
        let report = Simulation::new(backend)
            .duration(secs(20.0))
            .run_all(vec![Fixed(3); batchers]);
        let worst = report
            .calls()
            .iter()
            .filter_map(|call| call.signals.cpu_load)
            .fold(0.0, f64::max);
        assert!(
            (0.98..=1.0).contains(&worst),
            "{worst} with {batchers} and {load}"
        );
    }
}
