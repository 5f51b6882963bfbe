//! Waiting for room: for a place in the channel, and for the credit of a chunk.
//!
//! Both waits are cut into parts, so that a stall ends them too (see `stall`). A part that ends without room goes to the end of
//! the channel's line of waiting senders; at one part a second that decides nothing.

use super::{Patience, Queue};
use crate::credit::Denied;
use crate::error::AddError;
use crate::message::{Extra, Message};
use crate::sync::{SendError, SendTimeoutError, belongs_to, now};

impl<T> Queue<T> {
    /// The queue is full. A deadline that has passed is not left to the channel, which looks for a while before its clock.
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
            _ if belongs_to(self.serial) => return Err(AddError::Reentrant(message)),
            Patience::Until(deadline) => Some(deadline),
            Patience::Forever => None,
        };
        let Err(mut message) = self.inlet.try_again(message, deadline) else { return self.sent_with(tag, extra) };
        loop {
            if self.stall.has_lasted() {
                return Err(AddError::Stalled(message));
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return Err(AddError::Timeout(message));
            }
            let sent = match self.stall.next_check(deadline) {
                Some(check) => self.inlet.send_deadline(message, check),
                None => self.inlet.send(message).map_err(|SendError(message)| SendTimeoutError::Disconnected(message)),
            };
            match sent {
                Ok(()) => return self.sent_with(tag, extra),
                Err(SendTimeoutError::Timeout(back)) => message = back,
                Err(SendTimeoutError::Disconnected(message)) => return Err(AddError::Closed(message)),
            }
        }
    }

    /// Takes credit for 1 to `wanted` items, waiting for the first.
    pub(super) fn take_credit(&self, wanted: usize, patience: Patience) -> Result<usize, AddError<()>> {
        if let Some(granted) = self.credit.try_take(wanted) {
            return Ok(granted);
        }
        let deadline = match patience {
            Patience::Never if self.stall.has_lasted() => return Err(AddError::Stalled(())),
            Patience::Never => return Err(AddError::Full(())),
            _ if belongs_to(self.serial) => return Err(AddError::Reentrant(())),
            Patience::Until(deadline) => Some(deadline),
            Patience::Forever => None,
        };
        loop {
            if self.stall.has_lasted() {
                return Err(AddError::Stalled(()));
            }
            match self.credit.wait(wanted, self.stall.next_check(deadline), || self.doorbell.is_closed()) {
                Ok(granted) => return Ok(granted),
                Err(Denied::Closed) => return Err(AddError::Closed(())),
                Err(Denied::Timeout) if deadline.is_some_and(|deadline| deadline <= now()) => {
                    return Err(AddError::Timeout(()));
                }
                Err(Denied::Timeout) => {}
            }
        }
    }
}
