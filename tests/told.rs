//! A failed row is kept only until its ticket has returned the failure (`Stats::told`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Builder, Failed, LoadFeedback, Outcome, Retry,
};
use testkit::{LONG, Reply, directed, ends, fixed, until};

/// Rejects every row.
fn rejecting<T: Send + 'static>(builder: Builder<T>) -> Batcher<T> {
    let handler = |batch: &mut Batch<T>| {
        (0..batch.len()).for_each(|row| batch.reject(row, BatchError::permanent("no")));
        Ok(LoadFeedback::new())
    };
    builder.retry(Retry::none()).spawn(handler).unwrap()
}

fn items<T: Copy>(failed: &[Failed<T>]) -> Vec<T> {
    failed.iter().map(|failed| failed.item).collect()
}

/// Scenario 50. With the default of 10 000 kept rows.
#[test]
fn fifteen_thousand_failures_read_from_tickets_stop_nothing() {
    ends(|| {
        let batcher = rejecting(fixed(500));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    for round in 0..100 {
                        let submit = |item| producer.submit(round * 50 + item).unwrap();
                        for ticket in (0..50).map(submit).collect::<Vec<_>>() {
                            assert!(matches!(ticket.wait(), Outcome::Failed(_)));
                        }
                    }
                });
            }
        });
        let stats = batcher.stats();
        assert_eq!(
            (stats.failed, stats.told, stats.kept_failed, stats.stalled),
            (15_000, 15_000, 0, false)
        );
        batcher.add(1).unwrap();
        let report = batcher.close(LONG);
        assert_eq!(
            (items(&report.failed), report.failed_total),
            (vec![1], 15_001)
        );
    });
}

#[test]
fn a_failure_that_no_ticket_has_returned_is_kept() {
    let batcher = rejecting(fixed(5));
    let mut tickets: Vec<_> = (0..5).map(|item| batcher.submit(item).unwrap()).collect();
    until(&batcher, |stats| stats.failed == 5);
    let shown = format!("{:?}", tickets[3]);
    assert!(shown.contains("Failed"), "{shown}");
    assert_eq!(
        batcher.stats().told,
        0,
        "who prints a ticket has not read it"
    );
    // Read in each of the three ways, and twice where that is possible.
    assert!(matches!(tickets[1].try_wait(), Some(Outcome::Failed(_))));
    assert!(matches!(tickets[1].try_wait(), Some(Outcome::Failed(_))));
    assert!(matches!(
        tickets[4].wait_timeout(LONG),
        Some(Outcome::Failed(_))
    ));
    assert!(matches!(tickets.remove(0).wait(), Outcome::Failed(_)));
    drop(tickets);
    let stats = batcher.stats();
    assert_eq!((stats.failed, stats.told, stats.kept_failed), (5, 3, 2));
    assert_eq!(items(&batcher.take_failed()), [2, 3]);
}

#[test]
fn a_row_that_was_taken_is_not_told_any_more() {
    let batcher = rejecting(fixed(2));
    let tickets = [1, 2].map(|item| batcher.submit(item).unwrap());
    until(&batcher, |stats| stats.failed == 2);
    assert_eq!(items(&batcher.take_failed()), [1, 2]);
    tickets
        .into_iter()
        .for_each(|ticket| assert!(matches!(ticket.wait(), Outcome::Failed(_))));
    assert_eq!(batcher.stats().told, 0);
}

#[test]
fn rows_in_doubt_and_rows_of_a_failed_batch_are_told_too() {
    let (handler, director) = directed();
    let batcher = fixed(2).retry(Retry::none()).spawn(handler).unwrap();
    for (error, in_doubt) in [
        (BatchError::in_doubt("lost"), true),
        (BatchError::permanent("no"), false),
    ] {
        let told = batcher.stats().told;
        let tickets = [1, 2].map(|item| batcher.submit(item).unwrap());
        director.answer(Reply::Err(error));
        for ticket in tickets {
            assert_eq!(ticket.wait() == Outcome::InDoubt, in_doubt);
        }
        assert_eq!(batcher.stats().told, told + 2);
    }
    assert!(batcher.take_failed().is_empty());
}

#[test]
fn a_told_row_is_dropped_and_a_panic_of_its_drop_stays_out_of_the_wait() {
    struct Row(Arc<AtomicU64>, bool);
    impl Drop for Row {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            if self.1 {
                std::panic::resume_unwind(Box::new("a drop"));
            }
        }
    }
    let batcher = rejecting(fixed(2));
    let dropped = Arc::new(AtomicU64::new(0));
    let tickets =
        [false, true].map(|panics| batcher.submit(Row(Arc::clone(&dropped), panics)).unwrap());
    for (ticket, count) in tickets.into_iter().zip(1..) {
        assert!(matches!(ticket.wait(), Outcome::Failed(_)));
        assert_eq!(dropped.load(Ordering::SeqCst), count);
    }
    assert_eq!((batcher.stats().told, batcher.stats().drop_panics), (2, 1));
}

#[test]
fn tickets_that_are_read_end_a_stall() {
    ends(|| {
        let batcher = rejecting(fixed(2).keep_failed(2).stall_timeout(LONG * 2));
        let tickets: Vec<_> = (0..4).map(|item| batcher.submit(item).unwrap()).collect();
        until(&batcher, |stats| stats.stalled);
        // The first two are kept. Each ticket that is read makes room for the next batch.
        tickets
            .into_iter()
            .for_each(|ticket| assert!(matches!(ticket.wait(), Outcome::Failed(_))));
        let stats = until(&batcher, |stats| !stats.stalled);
        assert_eq!((stats.told, stats.kept_failed), (4, 0));
    });
}

#[test]
fn a_hook_has_the_row_whatever_its_ticket_returned() {
    let given = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&given);
    let hook = move |_: Failed<u64>| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let batcher = rejecting(fixed(1).on_failed(hook));
    assert!(matches!(
        batcher.submit(1).unwrap().wait(),
        Outcome::Failed(_)
    ));
    assert_eq!(batcher.stats().told, 0);
    assert_eq!(batcher.close(LONG).failed_total, 1);
    assert_eq!(given.load(Ordering::SeqCst), 1);
}

/// Three threads read their tickets and one takes the kept rows, while the batcher is closed.
#[test]
fn every_failed_row_is_told_or_in_a_list_and_never_both() {
    ends(|| {
        for round in 0..20 {
            let batcher = rejecting(fixed(7).linger(Duration::ZERO));
            let stop = AtomicBool::new(false);
            let mut listed = Vec::new();
            std::thread::scope(|scope| {
                for thread in 0..3u64 {
                    let producer = batcher.producer();
                    scope.spawn(move || {
                        for item in 0..400 {
                            let Ok(ticket) = producer.submit(thread * 1_000 + item) else {
                                return;
                            };
                            if (item + thread + round) % 3 > 0 {
                                let _ = ticket.wait();
                            }
                        }
                    });
                }
                let taker = scope.spawn(|| {
                    let mut taken = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        taken.append(&mut items(&batcher.take_failed()));
                    }
                    taken
                });
                until(&batcher, |stats| stats.failed > 300 + 40 * round);
                stop.store(true, Ordering::SeqCst);
                listed = taker.join().unwrap();
                let report = batcher.shutdown(LONG);
                assert!(!report.timed_out);
                listed.append(&mut items(&report.failed));
            });
            let stats = batcher.stats();
            let rows = listed.len() as u64;
            listed.sort_unstable();
            listed.dedup();
            assert_eq!(listed.len() as u64, rows, "no row twice");
            assert_eq!(rows + stats.told, stats.failed, "{stats:#?}");
            assert_eq!(stats.added, stats.failed);
        }
    });
}
