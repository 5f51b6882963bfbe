//! The limit on the weight of waiting items. It is kept. An item without room is refused or waits,
//! and no producer waits forever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use load_aware_batcher::{AddError, Batch, Batcher, Builder, LoadFeedback, Trigger};
use proptest::prelude::*;
use testkit::{Director, LONG, Reply, directed, ends, fixed, until};

const MIB: usize = 1 << 20;

/// An item's value is its weight. A batch weighs at most `batch`, and the waiting items at most
/// `queue`. No linger ends and no waiting add checks for a stall, so a lost wake-up shows.
fn weighed(batch: usize, queue: usize) -> Builder<usize> {
    let builder = fixed(1_000).stall_timeout(Duration::MAX);
    builder
        .max_batch_weight(batch, |item: &usize| *item)
        .max_queue_weight(queue)
}

/// The same with a directed handler that holds one item.
fn busy(batch: usize, queue: usize, refuse: bool) -> (Batcher<usize>, Director<usize>) {
    let (handler, director) = directed();
    let batcher = weighed(batch, queue)
        .refuse_too_heavy(refuse)
        .spawn(handler)
        .unwrap();
    batcher.add(0).unwrap();
    batcher.request_flush();
    assert_eq!(director.call().items, [0]);
    (batcher, director)
}

/// A lower bound of the weight that was accepted and not handed over. It is checked at every call
/// of the handler, when no item is between the two states.
struct Oracle {
    limit: usize,
    accepted: AtomicUsize,
    handed_over: AtomicUsize,
    exceeded: AtomicBool,
}

impl Oracle {
    fn new(limit: usize) -> Arc<Self> {
        let [accepted, handed_over] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        Arc::new(Self {
            limit,
            accepted,
            handed_over,
            exceeded: AtomicBool::new(false),
        })
    }

    fn hand_over(&self, weight: usize) {
        let handed_over = self.handed_over.fetch_add(weight, SeqCst) + weight;
        if self.accepted.load(SeqCst).saturating_sub(handed_over) > self.limit {
            self.exceeded.store(true, SeqCst);
        }
    }
}

/// Scenario 53.
#[test]
fn rows_of_a_mebibyte_under_a_queue_limit_of_eight_never_wait_nine_at_a_time() {
    ends(|| {
        let oracle = Oracle::new(8 * MIB);
        let seen = Arc::clone(&oracle);
        let batcher = Batcher::builder()
            .max_batch_weight(4 * MIB, |row: &Vec<u8>| row.len())
            .max_queue_weight(8 * MIB)
            .linger(Duration::from_millis(1))
            .spawn(move |batch: &mut Batch<Vec<u8>>| {
                assert!(batch.len() <= 4);
                seen.hand_over(batch.iter().map(Vec::len).sum());
                Ok(LoadFeedback::new())
            })
            .unwrap();
        thread::scope(|scope| {
            for chunked in [false, true, false, true] {
                let (batcher, oracle) = (&batcher, &oracle);
                scope.spawn(move || {
                    for _ in 0..40 {
                        let rows = if chunked { 3 } else { 1 };
                        if chunked {
                            assert_eq!(
                                batcher.add_many((0..rows).map(|_| vec![1; MIB])).unwrap(),
                                rows
                            );
                        } else {
                            batcher.add(vec![1; MIB]).unwrap();
                        }
                        oracle.accepted.fetch_add(rows * MIB, SeqCst);
                    }
                });
            }
        });
        assert_eq!(batcher.close(LONG).handled, 2 * 40 * (1 + 3));
        assert!(!oracle.exceeded.load(SeqCst));
    });
}

#[test]
fn with_the_handler_busy_exactly_the_limit_is_accepted() {
    ends(|| {
        for chunked in [false, true] {
            let (batcher, director) = busy(4, 8, false);
            if chunked {
                let refused = batcher.try_add_many([1; 400]).unwrap_err();
                assert!(refused.is_full());
                assert_eq!(
                    refused.into_inner().len(),
                    392,
                    "a chunk is cut to what fits"
                );
            } else {
                (0..8).for_each(|_| batcher.try_add(1).unwrap());
            }
            assert_eq!(batcher.try_add(1), Err(AddError::Full(1)));
            assert_eq!(
                batcher.add_timeout(1, Duration::ZERO),
                Err(AddError::Timeout(1))
            );
            assert_eq!(
                batcher.add_timeout(1, Duration::from_millis(2)),
                Err(AddError::Timeout(1))
            );
            let refused = batcher
                .add_many_timeout([1, 1], Duration::ZERO)
                .unwrap_err();
            assert_eq!(
                (refused.is_timeout(), refused.into_inner()),
                (true, vec![1, 1])
            );
            assert_eq!(
                batcher.try_add(0),
                Ok(()),
                "what weighs nothing takes no room"
            );
            let stats = batcher.stats();
            assert_eq!((stats.added, stats.pending), (10, 10));
            drop(director);
            assert_eq!(batcher.close(LONG).handled, 10);
        }
    });
}

#[test]
fn room_comes_back_with_every_batch_and_with_every_refusal() {
    ends(|| {
        let (batcher, director) = busy(4, 8, false);
        batcher.try_add(8).unwrap();
        director.reply(Reply::Ok);
        assert_eq!(director.call().items, [8]);
        // The only place in the channel is taken as well. An item refused for that keeps no weight.
        batcher.try_add(8).unwrap();
        drop(director);
        batcher.flush(LONG).unwrap();
        let (handler, director) = directed();
        let narrow = weighed(4, 8)
            .min_batch_size(1)
            .initial_batch_size(1)
            .max_batch_size(1)
            .queue_capacity(1);
        let batcher = narrow.spawn(handler).unwrap();
        batcher.add(0).unwrap();
        assert_eq!(director.call().items, [0]);
        batcher.try_add(1).unwrap();
        for _ in 0..20 {
            assert_eq!(batcher.try_add(7), Err(AddError::Full(7)), "no place");
        }
        director.reply(Reply::Ok);
        assert_eq!(director.call().items, [1]);
        batcher.try_add(8).unwrap();
        drop(director);
        assert_eq!(batcher.close(LONG).handled, 3);
    });
}

#[test]
fn close_hands_every_item_back_that_waits_for_room_by_weight() {
    ends(|| {
        let (batcher, director) = busy(4, 8, false);
        batcher.add(8).unwrap();
        thread::scope(|scope| {
            let single = scope.spawn(|| batcher.add(3));
            let ticket = scope.spawn(|| batcher.submit(4).map(drop));
            let timed = scope.spawn(|| batcher.add_timeout(5, LONG));
            let chunk = scope.spawn(|| batcher.add_many([6, 7]));
            assert!(
                !single.is_finished()
                    && !ticket.is_finished()
                    && !timed.is_finished()
                    && !chunk.is_finished()
            );
            let report = batcher.shutdown(Duration::ZERO);
            assert_eq!(report.unsent, [8]);
            assert_eq!(single.join().unwrap(), Err(AddError::Closed(3)));
            assert_eq!(ticket.join().unwrap(), Err(AddError::Closed(4)));
            assert_eq!(timed.join().unwrap(), Err(AddError::Closed(5)));
            assert_eq!(chunk.join().unwrap(), Err(AddError::Closed(vec![6, 7])));
        });
        drop(director);
    });
}

#[test]
fn the_batchers_own_threads_do_not_wait_for_room_by_weight() {
    ends(|| {
        let own = Arc::new(std::sync::OnceLock::<load_aware_batcher::Producer<usize>>::new());
        let (producer, answers) = (Arc::clone(&own), std::sync::mpsc::channel());
        let batcher = weighed(4, 8)
            .spawn(move |batch: &mut Batch<usize>| {
                if batch[0] == 0 {
                    let producer = testkit::wait_for(&producer);
                    producer.add(8).unwrap();
                    answers
                        .0
                        .send((producer.add(1), producer.add_many([1, 2])))?;
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let _ = own.set(batcher.producer());
        batcher.add(0).unwrap();
        batcher.request_flush();
        let (single, chunk) = answers.1.recv_timeout(LONG).unwrap();
        assert_eq!(
            (single, chunk),
            (
                Err(AddError::Reentrant(1)),
                Err(AddError::Reentrant(vec![1, 2]))
            )
        );
        assert_eq!(batcher.close(LONG).handled, 2);
    });
}

#[test]
fn an_item_over_the_limit_is_accepted_when_nothing_else_waits() {
    ends(|| {
        let (batcher, director) = busy(4, 8, false);
        batcher.add(1).unwrap();
        assert_eq!(batcher.try_add(50), Err(AddError::Full(50)));
        director.reply(Reply::Ok);
        assert_eq!(director.call().items, [1]);
        batcher.try_add(usize::MAX).unwrap();
        assert_eq!(
            batcher.try_add(1),
            Err(AddError::Full(1)),
            "it fills the queue"
        );
        director.reply(Reply::Ok);
        assert_eq!(director.call().items, [usize::MAX]);
        batcher.try_add(8).unwrap();
        drop(director);
        assert_eq!(batcher.close(LONG).handled, 4);
        let (batcher, director) = busy(4, 8, true);
        assert_eq!(
            batcher.try_add(5),
            Err(AddError::TooHeavy(5)),
            "over a batch's limit already"
        );
        drop(director);
    });
}

#[test]
fn an_item_that_does_not_fit_waits_for_no_linger() {
    ends(|| {
        for how in 0..4 {
            let (handler, director) = directed();
            let batcher = weighed(10, 10).spawn(handler).unwrap();
            batcher.add(6).unwrap();
            thread::scope(|scope| {
                let added = scope.spawn(|| match how {
                    0 => batcher.add(7),
                    1 => batcher
                        .add_many([7])
                        .map(drop)
                        .map_err(|refused| refused.map(|mut items| items.remove(0))),
                    2 => batcher.submit(7).map(drop),
                    _ => {
                        // Refused, and still it makes room for the next attempt.
                        assert_eq!(batcher.try_add(7), Err(AddError::Full(7)));
                        Ok(())
                    }
                });
                let call = director.call();
                director.reply(Reply::Ok);
                assert_eq!((call.items, call.trigger), (vec![6], Trigger::Size));
                added.join().unwrap().unwrap();
            });
            if how == 3 {
                batcher.try_add(7).unwrap();
            }
            batcher.request_flush();
            assert_eq!(director.answer(Reply::Ok), [7]);
            assert!(batcher.close(LONG).is_clean());
        }
    });
}

#[test]
fn light_items_do_not_keep_a_heavy_one_out() {
    ends(|| {
        let batcher = weighed(4, 8)
            .spawn(|_: &mut Batch<usize>| Ok(LoadFeedback::new()))
            .unwrap();
        let is_in = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_in.load(SeqCst) {
                        batcher.add(1).unwrap();
                    }
                });
            }
            for _ in 0..50 {
                // There is room for it only if nothing else waits.
                batcher.add(8).unwrap();
            }
            is_in.store(true, SeqCst);
        });
        assert!(batcher.close(LONG).is_clean());
    });
}

#[test]
fn while_an_item_waits_for_room_no_lighter_one_is_accepted() {
    ends(|| {
        let (batcher, director) = busy(4, 8, false);
        thread::scope(|scope| {
            (0..8).for_each(|_| batcher.add(1).unwrap());
            let heavy = scope.spawn(|| batcher.add(8));
            let mut held = 1;
            // Until it is in line, the light items take all room that is released.
            loop {
                if batcher.try_add(1).is_ok() {
                    continue;
                }
                if batcher.stats().pending < held + 8 {
                    break;
                }
                director.reply(Reply::Ok);
                held = director.call().items.len() as u64;
            }
            assert_eq!(
                batcher.try_add(1),
                Err(AddError::Full(1)),
                "there is room, and somebody before it in line"
            );
            drop(director);
            heavy.join().unwrap().unwrap();
        });
        assert!(batcher.close(LONG).is_clean());
    });
}

#[test]
fn a_producer_that_gives_up_lets_the_next_one_in() {
    ends(|| {
        let (batcher, director) = busy(4, 8, false);
        batcher.add(5).unwrap();
        thread::scope(|scope| {
            let heavy = scope.spawn(|| batcher.add_timeout(8, Duration::from_millis(50)));
            let light = scope.spawn(|| batcher.add(3));
            assert_eq!(heavy.join().unwrap(), Err(AddError::Timeout(8)));
            light.join().unwrap().unwrap();
        });
        assert_eq!(until(&batcher, |stats| stats.pending == 3).added, 3);
        drop(director);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_items_weigh_the_limit_is_kept_and_all_are_handled(
        producers in prop::collection::vec(prop::collection::vec((0usize..30, any::<bool>()), 1..40), 1..5),
        (batch, more) in (1usize..12, 0usize..12),
    ) {
        let total: usize = producers.iter().map(Vec::len).sum();
        let kept = ends(move || {
            let queue = batch + more;
            // An item over the limit counts as the limit.
            let heaviest = move |item: &usize| (*item).min(queue);
            let oracle = Oracle::new(queue);
            let seen = Arc::clone(&oracle);
            let batcher = weighed(batch, queue)
                .spawn(move |batch: &mut Batch<usize>| {
                    seen.hand_over(batch.iter().map(heaviest).sum());
                    Ok(LoadFeedback::new())
                })
                .unwrap();
            thread::scope(|scope| {
                for items in producers {
                    let (batcher, oracle) = (&batcher, &oracle);
                    scope.spawn(move || {
                        for (item, chunked) in items {
                            if chunked {
                                assert_eq!(batcher.add_many([item]).unwrap(), 1);
                            } else {
                                batcher.add(item).unwrap();
                            }
                            oracle.accepted.fetch_add(heaviest(&item), SeqCst);
                        }
                    });
                }
            });
            let report = batcher.close(LONG);
            (report.handled as usize, oracle.exceeded.load(SeqCst))
        });
        prop_assert_eq!(kept, (total, false));
    }
}
