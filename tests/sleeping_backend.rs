//! The law that learns, with real threads and a handler that sleeps for its costs, which the law
//! has to measure.
//!
//! A sleep takes longer than asked for by what the machine pleases, so what this can promise is
//! bounded; `cost_model` tells the law exact costs on the same threads.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, CostModel, LoadFeedback, Trigger};

use testkit::settling::{assert_settled, feed};

const LONG: Duration = Duration::from_secs(60);
/// What a call and an item cost.
const CALL: Duration = Duration::from_millis(5);
const ITEM: Duration = Duration::from_micros(20);
/// How many batches it may take to settle.
const BATCHES: u32 = 25;
/// After so many a machine that disturbs them all is too busy for this test, which then says so.
const PATIENCE: u32 = 40 * BATCHES;

/// A batch was handled.
struct Told {
    len: usize,
    /// It was full, and the machine let the handler sleep as long as it meant to.
    is_evidence: bool,
}

/// Waits for so many batches in a row that are evidence; the sizes of all.
///
/// Counted in batches, since a busy machine makes them late but not more. One whose sleep took far
/// longer than it should tells the law of another backend, which it may follow for as many batches
/// again.
fn undisturbed(batches: &Receiver<Told>) -> Vec<usize> {
    let (mut sizes, mut in_a_row) = (Vec::new(), 0);
    for _ in 0..PATIENCE {
        let told = batches.recv_timeout(LONG).expect("a batch");
        sizes.push(told.len);
        in_a_row = if told.is_evidence { in_a_row + 1 } else { 0 };
        if in_a_row == BATCHES {
            return sizes;
        }
    }
    panic!("the machine is too busy for sleeps of {CALL:?}: {sizes:?}");
}

#[test]
fn the_knee_of_a_handler_that_sleeps_is_found_and_found_again() {
    let times = Arc::new(AtomicU32::new(1));
    let (tell, batches) = channel();
    let cost = Arc::clone(&times);
    let batcher = Batcher::builder()
        .initial_batch_size(20)
        .max_batch_size(50_000)
        .linger(LONG)
        .policy(CostModel::new())
        .spawn(move |batch: &mut Batch<u64>| {
            let meant = CALL * cost.load(Ordering::Relaxed) + ITEM * batch.len() as u32;
            let begun = Instant::now();
            std::thread::sleep(meant);
            let is_evidence =
                batch.trigger() == Trigger::Size && begun.elapsed() < meant + meant / 4;
            let _ = tell.send(Told {
                len: batch.len(),
                is_evidence,
            });
            Ok(LoadFeedback::new())
        })
        .unwrap();
    std::thread::scope(|scope| {
        let stop = feed(scope, &batcher, 50_000);
        // At least so large, and not exactly: a sleep oversleeps by what the machine pleases, which
        // the law rightly takes for a part of the call.
        let settled = |times: u32| {
            let sizes = undisturbed(&batches);
            assert_settled(&batcher, CALL * times, ITEM, &sizes);
        };
        settled(1);
        // The model is not young any more.
        undisturbed(&batches);
        times.store(5, Ordering::Relaxed);
        settled(5);
        drop(stop);
    });
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 0);
}
