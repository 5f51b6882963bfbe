//! When a policy decides, which samples it gets, and what its decisions do.

use super::*;
use load_aware_batcher::{BatchSample, CallOutcome, Fixed};

fn batches(asked: &[Asked]) -> Vec<BatchSample> {
    asked
        .iter()
        .flat_map(|asked| &asked.samples)
        .filter_map(|sample| sample.batch)
        .collect()
}

#[test]
fn a_policy_decides_at_every_check_and_gets_each_batch_once() {
    let run = Simulation::new(plain(4.0, 16.0, 1.0))
        .load_check_interval(secs(0.5))
        .duration(secs(30.0));
    let run = run
        .min_batch_size(3)
        .max_batch_size(70)
        .linger(secs(0.2))
        .initial_batch_size(50);
    let (asked, report) = Listener::new(Cadence::EveryCheck, hold).listen(&run);
    assert_eq!(asked.len(), 60);
    for (place, asked) in asked.iter().enumerate() {
        near(asked.now.as_secs_f64(), 0.5 * (place + 1) as f64, 1e-6);
        assert!(asked.is_check);
        assert_eq!((asked.bounds, asked.more), ((3, 70, secs(0.2)), (0, 0)));
        assert!((7..=8).contains(&asked.samples.len()), "a call takes 70 ms");
    }
    let told = batches(&asked);
    let called: Vec<_> = report
        .calls()
        .iter()
        .map(|call| (call.len, call.service_time))
        .collect();
    assert_eq!(
        told.iter()
            .map(|batch| (batch.len, batch.service_time))
            .collect::<Vec<_>>(),
        called[..told.len()]
    );
    assert!(called.len() - told.len() <= 1);
    let sample = BatchSample {
        len: 50,
        cut_at: 50,
        full: true,
        probe: false,
        attempt: 1,
        service_time: told[0].service_time,
        queue_wait: Duration::ZERO,
        failed: 0,
        outcome: CallOutcome::Ok,
        in_flight: 1,
        concurrency: 1,
    };
    assert_eq!(told[0], sample);
    assert_eq!(asked[0].samples[0].signals, report.calls()[0].signals);
}

#[test]
fn a_failed_call_wakes_any_policy_before_the_next_batch_is_cut() {
    let halve = |window: &Window<'_>, current: &Setpoint| {
        let failed = window
            .samples
            .iter()
            .filter_map(|sample| sample.batch)
            .any(|batch| batch.failed > 0);
        Decision::resize(
            if failed {
                current.batch_size / 2
            } else {
                current.batch_size
            },
            "halved after a failure",
        )
    };
    for cadence in [Cadence::EveryCheck, Cadence::EveryBatch] {
        let run =
            Simulation::new(plain(0.0, 0.0, 1.0).timeout(millis(50.5))).initial_batch_size(160);
        let (asked, report) = Listener::new(cadence, halve).listen(&run.duration(secs(0.9)));
        let lens: Vec<_> = report.calls().iter().map(|call| call.len).take(4).collect();
        assert_eq!(lens, [160, 80, 40, 40]);
        assert_eq!(
            report.calls()[0].batch_size,
            80,
            "what is in force behind the call"
        );
        assert_eq!(
            (asked[0].is_check, asked[0].now),
            (false, report.calls()[0].at)
        );
        let told = batches(&asked[..1])[0];
        assert_eq!(
            (told.outcome, told.failed, told.len),
            (CallOutcome::Transient, 160, 160)
        );
        assert_eq!(
            asked.len() == 2,
            cadence == Cadence::EveryCheck,
            "what goes through wakes only who wants it"
        );
    }
}

#[test]
fn a_busy_batcher_is_one_batch_ahead_of_its_controller() {
    let more =
        |_: &Window<'_>, current: &Setpoint| Decision::resize(current.batch_size + 1, "one more");
    let lens = |lag: Duration| {
        let run = Simulation::new(plain(0.0, 10.0, 1.0))
            .duration(secs(0.9))
            .decision_lag(lag);
        let (asked, report) = Listener::new(Cadence::EveryBatch, more).listen(&run);
        for (asked, call) in asked.iter().zip(report.calls()) {
            assert!(!asked.is_check && asked.samples.len() == 1);
            near((asked.now - call.at).as_secs_f64(), lag.as_secs_f64(), 2e-9);
        }
        report
            .calls()
            .iter()
            .map(|call| (call.len, call.batch_size))
            .take(4)
            .collect::<Vec<_>>()
    };
    let ahead = [(20, 20), (20, 21), (21, 22), (22, 23)];
    assert_eq!(lens(Duration::from_micros(50)), ahead);
    assert_eq!(lens(millis(9.0)), ahead);
    assert_eq!(
        lens(Duration::ZERO),
        [(20, 21), (21, 22), (22, 23), (23, 24)]
    );
    let run = Simulation::new(plain(0.0, 10.0, 1.0)).duration(secs(0.9));
    assert_eq!(
        run.clone().run(Fixed(5)).calls(),
        run.decision_lag(Duration::from_micros(50))
            .run(Fixed(5))
            .calls()
    );
}

#[test]
fn fast_batches_are_in_one_window() {
    let run = Simulation::new(plain(0.0, 0.2, 0.0)).duration(secs(0.9));
    let (asked, report) = Listener::new(Cadence::EveryBatch, hold).listen(&run);
    for pair in asked.windows(2) {
        let between = (pair[1].now - pair[0].now).as_secs_f64();
        assert!((0.001..0.0013).contains(&between), "{between}");
        assert!(
            (4..=7).contains(&pair[1].samples.len()),
            "{}",
            pair[1].samples.len()
        );
    }
    assert!(
        report.calls().len() - batches(&asked).len() <= 7,
        "each once"
    );
    assert_eq!(asked[0].now, millis(0.25));
    // A check in between gets the samples that are there. No decision without samples follows.
    let run = Simulation::new(plain(0.0, 3.0, 0.0))
        .duration(secs(0.9))
        .decision_lag(millis(2.0));
    let (asked, _) =
        Listener::new(Cadence::EveryBatch, hold).listen(&run.load_check_interval(millis(4.0)));
    assert!(
        asked
            .iter()
            .all(|asked| asked.is_check || !asked.samples.is_empty())
    );
    assert!(asked.iter().any(|asked| asked.is_check) && asked.iter().any(|asked| !asked.is_check));
}

#[test]
fn a_repeated_request_for_a_probe_gives_one_batch() {
    let probing = |window: &Window<'_>, current: &Setpoint| {
        let seen = window
            .samples
            .iter()
            .filter_map(|sample| sample.batch)
            .any(|batch| batch.probe);
        let ask = current.probe.is_some() || current.score.is_none();
        Decision {
            probe: (ask && !seen).then_some(3),
            score: Some(0.5),
            ..Decision::hold(current, "probes")
        }
    };
    for lag in [0.0, 9.0] {
        let run = Simulation::new(plain(0.0, 10.0, 1.0))
            .duration(secs(0.9))
            .decision_lag(millis(lag));
        let (asked, report) = Listener::new(Cadence::EveryBatch, probing).listen(&run);
        let probe = if lag == 0.0 { 1 } else { 2 };
        for (place, call) in report.calls().iter().enumerate() {
            let is = place == probe;
            assert_eq!(
                (call.len, call.probe, call.full),
                (if is { 3 } else { 20 }, is, true),
                "call {place}"
            );
        }
        assert_eq!(
            batches(&asked)
                .iter()
                .filter(|batch| batch.probe && batch.cut_at == 3)
                .count(),
            1
        );
    }
}

#[test]
fn a_pause_is_a_multiple_of_the_previous_call() {
    let pause = |_: &Window<'_>, current: &Setpoint| Decision {
        pause_ratio: 0.5,
        ..Decision::hold(current, "slowly")
    };
    let run = Simulation::new(plain(0.0, 10.0, 1.0).noise(0.3))
        .duration(secs(60.0))
        .decision_lag(Duration::ZERO);
    let (_, report) = Listener::new(Cadence::EveryBatch, pause).listen(&run);
    for pair in report.calls().windows(2) {
        near(pair[0].pause_ratio, 0.5, 0.0);
        let paused = begun(&pair[1]) - pair[0].at.as_secs_f64();
        near(paused, 0.5 * pair[0].service_time.as_secs_f64(), 3e-9);
    }
    near(report.cores_busy(), 1.0 / 1.5, 0.005);
}

#[test]
fn the_size_begins_at_its_setting_and_stays_within_its_bounds() {
    let first = |run: &Simulation| {
        Listener::new(Cadence::EveryCheck, hold)
            .listen(run)
            .1
            .calls()[0]
            .len
    };
    let run = Simulation::new(plain(0.0, 1.0, 0.0)).duration(secs(3.0));
    assert_eq!(first(&run), 20);
    assert_eq!(first(&run.clone().initial_batch_size(7)), 7);
    assert_eq!(first(&run.clone().max_batch_size(8)), 8);
    assert_eq!(first(&run.clone().min_batch_size(30)), 30);
    assert_eq!(run.run(Fixed(50)).calls()[0].len, 50, "the policy's own");
    assert_eq!(
        run.clone().initial_batch_size(7).run(Fixed(50)).calls()[0].len,
        7,
        "but the user's comes first"
    );
    assert_eq!(
        run.run(Fixed(5_000)).calls()[0].len,
        1_000,
        "the largest size, unless another is set"
    );
    let defaults = run
        .clone()
        .duration(secs(60.0))
        .min_batch_size(1)
        .linger(secs(1.0))
        .load_check_interval(secs(1.0));
    assert_eq!(
        Simulation::new(plain(0.0, 1.0, 0.0)),
        defaults.decision_lag(Duration::from_micros(50)).seed(1)
    );
    assert_eq!(
        run.clone().load_check_interval(Duration::ZERO),
        run.clone().load_check_interval(millis(1.0))
    );
    // A bound moves the other one if it must, and 0 counts as 1.
    assert_eq!(
        first(&run.clone().max_batch_size(10).min_batch_size(30)),
        30
    );
    assert_eq!(
        first(&run.clone().min_batch_size(30).max_batch_size(10)),
        10
    );
    assert_eq!(first(&run.clone().max_batch_size(0)), 1);
    for wanted in [0, 1, 15, 999] {
        let ask = move |_: &Window<'_>, _: &Setpoint| Decision::resize(wanted, "as told");
        let run = run.clone().min_batch_size(10).max_batch_size(40);
        let (_, report) = Listener::new(Cadence::EveryCheck, ask).listen(&run);
        assert_eq!(report.calls().last().unwrap().len, wanted.clamp(10, 40));
    }
}

#[test]
fn several_batchers_have_their_checks_at_different_times() {
    let listeners: Vec<_> = (0..8)
        .map(|_| Listener::new(Cadence::EveryCheck, hold))
        .collect();
    let run = Simulation::new(plain(0.0, 10.0, 0.0)).duration(secs(10.0));
    let heard: Vec<_> = listeners
        .iter()
        .map(|listener| Arc::clone(&listener.asked))
        .collect();
    let _ = run.run_all(listeners);
    let mut firsts = Vec::new();
    for heard in heard {
        let heard = heard.lock().unwrap();
        assert!((9..=10).contains(&heard.len()));
        heard
            .windows(2)
            .for_each(|pair| near((pair[1].now - pair[0].now).as_secs_f64(), 1.0, 1e-6));
        firsts.push(heard[0].now);
    }
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 8);
}
