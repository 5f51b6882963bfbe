//! When a flush returns, everything that was added before it has its outcome. It reports whether
//! any item failed.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Cadence, Decision, FlushError, LoadFeedback, Policy, Producer,
    Retry, Setpoint, Trigger, Window,
};
use testkit::{
    Director, Gate, LONG, NEVER, Reply, directed, ends, first_call_settled, fixed, until,
};

const SOON: Duration = Duration::from_millis(20);

/// Flushes on another thread.
fn flush(producer: Producer<u64>) -> std::thread::JoinHandle<Result<(), FlushError>> {
    std::thread::spawn(move || producer.flush(LONG))
}

/// A batch of these items that has failed once. It is in a backoff that only a flush or a close
/// ends, so the second attempt shows that the flush is registered.
fn in_backoff(size: usize, items: &[u64]) -> (Batcher<u64>, Director<u64>) {
    let (handler, director) = directed();
    let retry = Retry::attempts(9)
        .backoff(NEVER, NEVER)
        .total_limit(NEVER * 9);
    let batcher = fixed(size).retry(retry).spawn(handler).unwrap();
    batcher.add_many(items.iter().copied()).unwrap();
    assert_eq!(
        director.answer(Reply::Err(BatchError::transient("down"))),
        items
    );
    first_call_settled(&batcher);
    (batcher, director)
}

#[test]
fn a_flush_and_a_close_cut_the_wait_before_the_first_half() {
    for close in [false, true] {
        let (handler, director) = directed();
        let retry = Retry::attempts(9)
            .split_on_retry(true)
            .backoff(NEVER, NEVER)
            .total_limit(NEVER * 9);
        let batcher = fixed(4).retry(retry).spawn(handler).unwrap();
        batcher.add_many(1..=4).unwrap();
        assert_eq!(
            director.answer(Reply::Err(BatchError::transient("too long"))),
            [1, 2, 3, 4]
        );
        first_call_settled(&batcher);
        assert_eq!(batcher.stats().calls, 1, "the first half waits");
        let batcher = Arc::new(batcher);
        let ending = std::thread::spawn({
            let batcher = Arc::clone(&batcher);
            move || {
                if close {
                    batcher.shutdown(LONG).is_clean()
                } else {
                    batcher.flush(LONG).is_ok()
                }
            }
        });
        assert_eq!(director.answer(Reply::Ok), [1, 2]);
        assert_eq!(director.answer(Reply::Ok), [3, 4]);
        assert!(ending.join().unwrap());
    }
}

fn failed(result: Result<(), FlushError>) -> u64 {
    match result {
        Err(FlushError::Failed { items, .. }) => items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_add_that_has_returned_is_handled_when_the_flush_returns() {
    ends(|| {
        let (seen, handled) = mpsc::channel();
        let batcher = Arc::new(
            fixed(7)
                .queue_capacity(7)
                .spawn(move |batch: &mut Batch<u64>| {
                    seen.send(batch.to_vec())?;
                    Ok(LoadFeedback::new())
                })
                .unwrap(),
        );
        let rounds = if cfg!(miri) { 5 } else { 2_000 };
        // The batch may complete at any moment between a flush's check and its wait. If a wake-up
        // is lost, this hangs.
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let batcher = Arc::clone(&batcher);
                std::thread::spawn(move || {
                    for n in 0..rounds {
                        batcher.add(thread << 32 | n).unwrap();
                        if n % 3 == 0 {
                            assert_eq!(batcher.flush(LONG), Ok(()));
                            // By now the statistics show the item as handled.
                            assert!(batcher.stats().handled > n);
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!(handled.try_iter().flatten().count() as u64, 4 * rounds);
    });
}

#[test]
fn a_flush_on_an_idle_batcher_returns_at_once() {
    let (handler, director) = directed::<u64>();
    let batcher = fixed(2).spawn(handler).unwrap();
    assert_eq!(batcher.flush(Duration::ZERO), Ok(()));
    batcher.add_many([1, 2]).unwrap();
    director.answer(Reply::Ok);
    until(&batcher, |stats| stats.handled == 2);
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert!(director.no_call(), "nothing was handed over for it");
}

#[test]
fn a_flush_waits_for_items_in_flight() {
    let (handler, director) = directed();
    let batcher = fixed(2).spawn(handler).unwrap();
    batcher.add_many([1, 2]).unwrap();
    director.call();
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
    let flushing = flush(batcher.producer());
    director.reply(Reply::Ok);
    assert_eq!(flushing.join().unwrap(), Ok(()));
    assert_eq!(batcher.stats().handled, 2);
}

#[test]
fn a_flush_fails_if_its_first_batch_failed_and_its_last_did_not() {
    let (batcher, director) = in_backoff(2, &[1, 2]);
    batcher.add(3).unwrap();
    let flushing = flush(batcher.producer());
    assert_eq!(director.call().attempt, 2);
    director.reply(Reply::Err(BatchError::in_doubt("batch 1")));
    let second = director.call();
    director.reply(Reply::Ok);
    assert_eq!((second.items, second.trigger), (vec![3], Trigger::Flush));
    assert_eq!(failed(flushing.join().unwrap()), 2);
}

#[test]
fn a_flush_counts_the_failures_of_its_own_items_only() {
    for single in [true, false] {
        let (batcher, director) = in_backoff(4, &[1, 2, 3, 4]);
        batcher.add_many([5, 6]).unwrap();
        let flushing = flush(batcher.producer());
        assert_eq!(director.call().attempt, 2);
        // Added after the flush, but in the same batch.
        batcher.add_many([7, 8]).unwrap();
        director.reply(Reply::Ok);
        assert_eq!(director.call().items, [5, 6, 7, 8]);
        director.reply(Reply::Reject(if single {
            vec![1, 2, 3]
        } else {
            vec![2, 3]
        }));
        let result = flushing.join().unwrap();
        if single {
            assert_eq!(failed(result), 1, "a rejected row is a failure");
        } else {
            assert_eq!(result, Ok(()));
        }
        assert_eq!(batcher.stats().failed, if single { 3 } else { 2 });
    }
}

#[test]
fn a_flush_does_not_wait_for_items_added_after_it() {
    let (handler, director) = directed();
    let batcher = fixed(10).spawn(handler).unwrap();
    batcher.add(1).unwrap();
    let flushing = flush(batcher.producer());
    assert_eq!(director.call().trigger, Trigger::Flush);
    batcher.add(2).unwrap();
    director.reply(Reply::Ok);
    assert_eq!(flushing.join().unwrap(), Ok(()));
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.pending), (1, 1));
    assert!(director.no_call());
}

#[test]
fn a_flush_waits_for_every_part_of_a_batch_that_is_searched_for_its_bad_rows() {
    let (handler, director) = directed();
    let retry = Retry::attempts(9)
        .backoff(NEVER, NEVER)
        .total_limit(NEVER * 9);
    let batcher = fixed(4).retry(retry).spawn(handler).unwrap();
    batcher.add_many([1, 2, 3, 4]).unwrap();
    director.answer(Reply::Err(BatchError::permanent("some row")));
    assert_eq!(director.answer(Reply::Panic), [1, 2]);
    // The search has no waits.
    assert_eq!(director.call().items, [1]);
    let flushing = flush(batcher.producer());
    director.reply(Reply::Ok);
    assert_eq!(director.answer(Reply::Ok), [2]);
    assert_eq!(
        director.answer(Reply::Err(BatchError::permanent("some row"))),
        [3, 4]
    );
    assert_eq!(
        director.answer(Reply::Err(BatchError::permanent("this row"))),
        [3]
    );
    assert_eq!(director.call().items, [4]);
    assert_eq!(
        batcher.flush(SOON),
        Err(FlushError::Timeout),
        "the last row has no outcome yet"
    );
    director.reply(Reply::Ok);
    assert_eq!(failed(flushing.join().unwrap()), 1);
}

#[test]
fn a_flush_on_a_full_queue_is_not_refused_and_keeps_its_deadline() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(5).queue_capacity(5).spawn(handler).unwrap();
        batcher.add_many(0..5).unwrap();
        director.call();
        while batcher.try_add(7).is_ok() {}
        while batcher.try_add_many([7]).is_ok() {}
        assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
        batcher.request_flush();
        let flushing = flush(batcher.producer());
        drop(director);
        assert_eq!(flushing.join().unwrap(), Ok(()));
        assert_eq!(batcher.stats().pending, 0);
    });
}

#[test]
fn a_flush_overrides_the_linger() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    batcher.add_many(0..3).unwrap();
    batcher.request_flush();
    let call = director.call();
    director.reply(Reply::Ok);
    assert_eq!((call.items, call.trigger), (vec![0, 1, 2], Trigger::Flush));
    batcher.add(3).unwrap();
    drop(director);
    assert_eq!(batcher.flush(LONG), Ok(()));
}

#[test]
fn a_flush_cuts_the_present_backoff_once_then_the_schedule_goes_on() {
    let (batcher, director) = in_backoff(2, &[1, 2]);
    // The replies are there before the calls, so that nothing delays the flusher.
    director.reply(Reply::Err(BatchError::transient("still down")));
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
    assert_eq!(director.call().attempt, 2);
    assert!(director.no_call(), "one flush, one attempt");
    // Flushes begin at most one attempt within each first step of the backoff. Here that step never
    // ends.
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
    assert!(director.no_call(), "the schedule goes on");
    let closing = std::thread::spawn(move || batcher.close(LONG));
    director.reply(Reply::Ok);
    assert_eq!(director.call().attempt, 3);
    assert!(closing.join().unwrap().is_clean());
}

/// Pauses for a very long time after each call.
struct Rest;

impl Policy for Rest {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        Decision {
            pause_ratio: 1e12,
            ..Decision::hold(current, "rest")
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

#[test]
fn a_flush_and_a_close_override_a_pause() {
    for close in [false, true] {
        let (handler, director) = directed();
        let batcher = Batcher::builder()
            .linger(Duration::ZERO)
            .load_check_interval(Duration::from_millis(1))
            .policy(Rest)
            .spawn(handler)
            .unwrap();
        until(&batcher, |stats| stats.setpoint.pause_ratio > 0.0);
        batcher.add(1).unwrap();
        director.answer(Reply::Ok);
        until(&batcher, |stats| stats.handled == 1);
        batcher.add(2).unwrap();
        let producer = batcher.producer();
        let ending = std::thread::spawn(move || {
            if close {
                batcher.close(LONG).is_clean()
            } else {
                batcher.flush(LONG).is_ok()
            }
        });
        assert_eq!(director.answer(Reply::Ok), [2]);
        assert!(ending.join().unwrap());
        drop(producer);
    }
}

#[test]
fn a_flush_ends_with_the_close_that_overtakes_it() {
    ends(|| {
        for in_time in [true, false] {
            let (handler, director) = directed();
            let batcher = fixed(10).spawn(handler).unwrap();
            batcher.add(1).unwrap();
            let flushing = flush(batcher.producer());
            assert_eq!(director.call().trigger, Trigger::Flush);
            if in_time {
                director.reply(Reply::Ok);
                assert!(batcher.shutdown(LONG).is_clean());
                assert_eq!(flushing.join().unwrap(), Ok(()));
            } else {
                assert_eq!(batcher.shutdown(SOON).abandoned, 1);
                // The handler has still not returned.
                assert_eq!(flushing.join().unwrap(), Err(FlushError::Closed));
            }
        }
    });
}

#[test]
fn a_flush_waits_for_the_hook_to_be_given_the_rows_that_failed() {
    let (entered, heard) = mpsc::channel();
    let gate = Gate::default();
    let held = gate.clone();
    let batcher = fixed(2)
        .on_failed(move |failed| {
            entered.send(failed.item).unwrap();
            held.wait();
        })
        .spawn(|batch: &mut Batch<u64>| {
            batch.reject(1, BatchError::permanent("no"));
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many([1, 2]).unwrap();
    assert_eq!(heard.recv().unwrap(), 2);
    // The hook has the last row.
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
    gate.open();
    assert_eq!(failed(batcher.flush(LONG)), 1);
}

#[test]
fn a_flush_reports_failures_before_its_call_once_to_each_handle() {
    let (handler, director) = directed();
    let batcher = fixed(2).retry(Retry::none()).spawn(handler).unwrap();
    let producer = batcher.producer();
    batcher.add_many(0..6).unwrap();
    director.answer(Reply::Err(BatchError::permanent("all")));
    director.answer(Reply::Ok);
    director.answer(Reply::Reject(vec![1]));
    until(&batcher, |stats| stats.pending == 0);
    // Otherwise a thread that adds and then flushes would learn of a failure only if the batch was
    // slower than its call.
    assert_eq!(failed(batcher.flush(LONG)), 3);
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(failed(producer.flush(LONG)), 3);
    assert_eq!(producer.flush(LONG), Ok(()));
}

#[test]
fn a_flush_that_timed_out_has_reported_no_failure() {
    let (batcher, director) = in_backoff(2, &[1, 2]);
    let flushing = flush(batcher.producer());
    assert_eq!(director.call().attempt, 2);
    batcher.add_many([3, 4]).unwrap();
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
    director.reply(Reply::Err(BatchError::in_doubt("lost")));
    // It waited for the first two only.
    assert_eq!(failed(flushing.join().unwrap()), 2);
    assert_eq!(director.answer(Reply::Reject(vec![0])), [3, 4]);
    assert_eq!(failed(batcher.flush(LONG)), 3);
    assert_eq!(batcher.flush(LONG), Ok(()));
}
