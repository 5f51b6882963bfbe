//! The promises of the policy in each of its three regimes.

use super::*;

impl Course {
    fn model(&self) -> &Model {
        self.policy.model.as_ref().expect("the start is over")
    }

    /// Asks for a decision without a sample.
    fn decide_without_sample(&mut self, is_check: bool) {
        self.decide(&[], is_check);
    }
}

#[test]
fn the_start_keeps_within_max_batch_time() {
    // Twenty take 220 ms: forty would take twice as long.
    let mut course = Course::new(CostModel::new().max_batch_time(millis(250.0)));
    for _ in 0..40 {
        let len = course.next_size();
        assert!(len <= 23, "{len}");
        course.run(20.0, 10.0);
    }
}

#[test]
fn a_start_whose_size_cannot_grow_ends_all_the_same() {
    let mut course = Course::new(CostModel::new());
    course.max = 20;
    (0..13).for_each(|_| {
        course.run(24.0, 1.25);
    });
    assert!((course.model().expected(20.0) - 0.049).abs() < 1e-6);
}

#[test]
fn one_surprise_moves_little_and_three_with_the_same_sign_are_a_change() {
    let mut course = Course::settled();
    (0..40).for_each(|_| {
        course.run(24.0, 1.25);
    });
    let items: Vec<f64> = (0..3)
        .map(|_| {
            let len = course.setpoint.batch_size;
            course.sample(batch(len, 1.9 * (24.0 + 1.25 * len as f64)));
            course.model().item / 0.00125
        })
        .collect();
    assert!(
        items[0] < 1.05 && items[1] < 1.1 && items[2] > 1.3,
        "{items:?}"
    );
}

#[test]
fn probes_detect_that_a_call_costs_more_or_less() {
    // What a call costs from now on, and where the knee lies then.
    for (fixed, knee) in [(120.0, 1_824.0), (4.8, 73.0)] {
        let mut course = Course::settled();
        course.max = 5_000;
        course.policy.max_batch_time = 60.0;
        (0..80).for_each(|_| {
            course.run(fixed, 1.25);
        });
        let size = course.setpoint.batch_size as f64;
        assert!(
            (0.6..1.5).contains(&(size / knee)),
            "{fixed} ms a call: {size} instead of {knee}"
        );
    }
}

#[test]
fn a_floor_stays_while_competing_load_comes_and_goes() {
    let mut course = Course::new(CostModel::new());
    course.max = 5_000;
    for slower in [1.0, 3.0, 1.0] {
        let sizes: Vec<_> = (0..100)
            .map(|_| {
                let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
                course.sample(BatchSample {
                    probe,
                    ..batch(len, slower * sharing(len))
                });
                course.setpoint.batch_size
            })
            .collect();
        let low = *sizes[if slower > 1.0 { 0 } else { 60 }..]
            .iter()
            .min()
            .unwrap();
        assert!(low > 3_000, "{slower}: {sizes:?}");
        // The size is held by the floor, not by an overestimated cost of a call.
        assert_eq!(course.policy.size_bounds.floor, 5_000.0);
    }
}

#[test]
fn only_the_sample_of_the_probe_counts_as_the_probe() {
    let mut course = Course::settled();
    while course.setpoint.probe.is_none() {
        course.run(24.0, 1.25);
    }
    let asked = course.setpoint.probe;
    // The batch that was cut before the probe was requested.
    course.sample(batch(364, 479.0));
    assert_eq!(course.setpoint.probe, asked);
    course.run(24.0, 1.25);
    assert_eq!(course.setpoint.probe, None);
    assert!((course.model().call - 19.2).abs() < 1e-6);
}

#[test]
fn there_are_no_probes_while_calls_fail() {
    let mut course = Course::settled();
    for _ in 0..40 {
        let size = course.setpoint.batch_size;
        course.sample(failing(size, 400.0));
        assert_eq!(course.setpoint.probe, None);
    }
}

#[test]
fn a_second_failure_at_a_similar_size_sets_a_ceiling() {
    let mut course = Course::settled();
    for expected in [f64::INFINITY, 0.85 * 364.0] {
        // Late enough that the time may be the cause.
        course.sample(BatchSample {
            cut_at: 1,
            ..failing(364, 300.0)
        });
        let ceiling = course.policy.size_bounds.ceiling;
        assert!(
            ceiling == expected || (ceiling - expected).abs() < 1.0,
            "{ceiling} instead of {expected}"
        );
        (0..3).for_each(|_| {
            course.run(24.0, 1.25);
        });
    }
}

#[test]
fn calls_refused_at_once_set_no_time_limit_and_no_ceiling() {
    for outcome in [
        CallOutcome::Transient,
        CallOutcome::InDoubt,
        CallOutcome::Panicked,
    ] {
        let mut course = Course::settled();
        for _ in 0..100 {
            let size = course.setpoint.batch_size;
            course.sample(BatchSample {
                outcome,
                ..failing(size, 0.1)
            });
            (0..4).for_each(|_| {
                course.run(24.0, 1.25);
            });
        }
        assert!(course.policy.size_bounds.ceiling.is_infinite());
        assert!(course.policy.budget() >= 1.0, "{}", course.policy.budget());
        assert!(
            course.setpoint.batch_size >= 345,
            "{}",
            course.setpoint.batch_size
        );
    }
}

#[test]
fn refusals_during_the_start_do_not_stop_it() {
    let mut course = Course::new(CostModel::new());
    course.run(24.0, 1.25);
    for _ in 0..12 {
        let size = course.setpoint.batch_size;
        course.sample(failing(size, 0.1));
        (0..3).for_each(|_| {
            course.run(24.0, 1.25);
        });
    }
    assert!(
        course.setpoint.batch_size >= 345,
        "{}",
        course.setpoint.batch_size
    );
    assert!(course.policy.budget() >= 1.0);
}

#[test]
fn the_time_of_a_second_failure_in_a_row_becomes_the_expected_time() {
    let mut course = Course::settled();
    course.sample(failing(364, 1_000.0));
    assert!(
        course.model().item < 0.00126,
        "the first may be an accident"
    );
    course.sample(failing(182, 1_000.0));
    let expected = course.model().expected(182.0);
    assert!(expected > 0.99, "{expected}");
}

#[test]
fn the_limit_rises_again_as_full_batches_go_through() {
    let mut course = Course::settled();
    course.sample(failing(364, 400.0));
    let mut sizes = Vec::new();
    for _ in 0..400 {
        course.run(24.0, 1.25);
        sizes.push(course.setpoint.batch_size);
    }
    assert!(sizes[5] < 300, "{sizes:?}");
    assert!(sizes[399] >= sizes[10] + 30, "{sizes:?}");
}

#[test]
fn a_batch_has_at_least_the_items_that_a_call_costs() {
    let mut course = Course::settled();
    course.policy.max_batch_time = 0.01;
    (0..10).for_each(|_| {
        course.run(24.0, 1.25);
    });
    let size = course.setpoint.batch_size;
    assert!(
        (18..=20).contains(&size),
        "a call costs as much as 19.2 items: {size}"
    );
}

#[test]
fn the_linger_is_at_most_half_of_what_a_call_costs() {
    let mut course = Course::settled();
    course.run(24.0, 1.25);
    assert_eq!(course.setpoint.linger.as_micros(), 12_000);
}

#[test]
fn without_a_sample_neither_size_nor_reason_changes() {
    let mut course = Course::settled();
    let before = course.setpoint.clone();
    for is_check in [false, true] {
        course.decide_without_sample(is_check);
        assert_eq!(course.setpoint, before);
    }
}

#[test]
fn the_score_of_what_was_reported_is_shown() {
    let hot = Signals {
        cpu_load: Some(0.95),
        db_locks: Some(0),
        ..Signals::default()
    };
    let mut course = Course::settled();
    for _ in 0..4 {
        course.sample_with(hot, batch(364, 479.0));
    }
    let score = course.setpoint.score.unwrap();
    assert!((score - 0.4 * 0.95 / 0.5).abs() < 1e-9, "{score}");
}
