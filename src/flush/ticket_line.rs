//! What a ticket knows of its batcher: the lane that its item is in, without the type of the items.

use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::observe::Event;
use crate::stats::Phase;
use crate::sync::{Arc, Shared};
use crate::ticket::{Line, Place};
use crate::unwind::drop_each;

/// A ticket's handle to its lane. Each producer's handle is an allocation of its own, so that
/// threads which submit through producers of their own do not count references in one place.
pub(crate) struct Handle<T> {
    lanes: Arc<Lanes<T>>,
    /// Which of them.
    place: usize,
}

impl<T: Send + 'static> Handle<T> {
    pub(crate) fn shared(lanes: &Arc<Lanes<T>>, place: usize) -> Shared<dyn Line> {
        Shared::new(Self {
            lanes: Arc::clone(lanes),
            place,
        })
    }

    fn lane(&self) -> &Lane<T> {
        &self.lanes.all()[self.place]
    }
}

impl<T: Send + 'static> Line for Handle<T> {
    fn wait_for(&self, place: &Place) {
        let lane = self.lane();
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
        self.lane().gate.stall.has_lasted()
    }

    fn next_check(&self, deadline: Option<std::time::Instant>) -> Option<std::time::Instant> {
        self.lane().gate.stall.next_check(deadline)
    }

    fn told(&self, row: u64) {
        let lane = self.lane();
        let mut backlog = lane.lock();
        let Some(failed) = backlog.dead_letters.retained.take_one(row) else {
            return;
        };
        backlog.counts.observe(Event::Told);
        drop(backlog);
        self.lanes.end_stalls();
        // The item is the user's value: its drop runs outside the lock, and its panic stays out of
        // the caller's wait.
        let panics = drop_each(&mut vec![failed]);
        if panics > 0 {
            lane.lock().counts.observe(Event::DropsPanicked(panics));
        }
    }
}
