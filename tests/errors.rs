//! What a failure of the handler costs: one attempt of its batch, and the bad rows in it. All other
//! items are unaffected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Builder, FlushError, LoadFeedback, Outcome, Retry,
};
use testkit::{LONG, Reply, directed, ends, first_call_settled, fixed, until};

const AT_ONCE: Duration = Duration::ZERO;

fn items<T: Copy>(failed: &[load_aware_batcher::Failed<T>]) -> Vec<T> {
    failed.iter().map(|failed| failed.item).collect()
}

#[test]
fn a_panic_on_one_batch_of_ten_costs_an_attempt_and_nothing_else() {
    let (seen, handled) = mpsc::channel();
    let mut calls = 0;
    let batcher = fixed(10)
        .retry(Retry::attempts(2).backoff(AT_ONCE, AT_ONCE))
        .spawn(move |batch: &mut Batch<u64>| {
            calls += 1;
            if calls == 3 {
                std::panic::resume_unwind(Box::new("third"));
            }
            seen.send(batch.to_vec())?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many(0..100).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!(
        (
            stats.handler_panics,
            stats.retries,
            stats.handled,
            stats.failed
        ),
        (1, 1, 100, 0)
    );
    assert!(batcher.close(LONG).is_clean());
    assert!(handled.iter().flatten().eq(0..100));
}

#[test]
fn a_panic_without_retry_fails_its_batch_with_the_panics_message() {
    let (handler, director) = directed();
    let batcher = fixed(2).retry(Retry::none()).spawn(handler).unwrap();
    batcher.add_many(0..6).unwrap();
    director.answer(Reply::Ok);
    director.answer(Reply::Panic);
    director.answer(Reply::Ok);
    let report = batcher.close(LONG);
    assert_eq!((report.handled, items(&report.failed)), (4, vec![2, 3]));
    let error = &report.failed[0].error;
    assert!(
        error.is_panic() && error.to_string().contains("directed"),
        "{error}"
    );
}

#[test]
fn one_failed_batch_does_not_end_the_batcher() {
    for error in [
        BatchError::transient("a"),
        BatchError::permanent("b"),
        BatchError::in_doubt("c"),
        std::fmt::Error.into(),
    ] {
        let (handler, director) = directed();
        let batcher = fixed(2).retry(Retry::none()).spawn(handler).unwrap();
        batcher.add_many(0..4).unwrap();
        director.answer(Reply::Err(error.clone()));
        director.answer(Reply::Ok);
        let stats = until(&batcher, |stats| stats.pending == 0);
        assert_eq!((stats.handled, stats.failed), (2, 2));
        let failed = batcher.take_failed();
        assert_eq!(items(&failed), [0, 1]);
        assert!(
            failed
                .iter()
                .all(|failed| failed.error == error && failed.in_doubt == error.is_in_doubt())
        );
    }
}

/// A thousand rows with one bad row, which fails any call that contains it in the given way.
fn thousand(
    bad: u64,
    how: fn() -> Result<LoadFeedback, BatchError>,
    builder: Builder<u64>,
) -> Batcher<u64> {
    let batcher = builder
        .spawn(move |batch: &mut Batch<u64>| {
            if batch.contains(&bad) {
                how()
            } else {
                Ok(LoadFeedback::new())
            }
        })
        .unwrap();
    batcher.add_many(0..1_000).unwrap();
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { items: 1, .. })
    ));
    batcher
}

#[test]
fn one_poisoned_row_of_a_thousand_fails_alone_within_twenty_calls() {
    type How = fn() -> Result<LoadFeedback, BatchError>;
    let permanent: How = || Err(BatchError::permanent("poison"));
    let unclassified: How = || Err(std::fmt::Error.into());
    let panic: How = || std::panic::resume_unwind(Box::new("poison"));
    for (how, attempts) in [(permanent, 1), (unclassified, 3), (panic, 3)] {
        for bad in [0, 1, 499, 500, 998, 999] {
            let retry = Retry::attempts(3).backoff(AT_ONCE, AT_ONCE);
            let batcher = thousand(bad, how, fixed(1_000).retry(retry));
            let failed = batcher.take_failed();
            assert_eq!(items(&failed), [bad]);
            assert!(!failed[0].in_doubt);
            let stats = batcher.stats();
            assert_eq!((stats.handled, stats.failed), (999, 1));
            // 2·⌈log2 1000⌉
            assert!(
                stats.calls <= attempts + 20,
                "row {bad}: {} calls",
                stats.calls
            );
        }
    }
}

#[test]
fn a_retry_has_the_same_id_order_and_items_and_halves_have_the_id_of_their_parent() {
    let (handler, director) = directed();
    let batcher = fixed(4)
        .retry(Retry::attempts(2).backoff(AT_ONCE, AT_ONCE))
        .spawn(handler)
        .unwrap();
    batcher.add_many(1..=8).unwrap();
    let first = director.call();
    director.reply(Reply::Err(BatchError::transient("after the commit?")));
    let again = director.call();
    director.reply(Reply::Err(BatchError::transient("again")));
    assert_eq!(
        (again.id, &again.items, first.attempt, again.attempt),
        (first.id, &first.items, 1, 2)
    );
    assert_eq!((again.parent, again.trigger), (None, first.trigger));
    let halves = [director.call(), {
        director.reply(Reply::Ok);
        director.call()
    }];
    director.reply(Reply::Err(BatchError::permanent("a row")));
    assert_eq!(
        (&halves[0].items, &halves[1].items),
        (&vec![1, 2], &vec![3, 4])
    );
    let quarter = director.call();
    drop(director);
    assert_eq!(quarter.items, [3]);
    let names: std::collections::HashSet<_> = [&first, &halves[0], &halves[1], &quarter]
        .map(|call| call.id)
        .into();
    assert_eq!(names.len(), 4, "a part has a name of its own");
    for part in [&halves[0], &halves[1], &quarter] {
        assert_eq!((part.parent, part.attempt), (Some(first.id), 1));
    }
    assert!(batcher.close(LONG).is_clean());
}

/// Halves instead of bisection.
fn split_on_retry(attempts: u32) -> Retry {
    Retry::attempts(attempts)
        .split_on_retry(true)
        .bisect(false)
        .backoff(AT_ONCE, AT_ONCE)
}

#[test]
fn a_batch_that_failed_is_tried_again_in_halves_where_retry_says_so() {
    let (handler, director) = directed();
    let batcher = fixed(4)
        .idempotent(true)
        .retry(split_on_retry(3))
        .spawn(handler)
        .unwrap();
    batcher.add_many(1..=8).unwrap();
    let too_long = || Reply::Err(BatchError::transient("too long"));
    let script: [(&[u64], Reply); 5] = [
        (&[1, 2, 3, 4], too_long()),
        (&[1, 2], too_long()),
        (&[1], Reply::Ok),
        (&[2], Reply::Ok),
        (&[3, 4], Reply::Ok),
    ];
    let mut names = Vec::new();
    for (items, reply) in script {
        let call = director.call();
        assert_eq!(
            (&*call.items, call.attempt),
            (items, 1),
            "a half has a name of its own"
        );
        assert_eq!(call.parent, names.first().copied());
        names.push(call.id);
        director.reply(reply);
    }
    assert_eq!(
        (
            batcher.stats().split_retries,
            batcher.stats().retries,
            batcher.stats().bisections
        ),
        (2, 0, 0)
    );
    // A batch that may have been applied keeps its id. A table of applied batches would not know
    // the ids of its halves.
    let whole = director.call();
    director.reply(Reply::Err(BatchError::in_doubt("no answer")));
    for attempt in [2, 3] {
        let again = director.call();
        assert_eq!(
            (again.id, &again.items, again.attempt),
            (whole.id, &whole.items, attempt)
        );
        director.reply(if attempt == 2 { too_long() } else { Reply::Ok });
    }
    drop(director);
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn halves_have_the_attempts_that_are_left() {
    let (handler, director) = directed();
    let batcher = fixed(4)
        .retry(split_on_retry(2))
        .on_failed(drop)
        .spawn(handler)
        .unwrap();
    batcher.add_many(1..=4).unwrap();
    for items in [&[1, 2, 3, 4][..], &[1, 2], &[3, 4]] {
        assert_eq!(director.call().items, items);
        director.reply(Reply::Err(BatchError::transient("down")));
    }
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { .. })
    ));
    assert_eq!((batcher.stats().failed, batcher.stats().calls), (4, 3));
    drop(director);
    drop(batcher.close(LONG));
}

#[test]
fn batch_ids_are_never_reused_not_even_by_another_batcher() {
    let mut names = std::collections::HashSet::new();
    for _ in 0..3 {
        let (handler, director) = directed();
        let batcher = fixed(1).spawn(handler).unwrap();
        batcher.add_many(0..3).unwrap();
        for _ in 0..3 {
            assert!(names.insert(director.call().id));
            director.reply(Reply::Ok);
        }
    }
}

#[test]
fn retries_go_on_while_all_others_wait() {
    ends(|| {
        let mut calls = 0;
        let batcher = Arc::new(
            fixed(2)
                .queue_capacity(2)
                .retry(
                    Retry::attempts(4)
                        .backoff(Duration::from_micros(50), Duration::from_micros(200)),
                )
                .spawn(move |_: &mut Batch<u64>| {
                    calls += 1;
                    if calls % 2 > 0 {
                        Err(BatchError::transient("busy"))
                    } else {
                        Ok(LoadFeedback::new())
                    }
                })
                .unwrap(),
        );
        // All others wait: producers for room, callers of `flush`, and the owner of a ticket.
        let threads: Vec<_> = (0..6u64)
            .map(|thread| {
                let batcher = Arc::clone(&batcher);
                std::thread::spawn(move || {
                    for n in 0..20 {
                        match thread {
                            0..=2 => batcher.add(n).unwrap(),
                            3 => drop(batcher.add_many([n, n]).unwrap()),
                            _ => {
                                let ticket = batcher.submit(n).unwrap();
                                batcher.request_flush();
                                assert_eq!(ticket.wait(), Outcome::Handled);
                            }
                        }
                    }
                    assert_eq!(batcher.flush(LONG), Ok(()));
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let stats = batcher.stats();
        assert_eq!((stats.handled, stats.failed, stats.pending), (140, 0, 0));
    });
}

/// How often each key was sent.
type Rows = Arc<Mutex<BTreeMap<u64, u32>>>;

/// A table whose commits succeed. At the given calls the answer is lost.
fn table(
    lost: fn(usize) -> bool,
) -> (
    Rows,
    impl FnMut(&mut Batch<u64>) -> Result<LoadFeedback, BatchError>,
) {
    let rows = Arc::new(Mutex::new(BTreeMap::new()));
    let (table, mut calls) = (Arc::clone(&rows), 0);
    let handler = move |batch: &mut Batch<u64>| {
        calls += 1;
        let mut rows = table.lock().unwrap();
        batch
            .iter()
            .for_each(|key| *rows.entry(*key).or_default() += 1);
        if lost(calls) {
            Err(BatchError::in_doubt("no answer to the commit"))
        } else {
            Ok(LoadFeedback::new())
        }
    };
    (rows, handler)
}

#[test]
fn rows_with_a_lost_acknowledgement_are_in_doubt_and_never_sent_twice() {
    let (rows, handler) = table(|call| call % 3 == 0);
    let batcher = fixed(10).spawn(handler).unwrap();
    let ticket = batcher.submit(0).unwrap();
    batcher.add_many(1..100).unwrap();
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { items: 30, .. })
    ));
    let failed = batcher.take_failed();
    assert_eq!(
        items(&failed),
        [20..30, 50..60, 80..90]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    );
    assert!(
        failed
            .iter()
            .all(|failed| failed.in_doubt && failed.attempts == 1)
    );
    let stats = batcher.stats();
    assert_eq!(
        (stats.handled, stats.failed, stats.in_doubt, stats.retries),
        (70, 30, 30, 0)
    );
    assert_eq!(ticket.wait(), Outcome::Handled);
    let rows = rows.lock().unwrap();
    assert!(
        rows.len() == 100 && rows.values().all(|sent| *sent == 1),
        "{rows:?}"
    );
}

#[test]
fn rows_with_a_key_are_stored_once_although_acknowledgements_are_lost() {
    let (rows, handler) = table(|call| call % 3 == 0);
    let retry = Retry::attempts(2).backoff(AT_ONCE, AT_ONCE);
    let batcher = fixed(10)
        .idempotent(true)
        .retry(retry)
        .spawn(handler)
        .unwrap();
    batcher.add_many(0..100).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.failed, stats.in_doubt), (100, 0, 0));
    assert!(stats.retries > 0);
    assert!(rows.lock().unwrap().keys().copied().eq(0..100));
}

#[test]
fn a_row_once_in_doubt_stays_in_doubt_whatever_later_attempts_return() {
    let (handler, director) = directed();
    let batcher = fixed(2)
        .idempotent(true)
        .retry(Retry::attempts(2).backoff(AT_ONCE, AT_ONCE))
        .spawn(handler)
        .unwrap();
    let tickets = [batcher.submit(1).unwrap(), batcher.submit(2).unwrap()];
    director.answer(Reply::Err(BatchError::in_doubt("lost")));
    director.answer(Reply::Err(BatchError::permanent("a row")));
    assert_eq!(director.answer(Reply::Reject(vec![0])), [1]);
    assert_eq!(
        director.answer(Reply::Err(BatchError::permanent("this row"))),
        [2]
    );
    let failed = until(&batcher, |stats| stats.failed == 2);
    assert_eq!(failed.in_doubt, 2);
    // Before the tickets have returned the failures. After that the rows are not kept any more.
    assert_eq!(
        batcher
            .take_failed()
            .iter()
            .map(|failed| failed.in_doubt)
            .collect::<Vec<_>>(),
        [true, true]
    );
    assert_eq!(
        tickets.map(load_aware_batcher::Ticket::wait),
        [Outcome::InDoubt, Outcome::InDoubt]
    );
}

#[test]
fn a_row_rejected_in_doubt_is_in_doubt() {
    let batcher = fixed(3)
        .spawn(|batch: &mut Batch<u64>| {
            batch.reject(1, BatchError::in_doubt("this one's answer was lost"));
            batch.reject(2, BatchError::permanent("no"));
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let tickets: Vec<_> = (0..3).map(|item| batcher.submit(item).unwrap()).collect();
    assert_eq!(until(&batcher, |stats| stats.failed == 2).in_doubt, 1);
    // Before the tickets have returned the failures. After that the rows are not kept any more.
    assert_eq!(
        batcher
            .take_failed()
            .iter()
            .map(|failed| failed.in_doubt)
            .collect::<Vec<_>>(),
        [true, false]
    );
    let outcomes: Vec<_> = tickets
        .into_iter()
        .map(load_aware_batcher::Ticket::wait)
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Handled,
            Outcome::InDoubt,
            Outcome::Failed(BatchError::permanent("no"))
        ]
    );
}

#[test]
fn a_rejection_counts_only_if_its_call_succeeds_and_only_once() {
    let (handler, director) = directed();
    let batcher = fixed(3)
        .retry(Retry::attempts(2).backoff(AT_ONCE, AT_ONCE))
        .spawn(handler)
        .unwrap();
    batcher.add_many([1, 2, 3]).unwrap();
    director.answer(Reply::Err(BatchError::transient("all of it")));
    director.answer(Reply::Reject(vec![2, 0, 2, 0, 3, usize::MAX]));
    let stats = until(&batcher, |stats| stats.pending == 0);
    assert_eq!(
        (
            stats.handled,
            stats.failed,
            stats.rejected,
            stats.bad_rejects
        ),
        (1, 2, 2, 2)
    );
    let failed = batcher.take_failed();
    assert_eq!(items(&failed), [1, 3]);
    assert!(failed.iter().all(|failed| failed.attempts == 2));
}

/// Scenario 57.
#[test]
fn of_the_rejections_of_a_failed_call_only_permanent_ones_count() {
    let mut calls = 0;
    let batcher = fixed(3)
        .retry(Retry::attempts(2).backoff(AT_ONCE, AT_ONCE))
        .spawn(move |batch: &mut Batch<u64>| {
            calls += 1;
            if calls == 1 {
                batch.reject(0, BatchError::transient("the connection is lost"));
                batch.reject(1, BatchError::permanent("too old"));
                return Err(BatchError::transient("the connection is lost"));
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
        (items(&failed), failed[0].error.to_string().as_str()),
        (vec![2], "too old")
    );
    assert_eq!((batcher.stats().handled, batcher.stats().rejected), (2, 1));
}

#[test]
fn an_outage_is_not_searched_row_by_row() {
    let retry = Retry::attempts(3).backoff(Duration::from_micros(1), Duration::from_micros(10));
    let batcher = fixed(4_096)
        .retry(retry)
        .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("nobody there")))
        .unwrap();
    batcher.add_many(0..4_096).unwrap();
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { items: 4_096, .. })
    ));
    let stats = batcher.stats();
    assert!(stats.calls < 60, "{} calls", stats.calls);
    assert!(
        batcher
            .take_failed()
            .into_iter()
            .map(|failed| failed.item)
            .eq(0..4_096)
    );
}

#[test]
fn rows_behind_an_outage_that_ends_are_handled() {
    let mut calls = 0;
    let retry = Retry::attempts(3).backoff(Duration::from_micros(1), Duration::from_micros(10));
    let batcher = fixed(1_024)
        .retry(retry)
        .spawn(move |_: &mut Batch<u64>| {
            calls += 1;
            if calls <= 20 {
                Err(BatchError::transient("nobody there"))
            } else {
                Ok(LoadFeedback::new())
            }
        })
        .unwrap();
    batcher.add_many(0..1_024).unwrap();
    let _ = batcher.flush(LONG);
    let stats = batcher.stats();
    assert_eq!(stats.handled + stats.failed, 1_024);
    // The few rows that were called alone before the failure counted as an outage.
    assert!(stats.failed <= 8, "{}", stats.failed);
    let failed = batcher.take_failed();
    assert!(
        failed.iter().all(|failed| failed.attempts > 3),
        "each had its attempts"
    );
}

#[test]
fn a_failure_leaves_the_batch_first_in_line() {
    let (handler, director) = directed();
    let batcher = fixed(2)
        .retry(Retry::attempts(3).backoff(AT_ONCE, AT_ONCE))
        .spawn(handler)
        .unwrap();
    batcher.add_many(0..6).unwrap();
    assert_eq!(
        director.answer(Reply::Err(BatchError::transient("busy"))),
        [0, 1]
    );
    first_call_settled(&batcher);
    batcher.request_flush();
    for expected in [[0, 1], [2, 3], [4, 5]] {
        assert_eq!(director.answer(Reply::Ok), expected);
    }
}
