//! How failed calls, and probes without evidence, are answered.

use super::*;

#[test]
fn a_failed_batch_halves_at_once_and_is_explained() {
    let mut course = Course::settled();
    assert_eq!(course.sample(failing(364, 400.0)), 182);
    assert_eq!(
        course.setpoint.reason.to_string(),
        "a batch of 364 failed after 400 ms: 364 → 182"
    );
    assert_eq!(course.setpoint.zone, Zone::High);
    assert_eq!(course.sample(failing(182, 400.0)), 91);
    assert_eq!(course.sample(failing(91, 400.0)), 45);
    for _ in 0..8 {
        let size = course.setpoint.batch_size;
        course.sample(failing(size, 400.0));
    }
    assert_eq!(
        course.setpoint.batch_size, 1,
        "an outage may go to the minimum"
    );
}

#[test]
fn a_failure_is_answered_once() {
    // A batch cut before the size was halved, and a retry.
    let late = failing(364, 400.0);
    let mut course = Course::settled();
    course.sample(late);
    assert_eq!(course.sample(late), 182);
    assert_eq!(course.sample(BatchSample { attempt: 2, ..late }), 182);
    // A part of it that fails on its own is a new failure.
    assert!(
        course.sample(BatchSample {
            attempt: 2,
            full: false,
            ..failing(182, 400.0)
        }) < 182
    );
}

#[test]
fn parts_that_are_refused_at_once_do_not_shrink_the_size() {
    let mut course = Course::settled();
    course.sample(failing(364, 1.0));
    assert_eq!(course.setpoint.batch_size, 182);
    for (attempt, len) in [(2, 182), (3, 91), (4, 45)] {
        course.sample(BatchSample {
            attempt,
            cut_at: 364,
            full: false,
            ..failing(len, 1.0)
        });
    }
    assert_eq!(course.setpoint.batch_size, 182);
    // A part that took about its expected time does.
    course.sample(BatchSample {
        attempt: 2,
        cut_at: 364,
        full: false,
        ..failing(182, 300.0)
    });
    assert_eq!(course.setpoint.batch_size, 91);
}

#[test]
fn a_permanent_error_or_rejected_rows_change_no_size() {
    let mut course = Course::settled();
    let permanent = BatchSample {
        outcome: CallOutcome::Permanent,
        ..failing(364, 1.0)
    };
    let rejected = BatchSample {
        failed: 300,
        ..batch(364, 479.0)
    };
    for sample in [permanent, rejected] {
        (0..20).for_each(|_| {
            course.sample(sample);
        });
        assert_eq!(course.setpoint.batch_size, 364);
    }
}

#[test]
fn a_call_that_failed_early_sets_no_time_limit() {
    let mut course = Course::settled();
    course.sample(failing(364, 1.0));
    assert_eq!(course.setpoint.batch_size, 182);
    course.run(24.0, 1.25);
    course.run(24.0, 1.25);
    assert_eq!(course.setpoint.batch_size, 364);
    // A call that ran into a timeout sets one.
    course.sample(failing(364, 400.0));
    (0..10).for_each(|_| {
        course.run(24.0, 1.25);
    });
    // 0.85 of it, less the margin for noise.
    assert!(
        (180..280).contains(&course.setpoint.batch_size),
        "{}",
        course.setpoint.batch_size
    );
}

#[test]
fn a_probe_without_evidence_is_followed_by_another() {
    let overwritten: fn(&mut Course) = |course| course.decide_without(1, &[], false);
    // A permanent error: its time is no evidence.
    let refused: fn(&mut Course) = |course| {
        let sample = BatchSample {
            probe: true,
            outcome: CallOutcome::Permanent,
            ..failing(course.next_size(), 5.0)
        };
        course.sample(sample);
    };
    for no_evidence in [overwritten, refused] {
        let mut course = Course::settled();
        while course.setpoint.probe.is_none() {
            course.run(24.0, 1.25);
        }
        let first = course.probes;
        no_evidence(&mut course);
        assert!(course.setpoint.probe.is_none(), "the setpoint drops it");
        (0..32).for_each(|_| {
            course.run(24.0, 1.25);
        });
        assert!(course.probes > first);
    }
}

#[test]
fn a_failed_large_probe_leaves_the_size_alone_even_if_samples_were_lost() {
    for lost in [0, 1] {
        let mut course = Course::settled();
        course.max = 5_000;
        while course.next_size() < 2 * course.setpoint.batch_size {
            course.run(24.0, 1.25);
        }
        let (size, large) = (course.setpoint.batch_size, course.next_size());
        // The probe is in flight.
        course.decide_without(lost, &[], false);
        course.sample(BatchSample {
            probe: true,
            ..failing(large, 900.0)
        });
        assert!(
            course.setpoint.batch_size > size / 2,
            "{size} to {} with {lost} lost",
            course.setpoint.batch_size
        );
    }
}
