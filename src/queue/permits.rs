//! Permits for the items of chunks: `queue_capacity` items, in addition to those of single adds.
//!
//! `add_many` sends up to 64 items as one message. They take permits before they are sent, and
//! release them when they are gathered. A producer without permits waits on a condition variable.
//!
//! # Protocol
//! Waiter:
//!
//! - (1) Lock.
//! - (2) Count itself in.
//! - (3) Try again.
//! - (4) Wait, which unlocks.
//!
//! Flusher:
//!
//! - (a) Release permits.
//! - (b) Load the number of waiters.
//! - (c) If there are any, lock, unlock, and notify all.
//!
//! The race: permits are released between (3) and (4). Steps (2) and (a) are read-modify-writes,
//! (3) and (b) are loads, and all are SeqCst. So either (3) sees the permits, or (b) sees the
//! waiter. In the second case (c) has to wait for the lock, which the waiter holds until it waits.
//! So the notification finds it waiting.
//!
//! Room by weight has its own protocol (see `weight_room`). A close wakes the waiters of both.

use std::time::Instant;

use crate::queue::weight_room::WeightRoom;
use crate::sync::{
    CachePadded, Condvar, LOOKS_BEFORE_SLEEP, Mutex, SeqCstUsize, looks_end, now, yield_now,
};

/// See the module's doc.
pub(crate) struct ChunkPermits {
    capacity: usize,
    /// Items of chunks that are accepted and not yet gathered, 0..=capacity. Producers add, the
    /// flusher subtracts.
    taken: CachePadded<SeqCstUsize>,
    /// How many producers wait. Written under `room`.
    waiting: SeqCstUsize,
    room: Mutex<()>,
    room_changed: Condvar,
    /// Room by weight, where the builder limits that.
    pub(crate) weight: Option<WeightRoom>,
}

/// Why no permit was granted.
pub(crate) enum Denied {
    Closed,
    Timeout,
}

impl ChunkPermits {
    pub(crate) fn new(capacity: usize, weight_limit: Option<usize>) -> Self {
        Self {
            capacity,
            taken: CachePadded::new(SeqCstUsize::new(0)),
            waiting: SeqCstUsize::new(0),
            room: Mutex::new(()),
            room_changed: Condvar::new(),
            weight: weight_limit.map(WeightRoom::new),
        }
    }

    /// How many items of chunks there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes permits for 1 to `wanted` items, if there are any.
    pub(crate) fn try_acquire(&self, wanted: usize) -> Option<usize> {
        let mut taken = self.taken.load();
        loop {
            let granted = wanted.min(self.capacity.saturating_sub(taken));
            if granted == 0 {
                return None;
            }
            match self.taken.compare_exchange(taken, taken + granted) {
                Ok(_) => return Some(granted),
                Err(now) => taken = now,
            }
        }
    }

    /// Takes permits for 1 to `wanted` items, waiting for the first until the deadline or until
    /// `is_closed`.
    pub(crate) fn acquire(
        &self,
        wanted: usize,
        deadline: Option<Instant>,
        is_closed: impl Fn() -> bool,
    ) -> Result<usize, Denied> {
        // A flusher that is about to gather releases the permits of a whole batch: falling asleep
        // for it costs more than a few turns of the processor, four times as much with more
        // producers than processors.
        let look = |_| {
            yield_now();
            self.try_acquire(wanted)
        };
        let end = looks_end(deadline);
        if let Some(granted) = (0..LOOKS_BEFORE_SLEEP)
            .take_while(|_| now() < end)
            .find_map(look)
        {
            return Ok(granted);
        }
        let mut room = self.room.lock();
        self.waiting.fetch_add(1);
        let granted = loop {
            if is_closed() {
                break Err(Denied::Closed);
            }
            if let Some(granted) = self.try_acquire(wanted) {
                break Ok(granted);
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                break Err(Denied::Timeout);
            }
            room = self.room_changed.wait_until(room, deadline);
        };
        self.waiting.fetch_sub(1);
        granted
    }

    /// Releases permits and wakes who waits for them.
    pub(crate) fn release(&self, items: usize) {
        if items == 0 {
            return;
        }
        self.taken.fetch_sub(items);
        if self.waiting.load() > 0 {
            self.wake();
        }
    }

    /// The batcher is closed: wakes all that wait, for permits or for room by weight.
    pub(crate) fn wake_all(&self) {
        self.wake();
        if let Some(weight) = &self.weight {
            weight.wake_all();
        }
    }

    /// Wakes all that wait for permits, to try again.
    fn wake(&self) {
        // The lock: a waiter that has looked and not yet waited holds it.
        drop(self.room.lock());
        self.room_changed.notify_all();
    }
}
