//! Who waits in an add for room, and how long they have. Written by producers where they already
//! wait, read by the statistics; an add that finds room never comes here.

use std::time::{Duration, Instant};

use crate::sync::{PlainMutex, now};

/// See the module's doc.
pub(crate) struct Blocked {
    start: Instant,
    waits: PlainMutex<Waits>,
}

/// Under one lock, so that the time in all never runs backwards.
#[derive(Default)]
struct Waits {
    /// Threads that wait now.
    running: usize,
    /// The sum of the times since the start at which they began.
    begun: Duration,
    /// The sum of the waits that have ended.
    ended: Duration,
}

/// A wait, which ends with this.
pub(crate) struct Wait<'a> {
    blocked: &'a Blocked,
    begun: Duration,
}

impl Blocked {
    pub(crate) fn new() -> Self {
        Self {
            start: now(),
            waits: PlainMutex::default(),
        }
    }

    /// This thread waits.
    pub(crate) fn begin(&self) -> Wait<'_> {
        let begun = now().saturating_duration_since(self.start);
        let mut waits = self.waits.lock();
        waits.running += 1;
        waits.begun += begun;
        Wait {
            blocked: self,
            begun,
        }
    }

    /// How many threads wait, and how long they and those before them have.
    pub(crate) fn read(&self, now: Instant) -> (usize, Duration) {
        let now = now.saturating_duration_since(self.start);
        let waits = self.waits.lock();
        let running = u32::try_from(waits.running).unwrap_or(u32::MAX);
        let so_far = now.saturating_mul(running).saturating_sub(waits.begun);
        (waits.running, waits.ended + so_far)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let end = now().saturating_duration_since(self.blocked.start);
        let mut waits = self.blocked.waits.lock();
        waits.running -= 1;
        waits.begun -= self.begun;
        waits.ended += end.saturating_sub(self.begun);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_while_it_lasts_and_after_it() {
        let blocked = Blocked::new();
        let hour = Duration::from_secs(3_600);
        let (one, other) = (blocked.begin(), blocked.begin());
        let (threads, time) = blocked.read(now() + hour);
        assert!(
            threads == 2 && time >= hour * 2 && time < hour * 3,
            "{time:?}"
        );
        drop(one);
        let (threads, time) = blocked.read(now() + hour);
        assert!(threads == 1 && time >= hour && time < hour * 2, "{time:?}");
        drop(other);
        let (threads, time) = blocked.read(now() + hour);
        assert!(threads == 0 && time < hour, "{time:?}");
    }
}
