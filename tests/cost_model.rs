//! The law that learns, with real threads and a handler whose costs are known.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use load_aware_batcher::{AddError, Batch, Batcher, CostModel, LoadFeedback, Trigger};

const LONG: Duration = Duration::from_secs(60);
/// What a call and an item cost.
const CALL: Duration = Duration::from_millis(5);
const ITEM: Duration = Duration::from_micros(20);
/// How many batches it may take to settle.
const BATCHES: u32 = 25;
/// After so many a machine that disturbs them all is too busy for this test, which then says so.
const PATIENCE: u32 = 40 * BATCHES;

/// How much of the best throughput, that of endless batches, a size brings.
fn efficiency(size: usize, times: u32) -> f64 {
    let items = ITEM.as_secs_f64() * size as f64;
    items / (CALL.as_secs_f64() * f64::from(times) + items)
}

/// A batch was handled.
struct Told {
    len: usize,
    /// It was full, and the machine let the handler sleep as long as it meant to.
    is_evidence: bool,
}

/// Waits for so many batches in a row that are evidence; the sizes of all.
///
/// Counted in batches, since a busy machine makes them late but not more. One whose sleep took far longer than it should tells the
/// law of another backend, which it may follow for as many batches again.
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

/// Ends the producer, also when an assertion fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn real_threads_find_the_knee_and_find_it_again() {
    let times = Arc::new(AtomicU32::new(1));
    let done = Arc::new(AtomicBool::new(false));
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
            let is_evidence = batch.trigger() == Trigger::Size && begun.elapsed() < meant + meant / 4;
            let _ = tell.send(Told { len: batch.len(), is_evidence });
            Ok(LoadFeedback::new())
        })
        .unwrap();
    std::thread::scope(|scope| {
        let producer = batcher.producer();
        let stop = Stop(Arc::clone(&done));
        let done = Arc::clone(&done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                match producer.add_many_timeout(0..50_000, Duration::from_millis(100)) {
                    Ok(_) | Err(AddError::Timeout(_)) => {}
                    Err(refused) => panic!("{refused}"),
                }
            }
        });
        // At least so large, and not exactly: a sleep oversleeps by what the machine pleases, which the law rightly takes for a
        // part of the call.
        let settled = |times: u32| {
            let sizes = undisturbed(&batches);
            let stats = batcher.stats();
            let found = efficiency(stats.batch_size, times);
            assert!(found >= 0.9 * 0.95, "{found} with {} after {sizes:?}: {}", stats.batch_size, stats.reason());
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
