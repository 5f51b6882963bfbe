//! Large probes, and what probes may cost.

use super::*;

#[test]
fn a_large_probe_detects_items_that_share_pages() {
    let mut course = Course::new(CostModel::new());
    course.max = 5_000;
    let mut reasons = Vec::new();
    for _ in 0..100 {
        let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
        course.sample(BatchSample {
            probe,
            ..batch(len, sharing(len))
        });
        reasons.push(course.setpoint.reason.to_string());
    }
    assert_eq!(course.setpoint.batch_size, 5_000);
    assert!(
        reasons
            .iter()
            .any(|reason| reason.starts_with("an item costs less in a much larger batch: 1")),
        "{reasons:#?}"
    );
}

/// A thousand pages, of which each row of a small batch writes one: only far beyond is an item
/// cheaper.
#[test]
fn a_large_probe_that_found_nothing_is_followed_by_a_larger_one() {
    let mut course = Course::new(CostModel::new());
    course.max = 5_000;
    // A start that underestimates the cost of a call.
    for (len, time) in [(20, 0.65), (40, 1.25), (80, 2.6)] {
        course.sample(batch(len, time));
    }
    assert!(
        course.setpoint.batch_size < 100,
        "{}",
        course.setpoint.batch_size
    );
    for _ in 0..120 {
        let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
        let time = 0.11 + 0.009 * len as f64 + 0.018 * len.min(1_000) as f64;
        course.sample(BatchSample {
            probe,
            ..batch(len, time)
        });
    }
    assert_eq!(course.setpoint.batch_size, 5_000);
}

#[test]
fn probes_that_wait_for_a_lock_waste_at_most_a_twentieth_of_the_time() {
    let mut course = Course::settled();
    let (mut wasted, mut total) = (0.0, 0.0);
    for _ in 0..400 {
        let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
        let (share, wait) = if probe && len < course.setpoint.batch_size {
            (1.25 * len as f64, 500.0)
        } else {
            (0.0, 0.0)
        };
        let time = 24.0 + 1.25 * len as f64 + wait;
        course.sample(BatchSample {
            probe,
            ..batch(len, time)
        });
        total += time;
        wasted += if wait > 0.0 { time - share } else { 0.0 };
    }
    assert!(wasted > 0.0 && wasted < 0.06 * total, "{wasted} of {total}");
}

#[test]
fn one_probe_that_hung_does_not_stop_the_others_for_long() {
    let mut course = Course::settled();
    let (mut hung, mut probes) = (false, 0);
    for _ in 0..800 {
        let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
        let wait = if probe && !hung { 1e6 } else { 0.0 };
        hung |= probe;
        course.sample(BatchSample {
            probe,
            ..batch(len, 24.0 + 1.25 * len as f64 + wait)
        });
        probes += u32::from(probe);
    }
    assert!(probes > 10, "{probes}");
}

#[test]
fn a_large_probe_that_is_refused_or_cut_short_is_no_evidence() {
    // A packet that is too large, a connection that is reset, a linger that is over, a reset
    // between two that were cheaper.
    for (what, most) in [
        ("refused", 8),
        ("failed", 8),
        ("cut short", 8),
        ("every other failed", 150),
    ] {
        let mut course = Course::new(CostModel::new());
        course.max = 5_000;
        let (mut large_probes, mut others) = (0, 0);
        for _ in 0..600 {
            let (len, probe, size) = (
                course.next_size(),
                course.setpoint.probe.is_some(),
                course.setpoint.batch_size,
            );
            let is_large = probe && len > size;
            large_probes += u32::from(is_large);
            others += u32::from(probe && !is_large);
            let sample = match what {
                _ if !is_large => batch(len, 0.1 + 0.027 * len as f64),
                "refused" => BatchSample {
                    outcome: CallOutcome::Permanent,
                    ..failing(len, 0.1)
                },
                "cut short" => BatchSample {
                    full: false,
                    cut_at: len,
                    ..batch(size * 15 / 8, 1.0)
                },
                "every other failed" if large_probes % 2 == 1 => batch(len, 0.01 * len as f64),
                _ => failing(len, 0.1),
            };
            course.sample(BatchSample { probe, ..sample });
        }
        assert!(
            course.setpoint.batch_size < 90,
            "{what}: {}",
            course.setpoint.batch_size
        );
        assert!((2..=most).contains(&large_probes), "{what}: {large_probes}");
        assert!(others > 10, "{what}: {others} other probes");
    }
}

#[test]
fn a_large_probe_that_fails_leaves_the_size_alone() {
    let mut course = Course::new(CostModel::new());
    course.max = 5_000;
    let mut failed = 0;
    for _ in 0..200 {
        let (len, probe) = (course.next_size(), course.setpoint.probe.is_some());
        if len > 1_000 {
            let before = course.setpoint.batch_size;
            course.sample(BatchSample {
                probe,
                ..failing(len, 20.0)
            });
            assert_eq!(course.setpoint.batch_size, before);
            failed += 1;
        } else {
            course.sample(BatchSample {
                probe,
                ..batch(len, sharing(len))
            });
        }
    }
    // It would take longer than the limit, so it is tried again only when that has risen.
    assert!((1..=2).contains(&failed), "{failed}");
}
