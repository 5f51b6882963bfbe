//! Items that arrive at random: how they become batches, and how long they wait.

use super::*;
use load_aware_batcher::{CostModel, Fixed};

/// A backend whose calls take almost no time.
fn instant() -> Backend {
    plain(0.0, 1e-6, 0.0)
}

#[test]
fn items_arrive_at_random_at_the_given_rate() {
    let run = Simulation::new(instant())
        .duration(secs(1_000.0))
        .arrivals_per_second(50.0)
        .linger(Duration::ZERO);
    let report = run.run_all(vec![Fixed(1), Fixed(1)]);
    let times = |batcher| {
        of(&report, batcher)
            .into_iter()
            .map(begun)
            .collect::<Vec<_>>()
    };
    for batcher in [0, 1] {
        let times = times(batcher);
        near(times.len() as f64, 50_000.0, 700.0);
        let (mean, deviation) = mean_and_deviation(times.windows(2).map(|pair| pair[1] - pair[0]));
        near(mean, 0.02, 0.000_3);
        near(deviation, 0.02, 0.000_4);
    }
    assert_ne!(times(0)[..10], times(1)[..10], "each batcher has its own");
    let other = run.seed(2).run(Fixed(1));
    assert_ne!(
        times(0)[..10],
        of(&other, 0)[..10]
            .iter()
            .map(|call| begun(call))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_batch_is_cut_when_it_is_full_or_its_oldest_item_is_due() {
    for linger in [0.0, 30.0, 2_000.0] {
        let run = Simulation::new(instant())
            .duration(secs(100.0))
            .arrivals_per_second(100.0)
            .linger(millis(linger));
        let (asked, report) =
            Listener::new(Cadence::EveryCheck, hold).listen(&run.initial_batch_size(5));
        let batches: Vec<_> = asked
            .iter()
            .flat_map(|asked| &asked.samples)
            .filter_map(|sample| sample.batch)
            .collect();
        let full = batches.iter().filter(|batch| batch.full).count();
        assert_eq!(
            (full == 0, full == batches.len()),
            (linger == 0.0, linger == 2_000.0)
        );
        for batch in &batches {
            let wait = batch.queue_wait.as_secs_f64() * 1e3;
            assert_eq!((batch.cut_at, batch.full), (5, batch.len == 5));
            assert!((1..=5).contains(&batch.len));
            assert!(
                if batch.full {
                    wait < linger
                } else {
                    (wait - linger).abs() < 1e-5
                },
                "{batch:?} by {linger}"
            );
        }
        near(
            report.latency(1.0).unwrap().as_secs_f64() * 1e3,
            linger.min(200.0),
            if linger > 1e3 { 200.0 } else { 1e-4 },
        );
    }
}

#[test]
fn items_that_arrived_during_a_call_are_in_the_next_batch_up_to_its_size() {
    // 200 items a second, and calls of 100 ms. The waiting items are overdue, so each batch takes
    // as many of them as fit.
    let run = Simulation::new(plain(0.0, 100.0, 0.0))
        .duration(secs(60.0))
        .arrivals_per_second(200.0);
    let report = run.clone().linger(millis(10.0)).run(Fixed(10));
    let calls = of(&report, 0);
    assert!(calls[1..].iter().all(|call| call.len == 10 && call.full));
    for pair in calls.windows(2) {
        near(begun(pair[1]), pair[0].at.as_secs_f64(), 3e-9);
    }
    // Twice as many items arrive as are handled. Half of them wait at the end, apart from those in
    // flight.
    near(report.backlog() as f64, 6_000.0, 400.0);
    let roomy = run.linger(millis(10.0)).run(Fixed(1_000));
    assert!(roomy.backlog() < 60);
    let offered = |report: &Report| report.handled() + report.failed() + report.backlog();
    assert!(
        offered(&report).abs_diff(offered(&roomy)) <= 60,
        "the same items arrive, whoever takes them"
    );
    near(offered(&roomy) as f64, 12_000.0, 330.0);
}

#[test]
fn the_oldest_item_is_handed_over_first_and_each_item_once() {
    let run = Simulation::new(plain(0.0, 100.0, 0.0))
        .duration(secs(20.0))
        .arrivals_per_second(100.0);
    let (asked, report) =
        Listener::new(Cadence::EveryCheck, hold).listen(&run.clone().initial_batch_size(10));
    // Under overload each item waits for those before it. The oldest of a batch has waited since
    // its arrival.
    let alone = Simulation::new(instant())
        .duration(secs(20.0))
        .arrivals_per_second(100.0)
        .linger(Duration::ZERO);
    let arrivals: Vec<f64> = alone.run(Fixed(1)).calls().iter().map(begun).collect();
    let batches = asked
        .iter()
        .flat_map(|asked| &asked.samples)
        .filter_map(|sample| sample.batch);
    let mut taken = 0;
    let mut waits = Vec::new();
    for (batch, call) in batches.zip(report.calls()) {
        near(
            batch.queue_wait.as_secs_f64(),
            begun(call) - arrivals[taken],
            1e-6,
        );
        let until = taken + batch.len;
        waits.extend(
            arrivals[taken..until]
                .iter()
                .map(|added| call.at.as_secs_f64() - added),
        );
        taken = until;
    }
    // All except the samples after the last check.
    assert!(
        report.calls().iter().map(|call| call.len).sum::<usize>() - taken <= 100 && taken > 1_500
    );
    let all = |wait: &f64| *wait <= report.latency(1.0).unwrap().as_secs_f64() + 1e-6;
    assert!(waits.iter().all(all));
}

#[test]
fn a_latency_quantile_is_that_of_the_item_at_its_rank_and_failed_items_do_not_count() {
    let run = Simulation::new(instant())
        .duration(secs(50.0))
        .arrivals_per_second(40.0)
        .linger(secs(5.0));
    // In batches of two the first item waits for the second, and the second does not wait.
    let (asked, report) =
        Listener::new(Cadence::EveryCheck, hold).listen(&run.clone().initial_batch_size(2));
    let batches = asked
        .iter()
        .flat_map(|asked| &asked.samples)
        .filter_map(|sample| sample.batch);
    let mut waits: Vec<f64> = batches
        .flat_map(|batch| [0.0, batch.queue_wait.as_secs_f64()])
        .collect();
    waits.sort_by(f64::total_cmp);
    assert_eq!(
        report.handled(),
        waits.len(),
        "everything was told of by the last check"
    );
    for (share, place) in [
        (0.0, 0),
        (0.5, waits.len() / 2),
        (0.9, waits.len() * 9 / 10),
        (1.0, waits.len() - 1),
    ] {
        let found = report.latency(share).unwrap().as_secs_f64();
        let near = |place: usize| (found - waits[place.min(waits.len() - 1)]).abs() < 1e-7;
        assert!(
            (place.saturating_sub(1)..=place + 1).any(near),
            "{share}: {found}"
        );
    }
    assert_eq!(
        (report.latency(-1.0), report.latency(7.0)),
        (report.latency(0.0), report.latency(1.0))
    );
    assert!(report.latency(0.25).unwrap() < millis(0.001));
    let lost = Simulation::new(instant().call_errors(1.0))
        .duration(secs(5.0))
        .arrivals_per_second(40.0);
    assert_eq!(lost.run(Fixed(2)).latency(0.5), None);
    assert_eq!(
        Simulation::new(instant())
            .duration(millis(1.0))
            .run(Fixed(2))
            .latency(0.5),
        None,
        "a closed loop"
    );
}

#[test]
fn in_an_outage_all_items_but_those_handed_over_are_backlog() {
    let backend = plain(0.0, 1.0, 0.0).load(Load::outage(0.0, secs(5.0), secs(100.0)));
    let report = Simulation::new(backend)
        .duration(secs(10.0))
        .arrivals_per_second(100.0)
        .run(Fixed(10));
    let alone = Simulation::new(instant())
        .duration(secs(10.0))
        .arrivals_per_second(100.0)
        .linger(Duration::ZERO);
    let arrived = alone.run(Fixed(1)).calls().len();
    assert_eq!(
        report.handled() + report.backlog() + 10,
        arrived,
        "ten are under way"
    );
}

#[test]
fn a_shorter_linger_applies_to_a_waiting_batch_and_no_linger_exceeds_the_users() {
    let answer = |linger: Duration| {
        move |_: &Window<'_>, current: &Setpoint| Decision {
            linger: Some(linger),
            ..Decision::hold(current, "waits")
        }
    };
    let run = Simulation::new(instant())
        .duration(secs(60.0))
        .arrivals_per_second(10.0)
        .linger(secs(3_600.0));
    let run = run.initial_batch_size(1_000);
    let (_, report) = Listener::new(Cadence::EveryCheck, answer(Duration::ZERO)).listen(&run);
    near(begun(&report.calls()[0]), 1.0, 1e-6);
    assert_eq!(report.backlog(), 0);
    let (asked, report) =
        Listener::new(Cadence::EveryCheck, answer(secs(1e6))).listen(&run.linger(secs(0.3)));
    assert!(asked.iter().all(|asked| asked.current.linger == secs(0.3)));
    near(report.latency(1.0).unwrap().as_secs_f64(), 0.3, 1e-6);
}

#[test]
fn the_same_seed_gives_exactly_the_same_run_with_every_feature_in_use() {
    let run = |seed| {
        let backend = Backend::new()
            .row_errors(0.02)
            .call_errors(0.01)
            .outliers(0.02, 5.0)
            .overload_errors(0.1);
        let run = Simulation::new(backend.load(Load::spike(0.2, 0.9, secs(5.0), secs(5.0))));
        let report = run
            .seed(seed)
            .duration(secs(20.0))
            .arrivals_per_second(150.0)
            .run_all(vec![CostModel::new(); 5]);
        (
            report.calls().to_vec(),
            report.latency(0.9),
            report.backlog(),
            report.cores_busy().to_bits(),
        )
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
    // The same with noise alone, and with the default seed.
    let noise = |seed| {
        Simulation::new(Backend::new())
            .seed(seed)
            .duration(secs(5.0))
            .run(Fixed(50))
            .calls()
            .to_vec()
    };
    assert_ne!(noise(7), noise(8));
    assert_eq!(
        Simulation::new(Backend::new())
            .duration(secs(5.0))
            .run(Fixed(50))
            .calls(),
        noise(1)
    );
}
