//! The law that learns, with real threads and a handler whose costs are known.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{AddError, Batch, Batcher, CostModel, LoadFeedback};

const LONG: Duration = Duration::from_secs(60);
/// What a call and an item cost.
const CALL: Duration = Duration::from_millis(5);
const ITEM: Duration = Duration::from_micros(20);

/// How much of the best throughput, that of endless batches, a size brings.
fn efficiency(size: usize, times: u32) -> f64 {
    let items = ITEM.as_secs_f64() * size as f64;
    items / (CALL.as_secs_f64() * f64::from(times) + items)
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
    let (tell, batches) = mpsc::channel();
    let cost = Arc::clone(&times);
    let batcher = Batcher::builder()
        .initial_batch_size(20)
        .max_batch_size(50_000)
        .linger(LONG)
        .policy(CostModel::new())
        .spawn(move |batch: &mut Batch<u64>| {
            std::thread::sleep(CALL * cost.load(Ordering::Relaxed) + ITEM * batch.len() as u32);
            let _ = tell.send(batch.len());
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
        // Counted in batches, since a busy machine makes them late but not more. A sleep oversleeps by what the machine
        // pleases, which the law rightly takes for a part of the call: hence at least so large, and not exactly.
        let settled = |times: u32| {
            let sizes: Vec<usize> = (0..25).map(|_| batches.recv_timeout(LONG).expect("a batch")).collect();
            let stats = batcher.stats();
            assert!(
                efficiency(stats.batch_size, times) >= 0.9 * 0.95,
                "{} after {sizes:?}: {}",
                stats.batch_size,
                stats.reason()
            );
        };
        settled(1);
        // The model is not young any more.
        for _ in 0..25 {
            batches.recv_timeout(LONG).expect("a batch");
        }
        times.store(5, Ordering::Relaxed);
        settled(5);
        drop(stop);
    });
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 0);
}
