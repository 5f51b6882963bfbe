//! Threads that begin at once.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Runs one closure on each of `threads` threads at once. Returns when the first began.
pub fn race<F: FnOnce() + Send>(threads: usize, body: impl Fn(usize) -> F) -> Instant {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, body) = (&barrier, body(thread));
                scope.spawn(move || {
                    barrier.wait();
                    let begun = Instant::now();
                    body();
                    begun
                })
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .min()
            .unwrap()
    })
}
