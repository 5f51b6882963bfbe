//! Threads that submit a row, wait until it is stored, and go on with the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::LONG;

const THREADS: usize = 8;
const ROWS_EACH: u64 = 150;
const CALL: Duration = Duration::from_millis(5);

/// The median time from a submit to its outcome, and that of a call, in milliseconds.
pub(crate) fn median_and_call() -> (f64, f64) {
    // (calls, their time in nanoseconds)
    let spent = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let tally = Arc::clone(&spent);
    let batcher = Batcher::builder()
        .spawn(move |_: &mut Batch<u64>| {
            let begun = Instant::now();
            std::thread::sleep(CALL);
            tally.0.fetch_add(1, Ordering::Relaxed);
            tally
                .1
                .fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
            Ok(LoadFeedback::new())
        })
        .expect("two threads start");
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let producer = batcher.producer();
                scope.spawn(move || {
                    let answered = |row| {
                        let begun = Instant::now();
                        let ticket = producer.submit(row).expect("open until its close");
                        assert!(ticket.wait().is_handled());
                        begun.elapsed()
                    };
                    (0..ROWS_EACH).map(answered).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("its rows are stored"))
            .collect()
    });
    assert!(batcher.close(LONG).is_clean());
    waits.sort();
    let call = spent.1.load(Ordering::Relaxed) as f64 / spent.0.load(Ordering::Relaxed) as f64;
    (waits[waits.len() / 2].as_secs_f64() * 1e3, call / 1e6)
}
