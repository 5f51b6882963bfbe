//! An id names one set of rows: it stays while the set is the same, and no longer.

use super::*;

/// The ids of the calls of exactly these rows.
fn ids_of(report: &Report, rows: &[u64]) -> Vec<BatchId> {
    let calls = report.ids.iter().filter(|(_, called, _)| called == rows);
    calls.map(|(id, ..)| *id).collect()
}

fn is_one(ids: &[BatchId]) -> bool {
    ids.len() > 1 && ids.iter().all(|id| *id == ids[0])
}

#[test]
fn a_row_that_is_called_alone_again_keeps_its_id() {
    let report = World::default().bad([500]).run();
    assert_eq!(report.failed, [500]);
    assert!(is_one(&ids_of(&report, &[500])), "{:?}", report.ids);
}

#[test]
fn a_part_that_is_refused_unseen_keeps_its_id() {
    let lost = Some(Fault::Transient);
    let script = vec![lost, lost, Some(Fault::Unavailable), None, None];
    let report = World {
        rows: 4,
        script,
        ..World::default()
    }
    .run();
    assert_eq!((report.calls, report.handled.len()), (5, 4));
    assert!(is_one(&ids_of(&report, &[0, 1])), "{:?}", report.ids);
}

#[test]
fn what_is_left_when_a_row_has_failed_has_an_id_of_its_own() {
    let report = World {
        rows: 2,
        fault: Fault::Permanent,
        ..World::default()
    }
    .bad([0])
    .run();
    assert_eq!(
        (&report.failed[..], &report.handled[..]),
        (&[0][..], &[1][..])
    );
    assert_ne!(ids_of(&report, &[0, 1]), ids_of(&report, &[1]));
}

#[test]
fn rows_in_doubt_are_not_called_in_halves() {
    let lost = Some(Fault::Transient);
    // A row from the line answers in between.
    let script = vec![Some(Fault::InDoubt), lost, lost, None, lost, None];
    let report = World {
        retry: Retry::attempts(9).bisect(false).split_on_retry(true),
        idempotent: true,
        rows: 4,
        in_line: 1,
        script,
        ..World::default()
    }
    .run();
    assert_eq!(report.handled.len(), 5);
    assert_eq!(ids_of(&report, &[0, 1, 2, 3]).len(), 5, "{:?}", report.ids);
    assert!(is_one(&ids_of(&report, &[0, 1, 2, 3])));
}
