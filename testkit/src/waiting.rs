//! What waits, with a net under what might hang: a builder that never gives up, a gate, and looks
//! until something is so.

use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, Fixed, Stats};

/// Long enough for everything that ends at all: only failures wait for it.
pub const LONG: Duration = Duration::from_secs(60);
/// A linger or backoff that no test lives to see; nor a millionth of it, since backoffs are drawn.
pub const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// A builder of fixed size: nothing is handed over but full batches, what is flushed, and what a
/// close finds. Dropped, the batcher leaves a handler behind that still waits for its director.
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

/// The same for a body that has much to do: the time is for the slowest machine.
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

/// Looks until the batcher shows what is expected.
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

/// Waits until the first call of a directed handler is settled: what failed in it is in backoff, or
/// halved, or failed.
pub fn first_call_settled<T: Send>(batcher: &Batcher<T>) {
    until(batcher, |stats| !stats.service_time.max.is_zero());
}

/// Waits until somebody sets it.
pub fn wait_for<T>(place: &OnceLock<T>) -> &T {
    loop {
        match place.get() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}

/// Shut until opened.
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
