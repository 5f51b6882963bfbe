//! Calls that were refused unseen, and broken statements, are evidence of nothing; too large a
//! batch is one for `CostModel` alone.

use super::*;
use load_aware_batcher::{Aimd, CostModel, Fixed, HillClimb, LoadThreshold};

type Law = (&'static str, fn() -> Box<dyn Policy>);

const LAWS: [Law; 6] = [
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

/// Sizes and lingers along a course, with such a sample before each batch and after it, or without.
/// Every third batch fails.
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
        let mut samples = told(
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
fn no_policy_learns_anything_from_a_call_refused_unseen_a_broken_statement_or_an_event_not_meant_for_it()
 {
    for (name, law) in LAWS {
        let without = course(law(), None);
        for outcome in [
            CallOutcome::Unavailable,
            CallOutcome::Misconfigured,
            CallOutcome::TooLarge,
        ] {
            if outcome != CallOutcome::TooLarge || name != "CostModel" {
                assert_eq!(course(law(), Some(outcome)), without, "{name}, {outcome:?}");
            }
        }
    }
}
