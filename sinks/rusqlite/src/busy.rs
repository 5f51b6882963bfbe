//! Waiting for a locked file, and how often that happened.
//!
//! The driver's callback is a plain function, so what it counts is found through the thread: a
//! writer's calls all happen on the thread that called [`Busy::watch`].

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use load_aware_batcher::{LoadFeedback, Sensor};

/// From one look at a locked file to the next.
const PAUSE: Duration = Duration::from_millis(2);
/// The custom signal: statements that stayed busy to the end since the last sample, ten or more
/// as 1.
pub(crate) const TIMEOUTS: &str = "timeouts";

/// The counts of one sink's writers.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    /// Relaxed: statistics.
    retries: AtomicU64,
    /// Relaxed: statistics.
    timeouts: AtomicU64,
}

impl Busy {
    /// Counts what this thread waits for, until the guard is dropped.
    pub(crate) fn watch(self: &Arc<Self>, timeout: Duration) -> Watch {
        let watched = Watched {
            busy: Arc::clone(self),
            timeout,
            since: Cell::new(None),
        };
        WATCHED.with(|place| *place.borrow_mut() = Some(watched));
        Watch(())
    }

    pub(crate) fn count_timeout(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }
}

struct Watched {
    busy: Arc<Busy>,
    timeout: Duration,
    /// When the statement in hand was first refused.
    since: Cell<Option<Instant>>,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// Ends the counting on this thread.
pub(crate) struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.with(|place| *place.borrow_mut() = None);
    }
}

/// The driver's callback, with how often the statement was refused before; true tries again.
pub(crate) fn busy(tries: i32) -> bool {
    WATCHED.with(|place| {
        let place = place.borrow();
        let Some(watched) = &*place else {
            return false;
        };
        if tries == 0 {
            watched.since.set(Some(Instant::now()));
        }
        watched.busy.retries.fetch_add(1, Ordering::Relaxed);
        let waited = watched.since.get().map_or(PAUSE, |since| since.elapsed());
        if waited >= watched.timeout {
            return false;
        }
        std::thread::sleep(PAUSE.min(watched.timeout - waited));
        true
    })
}

/// How often the writer found the file locked since the last sample, as locks waited for.
pub(crate) struct BusySensor {
    busy: Arc<Busy>,
    seen: u64,
}

impl BusySensor {
    pub(crate) fn new(busy: Arc<Busy>) -> Self {
        Self { busy, seen: 0 }
    }
}

impl Sensor for BusySensor {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let retries = self.busy.retries.load(Ordering::Relaxed);
        let since = retries - std::mem::replace(&mut self.seen, retries);
        let timeouts = self.busy.timeouts.swap(0, Ordering::Relaxed);
        feedback
            .db_locks(since)
            .custom(TIMEOUTS, (timeouts as f64 / 10.0).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watched_thread_waits_for_is_counted_and_ends_with_the_timeout() {
        assert!(!busy(0), "nobody watches");
        let counts = Arc::new(Busy::default());
        let mut sensor = BusySensor::new(Arc::clone(&counts));
        let watch = counts.watch(Duration::from_secs(60));
        assert!(busy(0) && busy(1));
        drop(watch);
        let watch = counts.watch(Duration::ZERO);
        assert!(!busy(0), "the timeout is over");
        drop(watch);
        assert!(!busy(0), "nobody watches any more");
        counts.count_timeout();
        let sample = |locks, timeouts| {
            LoadFeedback::new()
                .db_locks(locks)
                .custom(TIMEOUTS, timeouts)
        };
        assert_eq!(sensor.sample(LoadFeedback::new()), sample(3, 0.1));
        assert_eq!(sensor.sample(LoadFeedback::new()), sample(0, 0.0));
    }
}
