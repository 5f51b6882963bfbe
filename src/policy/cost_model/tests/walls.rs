//! Lengths that are refused, cliffs, and batches that never fill.

use super::*;

fn event(len: usize) -> BatchSample {
    BatchSample {
        outcome: CallOutcome::TooLarge,
        attempt: 3,
        full: false,
        failed: 0,
        ..batch(len, 0.1)
    }
}

/// One batch of the size asked for against `2 + 0.005 n` ms, six times as long over the edge if
/// that is a cliff, else refused: the whole twice, then both halves, then the event.
fn run(course: &mut Course, edge: usize, is_cliff: bool) {
    let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
    let time = |len: usize| 2.0 + 0.005 * len as f64;
    if len <= edge || is_cliff {
        let times = if len > edge { 6.0 } else { 1.0 };
        course.sample(BatchSample {
            probe,
            ..batch(len, times * time(len))
        });
        return;
    }
    course.sample(BatchSample {
        probe,
        ..failing(len, 0.1)
    });
    course.sample(BatchSample {
        probe,
        attempt: 2,
        ..failing(len, 0.1)
    });
    let half = BatchSample {
        attempt: 3,
        full: false,
        cut_at: len,
        ..batch(len / 2, time(len / 2))
    };
    course.sample(half);
    course.sample(half);
    course.sample(event(len));
}

#[test]
fn an_edge_is_found_is_kept_and_is_lifted_by_one_success_above() {
    for is_cliff in [false, true] {
        let mut course = Course::new(CostModel::new());
        course.max = 10_000;
        (0..300).for_each(|_| run(&mut course, 1_500, is_cliff));
        assert!(
            (1_425..=1_500).contains(&course.setpoint.batch_size),
            "{is_cliff}: {}",
            course.setpoint.batch_size
        );
        let mut over = 0;
        for _ in 0..400 {
            over += u32::from(course.next_size() > 1_500);
            run(&mut course, 1_500, is_cliff);
        }
        assert!(
            (1..=4).contains(&over),
            "{is_cliff}: {over} batches beyond it"
        );
        (0..1_500).for_each(|_| run(&mut course, usize::MAX, is_cliff));
        assert!(
            course.setpoint.batch_size > 7_000,
            "{is_cliff}: {}",
            course.setpoint.batch_size
        );
    }
}

#[test]
fn one_event_is_chance_and_so_are_two_with_a_success_between_them() {
    let mut course = Course::settled();
    course.sample(event(364));
    assert_eq!(course.setpoint.batch_size, 364);
    course.sample(batch(364, 479.0));
    course.sample(event(364));
    assert_eq!(course.setpoint.batch_size, 364);
    course.sample(event(364));
    assert!(course.setpoint.batch_size < 364);
    assert_eq!(
        course.setpoint.reason.to_string(),
        "the backend refuses batches of 364: 364 → 182"
    );
}

#[test]
fn a_trickle_lingers_for_half_of_a_call_at_most_and_soon() {
    for constant in [true, false] {
        let mut course = Course::new(CostModel::new());
        for turn in 0..400_usize {
            let len = if constant { 1 } else { 1 + turn * 5 % 8 };
            let time = 2.0 + 0.005 * len as f64;
            course.sample(BatchSample {
                len,
                full: false,
                cut_at: 20,
                ..batch(len, time)
            });
            if turn >= 1 {
                let linger = course.setpoint.linger;
                assert!(
                    linger > millis(0.4) && linger <= millis(1.03),
                    "{constant}, {turn}: {linger:?}"
                );
            }
        }
        assert!(
            course.setpoint.batch_size <= 20,
            "only full batches make it grow"
        );
    }
}

/// Bursts: a short batch ends each, and the next begins with a full one.
#[test]
fn a_slow_batch_after_a_short_one_says_nothing_of_its_length() {
    let mut course = Course::settled();
    // The model is a first guess no longer.
    (0..100).for_each(|_| {
        course.run(24.0, 1.25);
    });
    let time = |len: usize| 24.0 + 1.25 * len as f64;
    let short = BatchSample {
        full: false,
        cut_at: 364,
        ..batch(30, time(30))
    };
    for _ in 0..4 {
        course.sample(short);
        let size = course.sample(batch(364, 1.9 * time(364)));
        assert!(size > 200, "one stall: {size}");
        // Nor does the short batch after it, which is as fast as ever.
        course.sample(short);
        course.setpoint.probe = None;
        course.policy.probes.pending = None;
        let size = course.sample(batch(364, time(364)));
        assert!(size > 200, "after it: {size}");
    }
}
