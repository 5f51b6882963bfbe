//! Flushes of many threads over random failures: none says `Ok` over a failed item of its own span.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, FlushError, LoadFeedback, Producer, Retry};
use proptest::prelude::*;
use testkit::{LONG, ends, fixed};

/// What becomes of a call, in turn.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Ok,
    /// The rows that this number divides.
    Reject(u64),
    Retry(u64),
    RejectAndErr(u64),
    Transient,
    Permanent,
    InDoubt,
    Unavailable,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => Just(Deed::Ok),
        1 => (1..5u64).prop_map(Deed::Reject),
        1 => (1..5u64).prop_map(Deed::Retry),
        1 => (1..5u64).prop_map(Deed::RejectAndErr),
        1 => Just(Deed::Transient),
        1 => Just(Deed::Permanent),
        1 => Just(Deed::InDoubt),
        1 => Just(Deed::Unavailable),
    ]
}

fn act(deed: Deed, batch: &Batch<u64>) -> Result<LoadFeedback, BatchError> {
    let each = |n: u64, mark: &dyn Fn(usize)| {
        let rows = batch.iter().enumerate().filter(|(_, row)| *row % n == 0);
        rows.for_each(|(index, _)| mark(index));
    };
    match deed {
        Deed::Ok => {}
        Deed::Reject(n) => each(n, &|row| batch.reject(row, BatchError::permanent("no"))),
        Deed::Retry(n) => each(n, &|row| batch.retry(row, BatchError::transient("later"))),
        Deed::RejectAndErr(n) => {
            each(n, &|row| batch.reject(row, BatchError::permanent("no")));
            return Err(BatchError::transient("lost"));
        }
        Deed::Transient => return Err(BatchError::transient("lost")),
        Deed::Permanent => return Err(BatchError::permanent("no")),
        Deed::InDoubt => return Err(BatchError::in_doubt("no answer")),
        Deed::Unavailable => return Err(BatchError::unavailable("busy")),
    }
    Ok(LoadFeedback::new())
}

/// The rows that failed. A flush returns after the hook was given those of its span.
type Failed = Arc<Mutex<BTreeSet<u64>>>;

fn start(size: usize, lanes: usize, deeds: Vec<Deed>, failed: &Failed) -> Batcher<u64> {
    let (into, deeds) = (Arc::clone(failed), Arc::new(deeds));
    let calls = Arc::new(Mutex::new(0));
    let builder = fixed(size)
        .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
        .on_failed(move |row| assert!(into.lock().unwrap().insert(row.item)));
    let builder = if lanes > 1 {
        builder.concurrency(lanes).order_by(|row: &u64| *row % 7)
    } else {
        builder
    };
    let started = builder.spawn_workers(move |_| {
        let (calls, deeds) = (Arc::clone(&calls), Arc::clone(&deeds));
        Ok::<_, BatchError>(move |batch: &mut Batch<u64>| {
            let mut calls = calls.lock().unwrap();
            let deed = deeds[*calls % deeds.len()];
            *calls += 1;
            drop(calls);
            act(deed, batch)
        })
    });
    started.unwrap()
}

/// How many failures the flush says.
fn said(flushed: Result<(), FlushError>) -> u64 {
    match flushed {
        Ok(()) => 0,
        Err(FlushError::Failed { items, .. }) => items,
        Err(other) => panic!("{other}"),
    }
}

/// Adds rows and flushes by turns, through a handle of its own.
fn adds_and_flushes(producer: &Producer<u64>, failed: &Failed, first: u64, bursts: &[u64]) -> u64 {
    let (mut next, mut told) = (first, 0);
    for burst in bursts {
        let own = next..next + burst;
        next = own.end;
        own.clone().for_each(|row| producer.add(row).unwrap());
        let flushed = said(producer.flush(LONG));
        let own_failed = failed.lock().unwrap().range(own.clone()).count() as u64;
        assert!(
            flushed >= own_failed,
            "{flushed} said, {own_failed} of {own:?} failed"
        );
        told += flushed;
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flush_of_many_threads_says_ok_over_a_failed_item_of_its_own_span(
        size in 1..9usize,
        lanes in 1..3usize,
        deeds in prop::collection::vec(deed(), 1..12),
        threads in prop::collection::vec(prop::collection::vec(1..12u64, 1..8), 1..5),
    ) {
        ends(move || {
            // Else no call goes through, and each batch is waited for.
            let deeds = [&deeds[..], &[Deed::Ok]].concat();
            let failed = Failed::default();
            let batcher = start(size, lanes, deeds, &failed);
            // Made before anything fails: it is told of all that does.
            let watcher = batcher.producer();
            std::thread::scope(|scope| {
                for (thread, bursts) in threads.iter().enumerate() {
                    let (producer, failed) = (batcher.producer(), &failed);
                    let first = thread as u64 * 1_000;
                    scope.spawn(move || adds_and_flushes(&producer, failed, first, bursts));
                }
            });
            assert_eq!(said(watcher.flush(LONG)), failed.lock().unwrap().len() as u64);
            assert_eq!(watcher.flush(LONG), Ok(()), "each once");
        });
    }

    /// Through one handle, while others add: what fails behind a flush's position is told by a
    /// later one.
    #[test]
    fn a_thread_that_flushes_while_others_add_is_told_of_every_failure_once(
        size in 1..9usize,
        deeds in prop::collection::vec(deed(), 1..12),
        threads in prop::collection::vec(1..60u64, 1..4),
    ) {
        ends(move || {
            let deeds = [&deeds[..], &[Deed::Ok]].concat();
            let failed = Failed::default();
            let batcher = start(size, 1, deeds, &failed);
            let adding = AtomicUsize::new(threads.len());
            let mut told = 0;
            std::thread::scope(|scope| {
                for (thread, rows) in threads.iter().enumerate() {
                    let (batcher, adding) = (&batcher, &adding);
                    scope.spawn(move || {
                        let first = thread as u64 * 1_000;
                        for row in first..first + rows {
                            batcher.add(row).unwrap();
                            std::thread::yield_now();
                        }
                        adding.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                while adding.load(Ordering::SeqCst) > 0 {
                    told += said(batcher.flush(LONG));
                }
            });
            told += said(batcher.flush(LONG));
            assert_eq!(told, failed.lock().unwrap().len() as u64, "{failed:?}");
        });
    }
}
