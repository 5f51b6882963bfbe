//! The smallest real thing: four workers, one batcher, one write per batch. Try `cargo run
//! --example worker_pool | wc -l`.

use std::error::Error;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};

/// A write that takes this long counts as full load: then batches shrink.
const SLOW: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let batcher = Batcher::builder()
        .max_batch_size(500)
        // No line waits longer than this for its batch to fill.
        .linger(Duration::from_millis(50))
        // There is no CPU load or lock to ask a pipe for; how long it takes is what we know of it.
        .custom_signal("latency", 1.0)
        .spawn(|batch: &mut Batch<String>| {
            // The handler borrows the items: if the write fails, they are returned. A part of it may be out by
            // then, so the error is in doubt and the lines are not sent twice. Where nothing can
            // have been applied, a plain `?` has them retried.
            let begun = Instant::now();
            std::io::stdout()
                .write_all(batch.concat().as_bytes())
                .map_err(BatchError::in_doubt)?;
            Ok(LoadFeedback::new()
                .custom("latency", begun.elapsed().div_duration_f64(SLOW).min(1.0)))
        })?;

    thread::scope(|scope| {
        for worker in 1..=4 {
            // A handle of its own for each thread. `add` waits while the queue is full: a slow
            // backend slows the workers.
            let producer = batcher.producer();
            scope.spawn(move || {
                for job in 1..=1_000 {
                    producer
                        .add(format!("worker {worker} did job {job}\n"))
                        .expect("nobody closes before we are done");
                }
            });
        }
    });

    // Hands over what is left, and reports the outcome of every line.
    let report = batcher.close(Duration::from_secs(10));
    eprintln!(
        "{} lines written, {} failed, {} unsent",
        report.handled,
        report.failed.len(),
        report.unsent.len()
    );
    if report.is_clean() {
        Ok(())
    } else {
        Err("not every line was written".into())
    }
}
