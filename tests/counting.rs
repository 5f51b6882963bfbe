//! After any operations the counters return to zero, and the queue has all its room again.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher::{AddError, Batch, BatchError, Batcher, LoadFeedback, Retry};
use testkit::{Gate, LONG, Reply, directed, ends_within, fixed, until};

const CAPACITY: usize = 100;

/// Asserts that the queue has exactly the room that the builder promises, while the handler holds a
/// batch.
fn whole_room(batcher: &Batcher<u64>) {
    let mut chunked = 0;
    while let Ok(added) = batcher.try_add_many([0; 7]) {
        chunked += added;
    }
    // The last chunk was accepted as far as it fitted.
    let stats = batcher.stats();
    let messages = CAPACITY.div_ceil(7);
    assert!(
        chunked <= CAPACITY && stats.pending as usize == CAPACITY + 1,
        "{chunked} {stats:?}"
    );
    let mut single = 0;
    while batcher.try_add(0).is_ok() {
        single += 1;
    }
    assert_eq!(single, CAPACITY - messages, "a chunk takes one place");
    assert_eq!(
        batcher.stats().pending as usize,
        2 * CAPACITY - messages + 1
    );
}

#[test]
fn the_queue_has_its_whole_room_back_after_a_million_operations() {
    // It takes five seconds, or fifty with four other busy processes.
    ends_within(10 * LONG, || {
        let (gate, (tell, held)) = (Gate::default(), mpsc::channel());
        let (inside, mut calls) = (gate.clone(), 0u64);
        let batcher = Batcher::builder()
            .initial_batch_size(40)
            .max_batch_size(40)
            .queue_capacity(CAPACITY)
            .linger(Duration::ZERO)
            .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
            .on_failed(drop)
            .max_batch_weight(120, |item: &u64| 1 + *item as usize % 5)
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                if batch.contains(&u64::MAX) {
                    tell.send(())?;
                    inside.wait();
                }
                match calls % 50 {
                    1 => std::panic::resume_unwind(Box::new("panic")),
                    2 => return Err(BatchError::transient("busy")),
                    3 => return Err(BatchError::permanent("bad")),
                    4 => return Err(BatchError::in_doubt("lost")),
                    5 => batch.reject(0, BatchError::permanent("row")),
                    _ => {}
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let batcher = Arc::new(batcher);
        let operations = if cfg!(miri) { 30 } else { 250_000 };
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let batcher = Arc::clone(&batcher);
                std::thread::spawn(move || {
                    let (mut state, mut accepted) = (thread, 0);
                    for _ in 0..operations {
                        state = state
                            .wrapping_mul(0x5851_f42d_4c95_7f2d)
                            .wrapping_add(0x1405_7b7e_f767_814f);
                        let count = (state >> 40) % 9;
                        let back = |refused: AddError<Vec<u64>>| refused.into_inner().len() as u64;
                        accepted += match state >> 60 {
                            0..=5 => u64::from(batcher.try_add(count).is_ok()),
                            6..=8 => u64::from(batcher.add(count).is_ok()),
                            9 => u64::from(
                                batcher
                                    .add_timeout(count, Duration::from_micros(count))
                                    .is_ok(),
                            ),
                            10 => u64::from(batcher.submit(count).is_ok()),
                            11 | 12 => {
                                count - batcher.try_add_many(0..count).map_or_else(back, |_| 0)
                            }
                            13 => count - batcher.add_many(0..count).map_or_else(back, |_| 0),
                            14 => {
                                let wait = Duration::from_micros(count);
                                count
                                    - batcher
                                        .add_many_timeout(0..count, wait)
                                        .map_or_else(back, |_| 0)
                            }
                            _ => {
                                batcher.request_flush();
                                0
                            }
                        };
                    }
                    accepted
                })
            })
            .collect();
        let accepted: u64 = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        let _ = batcher.flush(LONG);
        let stats = batcher.stats();
        assert_eq!((stats.added, stats.pending), (accepted, 0));
        assert_eq!(stats.handled + stats.failed, accepted);
        assert!(
            cfg!(miri) || stats.refused.full > 0 && stats.handler_panics > 0 && stats.in_doubt > 0
        );
        batcher.add(u64::MAX).unwrap();
        held.recv().unwrap();
        whole_room(&batcher);
        gate.open();
        let _ = batcher.flush(LONG);
        assert_eq!(batcher.stats().pending, 0);
    });
}

#[test]
fn a_chunk_refused_for_lack_of_a_place_gives_its_permits_back() {
    let (handler, director) = directed();
    let batcher = fixed(1).queue_capacity(4).spawn(handler).unwrap();
    batcher.add(0).unwrap();
    director.call();
    for round in 0..3 {
        // All places are taken, and all permits are free.
        while batcher.try_add(1).is_ok() {}
        for _ in 0..10 {
            assert_eq!(
                batcher.try_add_many([1, 2, 3]),
                Err(AddError::Full(vec![1, 2, 3]))
            );
            let refused = batcher.add_many_timeout([1, 2, 3], Duration::from_micros(50));
            assert_eq!(refused, Err(AddError::Timeout(vec![1, 2, 3])));
        }
        for _ in 0..4 {
            director.reply(Reply::Ok);
            director.call();
        }
        // One place is free and takes all permits. The fifth item finds none.
        assert_eq!(
            batcher.try_add_many(1..=5),
            Err(AddError::Full(vec![5])),
            "round {round}"
        );
        for _ in 0..4 {
            director.reply(Reply::Ok);
            director.call();
        }
    }
    drop(director);
}

#[test]
fn a_chunk_larger_than_the_queue_goes_in_piece_by_piece_and_in_order() {
    let (seen, handled) = mpsc::channel();
    let batcher = fixed(3)
        .queue_capacity(5)
        .spawn(move |batch: &mut Batch<u64>| {
            seen.send(batch.to_vec())?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(0).unwrap();
    assert_eq!(batcher.add_many(1..1_000), Ok(999));
    batcher.add(1_000).unwrap();
    assert_eq!(batcher.add_many(std::iter::empty()), Ok(0));
    assert!(batcher.close(LONG).is_clean());
    let handled: Vec<_> = handled.iter().collect();
    assert!(handled.iter().all(|batch| batch.len() <= 3));
    assert!(handled.into_iter().flatten().eq(0..=1_000));
}

#[test]
fn an_iterator_that_panics_leaves_the_batcher_whole() {
    let batcher = fixed(10)
        .queue_capacity(100)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    for _ in 0..5 {
        let items = (0..80).inspect(|n| {
            if *n == 70 {
                std::panic::resume_unwind(Box::new("iterator"));
            }
        });
        let adding = std::panic::AssertUnwindSafe(|| batcher.add_many(items));
        assert!(std::panic::catch_unwind(adding).is_err());
        // The first chunk was accepted. The second one was never complete.
        let stats = batcher.stats();
        assert_eq!(stats.added % 64, 0);
        assert_eq!(batcher.flush(LONG), Ok(()));
    }
    assert_eq!(until(&batcher, |stats| stats.pending == 0).handled, 5 * 64);
}

#[test]
fn an_iterator_that_has_ended_is_not_polled_again() {
    let (handler, director) = directed();
    let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
    // An iterator may do anything when it is polled after its end: continue, wait or panic.
    let two = || {
        let mut asked = 0;
        std::iter::from_fn(move || {
            asked += 1;
            assert!(asked <= 3, "asked again");
            (asked < 3).then_some(asked)
        })
    };
    assert_eq!(batcher.add_many(two()), Ok(2), "accepted");
    let Err(AddError::Full(back)) = batcher.try_add_many(two()) else {
        panic!("the handler holds one, the queue another")
    };
    assert_eq!(back, [1, 2], "and refused");
    drop(director);
    assert_eq!(batcher.close(LONG).handled, 2);
}

#[test]
fn refusals_are_counted_by_reason_and_their_items_come_back() {
    let (handler, director) = directed();
    let batcher = fixed(1)
        .queue_capacity(1)
        .max_batch_weight(9, |item: &u64| *item as usize)
        .refuse_too_heavy(true)
        .spawn(handler)
        .unwrap();
    batcher.add(1).unwrap();
    director.call();
    batcher.add(2).unwrap();
    assert_eq!(batcher.try_add(3), Err(AddError::Full(3)));
    assert_eq!(
        batcher.add_timeout(4, Duration::ZERO),
        Err(AddError::Timeout(4))
    );
    assert_eq!(batcher.add(10), Err(AddError::TooHeavy(10)));
    drop(director);
    assert!(batcher.shutdown(LONG).is_clean());
    assert_eq!(batcher.add(5), Err(AddError::Closed(5)));
    let refused = batcher.stats().refused;
    assert_eq!(
        (
            refused.full,
            refused.timeout,
            refused.closed,
            refused.reentrant,
            refused.too_heavy
        ),
        (1, 1, 1, 0, 1)
    );
}
