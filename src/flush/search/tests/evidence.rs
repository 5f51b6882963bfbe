//! What counts as an answer, who is asked for one, and what a close and counted attempts allow.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The backend is away from the start.
fn away_for(time: Duration) -> World {
    World {
        away: vec![(Duration::ZERO, time)],
        ..World::default()
    }
}

/// The rows that were called alone, in turn.
fn called_alone(report: &Report) -> Vec<u64> {
    let alone = report.ids.iter().filter(|(_, rows, _)| rows.len() == 1);
    alone.map(|(_, rows, _)| rows[0]).collect()
}

#[test]
fn a_permanent_error_is_an_answer() {
    let lost = Some(Fault::Transient);
    // The first row fails alone, then both are blamed, then the first row fails alone again.
    let script = vec![lost, lost, lost, Some(Fault::Permanent), lost, None];
    let report = World {
        rows: 2,
        script,
        ..World::default()
    }
    .run();
    assert_eq!((report.failed, report.handled), (vec![0], vec![1]));
}

#[test]
fn a_witness_ends_an_outage_that_a_bad_first_row_hides() {
    let report = World {
        rows: 4,
        ..away_for(SECOND * 5)
    }
    .bad([0])
    .run();
    assert_eq!((report.failed, report.in_outage), (vec![0], vec![]));
    assert_eq!(report.handled.len(), 3);
}

#[test]
fn the_witnesses_of_an_outage_stand_all_over_the_batch() {
    let report = away_for(Duration::MAX).run();
    let witnesses: Vec<u64> = called_alone(&report)
        .into_iter()
        .filter(|row| *row > 0)
        .collect();
    let places: BTreeSet<u64> = witnesses.iter().copied().collect();
    let quarters: BTreeSet<u64> = witnesses.iter().map(|row| row / 250).collect();
    assert_eq!(places.len(), witnesses.len(), "each time another place");
    assert_eq!(quarters.len(), 4, "{witnesses:?}");
}

#[test]
fn an_outage_in_the_midst_of_a_search_costs_few_calls() {
    let report = World {
        fault: Fault::Permanent,
        away: vec![(MS * 5, SECOND * 20)],
        ..World::default()
    }
    .bad([3])
    .run();
    assert_eq!((&report.failed[..], report.handled.len()), (&[3][..], 999));
    // The descent, a run of failures, two witnesses; and the search after the outage.
    let most = 5 + 18 + 1 + 2 + 3 * report.waits + 40;
    assert!(report.calls <= most, "{} calls for {most}", report.calls);
}

#[test]
fn one_attempt_is_no_evidence_of_an_outage() {
    let report = World {
        retry: Retry::attempts(1),
        rows: 1,
        ..away_for(Duration::MAX)
    }
    .run();
    assert_eq!((report.failed, report.in_outage), (vec![0], vec![]));
}

#[test]
fn a_piece_has_no_more_attempts_than_its_batch() {
    let report = World {
        retry: Retry::attempts(3).bisect(false).split_on_retry(true),
        rows: 8,
        ..away_for(Duration::MAX)
    }
    .run();
    let calls_of = |row: u64| {
        let held = report.ids.iter().filter(|(_, rows, _)| rows.contains(&row));
        held.count()
    };
    assert!((0..8).all(|row| calls_of(row) == 3), "{:?}", report.ids);
}

#[test]
fn a_row_from_the_line_joins_no_batch() {
    let report = World {
        retry: Retry::default().bisect(false),
        rows: 4,
        in_line: 2,
        ..away_for(SECOND * 5)
    }
    .run();
    assert!(called_alone(&report).contains(&4), "one was called");
    let lengths: BTreeSet<usize> = report.ids.iter().map(|(_, rows, _)| rows.len()).collect();
    assert_eq!(lengths, BTreeSet::from([1, 4]));
}

#[test]
fn a_close_fails_no_good_row_with_a_bad_one() {
    let report = World {
        rows: 100,
        close: Some((Duration::ZERO, SECOND * 30)),
        ..World::default()
    }
    .bad([50])
    .run();
    assert_eq!((report.failed, report.handled.len()), (vec![50], 99));
}

#[test]
fn what_fails_while_closing_has_failed_where_the_settings_say_so() {
    let report = World {
        retry: Retry::default().while_closing(false),
        rows: 100,
        close: Some((Duration::ZERO, SECOND * 30)),
        ..World::default()
    }
    .bad([50])
    .run();
    assert_eq!((report.calls, report.failed.len()), (1, 100));
}

#[test]
fn more_rows_are_asked_before_the_end_of_counted_attempts_fails_a_good_one() {
    let report = World {
        retry: Retry::attempts(3),
        rows: 16,
        ..World::default()
    }
    .bad((0..16).filter(|row| *row != 6))
    .run();
    assert_eq!(report.handled, [6], "the seventh that is asked");
}

#[test]
fn a_row_that_fails_alone_is_not_overtaken_where_order_is_kept() {
    let lost = Some(Fault::Transient);
    // The batch twice, its first half goes through, its second half, the third row; then all is
    // well.
    let script = vec![lost, lost, None, lost, lost, None, None];
    let report = World {
        retry: Retry::default().keep_order(true),
        rows: 4,
        script,
        ..World::default()
    }
    .run();
    assert_eq!(report.handled, [0, 1, 2, 3]);
    assert!(called_alone(&report).contains(&2));
}

#[test]
fn a_witness_from_the_line_does_not_fail_with_a_batch_that_is_not_its_own() {
    for (bisect, rows) in [(true, 1), (false, 1), (false, 4)] {
        for retry in [Retry::default(), Retry::attempts(9)] {
            let report = World {
                retry: retry.bisect(bisect),
                rows,
                in_line: 3,
                ..away_for(Duration::MAX)
            }
            .run();
            assert_eq!(report.in_outage, (0..rows as u64).collect::<Vec<_>>());
            let asked = report.ids.iter().flat_map(|(_, called, _)| called.clone());
            let asked: BTreeSet<u64> = asked.filter(|row| *row >= rows as u64).collect();
            assert!(!asked.is_empty(), "they were called");
            assert_eq!(
                report.guests.into_iter().collect::<BTreeSet<_>>(),
                asked,
                "and head the next batch"
            );
        }
    }
}

#[test]
fn there_are_never_fewer_than_three_attempts_however_short_patience_is() {
    for (rows, bisect) in [(1, true), (1, false), (5, true), (5, false)] {
        for patience in [Duration::ZERO, MS] {
            let report = World {
                retry: Retry::default().for_at_least(patience).bisect(bisect),
                rows,
                ..away_for(Duration::MAX)
            }
            .run();
            for row in 0..rows as u64 {
                let attempts = report.ids.iter().filter(|(_, rows, _)| rows.contains(&row));
                let attempts = attempts.count();
                assert!(attempts >= 3, "{rows} rows, {patience:?}: {attempts}");
            }
        }
    }
}

#[test]
fn a_limit_in_time_comes_before_the_third_attempt() {
    let report = World {
        retry: Retry::default()
            .for_at_least(Duration::ZERO)
            .total_limit(Duration::ZERO),
        rows: 1,
        ..away_for(Duration::MAX)
    }
    .run();
    assert_eq!(report.calls, 2);
}

#[test]
fn calls_that_are_refused_unseen_use_up_no_attempts_of_a_piece() {
    let (lost, refused) = (Some(Fault::Transient), Some(Fault::Unavailable));
    // The batch, its first half four times, and then all is well.
    let script = [&[lost, refused, refused, refused, lost][..], &[None; 20]].concat();
    let report = World {
        retry: Retry::attempts(3).bisect(false).split_on_retry(true),
        rows: 2,
        script,
        ..World::default()
    }
    .run();
    assert_eq!(report.handled, [0, 1], "{:?}", report.ids);
}

#[test]
fn the_last_row_does_not_fail_by_one_failure_alone() {
    let lost = Some(Fault::Transient);
    for keep_order in [false, true] {
        // The batch twice, its first row goes through, the last one fails, and then all is well.
        let report = World {
            retry: Retry::default().keep_order(keep_order),
            rows: 2,
            script: vec![lost, lost, None, lost, None],
            ..World::default()
        }
        .run();
        assert_eq!(report.handled, [0, 1], "{:?}", report.ids);
    }
}
