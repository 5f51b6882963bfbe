//! Rows that the handler asks for again, and rows that it rejects in a call that fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, BatchId, Batcher, FlushError, LoadFeedback, Outcome, Retry,
};
use testkit::{LONG, ends, fixed, until};

/// Longer than any test, and less than the longest wait that a backend may ask for.
const LONGER: Duration = Duration::from_secs(290);

/// The handler's answer for single rows and for the call.
#[derive(Default)]
struct Answer {
    again: Vec<(usize, BatchError)>,
    rejected: Vec<(usize, BatchError)>,
    error: Option<BatchError>,
}

fn again(rows: &[usize]) -> Answer {
    Answer {
        again: rows.iter().map(|row| (*row, busy())).collect(),
        ..Answer::default()
    }
}

fn again_with(row: usize, error: BatchError) -> Answer {
    Answer {
        again: vec![(row, error)],
        ..Answer::default()
    }
}

fn busy() -> BatchError {
    BatchError::new("429 Too Many Requests")
}

struct Call {
    rows: Vec<u64>,
    id: BatchId,
    attempt: u32,
    at: Instant,
}

/// Answers the calls of the handler of [`answered`]. After its drop every call succeeds.
struct Backend {
    calls: mpsc::Receiver<Call>,
    answers: mpsc::Sender<Answer>,
}

impl Backend {
    /// The next call. It waits for [`answer`](Self::answer).
    fn call(&self) -> Call {
        self.calls
            .recv_timeout(LONG)
            .expect("the handler is called")
    }

    fn answer(&self, answer: Answer) {
        let _ = self.answers.send(answer);
    }

    /// Answers the next call. Returns its rows.
    fn next(&self, answer: Answer) -> Vec<u64> {
        let call = self.call();
        self.answer(answer);
        call.rows
    }

    fn no_call(&self) -> bool {
        self.calls.try_recv().is_err()
    }
}

fn answered() -> (
    impl FnMut(&mut Batch<u64>) -> Result<LoadFeedback, BatchError> + Send,
    Backend,
) {
    let (calls, called) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<Answer>();
    let handler = move |batch: &mut Batch<u64>| {
        let call = Call {
            rows: batch.to_vec(),
            id: batch.id(),
            attempt: batch.attempt(),
            at: Instant::now(),
        };
        let _ = calls.send(call);
        let Answer {
            again,
            rejected,
            error,
        } = answers.recv().unwrap_or_default();
        again
            .into_iter()
            .for_each(|(row, error)| batch.retry(row, error));
        rejected
            .into_iter()
            .for_each(|(row, error)| batch.reject(row, error));
        error.map_or_else(|| Ok(LoadFeedback::new()), Err)
    };
    (
        handler,
        Backend {
            calls: called,
            answers: answer,
        },
    )
}

/// The default patience, without waits.
fn at_once() -> Retry {
    Retry::default().backoff(Duration::ZERO, Duration::ZERO)
}

/// Scenario 52.
#[test]
fn each_document_of_a_bulk_request_is_stored_once_though_rows_and_calls_are_refused() {
    const DOCUMENTS: u64 = 10_000;
    let stored = Arc::new(Mutex::new(HashMap::<u64, (u32, u32)>::new()));
    let server = Arc::clone(&stored);
    let mut calls = 0;
    let stats = ends(move || {
        let batcher = Batcher::builder()
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                if calls % 10 == 0 {
                    let refused = BatchError::unavailable("503 Service Unavailable");
                    return Err(refused.retry_after(Duration::from_millis(1)));
                }
                let mut server = server.lock().unwrap();
                for (index, document) in batch.iter().enumerate() {
                    let (refused, stored) = server.entry(*document).or_default();
                    // Every 20th document at its first request.
                    if document % 20 == 7 && *refused == 0 {
                        *refused += 1;
                        batch.retry(index, busy());
                    } else {
                        *stored += 1;
                    }
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        // In parts, so that there are enough calls.
        for first in (0..DOCUMENTS).step_by(500) {
            batcher.add_many(first..first + 500).unwrap();
            assert_eq!(batcher.flush(LONG), Ok(()));
        }
        batcher.stats()
    });
    let stored = stored.lock().unwrap();
    assert_eq!(stored.len() as u64, DOCUMENTS);
    let wrong: Vec<_> = stored
        .iter()
        .filter(|(_, (_, times))| *times != 1)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(
        (stats.handled, stats.failed, stats.pending),
        (DOCUMENTS, 0, 0)
    );
    assert_eq!(stats.retried_rows, DOCUMENTS / 20);
    assert!(
        stats.failed_calls.unavailable >= 4,
        "{:?}",
        stats.failed_calls
    );
}

#[test]
fn the_ticket_of_a_retried_row_is_open_until_the_row_is_decided() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        let (refused, stored) = (batcher.submit(1).unwrap(), batcher.submit(2).unwrap());
        assert_eq!(backend.next(again(&[0])), [1, 2]);
        assert_eq!(
            stored.wait(),
            Outcome::Handled,
            "its neighbour went through"
        );
        assert_eq!(backend.call().rows, [1], "that row and no other");
        assert_eq!(refused.try_wait(), None);
        assert_eq!(batcher.stats().pending, 1);
        backend.answer(Answer::default());
        assert_eq!(refused.wait(), Outcome::Handled);
        assert_eq!(batcher.stats().retried_rows, 1);
    });
}

#[test]
fn retried_rows_keep_attempts_of_their_own() {
    ends(|| {
        let (handler, backend) = answered();
        let retry = Retry::attempts(3).backoff(Duration::ZERO, Duration::ZERO);
        let batcher = fixed(2).retry(retry).spawn(handler).unwrap();
        batcher.add_many([1, 2, 3]).unwrap();
        let first = backend.call();
        assert_eq!((first.rows, first.attempt), (vec![1, 2], 1));
        backend.answer(again(&[0]));
        let second = backend.call();
        assert_eq!(
            (second.rows, second.attempt),
            (vec![1, 3], 1),
            "it is the first of the next batch"
        );
        assert_ne!(first.id, second.id, "an id names one set of rows");
        backend.answer(again(&[0, 1]));
        assert_eq!(
            backend.next(again(&[0, 1])),
            [1, 3],
            "row 1 is used up by this"
        );
        assert_eq!(backend.next(again(&[0])), [3], "and row 3 by this");
        until(&batcher, |stats| stats.failed == 2);
        let failed = batcher.take_failed();
        let failed: Vec<_> = failed
            .iter()
            .map(|row| (row.item, row.attempts, row.error.to_string()))
            .collect();
        assert_eq!(
            failed,
            [(1, 3, busy().to_string()), (3, 3, busy().to_string())]
        );
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.retried_rows, stats.rejected),
            (1, 4, 0)
        );
    });
}

#[test]
fn a_flush_waits_for_a_retried_row() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        batcher.add_many([1, 2]).unwrap();
        let wait = Duration::from_millis(100);
        assert_eq!(
            backend.next(again_with(1, busy().retry_after(wait))),
            [1, 2]
        );
        assert_eq!(
            batcher.flush(wait / 2),
            Err(FlushError::Timeout),
            "row 2 is set aside"
        );
        assert_eq!(backend.call().rows, [2]);
        assert_eq!(
            batcher.flush(wait / 2),
            Err(FlushError::Timeout),
            "row 2 is with the handler"
        );
        backend.answer(again_with(0, BatchError::permanent("400 Bad Request")));
        assert!(matches!(
            batcher.flush(LONG),
            Err(FlushError::Failed { items: 1, .. })
        ));
    });
}

#[test]
fn a_row_is_not_called_before_the_time_that_the_backend_asked_for() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        let wait = Duration::from_millis(80);
        batcher.add_many([1, 2]).unwrap();
        backend.call();
        let asked = Instant::now();
        backend.answer(again_with(0, busy().retry_after(wait)));
        // Neither later rows nor a flush make it due sooner.
        batcher.add_many([3, 4]).unwrap();
        assert_eq!(backend.next(Answer::default()), [3, 4]);
        assert_eq!(
            batcher.flush(Duration::from_millis(1)),
            Err(FlushError::Timeout)
        );
        let call = backend.call();
        assert_eq!(call.rows, [1]);
        assert!(call.at - asked >= wait, "after {:?}", call.at - asked);
        backend.answer(Answer::default());
        assert_eq!(batcher.flush(LONG), Ok(()));
    });
}

#[test]
fn retry_with_a_permanent_error_rejects() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        batcher.add_many([1, 2]).unwrap();
        backend.next(again_with(1, BatchError::permanent("400 Bad Request")));
        assert!(matches!(
            batcher.flush(LONG),
            Err(FlushError::Failed { items: 1, .. })
        ));
        let failed = batcher.take_failed();
        assert_eq!(
            (
                failed.len(),
                failed[0].item,
                failed[0].attempts,
                failed[0].outage
            ),
            (1, 2, 1, false)
        );
        let stats = batcher.stats();
        assert_eq!((stats.calls, stats.rejected, stats.retried_rows), (1, 1, 0));
    });
}

#[test]
fn a_retried_row_in_doubt_is_sent_twice_only_where_that_does_no_harm() {
    ends(|| {
        for idempotent in [false, true] {
            let (handler, backend) = answered();
            let batcher = fixed(2)
                .retry(at_once())
                .idempotent(idempotent)
                .spawn(handler)
                .unwrap();
            let (doubtful, stored) = (batcher.submit(1).unwrap(), batcher.submit(2).unwrap());
            backend.next(again_with(0, BatchError::in_doubt("504 Gateway Timeout")));
            if idempotent {
                assert_eq!(backend.next(Answer::default()), [1]);
                assert_eq!(doubtful.wait(), Outcome::Handled);
            } else {
                assert!(matches!(doubtful.wait(), Outcome::InDoubt));
            }
            assert_eq!(stored.wait(), Outcome::Handled);
            let stats = batcher.stats();
            assert_eq!(
                (stats.in_doubt, stats.calls),
                if idempotent { (0, 2) } else { (1, 1) }
            );
        }
    });
}

#[test]
fn under_keep_order_no_row_overtakes_one_that_is_asked_for_again() {
    ends(|| {
        for size in [1, 4] {
            let calls = Arc::new(Mutex::new(Vec::<Vec<u64>>::new()));
            let (seen, mut times) = (Arc::clone(&calls), HashMap::<u64, u32>::new());
            let batcher = fixed(size)
                .retry(
                    Retry::default()
                        .keep_order(true)
                        .backoff(Duration::from_micros(10), Duration::from_micros(100)),
                )
                .spawn(move |batch: &mut Batch<u64>| {
                    seen.lock().unwrap().push(batch.to_vec());
                    for (index, row) in batch.iter().enumerate() {
                        let times = times.entry(*row).or_default();
                        *times += 1;
                        if row % 3 == 0 && *times <= 2 {
                            batch.retry(index, busy());
                        }
                    }
                    Ok(LoadFeedback::new())
                })
                .unwrap();
            batcher.add_many(0..60).unwrap();
            assert_eq!(batcher.flush(LONG), Ok(()));
            // Each batch is through before the next one begins.
            let calls = calls.lock().unwrap();
            let mut open = Vec::new();
            let mut tried = HashMap::<u64, u32>::new();
            for call in &*calls {
                assert!(
                    open.is_empty() || *call == open,
                    "of {size}: {call:?} while {open:?} is open"
                );
                call.iter()
                    .for_each(|row| *tried.entry(*row).or_default() += 1);
                open = call
                    .iter()
                    .copied()
                    .filter(|row| row % 3 == 0 && tried[row] <= 2)
                    .collect();
            }
            let mut order: Vec<u64> = calls
                .iter()
                .filter_map(|call| call.last().copied())
                .collect();
            order.dedup();
            assert!(
                order.is_sorted() || size > 1,
                "strictly in order: {order:?}"
            );
            assert_eq!(batcher.stats().retried_rows, 40);
        }
    });
}

#[test]
fn later_rows_are_handled_until_a_whole_batch_of_rows_is_set_aside() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        let later = || busy().retry_after(LONGER);
        batcher.add_many(1..=6).unwrap();
        assert_eq!(backend.next(again_with(0, later())), [1, 2]);
        assert_eq!(
            backend.next(again_with(0, later())),
            [3, 4],
            "one row aside does not hold the line"
        );
        until(&batcher, |stats| stats.retried_rows == 2);
        assert_eq!(
            batcher.flush(Duration::from_millis(50)),
            Err(FlushError::Timeout)
        );
        assert!(backend.no_call(), "two rows aside do");
        assert_eq!(batcher.stats().pending, 4);
    });
}

#[test]
fn a_row_set_aside_at_a_close_out_of_time_has_failed() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(2).retry(at_once()).spawn(handler).unwrap();
        batcher.add_many([1, 2]).unwrap();
        let refused = batcher.submit(3).unwrap();
        backend.next(again_with(0, busy().retry_after(LONGER)));
        until(&batcher, |stats| stats.retried_rows == 1);
        drop(backend);
        let report = batcher.close(LONG);
        let failed: Vec<_> = report
            .failed
            .iter()
            .map(|row| (row.item, row.attempts))
            .collect();
        assert_eq!(
            (failed, report.unsent.len(), report.abandoned),
            (vec![(1, 1)], 0, 0)
        );
        assert_eq!(
            (report.handled, report.failed_total, report.unsent_total),
            (2, 1, 0)
        );
        assert_eq!(
            refused.wait(),
            Outcome::Handled,
            "what waits in line is handed over"
        );
    });
}

/// Scenario 57.
#[test]
fn a_permanent_rejection_in_a_call_that_fails_counts() {
    ends(|| {
        let (handler, backend) = answered();
        let batcher = fixed(3).retry(at_once()).spawn(handler).unwrap();
        batcher.add_many([1, 2, 3]).unwrap();
        let whole = backend.call();
        backend.answer(Answer {
            rejected: vec![(1, BatchError::permanent("too old"))],
            again: vec![(0, busy())],
            error: Some(BatchError::transient("connection reset")),
        });
        let rest = backend.call();
        assert_eq!(rest.rows, [1, 3], "the rest is tried again");
        assert_ne!(whole.id, rest.id, "an id names one set of rows");
        backend.answer(Answer::default());
        assert!(matches!(
            batcher.flush(LONG),
            Err(FlushError::Failed { items: 1, .. })
        ));
        let failed = batcher.take_failed();
        assert_eq!(
            (failed.len(), failed[0].item, failed[0].error.to_string()),
            (1, 2, "too old".into())
        );
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.rejected, stats.retried_rows),
            (2, 1, 0)
        );
    });
}

#[test]
fn a_lost_connection_that_rejects_row_by_row_rejects_none() {
    ends(|| {
        for error in [
            BatchError::transient("connection reset"),
            BatchError::new("connection reset"),
        ] {
            let (handler, backend) = answered();
            let batcher = fixed(3).retry(at_once()).spawn(handler).unwrap();
            batcher.add_many([1, 2, 3]).unwrap();
            let whole = backend.call();
            backend.answer(Answer {
                rejected: (0..3).map(|row| (row, error.clone())).collect(),
                error: Some(error),
                ..Answer::default()
            });
            let second = backend.call();
            assert_eq!(
                (second.rows, second.id, second.attempt),
                (vec![1, 2, 3], whole.id, 2)
            );
            backend.answer(Answer::default());
            assert_eq!(batcher.flush(LONG), Ok(()));
            let stats = batcher.stats();
            assert_eq!((stats.handled, stats.rejected, stats.failed), (3, 0, 0));
        }
    });
}
