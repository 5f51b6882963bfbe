//! Waits with a time limit for tests that might hang: a builder that never gives up, a gate, and
//! waits for a condition.

use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, Fixed, Stats};

/// Longer than anything that ends takes. Only failures wait for it.
pub const LONG: Duration = Duration::from_secs(60);
/// A linger or backoff longer than any test. Backoffs are random, so even a millionth of it is too
/// long.
pub const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// A builder with a fixed size. Only full batches are handed over, and what a flush or a close
/// finds. A drop of the batcher abandons a handler that still waits for its director.
pub fn fixed<T: Send + 'static>(size: usize) -> Builder<T> {
    let sizes = Batcher::builder()
        .initial_batch_size(size)
        .min_batch_size(size)
        .max_batch_size(size);
    sizes
        .policy(Fixed(size))
        .linger(NEVER)
        .close_timeout(Duration::ZERO)
}

/// Runs the body, and fails instead of hanging.
pub fn ends<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    ends_within(LONG, body)
}

/// The same for a body with much work. The time is enough for the slowest machine.
pub fn ends_within<R: Send + 'static>(
    time: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(done.send(body())));
    match result.recv_timeout(time) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Waits until the statistics are as expected.
pub fn until<T: Send>(batcher: &Batcher<T>, expected: impl Fn(&Stats) -> bool) -> Stats {
    let begun = Instant::now();
    loop {
        let stats = batcher.stats();
        if expected(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < LONG, "not seen: {stats:#?}");
        std::thread::yield_now();
    }
}

/// Waits until the first call of a directed handler was completed: a failed batch is in backoff,
/// was split, or has failed.
pub fn first_call_settled<T: Send>(batcher: &Batcher<T>) {
    until(batcher, |stats| !stats.service_time.max.is_zero());
}

/// Waits until another thread has set the value.
pub fn wait_for<T>(place: &OnceLock<T>) -> &T {
    loop {
        match place.get() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}

/// Closed until a test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        drop(
            self.0
                .1
                .wait_while(self.0.0.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
    }
}
