//! Only the age of the oldest item ends a linger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, LoadFeedback, Trigger};
use testkit::{LONG, Reply, directed, ends, fixed, until};

#[test]
fn no_timer_of_an_earlier_batch_hands_a_later_item_over_early() {
    const LINGER: Duration = Duration::from_millis(30);
    let (handler, director) = directed();
    let batcher = fixed(3).linger(LINGER).spawn(handler).unwrap();
    for round in 0..10 {
        // A first item starts its linger. Then the batch is handed over by size, or in two parts if
        // this thread was delayed in between.
        batcher.add(0).unwrap();
        batcher.add_many([1, 2]).unwrap();
        let mut left = 3;
        while left > 0 {
            left -= director.answer(Reply::Ok).len();
        }
        let handled = until(&batcher, |stats| stats.pending == 0).handled;
        let added = Instant::now();
        batcher.add(round).unwrap();
        let call = director.call();
        director.reply(Reply::Ok);
        assert_eq!((call.items, call.trigger), (vec![round], Trigger::Linger));
        assert!(
            call.at.duration_since(added) >= LINGER,
            "round {round}: {:?}",
            call.at.duration_since(added)
        );
        until(&batcher, |stats| stats.handled == handled + 1);
    }
}

#[test]
fn a_trickle_faster_than_the_linger_does_not_keep_the_first_item_waiting() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = Arc::new(
            fixed(1 << 20)
                .queue_capacity(1 << 20)
                .linger(Duration::from_millis(100))
                .spawn(handler)
                .unwrap(),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let trickle = {
            let (batcher, stop) = (Arc::clone(&batcher), Arc::clone(&stop));
            std::thread::spawn(move || {
                for n in 0u64.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    batcher.add(n).unwrap();
                    std::thread::sleep(Duration::from_micros(500));
                }
            })
        };
        // Items arrive while this waits. A timer that restarts with each item would never expire.
        for _ in 0..2 {
            let call = director.call();
            director.reply(Reply::Ok);
            assert_eq!(call.trigger, Trigger::Linger);
        }
        stop.store(true, SeqCst);
        trickle.join().unwrap();
    });
}

/// A test in src/flush/age.rs shows that the age does not begin anew after the call. With a real
/// clock that looks the same as a machine that stalls.
#[test]
fn items_queued_during_a_slow_call_are_handed_over_by_their_age() {
    const LINGER: Duration = Duration::from_millis(20);
    for chunk in [false, true] {
        let (handler, director) = directed();
        let batcher = fixed(2).linger(LINGER).spawn(handler).unwrap();
        if chunk {
            batcher.add_many([1, 2, 3]).unwrap();
            director.call();
        } else {
            batcher.add_many([1, 2]).unwrap();
            director.call();
            batcher.add(3).unwrap();
        }
        std::thread::sleep(LINGER);
        director.reply(Reply::Ok);
        let next = director.call();
        director.reply(Reply::Ok);
        assert_eq!((next.items, next.trigger), (vec![3], Trigger::Linger));
    }
}

#[test]
fn a_linger_of_zero_hands_over_at_once() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).linger(Duration::ZERO).spawn(handler).unwrap();
    for n in 0..20 {
        batcher.add(n).unwrap();
        assert_eq!(director.answer(Reply::Ok), [n]);
    }
}

/// Time for the flusher to fall asleep. A test passes without it, too.
fn let_it_sleep() {
    std::thread::sleep(Duration::from_millis(5));
}

#[test]
fn a_shorter_linger_applies_to_items_that_wait_already() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    for n in 0..5 {
        batcher.reconfigure(|limits| limits.linger = LONG).unwrap();
        batcher.add(n).unwrap();
        let_it_sleep();
        batcher
            .reconfigure(|limits| limits.linger = Duration::ZERO)
            .unwrap();
        assert_eq!(director.answer(Reply::Ok), [n]);
    }
}

#[test]
fn a_smaller_size_applies_to_items_that_wait_already() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    let sizes = |min, max| {
        let changed = batcher.reconfigure(|limits| {
            (limits.min_batch_size, limits.max_batch_size) = (min, max);
        });
        assert!(changed.is_ok() && (min..=max).contains(&batcher.stats().batch_size));
    };
    for _ in 0..5 {
        sizes(1_000, 1_000);
        batcher.add_many(0..7).unwrap();
        let_it_sleep();
        sizes(1, 3);
        assert_eq!(director.answer(Reply::Ok), [0, 1, 2]);
        assert_eq!(director.answer(Reply::Ok), [3, 4, 5]);
        batcher.request_flush();
        assert_eq!(director.answer(Reply::Ok), [6]);
    }
}

#[test]
fn full_batches_do_not_wait_for_the_linger_however_they_were_added() {
    ends(|| {
        let batcher = fixed(10)
            .queue_capacity(10)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        for n in 0..100 {
            // 10 items in a round, added in different ways.
            batcher.add(n).unwrap();
            batcher.add_many(0..7).unwrap();
            let _ticket = batcher.submit(n).unwrap();
            batcher.add_timeout(n, LONG).unwrap();
        }
        let stats = until(&batcher, |stats| stats.handled == 1_000);
        assert_eq!((stats.batches.size, stats.batches.total()), (100, 100));
    });
}
