//! The line that the flusher takes from: the channel's end, and what was taken out of it and is
//! first in line. Part of the backlog, under its lock.
//!
//! Messages are numbered as they leave the channel. `gathered` counts those that are wholly in
//! batches; the carryover begins there, the channel after it.

use std::collections::VecDeque;

use crate::queue::channel::Outlet;
use crate::queue::gate::Gate;
use crate::queue::message::{CHUNKS_TOGETHER, Chunk, Load, Message};
use crate::ticket::Outcome;

/// See the module's doc.
pub(crate) struct Incoming<T> {
    pub(crate) outlet: Outlet<T>,
    /// Taken out of the channel, first in line. While open at most one message; after close all
    /// that was accepted.
    carryover: VecDeque<Message<T>>,
    /// Items in `carryover`.
    carryover_items: usize,
    /// Chunks whose items are in the batch being gathered, until they are given back together.
    #[allow(clippy::vec_box, reason = "they travel as they are")]
    emptied: Vec<Box<Chunk<T>>>,
    /// Sent after the close; each waits for its producer to take it back.
    sent_after_close: Vec<Message<T>>,
    /// Messages wholly in batches.
    pub(crate) gathered: u64,
    /// Items in batches: the number of the next.
    pub(crate) gathered_items: u64,
    /// Items beyond one a message that left the channel.
    extra_taken: u64,
    /// What was added in all, once closed: from then on nothing enters the line.
    added_at_close: Option<u64>,
}

impl<T> Incoming<T> {
    pub(crate) fn new(outlet: Outlet<T>) -> Self {
        Self {
            outlet,
            // Until close at most the message that the last batch had no room for.
            carryover: VecDeque::with_capacity(1),
            carryover_items: 0,
            emptied: Vec::with_capacity(CHUNKS_TOGETHER),
            sent_after_close: Vec::new(),
            gathered: 0,
            gathered_items: 0,
            extra_taken: 0,
            added_at_close: None,
        }
    }

    fn is_open(&self) -> bool {
        self.added_at_close.is_none()
    }

    /// Step (4) of an add: the message with this tag, if it was sent after the close.
    pub(crate) fn confirm_admission(&mut self, tag: u32) -> Option<Message<T>> {
        while let Some(message) = self.outlet.try_recv() {
            self.sent_after_close.push(message);
        }
        let place = self
            .sent_after_close
            .iter()
            .position(|message| message.tag == tag)?;
        Some(self.sent_after_close.swap_remove(place))
    }

    /// Steps (b) to (d) of a close.
    pub(crate) fn close(&mut self, gate: &Gate<T>) {
        gate.doorbell.close();
        let accepted = self.outlet.len();
        for _ in 0..accepted {
            // The lock is held and that many are there: each is received, at the latest when its
            // sender has written it.
            let Some(message) = self.outlet.try_recv() else {
                break;
            };
            self.left_channel(gate, &message);
            self.carryover_items += message.items();
            self.carryover.push_back(message);
        }
        self.added_at_close = Some(self.gathered_items + self.carryover_items as u64);
    }

    /// What the message brought beyond one item no longer waits in the channel.
    pub(crate) fn left_channel(&mut self, gate: &Gate<T>, message: &Message<T>) {
        let extra = message.items() - 1;
        if extra > 0 {
            self.extra_taken += extra as u64;
            gate.chunk_left(extra);
        }
    }

    /// The first message in line that has left the channel.
    pub(crate) fn take_carryover(&mut self) -> Option<Message<T>> {
        let message = self.carryover.pop_front()?;
        self.carryover_items -= message.items();
        Some(message)
    }

    /// Back to the front of the line: the batch has no room for it.
    pub(crate) fn put_back(&mut self, message: Message<T>) {
        self.carryover_items += message.items();
        self.carryover.push_front(message);
    }

    /// All of this chunk's items are in the batch.
    pub(crate) fn emptied(&mut self, gate: &Gate<T>, chunk: Box<Chunk<T>>) {
        self.emptied.push(chunk);
        if self.emptied.len() == CHUNKS_TOGETHER {
            self.give_emptied_back(gate);
        }
    }

    pub(crate) fn give_emptied_back(&mut self, gate: &Gate<T>) {
        gate.spare_chunks.put_all(&mut self.emptied);
    }

    /// After everything that was sent so far.
    pub(crate) fn end(&self) -> u64 {
        let in_channel = if self.is_open() { self.outlet.len() } else { 0 };
        self.gathered + (self.carryover.len() + in_channel) as u64
    }

    /// Items that have left the channel and wait.
    pub(crate) fn carryover_items(&self) -> usize {
        self.carryover_items
    }

    /// Items in line.
    pub(crate) fn available(&self, gate: &Gate<T>) -> usize {
        self.carryover_items
            + if self.is_open() {
                gate.items_in_channel()
            } else {
                0
            }
    }

    /// Items accepted so far. Before close: every message sent, and the items of chunks as far as
    /// they were counted; an `add_many` between its send and its count may be behind by its chunk,
    /// never an add that has returned.
    pub(crate) fn added(&self, gate: &Gate<T>) -> u64 {
        self.added_at_close.unwrap_or_else(|| {
            self.end() + (self.extra_taken as i64 + gate.extra_items() as i64).max(0) as u64
        })
    }

    /// After a close: everything that was accepted and never given to the handler. Its tickets
    /// report it.
    pub(crate) fn take_unsent(&mut self) -> Vec<T> {
        let mut unsent = Vec::new();
        self.carryover_items = 0;
        for message in std::mem::take(&mut self.carryover) {
            match message.load {
                Load::One(item) => unsent.push(item),
                Load::Chunk(mut chunk) => unsent.append(&mut chunk.items),
                Load::Tracked(tracked) => {
                    if let Some(ticket) = tracked.ticket {
                        ticket.tell(Outcome::Unsent);
                    }
                    unsent.push(tracked.item);
                }
            }
        }
        unsent
    }

    /// Takes one message out of the channel and releases its permits, for the models.
    #[cfg(test)]
    pub(crate) fn take_one_message(&mut self, gate: &Gate<T>) -> Option<Message<T>> {
        let message = self.outlet.try_recv()?;
        self.left_channel(gate, &message);
        gate.permits.release(message.items());
        Some(message)
    }
}
