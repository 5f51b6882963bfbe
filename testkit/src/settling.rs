//! Shared by the tests of `CostModel` on real threads: a producer that always has items, and a
//! check of the size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use load_aware_batcher::{AddError, Batcher};

/// Ends the producer when it is dropped, also if an assertion fails.
pub struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Adds chunks of this many items until it is stopped.
pub fn feed<'scope>(scope: &'scope Scope<'scope, '_>, batcher: &Batcher<u64>, items: u64) -> Stop {
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let (producer, done) = (batcher.producer(), Arc::clone(&stop.0));
    scope.spawn(move || {
        while !done.load(Ordering::Relaxed) {
            match producer.add_many_timeout(0..items, Duration::from_millis(100)) {
                Ok(_) | Err(AddError::Timeout(_)) => {}
                Err(refused) => panic!("{refused}"),
            }
        }
    });
    stop
}

/// Asserts that the throughput of the batch size in force is at least 0.9 · 0.95 of that of endless
/// batches.
pub fn assert_settled(batcher: &Batcher<u64>, call: Duration, item: Duration, sizes: &[usize]) {
    let stats = batcher.stats();
    let items = item.as_secs_f64() * stats.batch_size as f64;
    let found = items / (call.as_secs_f64() + items);
    assert!(
        found >= 0.9 * 0.95,
        "{found} with {} after {sizes:?}: {}",
        stats.batch_size,
        stats.reason()
    );
}
