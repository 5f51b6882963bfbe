use std::time::Duration;

use super::*;
use crate::feedback::{BatchSample, LoadFeedback, Sample};

fn setpoint(batch_size: usize) -> Setpoint {
    Setpoint {
        batch_size,
        linger: Duration::from_secs(1),
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: Zone::Unknown,
        score: None,
        reason: "start".into(),
    }
}

fn window<'a>(samples: &'a [Sample], is_check: bool) -> Window<'a> {
    Window {
        samples,
        lost: 0,
        now: Duration::ZERO,
        is_check,
        min_batch_size: 1,
        max_batch_size: 1_000,
        linger: Duration::from_secs(1),
        min_concurrency: 1,
        max_concurrency: 1,
        custom: &[],
    }
}

fn sample(feedback: LoadFeedback, full: bool, outcome: CallOutcome) -> Sample {
    let failed = if outcome == CallOutcome::Ok { 0 } else { 20 };
    Sample {
        signals: feedback.resolve(&[]).0,
        batch: Some(BatchSample {
            len: 20,
            cut_at: 20,
            full,
            probe: false,
            attempt: 1,
            service_time: Duration::from_millis(5),
            queue_wait: Duration::ZERO,
            failed,
            outcome,
            in_flight: 1,
            concurrency: 1,
        }),
    }
}

fn full(feedback: LoadFeedback) -> Sample {
    sample(feedback, true, CallOutcome::Ok)
}

fn all(cpu: f64, errors: f64, queue: u64, locks: u64) -> LoadFeedback {
    LoadFeedback::new()
        .cpu_load(cpu)
        .error_rate(errors)
        .queue_depth(queue)
        .db_locks(locks)
}

/// A feedback of all four signals that scores exactly the same in every term.
fn level(score: f64) -> LoadFeedback {
    all(score, score, (score * 100.0) as u64, (score * 50.0) as u64)
}

fn check(policy: &mut LoadThreshold, size: usize, samples: &[Sample]) -> Decision {
    policy.decide(&window(samples, true), &setpoint(size))
}

#[test]
fn the_documented_trace() {
    for mut policy in [
        LoadThreshold::strict().adjustment_factor(0.3),
        LoadThreshold::new().adjustment_factor(0.3),
    ] {
        let mut size = 20;
        let mut sizes = Vec::new();
        for cpu in [0.25, 0.22, 0.85, 0.78] {
            let feedback = all(
                cpu,
                cpu,
                (cpu * 100.0_f64).round() as u64,
                (cpu * 50.0_f64).round() as u64,
            );
            size = check(&mut policy, size, &[full(feedback)]).batch_size;
            sizes.push(size);
        }
        assert_eq!(sizes, [26, 34, 24, 17]);
    }
}

#[test]
fn a_step_is_rounded_and_at_least_one() {
    let table = [
        (1, 2, 0),
        (2, 3, 1),
        (3, 4, 2),
        (10, 12, 8),
        (13, 16, 10),
        (1_000, 1_000, 800),
    ];
    for (from, grown, shrunk) in table {
        let mut policy = LoadThreshold::new();
        assert_eq!(
            check(&mut policy, from, &[full(level(0.0))]).batch_size,
            grown,
            "grow from {from}"
        );
        let expected = shrunk.max(1);
        assert_eq!(
            check(&mut policy, from, &[full(level(1.0))]).batch_size,
            expected,
            "shrink from {from}"
        );
    }
}

#[test]
fn only_the_newest_ten_since_the_last_check_count() {
    let mut policy = LoadThreshold::strict();
    let mut samples = vec![full(level(1.0)); 5];
    samples.extend(vec![full(level(0.0)); 10]);
    assert_eq!(check(&mut policy, 20, &samples).score, Some(0.0));
    // Nine and one, across an early wake-up.
    policy.decide(&window(&vec![full(level(1.0)); 9], false), &setpoint(20));
    let score = check(&mut policy, 20, &[full(level(0.0))]).score.unwrap();
    assert!((score - 0.9).abs() < 1e-12, "{score}");
    // Nothing is carried over a check.
    let decision = check(&mut policy, 20, &[]);
    assert_eq!((decision.batch_size, decision.score), (20, None));
}

#[test]
fn without_feedback_the_size_stays() {
    for mut policy in [LoadThreshold::strict(), LoadThreshold::new()] {
        for samples in [
            vec![],
            vec![full(LoadFeedback::new())],
            vec![full(LoadFeedback::new().cpu_load(f64::NAN))],
        ] {
            assert_eq!(check(&mut policy, 20, &samples).batch_size, 20);
        }
    }
}

#[test]
fn an_absent_signal_takes_no_part() {
    let only_cpu = |cpu| full(LoadFeedback::new().cpu_load(cpu));
    let mut guarded = LoadThreshold::new();
    assert_eq!(check(&mut guarded, 20, &[only_cpu(0.9)]).batch_size, 16);
    let mut strict = LoadThreshold::strict();
    assert_eq!(check(&mut strict, 20, &[only_cpu(0.9)]).batch_size, 20);
    // Averaged over the feedbacks that carry it.
    let decision = check(
        &mut guarded,
        20,
        &[only_cpu(0.9), full(LoadFeedback::new().error_rate(0.0))],
    );
    let expected = 0.4 * 0.9 / 0.7;
    assert!((decision.score.unwrap() - expected).abs() < 1e-12);
}

#[test]
fn errors_alone_never_make_it_grow() {
    let mut guarded = LoadThreshold::new();
    assert_eq!(
        check(&mut guarded, 20, &[full(all(0.0, 1.0, 0, 0))]).batch_size,
        16
    );
    let mut strict = LoadThreshold::strict();
    assert_eq!(
        check(&mut strict, 20, &[full(all(0.0, 0.99, 0, 0))]).batch_size,
        24,
        "the bare rule does"
    );
}

#[test]
fn growth_needs_a_full_batch() {
    let idle = sample(level(0.0), false, CallOutcome::Ok);
    assert_eq!(check(&mut LoadThreshold::new(), 20, &[idle]).batch_size, 20);
    assert_eq!(
        check(&mut LoadThreshold::strict(), 20, &[idle]).batch_size,
        24
    );
}

#[test]
fn a_failed_batch_halves_at_once_and_a_monitor_never_does() {
    let failed = sample(LoadFeedback::new(), true, CallOutcome::Transient);
    let mut policy = LoadThreshold::new();
    assert_eq!(
        policy
            .decide(&window(&[failed], false), &setpoint(20))
            .batch_size,
        10
    );
    assert_eq!(
        policy
            .decide(&window(&[failed], false), &setpoint(1))
            .batch_size,
        1
    );
    let report = Sample {
        signals: level(1.0).resolve(&[]).0,
        batch: None,
    };
    assert_eq!(
        policy
            .decide(&window(&[report], false), &setpoint(20))
            .batch_size,
        20
    );
    assert_eq!(
        check(&mut policy, 20, &[]).batch_size,
        16,
        "the report counts at the check"
    );
}

#[test]
fn a_score_on_a_threshold_changes_nothing() {
    for (cpu, expected) in [(0.25, 20), (0.249, 24), (0.75, 20), (0.751, 16)] {
        let only = Weights {
            cpu_load: 1.0,
            error_rate: 0.0,
            queue_depth: 0.0,
            db_locks: 0.0,
        };
        let mut policy = LoadThreshold::new().thresholds(0.25, 0.75).weights(only);
        let decision = check(&mut policy, 20, &[full(LoadFeedback::new().cpu_load(cpu))]);
        assert_eq!(decision.batch_size, expected, "{cpu}");
        assert_eq!(
            decision.reason.to_string().contains("between"),
            expected == 20,
            "{}",
            decision.reason
        );
    }
}

#[test]
fn a_pinned_size_is_explained_once() {
    let mut policy = LoadThreshold::new();
    let mut at = setpoint(1_000);
    let decision = policy.decide(&window(&[full(level(0.0))], true), &at);
    assert_eq!(
        decision.reason.to_string(),
        "the load is low and the size is at its maximum"
    );
    at.reason = decision.reason.clone();
    assert_eq!(
        policy
            .decide(&window(&[full(level(0.0))], true), &at)
            .reason,
        decision.reason
    );
}

#[test]
fn a_reason_reads_like_a_sentence() {
    let decision = check(&mut LoadThreshold::new(), 20, &[full(level(0.0))]);
    assert_eq!(
        decision.reason.to_string(),
        "load 0.00 is under 0.30: 20 → 24"
    );
    let decision = check(&mut LoadThreshold::new(), 20, &[full(level(0.5))]);
    assert_eq!(
        decision.reason.to_string(),
        "load 0.50 is between 0.30 and 0.70: unchanged at 20"
    );
}

#[test]
fn without_any_signal_since_the_start_it_says_that_it_cannot_grow() {
    let mut policy = LoadThreshold::new();
    assert_eq!(
        check(&mut policy, 20, &[]).reason.to_string(),
        "no feedback since the last check: unchanged"
    );
    let decision = check(&mut policy, 20, &[full(LoadFeedback::new())]);
    assert_eq!(
        decision.reason.to_string(),
        "no signal since start: this policy cannot grow"
    );
    check(&mut policy, 20, &[full(level(0.5))]);
    let decision = check(&mut policy, 20, &[full(LoadFeedback::new())]);
    assert_eq!(
        decision.reason.to_string(),
        "no feedback since the last check: unchanged"
    );
}

#[test]
fn settings_out_of_range_are_named() {
    let weights = |cpu_load| Weights {
        cpu_load,
        error_rate: 0.0,
        queue_depth: 0.0,
        db_locks: 0.0,
    };
    let table: [(LoadThreshold, &str); 10] = [
        (
            LoadThreshold::new().adjustment_factor(0.0),
            "adjustment_factor is 0: must be greater than 0 and at most 1",
        ),
        (
            LoadThreshold::new().adjustment_factor(f64::NAN),
            "adjustment_factor is NaN: must be greater than 0 and at most 1",
        ),
        (
            LoadThreshold::new().adjustment_factor(1.5),
            "adjustment_factor is 1.5: must be greater than 0 and at most 1",
        ),
        (
            LoadThreshold::new().thresholds(-0.1, 0.7),
            "thresholds is -0.1: must be between 0 and 1",
        ),
        (
            LoadThreshold::new().thresholds(0.1, 7.0),
            "thresholds is 7: must be between 0 and 1",
        ),
        (
            LoadThreshold::new().thresholds(0.8, 0.7),
            "low threshold is 0.8 and high threshold is 0.7: low must not exceed high",
        ),
        (
            LoadThreshold::new().weights(weights(-1.0)),
            "weights is -1: must be finite and not negative",
        ),
        (
            LoadThreshold::new().weights(weights(f64::NAN)),
            "weights is NaN: must be finite and not negative",
        ),
        (
            LoadThreshold::new().weights(weights(0.0)),
            "weights is all zero: at least one must be greater than 0",
        ),
        (
            LoadThreshold::new().queue_scale(0.0),
            "queue_scale is 0: must be greater than 0",
        ),
    ];
    for (policy, expected) in table {
        assert_eq!(policy.validate().unwrap_err().to_string(), expected);
    }
    assert!(LoadThreshold::new().validate().is_ok() && LoadThreshold::strict().validate().is_ok());
}

#[path = "tests/guards.rs"]
mod guards;
#[path = "tests/score.rs"]
mod score;
