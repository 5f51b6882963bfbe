//! Failed rows: to the hook, or kept up to a bound, and never dropped.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Failed, FlushError, LoadFeedback, Retry};
use testkit::{LONG, Reply, directed, fixed, until};

const AT_ONCE: Duration = Duration::ZERO;

fn items<T: Copy>(failed: &[load_aware_batcher::Failed<T>]) -> Vec<T> {
    failed.iter().map(|failed| failed.item).collect()
}

#[test]
fn kept_rows_stall_the_flusher_at_their_bound_until_they_are_taken() {
    let (handler, director) = directed();
    let batcher = fixed(2)
        .keep_failed(3)
        .retry(Retry::none())
        .spawn(handler)
        .unwrap();
    batcher.add_many(0..8).unwrap();
    for _ in 0..2 {
        director.answer(Reply::Err(BatchError::permanent("no")));
    }
    // The batch that reaches the bound may exceed it.
    let stats = until(&batcher, |stats| stats.stalled);
    assert_eq!((stats.kept_failed, stats.pending), (4, 4));
    assert_eq!(
        batcher.flush(Duration::from_millis(5)),
        Err(FlushError::Timeout)
    );
    assert!(director.no_call(), "nothing is handed over meanwhile");
    assert_eq!(items(&batcher.take_failed()), [0, 1, 2, 3]);
    assert_eq!(director.answer(Reply::Ok), [4, 5]);
    assert!(!until(&batcher, |stats| stats.handled == 2).stalled);
    drop(director);
    assert_eq!(batcher.close(LONG).handled, 4);
}

#[test]
fn a_close_lifts_the_bound_on_kept_rows() {
    let batcher = fixed(2)
        .keep_failed(1)
        .retry(Retry::none())
        .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
        .unwrap();
    batcher.add_many(0..20).unwrap();
    until(&batcher, |stats| stats.stalled);
    let report = batcher.close(LONG);
    assert_eq!(items(&report.failed), (0..20).collect::<Vec<_>>());
    assert!(!report.timed_out);
}

#[test]
fn a_hook_that_panics_was_given_its_row_and_gets_the_next() {
    let (dead, letters) = mpsc::channel();
    let batcher = fixed(4)
        .retry(Retry::none())
        .on_failed(move |failed| {
            dead.send(failed.item).unwrap();
            std::panic::resume_unwind(Box::new("hook"));
        })
        .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
        .unwrap();
    batcher.add_many(0..8).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let stats = batcher.stats();
    assert_eq!((stats.hook_panics, stats.failed, stats.pending), (8, 8, 0));
    let report = batcher.close(LONG);
    assert!(report.failed.is_empty());
    assert!(letters.iter().eq(0..8));
}

#[test]
fn every_bad_row_reaches_the_hook_exactly_once_and_in_order_of_batches() {
    let (dead, letters) = mpsc::channel();
    let batcher = fixed(64)
        .retry(Retry::attempts(3).backoff(AT_ONCE, AT_ONCE))
        .on_failed(move |failed| dead.send((failed.item, failed.attempts)).unwrap())
        .spawn(|batch: &mut Batch<u64>| {
            if batch.iter().any(|item| item % 9 == 0) {
                return Err(BatchError::transient("no"));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many(0..640).unwrap();
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { items: 72, .. })
    ));
    let report = batcher.close(LONG);
    assert_eq!(
        (report.handled, report.failed_total, report.failed.len()),
        (640 - 72, 72, 0)
    );
    let letters: Vec<_> = letters.iter().collect();
    let mut rows: Vec<u64> = letters.iter().map(|(item, _)| *item).collect();
    // A witness is decided before the rows in front of it. Across batches the order holds.
    assert!(
        rows.windows(2).all(|pair| pair[0] / 64 <= pair[1] / 64),
        "{rows:?}"
    );
    rows.sort_unstable();
    assert!(rows.into_iter().eq((0..640).filter(|item| item % 9 == 0)));
    // Twice in the whole batch, at most once at each depth of the search, and alone until a call
    // between two attempts was answered.
    assert!(
        letters
            .iter()
            .all(|(_, attempts)| (4..=2 + 6 + 6).contains(attempts)),
        "{letters:?}"
    );
}

/// Scenario 58.
#[test]
fn a_row_whose_hook_fails_or_panics_is_kept() {
    let batcher = fixed(8)
        .try_on_failed(|failed: &Failed<u64>| match failed.item {
            0..3 => Ok(()),
            3..6 => Err("the file is full"),
            _ => std::panic::resume_unwind(Box::new("a hook")),
        })
        .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
        .unwrap();
    batcher.add_many(0..8).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let stats = batcher.stats();
    assert_eq!(
        (stats.failed, stats.kept_failed, stats.hook_panics),
        (8, 5, 2)
    );
    assert!(
        batcher
            .take_failed()
            .into_iter()
            .map(|failed| failed.item)
            .eq(3..8)
    );
    batcher.add_many(0..8).unwrap();
    let report = batcher.close(LONG);
    assert!(report.failed.into_iter().map(|failed| failed.item).eq(3..8));
}
