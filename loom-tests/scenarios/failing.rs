//! Handlers that fail in every way, and how the items end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::account::assert_balanced;
use super::{Account, LONG, SOON, builder, panic_quietly, scenario};
use crate::sync::pass_time;
use crate::{AddError, Batch, BatchError, FlushError, LoadFeedback, Outcome, Retry};

fn retry() -> Retry {
    Retry::attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(4))
}

/// The calls in turn: a panic, a transient error, a success with a rejected row, and a permanent
/// error. All later calls succeed.
fn script(
    account: &Account,
) -> impl FnMut(&mut Batch<u32>) -> Result<LoadFeedback, BatchError> + use<> {
    let account = account.clone();
    let mut calls = 0;
    move |batch: &mut Batch<u32>| {
        calls += 1;
        pass_time(Duration::from_millis(1));
        match calls {
            1 => panic_quietly(),
            2 => return Err(BatchError::transient("the second call fails")),
            4 => return Err(BatchError::permanent("the fourth call fails")),
            _ => {}
        }
        if calls == 3 {
            batch.reject(0, BatchError::permanent("rejected"));
        }
        account.handled(batch.iter().copied().skip(usize::from(calls == 3)));
        Ok(LoadFeedback::new())
    }
}

/// Two producers, a flush and a close across that script; failed rows are kept and taken.
fn retries_and_panics() {
    let account = Account::new();
    let batcher = builder()
        .max_batch_size(3)
        .initial_batch_size(2)
        .queue_capacity(3)
        .linger(SOON)
        .load_check_interval(SOON)
        .retry(retry())
        .keep_failed(1)
        .spawn(script(&account))
        .unwrap();
    let producers: Vec<_> = (1..=2)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                for item in producer * 10..producer * 10 + 3 {
                    account.added(item, handle.add(item));
                }
            })
        })
        .collect();
    let flushed = batcher.flush(SOON);
    assert!(
        matches!(
            flushed,
            Ok(()) | Err(FlushError::Failed { .. } | FlushError::Timeout)
        ),
        "{flushed:?}"
    );
    batcher
        .take_failed()
        .iter()
        .for_each(|failed| account.failed(failed));
    assert_balanced(&batcher.stats());
    let report = batcher.close(LONG);
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    assert!(!report.timed_out && report.unsent.is_empty(), "{report:?}");
    account.closed(&report);
    account.settle(0);
    account.assert_counted(&report);
    account.assert_order();
}

#[test]
fn no_error_and_no_panic_loses_an_item() {
    scenario("retries and panics", retries_and_panics);
}

/// Two threads flush without a deadline during that script. Each flush returns, and after it no
/// item of its caller waits.
fn flush_for_ever() {
    let account = Account::new();
    let batcher = builder()
        .max_batch_size(4)
        .initial_batch_size(4)
        .queue_capacity(4)
        .linger(LONG)
        .retry(retry())
        .on_failed({
            let account = account.clone();
            move |failed| account.failed(&failed)
        })
        .spawn(script(&account))
        .unwrap();
    let flushers: Vec<_> = (1..=2)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                for item in producer * 10..producer * 10 + 2 {
                    assert!(account.added(item, handle.add(item)));
                    let flushed = handle.flush(LONG);
                    assert!(account.has_ended(item), "{item} has its outcome");
                    assert!(
                        account.was_handled(item) || flushed.is_err(),
                        "{item} failed, the flush says {flushed:?}"
                    );
                }
            })
        })
        .collect();
    flushers
        .into_iter()
        .for_each(|flusher| flusher.join().unwrap());
    let report = batcher.close(LONG);
    account.closed(&report);
    account.settle(0);
    account.assert_counted(&report);
}

#[test]
fn a_flush_returns_when_its_items_have_their_outcome() {
    scenario("flush for ever", flush_for_ever);
}

/// Tickets during that script and a close that may run out of time. Each is resolved once, and
/// agrees with the history.
fn tickets() {
    let account = Account::new();
    let batcher = builder()
        .max_batch_size(2)
        .initial_batch_size(2)
        .queue_capacity(4)
        .linger(LONG)
        .retry(retry())
        .spawn(script(&account))
        .unwrap();
    let producers: Vec<_> = (1..=2)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                let mut tickets = Vec::new();
                for item in producer * 10..producer * 10 + 2 {
                    let submitted = handle
                        .submit(item)
                        .map(|ticket| tickets.push((item, ticket)));
                    account.added(item, submitted);
                }
                tickets
                    .into_iter()
                    .map(|(item, ticket)| (item, ticket.wait()))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let flushed = batcher.flush(SOON);
    assert_ne!(flushed, Err(FlushError::Reentrant));
    let report = batcher.shutdown(SOON);
    account.closed(&report);
    let told: Vec<_> = producers
        .into_iter()
        .flat_map(|producer| producer.join().unwrap())
        .collect();
    let last = batcher.shutdown(LONG);
    assert!(!last.timed_out);
    for (item, outcome) in told {
        match outcome {
            Outcome::Handled => assert!(account.was_handled(item), "{item}"),
            Outcome::Failed(_) | Outcome::Unsent => {
                assert!(!account.was_handled(item), "{item}: {outcome:?}")
            }
            // In flight when the close gave up, so either may follow.
            Outcome::InDoubt => assert!(report.abandoned > 0, "{item}"),
            Outcome::Reentrant => panic!("a producer is no thread of the batcher's"),
            Outcome::Stalled => panic!("the failed rows find room"),
        }
    }
    let stats = batcher.stats();
    account.settle(stats.dropped_late + stats.told);
    account.assert_counted(&last);
}

#[test]
fn no_ticket_hangs_and_none_lies() {
    scenario("tickets", tickets);
}

/// The hook is slow while a close gives up. Each failed row goes either to the hook or to the
/// report, once.
fn hook_behind_a_close() {
    let account = Account::new();
    let batcher = builder()
        .max_batch_size(2)
        .initial_batch_size(2)
        .queue_capacity(6)
        .linger(SOON)
        .retry(Retry::attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(1)))
        .on_failed({
            let account = account.clone();
            move |failed| {
                shuttle::thread::yield_now();
                account.failed(&failed);
                if failed.item % 2 == 0 {
                    panic_quietly();
                }
            }
        })
        .spawn(|batch: &mut Batch<u32>| {
            shuttle::thread::yield_now();
            if batch.contains(&10) {
                Err(BatchError::in_doubt("lost"))
            } else {
                Err(BatchError::transient("down"))
            }
        })
        .unwrap();
    let producer = {
        let (handle, account) = (batcher.producer(), account.clone());
        shuttle::thread::spawn(move || {
            for item in 10..16 {
                account.added(item, handle.add(item));
            }
        })
    };
    let report = batcher.shutdown(SOON);
    account.closed(&report);
    assert_balanced(&batcher.stats());
    producer.join().unwrap();
    let last = batcher.shutdown(LONG);
    assert_eq!(
        (last.abandoned, last.timed_out, last.handled),
        (0, false, 0),
        "{last:?}"
    );
    let stats = batcher.stats();
    assert_balanced(&stats);
    assert_eq!((stats.pending, stats.dropped_late), (0, 0));
    account.settle(0);
    account.assert_counted(&last);
}

#[test]
fn a_failed_row_is_given_to_the_hook_or_comes_back() {
    scenario("hook behind a close", hook_behind_a_close);
}

/// Every call on the threads of the handler and the hook works or returns `Reentrant`, on a queue
/// that is mostly full.
fn calls_from_inside() {
    let account = Account::new();
    let inside = Arc::new(Mutex::new(None::<crate::Producer<u32>>));
    let batcher = {
        let (from_handler, from_hook) = (Arc::clone(&inside), Arc::clone(&inside));
        let (handled, failed) = (account.clone(), account.clone());
        let mut next = 50;
        builder()
            .max_batch_size(1)
            .queue_capacity(1)
            .retry(Retry::none())
            .on_failed(move |row| {
                failed.failed(&row);
                let producer = from_hook.lock().unwrap().clone();
                let producer = producer.expect("set before the first add");
                assert_eq!(producer.flush(LONG), Err(FlushError::Reentrant));
                if row.item < 50 {
                    failed.added(row.item + 60, producer.add(row.item + 60));
                }
            })
            .spawn(move |batch: &mut Batch<u32>| {
                let producer = from_handler
                    .lock()
                    .unwrap()
                    .clone()
                    .expect("set before the first add");
                assert_eq!(producer.flush(LONG), Err(FlushError::Reentrant));
                producer.request_flush();
                if batch[0] < 50 {
                    next += 1;
                    let result = producer.add_timeout(next, LONG);
                    assert!(
                        matches!(
                            result,
                            Ok(()) | Err(AddError::Reentrant(_) | AddError::Closed(_))
                        ),
                        "{result:?}"
                    );
                    handled.added(next, result);
                    if let Ok(ticket) = producer.submit(next + 20) {
                        handled.added(next + 20, Ok(()));
                        assert!(matches!(ticket.wait(), Outcome::Reentrant));
                    }
                }
                if batch[0] % 2 == 1 {
                    return Err(BatchError::permanent("odd"));
                }
                handled.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    *inside.lock().unwrap() = Some(batcher.producer());
    let producer = {
        let (handle, account) = (batcher.producer(), account.clone());
        shuttle::thread::spawn(move || {
            for item in 10..14 {
                account.added(item, handle.add(item));
            }
        })
    };
    let flushed = batcher.flush(SOON);
    assert_ne!(
        flushed,
        Err(FlushError::Reentrant),
        "this thread is none of its own"
    );
    let report = batcher.close(LONG);
    producer.join().unwrap();
    assert!(!report.timed_out);
    account.closed(&report);
    account.settle(0);
    account.assert_counted(&report);
}

#[test]
fn no_call_from_inside_waits_for_itself() {
    scenario("calls from inside", calls_from_inside);
}
