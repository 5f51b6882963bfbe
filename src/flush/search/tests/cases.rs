//! Single courses of the search, each with what it costs.

use super::*;

#[test]
fn a_dead_backend_costs_the_descent_and_three_calls_a_step() {
    for rows in [1, 2, 100, 1_000, 5_000] {
        let world = World {
            rows,
            away: vec![(Duration::ZERO, Duration::MAX)],
            ..World::default()
        };
        let report = world.run();
        let depth = rows.next_power_of_two().ilog2() as usize;
        assert!(
            report.calls <= 2 + depth + 3 * report.waits,
            "{rows} rows: {} calls",
            report.calls
        );
        assert!(report.calls <= 120, "{rows} rows: {} calls", report.calls);
        assert_eq!((report.in_outage.len(), report.failed.len()), (rows, 0));
        assert!(
            (60..62).contains(&report.time.as_secs()),
            "the last attempt begins when patience ends: {:?}",
            report.time
        );
    }
}

#[test]
fn attempts_are_counted_where_they_are_set() {
    for (attempts, rows, calls) in [(1, 1, 1), (2, 1, 2), (5, 1, 5), (5, 4, 2 + 2 + 3 * 3)] {
        let away = vec![(Duration::ZERO, Duration::MAX)];
        let report = World {
            retry: Retry::attempts(attempts),
            rows,
            away,
            ..World::default()
        }
        .run();
        assert_eq!(
            (report.calls, report.in_outage.len() + report.failed.len()),
            (calls, rows),
            "{attempts}, {rows} rows"
        );
    }
    let away = vec![(Duration::ZERO, Duration::MAX)];
    let both = Retry::attempts(40)
        .for_at_least(Duration::from_secs(1))
        .backoff(MS, MS);
    let report = World {
        retry: both,
        rows: 1,
        away,
        ..World::default()
    }
    .run();
    assert!(
        report.calls >= 40 && report.time >= Duration::from_secs(1),
        "both are used up: {report:?}"
    );
}

#[test]
fn a_poisoned_row_takes_less_than_a_second_where_others_answer() {
    for in_line in [1, 50] {
        let report = World {
            rows: 1,
            in_line,
            ..World::default()
        }
        .bad([0])
        .run();
        assert_eq!((&report.failed[..], report.handled.len()), (&[0][..], 1));
        assert!(
            report.time < Duration::from_secs(1) && report.calls <= 5,
            "{report:?}"
        );
    }
}

#[test]
fn the_last_row_of_a_batch_fails_without_a_wait_for_others() {
    let report = World::default().bad([999]).run();
    assert_eq!((report.failed, report.in_outage.len()), (vec![999], 0));
    assert!(report.time < Duration::from_secs(1));
}

/// Scenario 49.
#[test]
fn a_flush_costs_no_patience_and_begins_one_attempt_a_first_step_at_most() {
    let away = vec![(Duration::ZERO, Duration::from_secs(50))];
    let flushes = (0..60_000).step_by(3).map(Duration::from_millis).collect();
    for retry in [Retry::default(), Retry::attempts(40)] {
        let world = World {
            retry,
            rows: 100,
            away: away.clone(),
            ..World::default()
        };
        let without = world.run();
        let with = World {
            flushes: Vec::clone(&flushes),
            ..world
        }
        .run();
        assert_eq!(with.failed.len() + with.in_outage.len(), 0, "{retry:?}");
        assert_eq!(
            without.failed.len() + without.in_outage.len(),
            0,
            "{retry:?}"
        );
        let early = with.calls as u64;
        assert!(
            early <= without.calls as u64 + 50_000 / 50 + 50,
            "{early} calls"
        );
    }
}

#[test]
fn what_the_backend_refuses_unseen_is_called_again_as_it_was() {
    let away = vec![(Duration::ZERO, Duration::from_secs(20))];
    let report = World {
        away,
        away_fault: Fault::Unavailable,
        ..World::default()
    }
    .run();
    assert_eq!(
        (report.handled.len(), report.waits),
        (1_000, report.calls - 1)
    );
    assert!(
        report.ids.iter().all(|(_, rows, _)| rows.len() == 1_000),
        "no search begins"
    );
    let for_ever = vec![(Duration::ZERO, Duration::MAX)];
    let report = World {
        away: for_ever,
        away_fault: Fault::Unavailable,
        ..World::default()
    }
    .run();
    assert_eq!(report.in_outage.len(), 1_000);
    assert!(report.time >= Duration::from_secs(60));
}

#[test]
fn a_statement_that_is_wrong_takes_five_attempts_and_a_row_alone() {
    let world = World {
        fault: Fault::Misconfigured,
        ..World::default()
    };
    let report = World {
        bad: (0..1_000).collect(),
        ..world
    }
    .run();
    assert_eq!(
        (report.calls, report.failed.len(), report.in_outage.len()),
        (6, 1_000, 0)
    );
    assert!(report.time < Duration::from_secs(1));
}

#[test]
fn a_length_that_is_refused_is_reported() {
    let report = World {
        limit: 700,
        ..World::default()
    }
    .run();
    assert_eq!(
        (report.handled.len(), report.refused_len),
        (1_000, Some(1_000))
    );
    assert_eq!(report.calls, 4, "the whole twice, and two halves");
    let report = World {
        limit: 700,
        ..World::default()
    }
    .bad([3])
    .run();
    assert_eq!((report.failed, report.refused_len), (vec![3], None));
}

#[test]
fn a_batch_that_is_too_long_is_not_searched_down_to_its_rows() {
    let split = || Retry::default().split_on_retry(true);
    // For each part that is short enough: itself, and its share of the longer ones that failed.
    for (retry, fault, calls_a_part) in [
        (split(), Fault::Transient, 2.0),
        (Retry::default(), Fault::Transient, 6.0),
        (Retry::default(), Fault::Unclassified, 6.0),
    ] {
        for limit in [50, 300, 1_100, 2_200] {
            let world = World {
                rows: 4_250,
                limit,
                fault,
                retry,
                ..World::default()
            };
            let report = world.run();
            let parts = (4_250.0 / limit as f64).log2().ceil().exp2();
            assert_eq!(report.handled.len(), 4_250);
            assert!(
                report.calls as f64 <= calls_a_part * parts,
                "{fault:?}, at most {limit}: {} calls for {parts} parts",
                report.calls
            );
        }
    }
}

#[test]
fn a_close_uses_its_time_and_gives_back_what_is_left() {
    let second = Duration::from_secs(1);
    let back_after = |time| World {
        away: vec![(Duration::ZERO, time)],
        close: Some((MS * 500, second * 30)),
        ..World::default()
    };
    let report = back_after(second * 20).run();
    assert_eq!((report.handled.len(), report.gave_up.len()), (1_000, 0));
    let report = back_after(second * 40).run();
    assert_eq!(
        (
            report.handled.len(),
            report.failed.len() + report.in_outage.len()
        ),
        (0, 0)
    );
    assert_eq!(report.gave_up.len(), 1_000);
    assert!(report.time <= MS * 30_500, "{:?}", report.time);
}

#[test]
fn kept_order_is_order() {
    let retry = Retry::default().keep_order(true);
    let away = vec![(MS * 3, Duration::from_secs(9))];
    let report = World {
        retry,
        away,
        in_line: 9,
        ..World::default()
    }
    .bad([17, 500])
    .run();
    assert!(report.handled.is_sorted(), "{:?}", report.handled);
    let failed: BTreeSet<u64> = report
        .failed
        .iter()
        .chain(&report.in_outage)
        .copied()
        .collect();
    assert_eq!(
        failed,
        BTreeSet::from([17, 500]),
        "no good row fails with them"
    );
}

#[test]
fn a_batch_without_parts_keeps_its_id_and_its_attempts() {
    let retry = Retry::attempts(9).bisect(false);
    let script = vec![
        Some(Fault::Transient),
        Some(Fault::Transient),
        Some(Fault::Transient),
        None,
        Some(Fault::Transient),
        None,
    ];
    let report = World {
        retry,
        rows: 4,
        in_line: 1,
        script,
        ..World::default()
    }
    .run();
    assert_eq!(
        (
            report.failed.len() + report.in_outage.len(),
            report.handled.len()
        ),
        (0, 5)
    );
    let whole: Vec<_> = report
        .ids
        .iter()
        .filter(|(_, rows, _)| rows.len() == 4)
        .map(|(id, ..)| *id)
        .collect();
    assert!(
        whole.len() == 5 && whole.iter().all(|id| *id == whole[0]),
        "{:?}",
        report.ids
    );
    let report = World {
        retry: Retry::default().bisect(false),
        rows: 4,
        in_line: 1,
        ..World::default()
    }
    .bad([2])
    .run();
    assert_eq!(
        (report.failed, report.handled),
        (vec![0, 1, 2, 3], vec![4]),
        "it fails as a whole, once another has answered"
    );
}

/// Over places that are drawn anew in each of 200 batches, always the same ones.
#[test]
fn the_search_costs_what_it_says_in_the_mean() {
    let mut state = 1u64;
    let mut below = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for (n, k) in [
        (1_000, 1),
        (1_000, 2),
        (1_000, 10),
        (1_000, 60),
        (5_000, 20),
        (200, 20),
        (5_000, 500),
    ] {
        let mut calls = 0.0;
        for _ in 0..200 {
            let mut world = World {
                rows: n,
                ..World::default()
            };
            while world.bad.len() < k {
                world.bad.insert(below(n as u64));
            }
            let report = world.run();
            calls += report.calls as f64 - 3.0 * report.waits as f64;
        }
        let share = calls / 200.0 / price(n, k);
        assert!(share <= 1.1, "{n} rows, {k} bad: {share:.2} of the price");
    }
}

#[test]
fn an_answer_begins_the_patience_anew() {
    let ms = |from: u32, to: u32| (MS * from, MS * to);
    let world = World {
        call_time: MS * 100,
        away: vec![ms(200, 30_000), ms(36_000, 80_000)],
        ..World::default()
    };
    let world = world.bad((0..10).map(|row| row * 97));
    let report = world.run();
    assert!(report.time > MS * 80_000, "both outages met the batch");
    assert_eq!(report.in_outage, [0; 0], "neither was longer than patience");
    let failed: BTreeSet<u64> = report.failed.into_iter().collect();
    assert_eq!(failed, world.bad);
}
