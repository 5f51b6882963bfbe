//! Closes against everything that may happen at the same time.

use std::sync::{Arc, Mutex};

use super::account::assert_balanced;
use super::{Account, Gate, LONG, SOON, builder, scenario};
use crate::{Batch, Batcher, CloseReport, LoadFeedback, Retry};

fn recording(
    account: &Account,
) -> impl FnMut(&mut Batch<u32>) -> Result<LoadFeedback, crate::BatchError> + use<> {
    let account = account.clone();
    move |batch: &mut Batch<u32>| {
        account.handled(batch.iter().copied());
        Ok(LoadFeedback::new())
    }
}

/// Three producers on a queue for two. The linger may pass at any time, and main closes meanwhile.
fn producers_beside_a_close() {
    let account = Account::new();
    let batcher = builder()
        .max_batch_size(2)
        .initial_batch_size(2)
        .queue_capacity(2)
        .linger(SOON)
        .spawn(recording(&account))
        .unwrap();
    let producers: Vec<_> = (1..=3)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                for item in [producer * 10, producer * 10 + 1] {
                    if !account.added(item, handle.add(item)) {
                        assert!(handle.is_closed());
                    }
                }
            })
        })
        .collect();
    assert_balanced(&batcher.stats());
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    account.closed(&report);
    account.settle(0);
    account.assert_counted(&report);
    account.assert_order();
}

#[test]
fn producers_that_never_stop_are_refused_and_nothing_is_lost() {
    scenario("producers beside a close", producers_beside_a_close);
}

/// The handler is stuck, the queue is full, and two producers wait. A close runs out of time, the
/// handler returns, and a second close sees the end.
fn a_stuck_handler() {
    let account = Account::new();
    let gate = Gate::new();
    let batcher = {
        let (gate, account) = (gate.clone(), account.clone());
        builder()
            .max_batch_size(1)
            .queue_capacity(1)
            .spawn(move |batch: &mut Batch<u32>| {
                gate.pass();
                account.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let producers: Vec<_> = (1..=3)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                account.added(producer * 10, handle.add(producer * 10));
                account.added(
                    producer * 10 + 1,
                    handle.add_timeout(producer * 10 + 1, SOON),
                );
            })
        })
        .collect();
    let first = batcher.shutdown(SOON);
    producers
        .into_iter()
        .for_each(|producer| producer.join().expect("refused, whatever the handler does"));
    account.closed(&first);
    assert_balanced(&batcher.stats());
    gate.open();
    let second = batcher.shutdown(LONG);
    assert_eq!(
        (second.abandoned, second.timed_out),
        (0, false),
        "{second:?}"
    );
    assert_balanced(&batcher.stats());
    drop(batcher);
    account.settle(0);
    account.assert_counted(&second);
    account.assert_order();
}

#[test]
fn a_close_returns_the_items_that_a_stuck_handler_did_not_get() {
    scenario("a stuck handler", a_stuck_handler);
}

/// Three closers with different timeouts, one of them the drop, with producers and a thread that
/// reads the statistics.
fn many_closers() {
    let account = Account::new();
    let reports = Arc::new(Mutex::new(Vec::<CloseReport<u32>>::new()));
    let batcher = {
        let reports = Arc::clone(&reports);
        builder()
            .max_batch_size(3)
            .queue_capacity(4)
            .linger(LONG)
            .load_check_interval(SOON)
            .close_timeout(LONG)
            .on_close(move |report| reports.lock().unwrap().push(report))
            .spawn(recording(&account))
            .unwrap()
    };
    let batcher = Arc::new(batcher);
    let producers: Vec<_> = (1..=2)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                let items = [producer * 10, producer * 10 + 1, producer * 10 + 2];
                account.added_many(&items, handle.add_many(items));
            })
        })
        .collect();
    let closers: Vec<_> = [SOON, LONG]
        .into_iter()
        .map(|patience| {
            let (batcher, account) = (Arc::clone(&batcher), account.clone());
            shuttle::thread::spawn(move || {
                assert_balanced(&batcher.stats());
                let report = batcher.shutdown(patience);
                account.closed(&report);
                assert_balanced(&batcher.stats());
                report
            })
        })
        .collect();
    drop(batcher);
    let closed: Vec<_> = closers
        .into_iter()
        .map(|closer| closer.join().unwrap())
        .collect();
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    account.assert_counted(&closed[1]);
    assert!(
        reports.lock().unwrap().is_empty(),
        "somebody had closed it before the drop"
    );
    account.settle(0);
}

#[test]
fn of_many_closers_one_has_the_lists() {
    scenario("many closers", many_closers);
}

/// The last owner is dropped on the handler's own thread. No thread waits for itself, the rest is
/// handled, and the hook gets the report.
fn dropped_by_the_handler() {
    let account = Account::new();
    let owner = Arc::new(Mutex::new(None::<Batcher<u32>>));
    let delivered = Gate::new();
    let batcher = {
        let (owner, opened, on_close) = (Arc::clone(&owner), delivered.clone(), account.clone());
        let account = account.clone();
        builder()
            .max_batch_size(1)
            .queue_capacity(4)
            .retry(Retry::none())
            .on_close(move |report| {
                assert!(!report.timed_out);
                on_close.closed(&report);
                opened.open();
            })
            .spawn(move |batch: &mut Batch<u32>| {
                // A lock that the model does not know. No thread waits for it.
                let taken = owner.lock().unwrap().take();
                drop(taken);
                account.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let producer = batcher.producer();
    *owner.lock().unwrap() = Some(batcher);
    for item in [10, 11, 12] {
        account.added(item, producer.add(item));
    }
    delivered.pass();
    account.settle(0);
    account.assert_order();
}

#[test]
fn a_batcher_dropped_by_its_own_handler_delivers_its_report() {
    scenario("dropped by the handler", dropped_by_the_handler);
}
