//! The guards: growth only after full batches, halving, and the return from it.

use super::*;

#[test]
fn a_failed_retry_halves_nothing_and_a_halving_clears_the_evidence_before_it() {
    let failed = sample(LoadFeedback::new(), true, CallOutcome::Transient);
    let mut retry = failed;
    retry.batch.as_mut().unwrap().attempt = 2;
    assert_eq!(
        LoadThreshold::new()
            .decide(&window(&[retry], false), &setpoint(20))
            .batch_size,
        20
    );
    let mut without = LoadThreshold::new().halve_on_failure(false);
    assert_eq!(
        without
            .decide(&window(&[failed], false), &setpoint(20))
            .batch_size,
        20,
        "the guard is a switch"
    );
    // At a check: neither the load nor the full batches of before are left for the next one.
    let mut policy = LoadThreshold::new();
    assert_eq!(
        check(&mut policy, 20, &[full(level(1.0)), failed]).batch_size,
        10
    );
    assert_eq!(check(&mut policy, 10, &[]).score, None);
    assert_eq!(
        check(
            &mut policy,
            10,
            &[sample(level(0.0), false, CallOutcome::Ok)]
        )
        .batch_size,
        10
    );
}

#[test]
fn a_full_batch_allows_growth_until_the_next_check_and_a_full_probe_does_not() {
    let idle = sample(level(0.0), false, CallOutcome::Ok);
    let mut policy = LoadThreshold::new();
    assert_eq!(check(&mut policy, 20, &[full(level(0.0))]).batch_size, 24);
    assert_eq!(check(&mut policy, 24, &[idle]).batch_size, 24);
    policy.decide(&window(&[full(LoadFeedback::new())], false), &setpoint(24));
    assert_eq!(
        check(&mut policy, 24, &[idle]).batch_size,
        29,
        "one between the checks counts"
    );
    let mut probe = full(level(0.0));
    probe.batch.as_mut().unwrap().probe = true;
    assert_eq!(
        check(&mut LoadThreshold::new(), 20, &[probe]).batch_size,
        20
    );
}

/// This many clean full batches without a signal, then a check.
fn clean(policy: &mut LoadThreshold, size: usize, batches: usize) -> usize {
    check(policy, size, &vec![full(LoadFeedback::new()); batches]).batch_size
}

#[test]
fn a_halved_size_returns_after_four_clean_full_batches_with_or_without_signals() {
    let failed = sample(LoadFeedback::new(), true, CallOutcome::Transient);
    let mut policy = LoadThreshold::new();
    for size in [20, 10] {
        let half = policy
            .decide(&window(&[failed], false), &setpoint(size))
            .batch_size;
        assert_eq!(half, size / 2);
    }
    // Cut before they were halved, or too few.
    assert_eq!(clean(&mut policy, 5, 4), 5);
    let small = |full| {
        let mut sample = sample(LoadFeedback::new(), full, CallOutcome::Ok);
        sample.batch.as_mut().unwrap().cut_at = 5;
        sample
    };
    assert_eq!(check(&mut policy, 5, &[small(true); 3]).batch_size, 5);
    assert_eq!(check(&mut policy, 5, &[small(false); 9]).batch_size, 5);
    let decision = check(&mut policy, 5, &[small(true)]);
    assert_eq!(
        decision.batch_size, 20,
        "back to where it was before the first failure"
    );
    assert_eq!(
        decision.reason.to_string(),
        "calls go through again: back to the size before the failure"
    );
    // A late failure: eight times as many.
    policy.decide(&window(&[failed], false), &setpoint(20));
    assert_eq!(check(&mut policy, 10, &[small(true); 31]).batch_size, 10);
    assert_eq!(check(&mut policy, 10, &[small(true)]).batch_size, 20);
    // A load over the threshold prevents the return.
    policy.decide(&window(&[failed], false), &setpoint(20));
    let mut hot = vec![small(true); 64];
    hot[63].signals = level(1.0).resolve(&[]).0;
    assert_eq!(check(&mut policy, 10, &hot).batch_size, 8);
}
