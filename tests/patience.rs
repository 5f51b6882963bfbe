//! A backend that is away: how long the batcher waits for it, and how flush, close and drop change
//! that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, Batcher, CloseReport, FlushError, LoadFeedback, Retry, Trigger,
};
use testkit::{LONG, NEVER, Reply, directed, ends, first_call_settled, fixed, until};

/// Longer than any test, and less than the longest wait that a backend may ask for.
const LONGER: Duration = Duration::from_secs(290);

fn briskly() -> Retry {
    Retry::default().backoff(Duration::from_millis(1), Duration::from_millis(10))
}

/// A handler that fails for this long from its first call on.
fn away_for(
    outage: Duration,
) -> impl FnMut(&mut Batch<u64>) -> Result<LoadFeedback, BatchError> + Send {
    let mut begun = None;
    move |_: &mut Batch<u64>| {
        if begun.get_or_insert_with(Instant::now).elapsed() < outage {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        }
        Ok(LoadFeedback::new())
    }
}

/// Scenario 51.
#[test]
fn with_the_defaults_an_outage_fails_no_row() {
    ends(|| {
        let batcher = Batcher::builder()
            .spawn(away_for(Duration::from_secs(1)))
            .unwrap();
        batcher.add_many(0..2_000).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        let stats = batcher.stats();
        assert_eq!((stats.handled, stats.failed, stats.pending), (2_000, 0, 0));
        assert!(stats.failed_calls.unclassified > 1);
    });
}

#[test]
fn an_outage_beyond_patience_fails_each_batch_after_that_time_and_as_an_outage() {
    ends(|| {
        let patience = Duration::from_millis(300);
        let (fails, failures) = mpsc::channel();
        let (calls, called) = mpsc::channel();
        let batcher = fixed(4)
            .retry(briskly().for_at_least(patience))
            .on_failed(move |failed| fails.send((failed, Instant::now())).unwrap())
            .spawn(move |batch: &mut Batch<u64>| {
                calls.send((batch.to_vec(), Instant::now())).unwrap();
                Err(BatchError::new("connection reset"))
            })
            .unwrap();
        // The patience of the next batch begins anew.
        for batch in 0..2 {
            let rows: Vec<u64> = (batch * 4..batch * 4 + 4).collect();
            batcher.add_many(rows.clone()).unwrap();
            let (first, begun) = called.recv().unwrap();
            assert_eq!(first, rows);
            for row in &rows {
                let (failed, at) = failures.recv().unwrap();
                assert_eq!((failed.item, failed.outage), (*row, true));
                assert!(at - begun >= patience, "after {:?}", at - begun);
                assert!(failed.attempts >= 3, "{} attempts", failed.attempts);
            }
            called.try_iter().for_each(drop);
        }
    });
}

#[test]
fn an_outage_is_shown_while_it_lasts_and_not_afterwards() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1)
            .retry(Retry::default().backoff(NEVER, NEVER))
            .spawn(handler)
            .unwrap();
        assert!(batcher.stats().retrying.is_none());
        let begun = Instant::now();
        batcher.add(1).unwrap();
        director.answer(Reply::Err(BatchError::transient("connection reset")));
        let retrying = until(&batcher, |stats| stats.retrying.is_some())
            .retrying
            .unwrap();
        assert_eq!(
            (retrying.error.to_string(), retrying.attempts),
            ("connection reset".into(), 1)
        );
        assert!(
            retrying.since >= begun && retrying.next_at >= Some(retrying.since),
            "{retrying:?}"
        );
        batcher.request_flush();
        director.call();
        let in_flight = batcher
            .stats()
            .retrying
            .expect("the second attempt is in flight");
        assert_eq!((in_flight.attempts, in_flight.next_at), (1, None));
        director.reply(Reply::Ok);
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert!(batcher.stats().retrying.is_none());
    });
}

#[test]
fn a_flush_does_not_cut_a_wait_that_the_backend_asked_for() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).retry(briskly()).spawn(handler).unwrap();
        let wait = Duration::from_millis(80);
        batcher.add(1).unwrap();
        director.call();
        let asked = Instant::now();
        director.reply(Reply::Err(
            BatchError::unavailable("503 Service Unavailable").retry_after(wait),
        ));
        assert_eq!(
            batcher.flush(Duration::from_millis(1)),
            Err(FlushError::Timeout)
        );
        let call = director.call();
        assert!(call.at - asked >= wait, "after {:?}", call.at - asked);
        director.reply(Reply::Ok);
        assert_eq!(batcher.flush(LONG), Ok(()));
    });
}

#[test]
fn a_wait_beyond_the_longest_is_cut_and_counted() {
    ends(|| {
        let mut calls = 0;
        let batcher = fixed(2)
            .retry(briskly().longest_retry_after(Duration::from_millis(1)))
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                match calls {
                    1 => {
                        return Err(
                            BatchError::unavailable("503 Service Unavailable").retry_after(LONGER)
                        );
                    }
                    2 => batch.retry_after(0, LONGER, BatchError::new("429 Too Many Requests")),
                    3 => batch.retry_after(
                        0,
                        Duration::from_millis(1),
                        BatchError::new("429 Too Many Requests"),
                    ),
                    _ => {}
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many([1, 2]).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        let stats = batcher.stats();
        assert_eq!((stats.calls, stats.retry_after_capped), (4, 2));
    });
}

/// Scenario 49.
#[test]
fn a_thread_that_flushes_all_the_time_fails_no_row_and_causes_at_most_one_attempt_a_first_step() {
    ends(|| {
        let outage = Duration::from_secs(1);
        let batcher = Batcher::builder()
            .initial_batch_size(100)
            .spawn(away_for(outage))
            .unwrap();
        let begun = Instant::now();
        batcher.add_many(0..1_000).unwrap();
        loop {
            match batcher.flush(Duration::from_millis(1)) {
                Ok(()) => break,
                Err(FlushError::Timeout) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let stats = batcher.stats();
        assert_eq!((stats.handled, stats.failed), (1_000, 0));
        // One attempt by a flush every 50 ms, the calls of the search, and the steps of the backoff
        // with three calls each.
        let early = begun.elapsed().as_millis() / 50 + 1;
        let failed = stats.failed_calls.unclassified;
        assert!(
            u128::from(failed) <= early + 20 + 3 * 20,
            "{failed} failed calls, {early} of them by flushes"
        );
    });
}

/// Scenario 42.
#[test]
fn two_flushes_through_one_handle_both_report_that_a_row_failed() {
    ends(|| {
        let (calls, called) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<Answer>();
        let batcher = fixed(4)
            .on_failed(drop)
            .retry(Retry::default().backoff(Duration::ZERO, Duration::ZERO))
            .spawn(move |batch: &mut Batch<u64>| {
                let _ = calls.send((batch.to_vec(), batch.trigger()));
                match answers.recv().unwrap_or(Answer::Ok) {
                    Answer::Ok => {}
                    Answer::Later => {
                        batch
                            .iter()
                            .enumerate()
                            .filter(|(_, row)| **row == 1)
                            .for_each(|(index, _)| {
                                batch.retry_after(
                                    index,
                                    Duration::from_millis(5),
                                    BatchError::new("429"),
                                );
                            });
                    }
                    Answer::Reject => {
                        batch
                            .iter()
                            .enumerate()
                            .filter(|(_, row)| **row == 1)
                            .for_each(|(index, _)| {
                                batch.reject(index, BatchError::permanent("400"));
                            });
                    }
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let mut rounds = 0;
        while rounds < 100 {
            std::thread::scope(|scope| {
                let flush = || batcher.flush(LONG);
                batcher.add(1).unwrap();
                let one = scope.spawn(flush);
                // This call shows that the first flush is waiting.
                assert_eq!(called.recv().unwrap(), (vec![1], Trigger::Flush));
                answer.send(Answer::Later).unwrap();
                batcher.add(2).unwrap();
                let other = scope.spawn(flush);
                // Row 2 shows that the second flush is waiting, unless row 1 was due first and row
                // 2 is in its call.
                let both_wait = loop {
                    let (rows, trigger) = called.recv().unwrap();
                    if rows.contains(&2) {
                        answer
                            .send(if rows.contains(&1) {
                                Answer::Reject
                            } else {
                                Answer::Ok
                            })
                            .unwrap();
                        if !rows.contains(&1) {
                            assert_eq!(called.recv().unwrap().0, [1]);
                            answer.send(Answer::Reject).unwrap();
                        }
                        break trigger == Trigger::Flush;
                    }
                    answer.send(Answer::Later).unwrap();
                };
                let results = [one.join().unwrap(), other.join().unwrap()];
                let failed = |result: &Result<(), FlushError>| {
                    matches!(result, Err(FlushError::Failed { items: 1, .. }))
                };
                if both_wait {
                    rounds += 1;
                    assert!(results.iter().all(failed), "round {rounds}: {results:?}");
                } else {
                    assert!(failed(&results[0]), "{results:?}");
                    // No failure of this round is left to be reported.
                    let _ = batcher.flush(LONG);
                }
            });
        }
    });
}

#[derive(Clone, Copy)]
enum Answer {
    Ok,
    /// Row 1 again.
    Later,
    /// Row 1 for good.
    Reject,
}

/// Scenario 48.
#[test]
fn a_close_with_time_left_waits_for_a_backend_that_comes_back() {
    ends(|| {
        let batcher = fixed(4)
            .spawn(away_for(Duration::from_millis(300)))
            .unwrap();
        batcher.add_many(0..10).unwrap();
        first_call_settled(&batcher);
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.handled, 10);
    });
}

/// Scenario 48.
#[test]
fn a_close_over_a_backend_that_stays_away_is_on_time_and_abandons_nothing() {
    ends(|| {
        let tried = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&tried);
        let batcher = fixed(4)
            .retry(briskly())
            .spawn(move |batch: &mut Batch<u64>| {
                let mut seen = seen.lock().unwrap();
                // After a call of this length, no call begins with less time left.
                let is_first = seen.is_empty();
                seen.extend(batch.to_vec());
                drop(seen);
                std::thread::sleep(Duration::from_millis(if is_first { 200 } else { 20 }));
                Err(BatchError::new("connection reset"))
            })
            .unwrap();
        batcher.add_many(0..10).unwrap();
        first_call_settled(&batcher);
        let begun = Instant::now();
        let report = batcher.close(Duration::from_millis(600));
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "after {:?}",
            begun.elapsed()
        );
        let tried = tried.lock().unwrap().clone();
        let failed: Vec<u64> = report.failed.iter().map(|failed| failed.item).collect();
        assert_eq!(
            failed,
            tried.iter().copied().collect::<Vec<_>>(),
            "what was tried"
        );
        let never_called: Vec<u64> = (0..10).filter(|row| !tried.contains(row)).collect();
        assert_eq!(report.unsent, never_called);
        assert!(failed.len() >= 4 && !report.unsent.is_empty());
        assert_eq!(
            (report.abandoned, report.handled, report.is_clean()),
            (0, 0, false)
        );
    });
}

#[test]
fn a_close_that_ends_before_the_time_the_backend_asked_for_gives_back_at_once() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).spawn(handler).unwrap();
        batcher.add_many(0..5).unwrap();
        director.answer(Reply::Err(
            BatchError::unavailable("503 Service Unavailable").retry_after(LONGER),
        ));
        first_call_settled(&batcher);
        let begun = Instant::now();
        let report = batcher.close(LONG);
        assert!(begun.elapsed() < LONG / 2, "after {:?}", begun.elapsed());
        let failed: Vec<u64> = report.failed.iter().map(|failed| failed.item).collect();
        assert_eq!(
            (failed, &*report.unsent, report.abandoned),
            (vec![0, 1], &[2, 3, 4][..], 0)
        );
        let why = report.last_error.map(|error| error.to_string());
        assert!(why.is_some_and(|why| why.contains("503 Service Unavailable")));
        assert!(director.gone());
    });
}

#[test]
fn a_wrong_statement_is_tried_five_times_and_once_a_later_batch() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).retry(briskly()).spawn(handler).unwrap();
        let wrong = || {
            Reply::Err(BatchError::misconfigured(
                "42P01: relation \"ordesr\" does not exist",
            ))
        };
        let five_times = |rows: [u64; 2]| {
            let tickets = rows.map(|row| batcher.submit(row).unwrap());
            for attempt in 1..=5 {
                let call = director.call();
                assert_eq!((&*call.items, call.attempt), (&rows[..], attempt));
                director.reply(wrong());
            }
            assert_eq!(director.answer(wrong()), rows[..1], "one row alone");
            assert_eq!(
                tickets.map(|ticket| ticket.wait().is_handled()),
                [false, false]
            );
        };
        let once = |rows: [u64; 2], reply: Reply| {
            let tickets = rows.map(|row| batcher.submit(row).unwrap());
            assert_eq!(director.answer(reply), rows);
            tickets.map(|ticket| ticket.wait().is_handled())
        };
        five_times([1, 2]);
        assert_eq!(once([3, 4], wrong()), [false, false]);
        assert_eq!(once([5, 6], wrong()), [false, false]);
        assert_eq!(once([7, 8], Reply::Ok), [true, true], "the table is made");
        five_times([9, 10]);
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.failed, stats.calls),
            (2, 8, 6 + 1 + 1 + 1 + 6)
        );
    });
}

/// The report of a drop.
fn report_of(reports: &mpsc::Receiver<CloseReport<u64>>) -> CloseReport<u64> {
    reports.try_recv().expect("the drop has ended")
}

#[test]
fn a_drop_gives_up_after_its_patience_without_an_answer() {
    ends(|| {
        let (send, reports) = mpsc::channel();
        let batcher = fixed(2)
            .close_timeout(LONGER)
            .drop_patience(Duration::from_millis(100))
            .on_close(move |report| send.send(report).unwrap())
            .spawn(|_: &mut Batch<u64>| Err(BatchError::new("connection reset")))
            .unwrap();
        batcher.add_many(0..6).unwrap();
        first_call_settled(&batcher);
        drop(batcher);
        let report = report_of(&reports);
        assert_eq!((report.handled, report.abandoned), (0, 0));
        assert_eq!(report.failed.len() + report.unsent.len(), 6);
        assert!(report.failed.len() >= 2);
    });
}

#[test]
fn a_drop_goes_on_while_calls_go_through() {
    ends(|| {
        let (send, reports) = mpsc::channel();
        let batcher = fixed(1)
            .close_timeout(LONGER)
            .drop_patience(Duration::from_millis(400))
            .on_close(move |report| send.send(report).unwrap())
            .spawn(|_: &mut Batch<u64>| {
                std::thread::sleep(Duration::from_millis(25));
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many(0..24).unwrap();
        drop(batcher);
        let report = report_of(&reports);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.handled, 24);
    });
}

#[test]
fn a_drop_in_a_panic_makes_one_attempt() {
    ends(|| {
        let (send, reports) = mpsc::channel();
        let (calls, called) = mpsc::channel();
        let batcher = fixed(4)
            .close_timeout(LONGER)
            .drop_patience(LONGER)
            .on_close(move |report| send.send(report).unwrap())
            .spawn(move |batch: &mut Batch<u64>| {
                calls.send(batch.to_vec()).unwrap();
                Err(BatchError::new("connection reset"))
            })
            .unwrap();
        batcher.add_many(0..3).unwrap();
        let panicked = std::thread::spawn(move || {
            let _dropped = batcher;
            std::panic::resume_unwind(Box::new("a failed assertion"));
        });
        assert!(panicked.join().is_err());
        assert_eq!(called.iter().collect::<Vec<_>>(), [[0, 1, 2]]);
        let report = report_of(&reports);
        assert_eq!(
            (report.failed.len(), report.unsent.len(), report.abandoned),
            (3, 0, 0)
        );
    });
}
