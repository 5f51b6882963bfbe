//! Waiting for room: for a place in the channel, for the credit of a chunk, and for room by weight.
//!
//! The first two waits are cut into parts, so that a stall ends them too (see `stall`); the third
//! checks for one without leaving its line. A part that ends without room goes to the end of the
//! channel's line of waiting senders; at one part a second that decides nothing.

use super::{Patience, Queue};
use crate::credit::Denied;
use crate::error::AddError;
use crate::message::{Chunk, Extra, Message};
use crate::sync::{SendError, SendTimeoutError, belongs_to, is_forked, now};
use crate::weight_room::Granted;

impl<T> Queue<T> {
    /// The queue is full. A deadline that has passed is not left to the channel, which looks for a
    /// while before its clock.
    #[cold]
    pub(super) fn wait_for_room(
        &self,
        message: Message<T>,
        extra: Extra,
        patience: Patience,
    ) -> Result<(), AddError<Message<T>>> {
        let tag = message.tag;
        let deadline = match patience {
            Patience::Never if self.stall.has_lasted() => return Err(AddError::Stalled(message)),
            Patience::Never => return Err(AddError::Full(message)),
            _ if self.is_orphaned() => return Err(AddError::Closed(message)),
            _ if belongs_to(self.serial) => return Err(AddError::Reentrant(message)),
            Patience::Until(deadline) => Some(deadline),
            Patience::Forever => None,
        };
        let Err(mut message) = self.inlet.try_again(message, deadline) else {
            return self.sent_with(tag, extra);
        };
        loop {
            if self.stall.has_lasted() {
                return Err(AddError::Stalled(message));
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return Err(AddError::Timeout(message));
            }
            let sent = match self.stall.next_check(deadline) {
                Some(check) => self.inlet.send_deadline(message, check),
                None => self
                    .inlet
                    .send(message)
                    .map_err(|SendError(message)| SendTimeoutError::Disconnected(message)),
            };
            match sent {
                Ok(()) => return self.sent_with(tag, extra),
                Err(SendTimeoutError::Timeout(back)) => message = back,
                Err(SendTimeoutError::Disconnected(message)) => {
                    return Err(AddError::Closed(message));
                }
            }
        }
    }

    /// Takes credit for 1 to `wanted` items, waiting for the first.
    pub(super) fn take_credit(
        &self,
        wanted: usize,
        patience: Patience,
    ) -> Result<usize, AddError<()>> {
        if let Some(granted) = self.credit.try_take(wanted) {
            return Ok(granted);
        }
        let deadline = match patience {
            Patience::Never if self.stall.has_lasted() => return Err(AddError::Stalled(())),
            Patience::Never => return Err(AddError::Full(())),
            _ if self.is_orphaned() => return Err(AddError::Closed(())),
            _ if belongs_to(self.serial) => return Err(AddError::Reentrant(())),
            Patience::Until(deadline) => Some(deadline),
            Patience::Forever => None,
        };
        loop {
            if self.stall.has_lasted() {
                return Err(AddError::Stalled(()));
            }
            match self
                .credit
                .wait(wanted, self.stall.next_check(deadline), || {
                    self.doorbell.is_closed()
                }) {
                Ok(granted) => return Ok(granted),
                Err(Denied::Closed) => return Err(AddError::Closed(())),
                Err(Denied::Timeout) if deadline.is_some_and(|deadline| deadline <= now()) => {
                    return Err(AddError::Timeout(()));
                }
                Err(Denied::Timeout) => {}
            }
        }
    }

    /// Takes room by weight for as many of the items with these weights as there is, waiting for
    /// the first. Credit comes first and room in the channel last, so that nobody holds what the
    /// one before it in this order waits for.
    pub(super) fn take_weight(
        &self,
        weights: &[usize],
        patience: Patience,
    ) -> Result<Granted, AddError<()>> {
        let Some(room) = &self.credit.weight else {
            return Ok(Granted {
                items: weights.len(),
                weight: 0,
            });
        };
        if let Some(granted) = room.take(weights) {
            return Ok(granted);
        }
        let deadline = match patience {
            Patience::Never => {
                room.press(|| self.doorbell.ring());
                return Err(if self.stall.has_lasted() {
                    AddError::Stalled(())
                } else {
                    AddError::Full(())
                });
            }
            _ if self.is_orphaned() => return Err(AddError::Closed(())),
            _ if belongs_to(self.serial) => return Err(AddError::Reentrant(())),
            Patience::Until(deadline) => Some(deadline),
            Patience::Forever => None,
        };
        let stop = || match () {
            () if self.doorbell.is_closed() => Some(AddError::Closed(())),
            () if self.stall.has_lasted() => Some(AddError::Stalled(())),
            () if deadline.is_some_and(|deadline| deadline <= now()) => Some(AddError::Timeout(())),
            () => None,
        };
        room.wait(
            weights,
            stop,
            || self.stall.next_check(deadline),
            || self.doorbell.ring(),
        )
    }

    /// Takes credit and room by weight for the first items of a chunk, at least one; returns for
    /// how many, and their weight.
    pub(super) fn take_room(
        &self,
        chunk: &Chunk<T>,
        patience: Patience,
    ) -> Result<(usize, usize), AddError<()>> {
        let credit = self.take_credit(chunk.items.len(), patience)?;
        if self.credit.weight.is_none() {
            return Ok((credit, 0));
        }
        match self.take_weight(&chunk.weights[..credit], patience) {
            Ok(granted) => {
                self.credit.give_back(credit - granted.items);
                Ok((granted.items, granted.weight))
            }
            Err(refused) => {
                self.credit.give_back(credit);
                Err(refused)
            }
        }
    }

    /// So much was not sent after all.
    pub(super) fn give_weight_back(&self, weight: usize) {
        if let Some(room) = &self.credit.weight {
            room.give_back(weight);
        }
    }

    /// Whether somebody found no room by weight since the last gather, and something is there to
    /// hand over.
    pub(crate) fn is_pressed(&self) -> bool {
        self.credit.weight.as_ref().is_some_and(|room| {
            // First the weight: it is counted before its producer asks this.
            self.weight.load() as isize > 0 && room.is_pressed()
        })
    }

    /// Whether this is a forked child: nobody serves the child's copy of the queue, and a lock of
    /// it may be held for ever by a thread that only the parent has. From then on the copy refuses
    /// every add. Checked where a caller would wait or lock; an add with room has no time for it.
    pub(crate) fn is_orphaned(&self) -> bool {
        let forked = is_forked(self.serial);
        if forked {
            self.doorbell.close();
        }
        forked
    }
}
