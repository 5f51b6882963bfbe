//! `CostModel` on real threads, with a handler that sleeps for its costs, so that the policy gets
//! measured times.
//!
//! A sleep lasts longer than asked for by an unknown time. So this test promises less than
//! `cost_model`, where the policy gets exact costs on the same threads.
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
/// Within how many batches the size must settle.
const BATCHES: u32 = 25;
/// If the machine has disturbed so many batches, it is too busy for this test, and the test says
/// so.
const PATIENCE: u32 = 40 * BATCHES;

/// A batch that was handled.
struct Handled {
    len: usize,
    /// Whether it was full, and the sleep lasted about as long as asked for.
    is_evidence: bool,
}

/// Waits for [`BATCHES`] batches in a row that are evidence. Returns the sizes of all.
///
/// It counts batches and not time, since a busy machine delays batches but does not need more of
/// them. A sleep that lasts far too long looks like another backend. The policy may adapt to it,
/// and then needs the same number of batches to return.
fn undisturbed(batches: &Receiver<Handled>) -> Vec<usize> {
    let (mut sizes, mut in_a_row) = (Vec::new(), 0);
    for _ in 0..PATIENCE {
        let batch = batches.recv_timeout(LONG).expect("a batch");
        sizes.push(batch.len);
        in_a_row = if batch.is_evidence { in_a_row + 1 } else { 0 };
        if in_a_row == BATCHES {
            return sizes;
        }
    }
    panic!("the machine is too busy for sleeps of {CALL:?}: {sizes:?}");
}

#[test]
fn the_best_size_for_a_handler_that_sleeps_is_found_and_found_again_after_a_change() {
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
            let _ = tell.send(Handled {
                len: batch.len(),
                is_evidence,
            });
            Ok(LoadFeedback::new())
        })
        .unwrap();
    std::thread::scope(|scope| {
        let stop = feed(scope, &batcher, 50_000);
        // A lower bound of the size, since a sleep lasts longer than asked for, and the policy
        // rightly counts that to the call.
        let settled = |times: u32| {
            let sizes = undisturbed(&batches);
            assert_settled(&batcher, CALL * times, ITEM, &sizes);
        };
        settled(1);
        // Then the model has left its start.
        undisturbed(&batches);
        times.store(5, Ordering::Relaxed);
        settled(5);
        drop(stop);
    });
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 0);
}
