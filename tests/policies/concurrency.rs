//! What the policies decide about the number of calls at once.

use load_aware_batcher::{Aimd, Decision, Fixed, HillClimb, LoadThreshold, Policy, Window};

use super::*;

type Make = fn() -> Box<dyn Policy>;

const SIZES_ONLY: [(&str, Make); 5] = [
    ("Fixed", || Box::new(Fixed(20))),
    ("LoadThreshold", || Box::new(LoadThreshold::new())),
    (
        "LoadThreshold::strict",
        || Box::new(LoadThreshold::strict()),
    ),
    ("Aimd", || Box::new(Aimd::new(Duration::from_millis(50)))),
    ("HillClimb", || Box::new(HillClimb::new())),
];

#[test]
fn a_policy_that_only_sizes_batches_asks_for_the_most_calls_at_once() {
    let windows = [
        reported(&[]),
        reported(&[batch(20, 10.0)]),
        reported(&[failing(20, 90.0, CallOutcome::Transient)]),
    ];
    for (name, make) in SIZES_ONLY {
        let mut policy = make();
        for samples in &windows {
            for is_check in [false, true] {
                let range = Window {
                    min_concurrency: 2,
                    max_concurrency: 6,
                    ..window(samples, Duration::from_secs(1), is_check)
                };
                let decision = policy.decide(&range, &setpoint(20));
                assert_eq!(decision.concurrency, Some(6), "{name}, {samples:?}");
            }
        }
    }
}

#[test]
fn a_decision_that_names_no_concurrency_keeps_the_one_in_force() {
    assert_eq!(Decision::hold(&setpoint(20), "idle").concurrency, None);
    assert_eq!(Decision::resize(30, "grown").concurrency, None);
}
