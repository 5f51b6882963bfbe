//! Rows that the handler asks for again, rejections in calls that fail, and handlers that are
//! replaced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, FlushError, LoadFeedback, Outcome, Retry};
use testkit::{LONG, ends, fixed, until};

const AT_ONCE: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_millis(20);

fn at_once(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff(AT_ONCE, AT_ONCE)
}

#[test]
fn of_a_failed_call_only_permanent_rejections_count() {
    for (error, handled) in [
        (BatchError::permanent("no"), 2),
        (BatchError::transient("lost"), 3),
    ] {
        let is_permanent = error.is_permanent();
        let mut calls = 0;
        let batcher = fixed(3)
            .retry(at_once(2))
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                if calls == 1 {
                    batch.reject(1, error.clone());
                    return Err(BatchError::transient("the connection was lost"));
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many([1, 2, 3]).unwrap();
        assert_eq!(batcher.flush(LONG).is_err(), is_permanent);
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.rejected),
            (handled, u64::from(is_permanent))
        );
        let failed: Vec<_> = batcher
            .take_failed()
            .iter()
            .map(|failed| (failed.item, failed.attempts))
            .collect();
        assert_eq!(failed, if is_permanent { vec![(2, 1)] } else { vec![] });
    }
}

#[test]
fn a_row_asked_for_again_has_its_own_attempts_and_a_flush_waits_for_it() {
    let mut asked = 0;
    let batcher = fixed(3)
        .retry(at_once(4))
        .spawn(move |batch: &mut Batch<u64>| {
            if let Some(index) = batch.iter().position(|row| *row == 2) {
                asked += 1;
                if asked < 4 {
                    batch.retry(index, BatchError::transient("429"));
                }
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let tickets: Vec<_> = (1..=3).map(|row| batcher.submit(row).unwrap()).collect();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!(
        (
            stats.handled,
            stats.failed,
            stats.retried_rows,
            stats.pending
        ),
        (3, 0, 3, 0)
    );
    assert!(
        tickets
            .into_iter()
            .all(|ticket| ticket.wait() == Outcome::Handled)
    );
}

#[test]
fn a_row_asked_for_too_often_fails_alone_with_its_last_error() {
    let batcher = fixed(3)
        .retry(at_once(4))
        .spawn(|batch: &mut Batch<u64>| {
            if let Some(index) = batch.iter().position(|row| *row == 2) {
                batch.retry(index, BatchError::transient("429"));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many([1, 2, 3]).unwrap();
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { items: 1, .. })
    ));
    let failed = batcher.take_failed();
    assert_eq!(
        (failed.len(), failed[0].item, failed[0].attempts),
        (1, 2, 4)
    );
    assert_eq!(batcher.stats().handled, 2);
}

#[test]
fn a_row_asked_for_again_is_not_called_before_the_wait_that_the_backend_named() {
    let mut asked: Option<Instant> = None;
    let (tell, told) = mpsc::channel();
    let wait = Duration::from_millis(60);
    let batcher = fixed(1)
        .retry(at_once(4))
        .spawn(move |batch: &mut Batch<u64>| {
            if let Some(asked) = asked {
                tell.send(asked.elapsed())?;
            } else {
                asked = Some(Instant::now());
                batch.retry(0, BatchError::transient("429").retry_after(wait));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(1).unwrap();
    assert!(told.recv_timeout(LONG).unwrap() >= wait);
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn a_row_in_doubt_is_asked_for_again_only_if_that_is_harmless() {
    for idempotent in [false, true] {
        let mut calls = 0;
        let batcher = fixed(1)
            .idempotent(idempotent)
            .retry(at_once(2))
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                if calls == 1 {
                    batch.retry(0, BatchError::in_doubt("no answer"));
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let outcome = batcher.submit(1).unwrap().wait();
        assert_eq!(
            outcome,
            if idempotent {
                Outcome::Handled
            } else {
                Outcome::InDoubt
            }
        );
        let stats = until(&batcher, |stats| stats.pending == 0);
        assert_eq!(
            (stats.calls, stats.in_doubt),
            if idempotent { (2, 0) } else { (1, 1) }
        );
    }
}

#[test]
fn later_rows_wait_for_a_row_asked_for_again_where_order_is_kept() {
    let (tell, told) = mpsc::channel();
    let mut asked = false;
    let batcher = fixed(2)
        .retry(Retry::attempts(4).backoff(SOON, SOON).keep_order(true))
        .spawn(move |batch: &mut Batch<u64>| {
            for (index, row) in batch.iter().enumerate() {
                if *row == 1 && !std::mem::replace(&mut asked, true) {
                    batch.retry(index, BatchError::transient("429"));
                } else {
                    tell.send(*row)?;
                }
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many(0..6).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert!(told.iter().eq(0..6));
}

#[test]
fn a_close_out_of_time_reports_rows_asked_for_again_as_failed() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::attempts(4).backoff(LONG, LONG))
            .spawn(|batch: &mut Batch<u64>| {
                batch.retry(0, BatchError::transient("429").retry_after(LONG));
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add(1).unwrap();
        until(&batcher, |stats| stats.retried_rows == 1);
        let report = batcher.close(SOON);
        assert_eq!(
            (report.failed.len(), report.unsent.len(), report.abandoned),
            (1, 0, 0)
        );
    });
}

#[test]
fn each_row_is_stored_once_by_a_backend_that_asks_for_rows_and_for_calls_again() {
    let rows = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
    let (table, mut calls) = (Arc::clone(&rows), 0u64);
    let batcher = fixed(10)
        .retry(Retry::default().backoff(AT_ONCE, AT_ONCE))
        .spawn(move |batch: &mut Batch<u64>| {
            calls += 1;
            if calls % 5 == 2 {
                return Err(BatchError::unavailable("503").retry_after(Duration::from_millis(2)));
            }
            let mut table = table.lock().unwrap();
            for (index, row) in batch.iter().enumerate() {
                if (row + calls) % 4 == 0 {
                    batch.retry(index, BatchError::transient("429"));
                } else {
                    *table.entry(*row).or_default() += 1;
                }
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many(0..300).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.failed), (300, 0));
    assert!(stats.retried_rows > 0);
    let rows = rows.lock().unwrap();
    assert!(
        rows.len() == 300 && rows.values().all(|stored| *stored == 1),
        "{rows:?}"
    );
}

#[test]
fn a_handler_that_panicked_or_is_broken_is_made_anew_before_the_next_call() {
    for panics in [true, false] {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let batcher = fixed(1)
            .retry(at_once(3))
            .spawn_workers(move |_| {
                let number = count.fetch_add(1, SeqCst);
                Ok::<_, std::fmt::Error>(move |_: &mut Batch<u64>| match number {
                    0 if panics => std::panic::resume_unwind(Box::new("the first")),
                    0 => Err(BatchError::transient("the first").handler_broken()),
                    _ => Ok(LoadFeedback::new()),
                })
            })
            .unwrap();
        batcher.add_many([1, 2]).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!(
            (made.load(SeqCst), batcher.stats().handled),
            (2, 2),
            "panics: {panics}"
        );
    }
}
