//! The baselines: `Aimd` and `HillClimb`.

use load_aware_batcher::{Aimd, Cadence, CallOutcome, HillClimb};

use super::*;

fn partial(len: usize, cut_at: usize, millis: f64) -> BatchSample {
    BatchSample {
        cut_at,
        full: false,
        ..batch(len, millis)
    }
}

#[test]
fn aimd_steps_by_the_time_of_a_batch() {
    let probe = |millis| BatchSample {
        probe: true,
        ..batch(100, millis)
    };
    let rows = BatchSample {
        failed: 99,
        ..batch(100, 10.0)
    };
    let failed = |outcome| vec![failing(100, 10.0, outcome)];
    // The case, the size, the batches, and the size after them.
    let table = [
        ("nothing", 100, vec![], 100),
        (
            "a full batch within the target",
            100,
            vec![batch(100, 10.0)],
            102,
        ),
        ("exactly the target", 100, vec![batch(100, 200.0)], 102),
        ("over the target", 100, vec![batch(100, 200.001)], 90),
        ("far over the target", 100, vec![batch(100, 1e6)], 90),
        ("a time of zero", 100, vec![batch(100, 0.0)], 102),
        (
            "a partial batch within the target",
            100,
            vec![partial(99, 100, 10.0)],
            100,
        ),
        (
            "a partial batch over the target",
            100,
            vec![partial(99, 100, 201.0)],
            90,
        ),
        ("a probe", 100, vec![probe(10.0)], 100),
        ("rows refused one by one", 100, vec![rows], 102),
        ("a transient error", 100, failed(CallOutcome::Transient), 90),
        ("a panic", 100, failed(CallOutcome::Panicked), 90),
        ("in doubt", 100, failed(CallOutcome::InDoubt), 90),
        (
            "a permanent error",
            100,
            failed(CallOutcome::Permanent),
            100,
        ),
        (
            "cut at a smaller size than the one in force",
            100,
            vec![batch(98, 10.0)],
            100,
        ),
        ("cut at a larger size", 100, vec![batch(111, 999.0)], 100),
        (
            "two of the same size are one step",
            100,
            vec![batch(100, 10.0), batch(100, 10.0)],
            102,
        ),
        (
            "each size that was reached is one step",
            100,
            vec![batch(100, 10.0), batch(102, 10.0), batch(104, 201.0)],
            93,
        ),
        (
            "a batch without a step does not hide the next",
            100,
            vec![partial(9, 100, 10.0), batch(100, 10.0)],
            102,
        ),
        (
            "a batch without a step does not undo the previous one",
            100,
            vec![batch(100, 10.0), partial(9, 102, 10.0)],
            102,
        ),
        ("rounded down", 47, vec![batch(47, 201.0)], 42),
        ("at the smallest size", 5, vec![batch(5, 201.0)], 5),
        ("near the largest size", 499, vec![batch(499, 10.0)], 500),
        ("at the largest size", 500, vec![batch(500, 10.0)], 500),
    ];
    for (name, size, batches, expected) in table {
        let mut policy = Aimd::new(Duration::from_millis(200));
        assert_eq!(after(&mut policy, size, &batches), expected, "{name}");
    }
    let mut steep = Aimd::new(Duration::from_millis(200))
        .increase(30)
        .decrease(0.5);
    assert_eq!(after(&mut steep, 100, &[batch(100, 10.0)]), 130);
    assert_eq!(after(&mut steep, 101, &[batch(101, 201.0)]), 50);
    assert_eq!(steep.cadence(), Cadence::EveryBatch);
}

#[test]
fn aimd_oscillates_just_below_its_target() {
    // A batch takes 20 + n ms and may take 100. At most 80 items fit. A step beyond them removes a
    // tenth.
    let mut policy = Aimd::new(Duration::from_millis(100));
    let mut size = 20;
    let sizes: Vec<_> = (0..120)
        .map(|_| {
            size = after(&mut policy, size, &[batch(size, 20.0 + size as f64)]);
            size
        })
        .collect();
    assert_eq!(sizes[28..38], [78, 80, 82, 73, 75, 77, 79, 81, 72, 74]);
    assert!(
        sizes[30..].iter().all(|size| (72..=82).contains(size)),
        "{sizes:?}"
    );
}

/// The size after each of these trials. A trial is eight batches, which `sample` makes from a size.
fn climb(
    policy: &mut HillClimb,
    size: usize,
    trials: usize,
    sample: impl Fn(usize) -> BatchSample,
) -> Vec<usize> {
    let mut at = size;
    (0..trials)
        .map(|_| {
            for eighth in 1..=8 {
                let next = after(policy, at, &[sample(at)]);
                assert!(
                    next == at || eighth == 8,
                    "{at} → {next} after {eighth} batches"
                );
                at = next;
            }
            at
        })
        .collect()
}

#[test]
fn hill_climbing_keeps_its_direction_after_a_better_trial_and_reverses_after_a_worse_one() {
    let table = [
        // Steps of a quarter up to the best of `ln(n/time) − ln(time)/19`, which is 380. After each
        // reversal the step is halved.
        (
            "20 + n ms",
            20,
            climb(&mut HillClimb::new(), 20, 16, |n| batch(n, 20.0 + n as f64)),
            vec![
                25, 31, 39, 48, 61, 76, 95, 119, 149, 186, 232, 291, 363, 454, 363, 323,
            ],
        ),
        // Size does not change the throughput. So the first step up is reversed, and the size keeps
        // shrinking, since shorter batches are better.
        (
            "n ms",
            100,
            climb(&mut HillClimb::new(), 100, 6, |n| batch(n, n as f64)),
            vec![125, 100, 88, 71, 56, 45],
        ),
        // Calls above 60 items take 9 s. The step to 62 is reversed.
        (
            "20 + n ms, 9 s above 60",
            40,
            climb(&mut HillClimb::new(), 40, 4, |n| {
                batch(n, if n > 60 { 9e3 } else { 20.0 + n as f64 })
            }),
            vec![50, 62, 50, 44],
        ),
        // At the largest size it stays once and then tries a smaller one.
        (
            "1 s",
            300,
            climb(&mut HillClimb::new(), 300, 5, |n| batch(n, 1e3)),
            vec![375, 468, 500, 500, 400],
        ),
        // Small sizes change by at least one.
        (
            "1 s",
            5,
            climb(&mut HillClimb::new(), 5, 3, |n| batch(n, 1e3)),
            vec![6, 7, 9],
        ),
        // While every call fails, it shrinks to the smallest size without a comparison.
        (
            "failures",
            20,
            climb(&mut HillClimb::new(), 20, 8, |n| {
                failing(n, 400.0, CallOutcome::Transient)
            }),
            vec![16, 12, 10, 8, 6, 5, 5, 5],
        ),
    ];
    for (name, from, sizes, expected) in table {
        assert_eq!(sizes, expected, "{name} from {from}");
    }
}

#[test]
fn hill_climbing_stays_around_the_best_size() {
    let sizes = climb(&mut HillClimb::new(), 20, 200, |n| {
        batch(n, 20.0 + n as f64)
    });
    assert!(
        sizes[20..].iter().all(|size| (300..=470).contains(size)),
        "{sizes:?}"
    );
    // Half of the items are refused in batches of more than 60. These are worse although they take
    // no longer.
    let refusing = |n: usize| BatchSample {
        failed: if n > 60 { n / 2 } else { 0 },
        ..batch(n, 1e3)
    };
    let sizes = climb(&mut HillClimb::new(), 40, 100, refusing);
    assert!(
        sizes[10..].iter().all(|size| (45..=80).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn only_eight_full_batches_of_the_size_on_trial_end_a_trial() {
    let good = batch(20, 100.0);
    let others = [
        ("partial", partial(19, 20, 100.0)),
        ("another size", batch(40, 100.0)),
        (
            "a permanent error",
            failing(20, 100.0, CallOutcome::Permanent),
        ),
    ];
    for (name, other) in others {
        let mut policy = HillClimb::new();
        assert_eq!(after(&mut policy, 20, &[other; 30]), 20, "{name}");
        assert_eq!(after(&mut policy, 20, &[good; 7]), 20);
        assert_eq!(after(&mut policy, 20, &[other; 30]), 20, "{name}");
        assert_eq!(after(&mut policy, 20, &[good]), 25);
    }
    // In one window, the batches after the eighth were cut at the previous size.
    assert_eq!(after(&mut HillClimb::new(), 20, &[good; 30]), 25);
    // If the limits change the size, it continues from there.
    let mut policy = HillClimb::new();
    assert_eq!(after(&mut policy, 20, &[good; 8]), 25);
    assert_eq!(after(&mut policy, 200, &[]), 200);
    assert_eq!(after(&mut policy, 200, &[batch(200, 500.0); 8]), 250);
    assert_eq!(policy.cadence(), Cadence::EveryBatch);
}

#[test]
fn hill_climbing_leaves_even_the_smallest_size() {
    let mut policy = HillClimb::new();
    let sizes: Vec<_> = [1, 2, 3, 4]
        .into_iter()
        .map(|size| {
            let samples = reported(&[batch(size, 100.0); 8]);
            let window = Window {
                min_batch_size: 1,
                ..window(&samples, Duration::ZERO, false)
            };
            policy.decide(&window, &setpoint(size)).batch_size
        })
        .collect();
    assert_eq!(sizes, [2, 3, 4, 5]);
}
