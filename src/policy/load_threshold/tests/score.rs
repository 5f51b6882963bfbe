//! The load score.

use super::*;

#[test]
fn the_score_is_the_weighted_sum_of_the_four_signals() {
    let table = [
        ((0.75, 0.05, 120, 25), 0.565),
        ((0.0, 0.0, 0, 0), 0.0),
        ((1.0, 1.0, 100, 50), 1.0),
        ((1.0, 1.0, 1_000_000, 1_000_000), 1.0),
        ((0.5, 0.0, 50, 10), 0.32),
        ((1.0, 0.0, 100, 50), 0.700_000_000_000_000_1),
        ((0.0, 0.0, 300, 0), 0.2),
        ((0.0, 0.0, 0, 300), 0.1),
    ];
    for ((cpu, errors, queue, locks), expected) in table {
        for mut policy in [
            LoadThreshold::strict(),
            LoadThreshold::new().error_floor(false),
        ] {
            let decision = check(&mut policy, 20, &[full(all(cpu, errors, queue, locks))]);
            let score = decision.score.unwrap();
            assert!(
                (score - expected).abs() < 1e-12,
                "{cpu} {errors} {queue} {locks}: {score} for {expected}"
            );
        }
    }
}

#[test]
fn three_signals_at_their_end_count_as_over_the_threshold() {
    for mut policy in [LoadThreshold::strict(), LoadThreshold::new()] {
        assert_eq!(
            check(&mut policy, 20, &[full(all(1.0, 0.0, 100, 50))]).batch_size,
            16
        );
    }
}

#[test]
fn each_signal_is_averaged_over_the_feedbacks_that_carry_it() {
    let cpu = |share| full(LoadFeedback::new().cpu_load(share));
    let locks = |waiting| full(LoadFeedback::new().db_locks(waiting));
    let table = [
        (vec![cpu(0.9), cpu(0.1)], 0.5),
        (vec![cpu(0.9), cpu(0.3), cpu(0.3)], 0.5),
        (
            vec![cpu(0.2), cpu(0.4), locks(50), locks(0), locks(0), locks(50)],
            (0.4 * 0.3 + 0.1 * 0.5) / 0.5,
        ),
        (
            vec![full(all(0.2, 0.0, 0, 0)), full(all(0.6, 0.0, 100, 0))],
            0.4 * 0.4 + 0.2 * 0.5,
        ),
    ];
    for (samples, expected) in table {
        let score = check(&mut LoadThreshold::new(), 20, &samples)
            .score
            .unwrap();
        assert!(
            (score - expected).abs() < 1e-12,
            "{score} for {expected}: {samples:?}"
        );
    }
}

#[test]
fn custom_signals_count_with_their_weights() {
    let custom = [CustomSignal {
        name: "replica_lag",
        weight: 0.5,
    }];
    let signals = LoadFeedback::new()
        .cpu_load(0.0)
        .custom("replica_lag", 1.0)
        .resolve(&custom)
        .0;
    let samples = [Sample {
        signals,
        batch: None,
    }];
    let window = Window {
        custom: &custom,
        ..window(&samples, true)
    };
    let score = LoadThreshold::new()
        .decide(&window, &setpoint(20))
        .score
        .unwrap();
    assert!((score - 0.5 / 0.9).abs() < 1e-12, "{score}");
}

#[test]
fn an_average_wraps_around_many_feedbacks() {
    let mut policy = LoadThreshold::strict();
    let mut samples = vec![full(level(1.0)); 1_000];
    samples.extend(vec![full(level(0.5)); 10]);
    let score = check(&mut policy, 20, &samples).score.unwrap();
    assert!((score - 0.5).abs() < 1e-12, "{score}");
}
