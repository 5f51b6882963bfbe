//! Waiting for room: for a place in the channel, for the permits of a chunk, and for room by
//! weight.
//!
//! The first two waits are cut into parts, so that a stall ends them too (see `stall`); the third
//! checks for one without leaving its line. A part that ends without room goes to the end of the
//! channel's line of waiting senders; at one part a second that decides nothing.

use std::time::Instant;

use super::{Admission, Gate, Patience};
use crate::queue::message::{Chunk, Extra, Message};
use crate::queue::permits::Denied;
use crate::queue::refusal::{Refusal, Returned};
use crate::queue::weight_room::Granted;
use crate::sync::{SendError, SendTimeoutError, belongs_to, is_forked, now};

impl<T> Gate<T> {
    /// Until when a caller that found no room waits for some, without end for `None`; or why it
    /// does not.
    fn wait_limit(&self, patience: Patience) -> Result<Option<Instant>, Refusal> {
        match patience {
            Patience::Never if self.stall.has_lasted() => Err(Refusal::Stalled),
            Patience::Never => Err(Refusal::Full),
            _ if self.is_orphaned() => Err(Refusal::Closed),
            _ if belongs_to(self.batcher_id) => Err(Refusal::Reentrant),
            Patience::Until(deadline) => Ok(Some(deadline)),
            Patience::Forever => Ok(None),
        }
    }

    /// The queue is full. A deadline that has passed is not left to the channel, which looks for a
    /// while before its clock.
    #[cold]
    pub(super) fn wait_for_room(
        &self,
        message: Message<T>,
        extra: Extra,
        patience: Patience,
    ) -> Result<Admission, Returned<T>> {
        let returned = |refusal, message| Err(Returned { refusal, message });
        let deadline = match self.wait_limit(patience) {
            Ok(deadline) => deadline,
            Err(refusal) => return returned(refusal, message),
        };
        let Err(mut message) = self.inlet.try_again(message, deadline) else {
            return Ok(self.sent_with(extra));
        };
        let _wait = self.blocked.begin();
        loop {
            if self.stall.has_lasted() {
                return returned(Refusal::Stalled, message);
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return returned(Refusal::Timeout, message);
            }
            let sent = match self.stall.next_check(deadline) {
                Some(check) => self.inlet.send_deadline(message, check),
                None => self
                    .inlet
                    .send(message)
                    .map_err(|SendError(message)| SendTimeoutError::Disconnected(message)),
            };
            match sent {
                Ok(()) => return Ok(self.sent_with(extra)),
                Err(SendTimeoutError::Timeout(back)) => message = back,
                Err(SendTimeoutError::Disconnected(message)) => {
                    return returned(Refusal::Closed, message);
                }
            }
        }
    }

    /// Takes permits for 1 to `wanted` items, waiting for the first.
    fn acquire_permits(&self, wanted: usize, patience: Patience) -> Result<usize, Refusal> {
        if let Some(granted) = self.permits.try_acquire(wanted) {
            return Ok(granted);
        }
        let deadline = self.wait_limit(patience)?;
        let _wait = self.blocked.begin();
        loop {
            if self.stall.has_lasted() {
                return Err(Refusal::Stalled);
            }
            match self
                .permits
                .acquire(wanted, self.stall.next_check(deadline), || {
                    self.doorbell.is_closed()
                }) {
                Ok(granted) => return Ok(granted),
                Err(Denied::Closed) => return Err(Refusal::Closed),
                Err(Denied::Timeout) if deadline.is_some_and(|deadline| deadline <= now()) => {
                    return Err(Refusal::Timeout);
                }
                Err(Denied::Timeout) => {}
            }
        }
    }

    /// Takes room by weight for as many of the items with these weights as there is, waiting for
    /// the first. Permits come first and room in the channel last, so that nobody holds what the
    /// one before it in this order waits for.
    pub(crate) fn take_weight(
        &self,
        weights: &[usize],
        patience: Patience,
    ) -> Result<Granted, Refusal> {
        let Some(room) = &self.permits.weight else {
            return Ok(Granted {
                items: weights.len(),
                weight: 0,
            });
        };
        if let Some(granted) = room.take(weights) {
            return Ok(granted);
        }
        if let Patience::Never = patience {
            room.press(|| self.doorbell.ring());
        }
        let deadline = self.wait_limit(patience)?;
        let stop = || match () {
            () if self.doorbell.is_closed() => Some(Refusal::Closed),
            () if self.stall.has_lasted() => Some(Refusal::Stalled),
            () if deadline.is_some_and(|deadline| deadline <= now()) => Some(Refusal::Timeout),
            () => None,
        };
        let _wait = self.blocked.begin();
        room.wait(
            weights,
            stop,
            || self.stall.next_check(deadline),
            || self.doorbell.ring(),
        )
    }

    /// Takes permits and room by weight for the first items of a chunk, at least one.
    pub(crate) fn take_room(
        &self,
        chunk: &Chunk<T>,
        patience: Patience,
    ) -> Result<Granted, Refusal> {
        let permits = self.acquire_permits(chunk.items.len(), patience)?;
        if self.permits.weight.is_none() {
            return Ok(Granted {
                items: permits,
                weight: 0,
            });
        }
        let granted = self.take_weight(&chunk.weights[..permits], patience);
        let used = granted.as_ref().map_or(0, |granted| granted.items);
        self.permits.release(permits - used);
        granted
    }

    /// So much was not sent after all.
    pub(crate) fn give_weight_back(&self, weight: usize) {
        if let Some(room) = &self.permits.weight {
            room.give_back(weight);
        }
    }

    /// Whether somebody found no room by weight since the last gather, and something is there to
    /// hand over.
    pub(crate) fn is_pressed(&self) -> bool {
        self.permits.weight.as_ref().is_some_and(|room| {
            // First the weight: it is counted before its producer asks this.
            self.weight.load() as isize > 0 && room.is_pressed()
        })
    }

    /// Whether this is a forked child: nobody serves the child's copy of the queue, and a lock of
    /// it may be held forever by a thread that only the parent has. From then on the copy refuses
    /// every add. Checked where a caller would wait or lock; an add with room has no time for it.
    pub(crate) fn is_orphaned(&self) -> bool {
        let forked = is_forked(self.batcher_id);
        if forked {
            self.doorbell.close();
        }
        forked
    }
}
