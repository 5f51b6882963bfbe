use super::*;

fn cpu(load: f64) -> Signals {
    Signals {
        cpu_load: Some(load),
        ..Signals::default()
    }
}

/// Evaluates where there is one call at once. True if the pause changed.
fn evaluate(throttle: &mut Throttle, now: Duration) -> bool {
    throttle.evaluate(now, false) == Evaluation::Pause
}

/// The share of the time that is spent in calls.
fn duty(throttle: &Throttle) -> f64 {
    1.0 / (1.0 + throttle.pause_ratio())
}

/// The duty after each evaluation, one a second, at this CPU load and this many refused of 100 items.
fn course(throttle: &mut Throttle, from: u64, levels: &[(f64, f64)]) -> Vec<f64> {
    let mut duties = Vec::new();
    for ((load, refused), second) in levels.iter().zip(from..) {
        throttle.signals(&cpu(*load), &[]);
        throttle.items(100.0, *refused);
        let before = duty(throttle);
        assert_eq!(
            evaluate(throttle, Duration::from_secs(second)),
            duty(throttle) != before
        );
        duties.push((duty(throttle) * 1e6).round() / 1e6);
    }
    duties
}

fn loads(levels: &[f64]) -> Vec<(f64, f64)> {
    levels.iter().map(|load| (*load, 0.0)).collect()
}

#[test]
fn the_duty_falls_while_a_level_is_over_its_threshold_and_rises_again() {
    let refused = |shares: &[f64]| shares.iter().map(|share| (0.0, *share)).collect::<Vec<_>>();
    let table = [
        ("cool", loads(&[0.0, 0.5, 0.7]), vec![1.0; 3]),
        (
            "a level at its threshold is not over it",
            refused(&[0.0, 5.0]),
            vec![1.0; 2],
        ),
        (
            "a cut, then a rise that is faster after three evaluations",
            loads(&[0.9, 0.1, 0.1, 0.1, 0.1]),
            vec![0.75, 0.81, 0.87, 0.93, 1.0],
        ),
        (
            "the same for refusals",
            refused(&[10.0, 0.0, 0.0, 0.0, 0.0]),
            vec![0.75, 0.81, 0.87, 0.93, 1.0],
        ),
        (
            "a cut every second time, as long as cuts lower the level",
            loads(&[0.9, 0.9, 0.78, 0.78, 0.78, 0.78]),
            vec![0.75, 0.75, 0.5625, 0.5625, 0.421_875, 0.421_875],
        ),
    ];
    for (name, levels, expected) in table {
        assert_eq!(
            course(&mut Throttle::new(0.7, 0.05), 1, &levels),
            expected,
            "{name}"
        );
    }
    let mut throttle = Throttle::new(0.7, 0.05);
    let lowest = course(
        &mut throttle,
        1,
        &loads(&[&[0.99, 0.99][..], &[0.75; 60]].concat()),
    );
    assert!((lowest[61] - DUTY_MIN).abs() < 1e-9, "{lowest:?}");
    assert!(
        (throttle.pause_ratio() - 9.0).abs() < 1e-9,
        "nine times as long as the call"
    );
}

#[test]
fn a_level_that_four_cuts_do_not_lower_is_ignored_for_half_a_minute_then_for_twice_as_long() {
    for levels in [loads(&[0.9; 140]), vec![(0.0, 10.0); 140]] {
        let duties = course(&mut Throttle::new(0.7, 0.05), 1, &levels);
        let cuts = [0.75, 0.75, 0.5625, 0.5625];
        let expected = [&cuts[..], &[1.0; 31], &cuts, &[1.0; 61], &cuts].concat();
        assert_eq!(duties[..expected.len()], expected);
    }
    // While the score of another client is ignored, refusals still count.
    let mut throttle = Throttle::new(0.7, 0.05);
    course(&mut throttle, 1, &loads(&[0.9; 10]));
    assert_eq!(
        course(&mut throttle, 11, &[(0.9, 10.0), (0.9, 10.0)]),
        [0.75, 0.75]
    );
    // After a time without pauses, the next one is half a minute again.
    let mut throttle = Throttle::new(0.7, 0.05);
    course(
        &mut throttle,
        1,
        &loads(&[&[0.9; 5][..], &[0.1; 40]].concat()),
    );
    let duties = course(&mut throttle, 46, &loads(&[0.9; 36]));
    assert_eq!((duties[4], duties[34], duties[35]), (1.0, 1.0, 0.75));
}

#[test]
fn it_evaluates_once_a_second_what_was_reported_since() {
    let at = Duration::from_millis;
    let mut throttle = Throttle::new(0.7, 0.05);
    throttle.signals(&cpu(0.9), &[]);
    assert!(!evaluate(&mut throttle, at(999)));
    throttle.signals(&cpu(0.3), &[]);
    assert!(!evaluate(&mut throttle, at(1_000)), "a mean of 0.6");
    assert_eq!(
        (throttle.last_score, throttle.last_refused),
        (Some(0.6), 0.0)
    );
    throttle.signals(&cpu(0.9), &[]);
    assert!(!evaluate(&mut throttle, at(1_999)));
    assert!(
        evaluate(&mut throttle, at(2_000)),
        "earlier reports do not count"
    );
    assert!(throttle.is_hot);
    // Without evidence nothing changes, whatever the time.
    assert!(!evaluate(&mut throttle, at(60_000)));
    assert!(throttle.is_hot && (duty(&throttle) - 0.75).abs() < 1e-9);
    // A refusal counts once.
    let mut throttle = Throttle::new(0.7, 0.05);
    throttle.items(100.0, 30.0);
    assert!(evaluate(&mut throttle, at(1_000)));
    throttle.items(100.0, 0.0);
    evaluate(&mut throttle, at(2_000));
    assert_eq!((throttle.last_score, throttle.last_refused), (None, 0.0));
    assert!(!throttle.is_hot);
}

#[test]
fn custom_signals_take_part_with_their_weights() {
    let custom = [CustomSignal {
        name: "lag",
        weight: 1.2,
    }];
    let mut signals = cpu(0.1);
    signals.custom[0] = Some(1.0);
    let mut throttle = Throttle::new(0.7, 0.05);
    throttle.signals(&signals, &custom);
    assert!(evaluate(&mut throttle, Duration::from_secs(1)));
    let score = throttle.last_score;
    assert!(
        (score.unwrap() - (0.04 + 1.2) / 1.6).abs() < 1e-12,
        "{score:?}"
    );
    // The next evaluation starts without it.
    throttle.signals(&cpu(0.1), &custom);
    evaluate(&mut throttle, Duration::from_secs(2));
    assert!(
        (throttle.last_score.unwrap() - 0.1).abs() < 1e-12,
        "{:?}",
        throttle.last_score
    );
}

#[test]
fn calls_at_once_are_cut_before_there_are_pauses() {
    let mut throttle = Throttle::new(0.7, 0.05);
    let mut cuts = Vec::new();
    for second in 1..=20 {
        throttle.signals(&cpu(1.0), &[]);
        if throttle.evaluate(Duration::from_secs(second), true) == Evaluation::FewerCalls {
            cuts.push(second);
        }
        assert_eq!(duty(&throttle), 1.0);
    }
    assert_eq!(cuts, (1..=20).step_by(2).collect::<Vec<_>>());
    // There is one call at once left.
    for second in 21..=22 {
        throttle.signals(&cpu(1.0), &[]);
        throttle.evaluate(Duration::from_secs(second), false);
    }
    assert!(duty(&throttle) < 1.0);
}
