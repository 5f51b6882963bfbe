//! Which settings each policy refuses, with name, value and allowed range, and which values at the
//! edge of a range it accepts.

use load_aware_batcher::{
    Aimd, Batch, Batcher, BuildError, CostModel, Fixed, HillClimb, LoadFeedback, LoadThreshold,
};
use load_aware_batcher::{Retry, Weights};

use super::*;

const NAN: f64 = f64::NAN;
const INFINITY: f64 = f64::INFINITY;
const SECOND: Duration = Duration::from_secs(1);
const POSITIVE: &str = "must be greater than 0";
const SHARE: &str = "must be greater than 0 and less than 1";
const STEP: &str = "must be greater than 0 and at most 1";
const WITHIN: &str = "must be between 0 and 1";
const WEIGHT: &str = "must be finite and not negative";

fn boxed(policy: impl Policy + 'static) -> Box<dyn Policy> {
    Box::new(policy)
}

/// A batcher with this policy and no other wrong setting.
fn spawned(policy: Box<dyn Policy>) -> Result<Batcher<u64>, BuildError> {
    Batcher::builder()
        .retry(Retry::none())
        .policy(policy)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
}

#[test]
fn a_setting_that_makes_no_sense_is_named_with_its_value() {
    let (threshold, cost, aimd) = (LoadThreshold::new, CostModel::new, || Aimd::new(SECOND));
    let mut table = vec![
        (
            boxed(Fixed(0)),
            "Fixed",
            "0".to_owned(),
            "must be at least 1",
        ),
        (
            boxed(Aimd::new(Duration::ZERO)),
            "target",
            "0s".to_owned(),
            "must be greater than zero",
        ),
        (
            boxed(aimd().increase(0)),
            "increase",
            "0".to_owned(),
            "must be at least 1",
        ),
        (
            boxed(cost().max_batch_time(Duration::ZERO)),
            "max_batch_time",
            "0s".to_owned(),
            "must be greater than zero",
        ),
    ];
    for bad in [0.0, 1.0, -0.1, 7.0, NAN, INFINITY] {
        table.push((
            boxed(aimd().decrease(bad)),
            "decrease",
            bad.to_string(),
            SHARE,
        ));
        table.push((
            boxed(cost().efficiency(bad)),
            "efficiency",
            bad.to_string(),
            SHARE,
        ));
    }
    for bad in [-0.1, 1.1, NAN, INFINITY, -INFINITY] {
        table.push((
            boxed(cost().throttle_above(bad, 0.05)),
            "throttle_above",
            bad.to_string(),
            WITHIN,
        ));
        table.push((
            boxed(cost().throttle_above(0.7, bad)),
            "throttle_above",
            bad.to_string(),
            WITHIN,
        ));
        table.push((
            boxed(threshold().thresholds(bad, 0.7)),
            "thresholds",
            bad.to_string(),
            WITHIN,
        ));
        table.push((
            boxed(threshold().thresholds(0.3, bad)),
            "thresholds",
            bad.to_string(),
            WITHIN,
        ));
    }
    for bad in [0.0, -0.2, 1.1, NAN, INFINITY] {
        table.push((
            boxed(threshold().adjustment_factor(bad)),
            "adjustment_factor",
            bad.to_string(),
            STEP,
        ));
    }
    for bad in [0.0, -1.0, NAN, INFINITY] {
        table.push((
            boxed(threshold().queue_scale(bad)),
            "queue_scale",
            bad.to_string(),
            POSITIVE,
        ));
        table.push((
            boxed(threshold().lock_scale(bad)),
            "lock_scale",
            bad.to_string(),
            POSITIVE,
        ));
    }
    let weights = Weights::default();
    for bad in [-0.1, NAN, INFINITY] {
        for weights in [
            Weights {
                cpu_load: bad,
                ..weights
            },
            Weights {
                error_rate: bad,
                ..weights
            },
            Weights {
                queue_depth: bad,
                ..weights
            },
            Weights {
                db_locks: bad,
                ..weights
            },
        ] {
            table.push((
                boxed(threshold().weights(weights)),
                "weights",
                bad.to_string(),
                WEIGHT,
            ));
        }
    }
    let none = Weights {
        cpu_load: 0.0,
        error_rate: 0.0,
        queue_depth: 0.0,
        db_locks: 0.0,
    };
    table.push((
        boxed(threshold().weights(none)),
        "weights",
        "all zero".to_owned(),
        "at least one must be greater than 0",
    ));
    for (policy, name, given, wrong) in table {
        let found = policy.validate();
        let Err(BuildError::Setting {
            setting,
            value,
            problem,
            ..
        }) = found
        else {
            panic!("{name} {given} gives {found:?}");
        };
        assert_eq!((setting, value, problem), (name, given.clone(), wrong));
        // And no batcher starts with it.
        let refused = spawned(policy).err().map(|error| error.to_string());
        assert_eq!(refused, Some(format!("{name} is {given}: {wrong}")));
    }
}

#[test]
fn two_thresholds_the_wrong_way_round_contradict_each_other() {
    let found = LoadThreshold::new().thresholds(0.8, 0.7).validate();
    let Err(BuildError::Conflict {
        setting,
        value,
        other,
        other_value,
        problem,
        ..
    }) = found
    else {
        panic!("{found:?}");
    };
    assert_eq!((setting, value.as_str()), ("low threshold", "0.8"));
    assert_eq!(
        (other, other_value.as_str(), problem),
        ("high threshold", "0.7", "low must not exceed high")
    );
}

#[test]
fn what_lies_on_the_edge_of_a_range_that_includes_it_is_accepted() {
    let (threshold, cost, aimd) = (LoadThreshold::new, CostModel::new, || {
        Aimd::new(Duration::from_nanos(1))
    });
    let one = Weights {
        cpu_load: 0.0,
        error_rate: 0.0,
        queue_depth: 0.0,
        db_locks: 1e9,
    };
    let table = [
        boxed(Fixed(1)),
        boxed(HillClimb::new()),
        boxed(aimd().increase(1).decrease(0.001)),
        boxed(aimd().increase(usize::MAX).decrease(0.999)),
        boxed(threshold().adjustment_factor(1.0)),
        boxed(threshold().adjustment_factor(f64::MIN_POSITIVE)),
        boxed(
            threshold()
                .thresholds(0.0, 1.0)
                .weights(one)
                .queue_scale(0.001)
                .lock_scale(1e9),
        ),
        boxed(threshold().thresholds(0.5, 0.5)),
        boxed(LoadThreshold::strict()),
        boxed(cost().efficiency(0.001).throttle_above(0.0, 1.0)),
        boxed(
            cost()
                .efficiency(0.999)
                .throttle_above(1.0, 0.0)
                .max_batch_time(Duration::from_nanos(1)),
        ),
        boxed(cost().max_batch_time(Duration::MAX)),
    ];
    for (place, policy) in table.into_iter().enumerate() {
        assert_eq!(
            policy.validate().map_err(|error| error.to_string()),
            Ok(()),
            "row {place}"
        );
    }
}
