//! What the tests of the law on real threads share: a producer that never lacks items, and how good
//! a size is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use load_aware_batcher::{AddError, Batcher};

/// Ends the producer, also when an assertion fails.
pub struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Adds so many at a time until it is stopped.
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

/// The batch size in force brings at least 0.9 times 95 % of the best throughput, that of endless
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
