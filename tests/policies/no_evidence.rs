//! Calls that were refused unseen, and broken statements, are no evidence. `TooLarge` is evidence
//! for `CostModel` alone.

use super::*;
use load_aware_batcher::{Aimd, CostModel, Fixed, HillClimb, LoadThreshold};

type Named = (&'static str, fn() -> Box<dyn Policy>);

const POLICIES: [Named; 6] = [
    ("Fixed", || Box::new(Fixed(50))),
    ("LoadThreshold", || Box::new(LoadThreshold::new())),
    (
        "LoadThreshold::strict",
        || Box::new(LoadThreshold::strict()),
    ),
    ("Aimd", || Box::new(Aimd::new(Duration::from_millis(200)))),
    ("HillClimb", || Box::new(HillClimb::new())),
    ("CostModel", || Box::new(CostModel::new())),
];

/// The sizes, lingers and zones of sixty decisions. Every third batch fails. With `extra`, a sample
/// of that outcome precedes and follows each batch.
fn course(
    mut policy: Box<dyn Policy>,
    extra: Option<CallOutcome>,
) -> Vec<(usize, Option<Duration>, Zone)> {
    let mut at = setpoint(20);
    let mut course = Vec::new();
    for turn in 0..60_u64 {
        let size = at.batch_size;
        let real = if turn % 3 == 2 {
            failing(size, 300.0, CallOutcome::Transient)
        } else {
            batch(size, 20.0 + size as f64)
        };
        let event = extra.map(|outcome| {
            let refused = outcome != CallOutcome::TooLarge;
            BatchSample {
                outcome,
                failed: if refused { size } else { 0 },
                full: refused,
                ..batch(size, 0.1)
            }
        });
        let mut samples = reported(
            &[
                event.into_iter().collect::<Vec<_>>(),
                vec![real],
                event.into_iter().collect(),
            ]
            .concat(),
        );
        let signals = Signals {
            cpu_load: Some(0.1 + 0.2 * (turn % 4) as f64),
            ..Signals::default()
        };
        samples
            .iter_mut()
            .filter(|s| s.batch == Some(real))
            .for_each(|sample| sample.signals = signals);
        let decision = policy.decide(&window(&samples, Duration::from_secs(turn), true), &at);
        course.push((decision.batch_size, decision.linger, decision.zone));
        at = Setpoint {
            batch_size: decision.batch_size,
            reason: decision.reason,
            zone: decision.zone,
            ..at
        };
    }
    course
}

#[test]
fn a_call_refused_unseen_a_broken_statement_and_an_event_for_another_policy_change_no_decision() {
    for (name, policy) in POLICIES {
        let without = course(policy(), None);
        for outcome in [
            CallOutcome::Unavailable,
            CallOutcome::Misconfigured,
            CallOutcome::TooLarge,
        ] {
            if outcome != CallOutcome::TooLarge || name != "CostModel" {
                assert_eq!(
                    course(policy(), Some(outcome)),
                    without,
                    "{name}, {outcome:?}"
                );
            }
        }
    }
}
