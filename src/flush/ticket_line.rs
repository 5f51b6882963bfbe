//! What a ticket knows of its batcher: the queue, without the type of its items.

use crate::flush::lane::Lane;
use crate::observe::Event;
use crate::stats::Phase;
use crate::sync::{Arc, Shared};
use crate::ticket::{Line, Place};
use crate::unwind::drop_each;

/// A ticket's handle to the queue. Each producer's handle is an allocation of its own, so that
/// threads which submit through producers of their own do not count references in one place.
pub(crate) struct Handle<T>(Arc<Lane<T>>);

impl<T: Send + 'static> Handle<T> {
    pub(crate) fn shared(lane: &Arc<Lane<T>>) -> Shared<dyn Line> {
        Shared::new(Self(Arc::clone(lane)))
    }
}

impl<T: Send + 'static> Line for Handle<T> {
    fn another(&self) -> Shared<dyn Line> {
        Self::shared(&self.0)
    }

    fn wait_for(&self, place: &Place) {
        let lane = &*self.0;
        if place.is_left() || lane.gate.waiters.joins() {
            return;
        }
        let mut backlog = lane.lock();
        if place.is_left() || backlog.lifecycle.phase != Phase::Open {
            return;
        }
        let end = backlog.incoming.end();
        let rings = lane.gate.waiters.register(&mut backlog.waited, end);
        drop(backlog);
        if rings {
            lane.gate.doorbell.ring();
        }
    }

    fn is_stalled(&self) -> bool {
        self.0.gate.stall.has_lasted()
    }

    fn next_check(&self, deadline: Option<std::time::Instant>) -> Option<std::time::Instant> {
        self.0.gate.stall.next_check(deadline)
    }

    fn told(&self, row: u64) {
        let lane = &*self.0;
        let mut backlog = lane.lock();
        let Some(failed) = backlog.dead_letters.retained.take_one(row) else {
            return;
        };
        backlog.counts.observe(Event::Told);
        let rings = backlog.dead_letters.end_stall(&lane.gate);
        drop(backlog);
        if rings {
            lane.gate.doorbell.ring();
        }
        // The item is the user's value: its drop runs outside the lock, and its panic stays out of
        // the caller's wait.
        let panics = drop_each(&mut vec![failed]);
        if panics > 0 {
            lane.lock().counts.observe(Event::DropsPanicked(panics));
        }
    }
}
