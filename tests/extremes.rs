//! Settings at the end of their range work as documented.
#![cfg(not(any(loom, shuttle)))]

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback, Retry};

/// How long a test waits to see that nothing happens.
const QUIET: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_weight_limit_that_nothing_reaches_cuts_no_batch() {
    let (calls, called) = channel();
    let batcher = Batcher::builder()
        .linger(Duration::MAX)
        .max_batch_weight(usize::MAX, |_: &u64| 1)
        .spawn(move |batch: &mut Batch<u64>| {
            let _ = calls.send(batch.len());
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(1).unwrap();
    assert_eq!(
        called.recv_timeout(QUIET),
        Err(RecvTimeoutError::Timeout),
        "neither full nor due"
    );
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn weights_beyond_any_sum_are_no_overflow() {
    let batcher = Batcher::builder()
        .max_batch_weight(usize::MAX, |_: &u64| usize::MAX)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    assert_eq!(batcher.add_many(0..10), Ok(10));
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.close(LONG).handled, 10);
}

#[test]
fn a_backoff_beyond_the_range_of_the_clock_is_no_immediate_retry() {
    let (calls, called) = channel();
    // With jitter about every second wait is that long. So there are several.
    let batchers: [Batcher<u64>; 8] = std::array::from_fn(|_| {
        let calls = calls.clone();
        Batcher::builder()
            .linger(Duration::ZERO)
            .retry(
                Retry::attempts(5)
                    .backoff(Duration::MAX, Duration::MAX)
                    .total_limit(Duration::MAX),
            )
            .spawn(move |batch: &mut Batch<u64>| {
                let _ = calls.send(batch.attempt());
                if batch.attempt() == 1 {
                    Err(BatchError::transient("down"))
                } else {
                    Ok(LoadFeedback::new())
                }
            })
            .unwrap()
    });
    for batcher in &batchers {
        batcher.add(1).unwrap();
        assert_eq!(called.recv_timeout(LONG), Ok(1));
    }
    assert_eq!(
        called.recv_timeout(QUIET),
        Err(RecvTimeoutError::Timeout),
        "each waits"
    );
    for batcher in batchers {
        batcher.flush(LONG).unwrap();
        assert_eq!(called.recv_timeout(LONG), Ok(2));
        assert!(batcher.close(LONG).is_clean());
    }
}

/// The largest item to be added by value. The docs of `add` say to box larger ones.
const BIG: usize = 16 << 10;

#[test]
fn items_of_sixteen_kibibytes_fit_on_the_stack_of_a_thread_in_every_add() {
    // A stack overflow ends the whole process. The output then shows that this test was running.
    let adding = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let batcher = Batcher::builder()
            .max_batch_size(2)
            .queue_capacity(2)
            .spawn(|_: &mut Batch<[u8; BIG]>| Ok(LoadFeedback::new()))
            .unwrap();
        for _ in 0..50 {
            // The same on a full queue, where an add waits.
            batcher.add([1; BIG]).unwrap();
            assert!(batcher.submit([1; BIG]).is_ok());
            assert_eq!(batcher.add_many([[1; BIG], [2; BIG]]), Ok(2));
            assert!(batcher.add_timeout([1; BIG], LONG).is_ok());
            let _ = batcher.try_add([1; BIG]);
        }
        batcher.close(LONG)
    });
    assert!(adding.unwrap().join().unwrap().is_clean());
}
