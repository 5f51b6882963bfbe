//! What holds for every policy, whatever its input.

use load_aware_batcher::{
    Aimd, CostModel, CustomSignal, Decision, Fixed, HillClimb, LoadThreshold, Probe, Reason,
};
use proptest::prelude::*;

use super::*;

fn policies() -> Vec<(&'static str, Box<dyn Policy>)> {
    vec![
        ("Fixed", Box::new(Fixed(50))),
        ("LoadThreshold", Box::new(LoadThreshold::new())),
        ("LoadThreshold::strict", Box::new(LoadThreshold::strict())),
        ("Aimd", Box::new(Aimd::new(Duration::from_millis(200)))),
        ("HillClimb", Box::new(HillClimb::new())),
        ("CostModel", Box::new(CostModel::new())),
    ]
}

fn any_batch() -> impl Strategy<Value = BatchSample> {
    let outcome = prop_oneof![
        8 => Just(CallOutcome::Ok),
        1 => Just(CallOutcome::Transient),
        1 => Just(CallOutcome::Permanent),
        1 => Just(CallOutcome::InDoubt),
        1 => Just(CallOutcome::Panicked),
        1 => Just(CallOutcome::Unavailable),
        1 => Just(CallOutcome::Misconfigured),
        1 => Just(CallOutcome::TooLarge),
    ];
    let time = prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
        4 => (0_u64..5_000_000).prop_map(Duration::from_micros),
        1 => (1_u64..10_000).prop_map(Duration::from_secs),
    ];
    let size = || prop_oneof![1 => Just(0_usize), 1 => Just(usize::MAX), 6 => 1_usize..1_000];
    // Mostly cut at the size in force, which `None` stands for. Half of the policies ignore all
    // other batches.
    let cut_at = prop::option::weighted(0.3, size());
    let failed = prop_oneof![3 => Just(0_usize), 1 => Just(usize::MAX), 2 => 0_usize..100];
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop_oneof![4 => Just(1_u32), 1 => any::<u32>()],
    );
    (size(), cut_at, flags, time, outcome, failed).prop_map(
        |(len, cut_at, (full, probe, attempt), service_time, outcome, failed)| BatchSample {
            len,
            cut_at: cut_at.unwrap_or(IN_FORCE),
            full,
            probe,
            attempt,
            service_time,
            queue_wait: service_time / 2,
            failed,
            outcome,
            in_flight: 1,
            concurrency: 1,
        },
    )
}

/// Stands for the size in force when the sample arrives.
const IN_FORCE: usize = usize::MAX - 1;

/// Mostly in range, as from a `LoadFeedback`, and sometimes with values that a `LoadFeedback` does
/// not let through.
fn any_sample() -> impl Strategy<Value = Sample> {
    let wild = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        any::<f64>()
    ];
    let share = prop::option::of(prop_oneof![30 => 0.0_f64..=1.0, 1 => wild]);
    let count = prop::option::of(prop_oneof![0_u64..200, any::<u64>()]);
    let signals = (share.clone(), count.clone(), share.clone(), count, share).prop_map(
        |(cpu_load, queue_depth, error_rate, db_locks, custom)| Signals {
            cpu_load,
            queue_depth,
            processing_time: Some(Duration::MAX),
            error_rate,
            db_locks,
            custom: [custom, None, None, None, None, None, None, custom],
        },
    );
    let signals = prop_oneof![1 => Just(Signals::default()), 2 => signals];
    (signals, prop::option::weighted(0.9, any_batch()))
        .prop_map(|(signals, batch)| Sample { signals, batch })
}

fn is_sane(signals: &Signals) -> bool {
    let shares = signals
        .custom
        .into_iter()
        .chain([signals.cpu_load, signals.error_rate]);
    shares.flatten().all(|share| (0.0..=1.0).contains(&share))
}

fn bounds() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        3 => Just((5_usize, 500_usize)),
        1 => Just((1, 1)),
        1 => Just((1, 1 << 30)),
        1 => Just((64, 64)),
        2 => (1_usize..100, 0_usize..1_000).prop_map(|(min, more)| (min, min + more)),
    ]
}

/// Windows, each with its samples, whether it is a check, and the milliseconds since the previous
/// one.
fn any_course() -> impl Strategy<Value = Vec<(Vec<Sample>, bool, u64)>> {
    prop::collection::vec(
        (
            prop::collection::vec(any_sample(), 0..4),
            any::<bool>(),
            0_u64..3_000,
        ),
        1..60,
    )
}

/// Puts a decision in force as the batcher does.
fn in_force(
    at: &Setpoint,
    decision: Decision,
    (min, max): (usize, usize),
    probes: &mut u64,
) -> Setpoint {
    let probe = decision.probe.map(|size| {
        let batch_size = size.clamp(1, max);
        at.probe
            .filter(|probe| probe.batch_size == batch_size)
            .unwrap_or_else(|| {
                *probes += 1;
                Probe {
                    batch_size,
                    sequence: *probes,
                }
            })
    });
    Setpoint {
        batch_size: decision.batch_size.clamp(min, max),
        linger: decision
            .linger
            .map_or(at.linger, |linger| linger.min(Duration::from_secs(1))),
        pause_ratio: decision.pause_ratio,
        probe,
        zone: decision.zone,
        score: decision.score,
        reason: decision.reason,
        concurrency: 1,
    }
}

/// Whether the comparison in the sentence matches the direction of the size.
fn is_consistent(reason: &Reason) -> bool {
    let sentence = reason.to_string();
    match reason {
        Reason::BatchTime {
            expected,
            budget,
            from,
            to,
        } => {
            let over = expected > budget;
            over == (to < from)
                && sentence.contains(if over {
                    " is over the "
                } else {
                    " is within the "
                })
        }
        Reason::BatchFailed { from, to, .. } | Reason::DearWhenLarge { from, to } => to <= from,
        Reason::CheapWhenLarge { from, to } => to >= from,
        Reason::Score {
            score,
            low,
            high,
            from,
            to,
        } => (score >= low || to >= from) && (score <= high || to <= from),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_is_within_the_bounds_and_finite_and_repeatable(
        course in any_course(),
        (min, max) in bounds(),
    ) {
        for ((name, mut policy), (_, mut twin)) in policies().into_iter().zip(policies()) {
            let mut at = setpoint(20.clamp(min, max));
            let (mut now, mut probes, mut sane) = (Duration::ZERO, 0, true);
            for (samples, is_check, later) in &course {
                now += Duration::from_millis(*later);
                let mut samples = samples.clone();
                for batch in samples.iter_mut().filter_map(|sample| sample.batch.as_mut()) {
                    batch.cut_at = if batch.cut_at == IN_FORCE { at.batch_size } else { batch.cut_at };
                }
                sane &= samples.iter().all(|sample| is_sane(&sample.signals));
                let custom = [("lag", 0.5), ("heat", 2.0)]
                    .map(|(name, weight)| CustomSignal { name, weight });
                let window = Window { min_batch_size: min, max_batch_size: max, custom: &custom, ..window(&samples, now, *is_check) };
                let decision = policy.decide(&window, &at);
                // `Fixed` leaves the bounds to the batcher.
                prop_assert!(name == "Fixed" || (min..=max).contains(&decision.batch_size), "{} wants {}", name, decision.batch_size);
                prop_assert!((0.0..=9.0 + 1e-9).contains(&decision.pause_ratio), "{} pauses {}", name, decision.pause_ratio);
                prop_assert!(decision.probe.is_none_or(|size| size >= 1), "{}: {:?}", name, decision.probe);
                prop_assert!(!sane || decision.score.is_none_or(|score| (0.0..=1.0).contains(&score)), "{}: {:?}", name, decision.score);
                prop_assert!(!sane || !decision.reason.to_string().contains("NaN"), "{}: {}", name, decision.reason);
                prop_assert!(!sane || is_consistent(&decision.reason), "{}: {}", name, decision.reason);
                // Compared as text, since NaN is not equal to itself.
                prop_assert_eq!(format!("{:?}", twin.decide(&window, &at)), format!("{decision:?}"), "{}", name);
                at = in_force(&at, decision, (min, max), &mut probes);
            }
        }
    }

    #[test]
    fn failures_alone_never_make_the_size_grow(course in any_course(), (min, max) in bounds()) {
        for (name, mut policy) in policies().into_iter().filter(|(name, _)| *name != "Fixed") {
            let mut at = setpoint(20.clamp(min, max));
            let (mut now, mut probes) = (Duration::ZERO, 0);
            for (samples, is_check, later) in &course {
                now += Duration::from_millis(*later);
                let mut batches: Vec<_> = samples.iter().filter_map(|sample| sample.batch).collect();
                for batch in &mut batches {
                    batch.cut_at = if batch.cut_at == IN_FORCE { at.batch_size } else { batch.cut_at };
                    batch.failed = batch.len;
                    if batch.outcome == CallOutcome::Ok {
                        batch.outcome = CallOutcome::Transient;
                    }
                }
                let samples = reported(&batches);
                let window = Window { min_batch_size: min, max_batch_size: max, ..window(&samples, now, *is_check) };
                let decision = policy.decide(&window, &at);
                prop_assert!(decision.batch_size <= at.batch_size, "{}: {} → {}", name, at.batch_size, decision.batch_size);
                at = in_force(&at, decision, (min, max), &mut probes);
            }
        }
    }

    #[test]
    fn a_higher_load_never_leads_to_a_larger_size(
        size in 1_usize..1_000,
        (low, high) in (0.0_f64..=1.0, 0.0_f64..=1.0),
        factor in 0.001_f64..=1.0,
    ) {
        for strict in [false, true] {
            let answer = |cpu_load: f64| {
                let mut policy = if strict { LoadThreshold::strict() } else { LoadThreshold::new() }.adjustment_factor(factor);
                let signals = Signals { cpu_load: Some(cpu_load), ..Signals::default() };
                let samples = [Sample { signals, batch: Some(batch(size, 10.0)) }];
                policy.decide(&window(&samples, Duration::from_secs(1), true), &setpoint(size)).batch_size
            };
            prop_assert!(answer(low.min(high)) >= answer(low.max(high)));
        }
    }

    #[test]
    fn a_longer_call_never_leads_to_a_larger_size(
        sizes in prop::collection::vec(0_usize..=3, 3..20),
        (short, long) in (0.0_f64..2e3, 0.0_f64..2e3),
    ) {
        let (short, long) = (short.min(long), short.max(long));
        // The same past, and a last batch of this many milliseconds.
        let answer = |mut policy: Box<dyn Policy>, last: f64| {
            let mut size = 20;
            for each in &sizes {
                size = after(&mut policy, size, &[batch(size, 20.0 + *each as f64 * size as f64)]);
            }
            after(&mut policy, size, &[batch(size, last)])
        };
        let aimd = || Box::new(Aimd::new(Duration::from_millis(200))) as Box<dyn Policy>;
        prop_assert!(answer(aimd(), short) >= answer(aimd(), long));
    }
}
