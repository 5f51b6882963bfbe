//! The bounded channel, and the form in which messages pass through it.
//!
//! # Costs
//! What an add and a gather cost for a large item is how often, and how, it is copied:
//!
//! - The channel takes a message out of its slot, wakes who waits for room, and hands the message
//!   over. One with drop glue is copied once more on that way, for the case that the waking
//!   unwinds. So a [`Parcel`] has none.
//! - Where the kinds of message are distinguished before the item is out, the item is copied again.
//!   So single items go from the channel straight into the batch, in a loop of its own.
//! - A copy that reads at other offsets than the last one wrote waits until the processor's writes
//!   are done. So the parcel has a fixed layout, what belongs to the channel before the item: the
//!   compiler then copies the item by itself, each time alike.
//! - What belongs to the channel takes eight bytes, and the channel's own stamp eight more: a
//!   thousand items of eight bytes then fit into a nearest cache of 32 KiB.
//!
//! One producer and the flusher on one core, which is what all copies cost together, against the
//! same without the three: 8 bytes 34 to 35 ns an item, 24 bytes 41 to 37, 64 bytes 46 to 40, 256
//! bytes 74 to 66, 1 024 bytes 170 to 135. Without the layout the other two make it worse: 256
//! bytes 83 ns.

use std::mem::ManuallyDrop;
use std::time::Instant;

use crate::queue::message::{Chunk, Load, Message, Tracked};
use crate::sync::{
    self, LOOKS_FOR_ROOM, SendError, SendTimeoutError, TrySendError, looks_end, now, yield_now,
};

/// A message on its way. Not dropped, only unpacked.
#[repr(u32)]
enum Parcel<T> {
    One(u32, ManuallyDrop<T>),
    Chunk(u32, ManuallyDrop<Box<Chunk<T>>>),
    Tracked(u32, ManuallyDrop<Box<Tracked<T>>>),
}

impl<T> Parcel<T> {
    fn pack(Message { tag, load }: Message<T>) -> Self {
        match load {
            Load::One(item) => Self::One(tag, ManuallyDrop::new(item)),
            Load::Chunk(chunk) => Self::Chunk(tag, ManuallyDrop::new(chunk)),
            Load::Tracked(tracked) => Self::Tracked(tag, ManuallyDrop::new(tracked)),
        }
    }

    fn unpack(self) -> Message<T> {
        let (tag, load) = match self {
            Self::One(tag, item) => (tag, Load::One(ManuallyDrop::into_inner(item))),
            Self::Chunk(tag, chunk) => (tag, Load::Chunk(ManuallyDrop::into_inner(chunk))),
            Self::Tracked(tag, tracked) => (tag, Load::Tracked(ManuallyDrop::into_inner(tracked))),
        };
        Message { tag, load }
    }
}

/// The producers' end.
pub(crate) struct Inlet<T> {
    sender: sync::Sender<Parcel<T>>,
    /// With at most this many messages in it, the channel has room again: an eighth of it.
    roomy: usize,
}

/// The flusher's end. Drops with itself what is left in the channel.
pub(crate) struct Outlet<T>(sync::Receiver<Parcel<T>>);

/// What ended a run of single items.
pub(crate) enum Singles<T> {
    /// All that were asked for are in the batch.
    All,
    /// This message, which is none.
    Until(Message<T>),
    /// Nothing more was in the channel.
    Empty,
}

pub(crate) fn bounded<T>(capacity: usize) -> (Inlet<T>, Outlet<T>) {
    let (sender, receiver) = sync::bounded(capacity);
    (
        Inlet {
            sender,
            roomy: capacity - (capacity / 8).max(1),
        },
        Outlet(receiver),
    )
}

impl<T> Inlet<T> {
    /// Sends one item, if there is room. Inlined into the add, so that the item is built where its
    /// parcel lies.
    #[inline(always)]
    pub(crate) fn try_send_one(&self, tag: u32, item: T) -> Result<(), TrySendError<Message<T>>> {
        match self
            .sender
            .try_send(Parcel::One(tag, ManuallyDrop::new(item)))
        {
            Ok(()) => Ok(()),
            Err(refused) => Err(unpack_refused(refused)),
        }
    }

    pub(crate) fn try_send(&self, message: Message<T>) -> Result<(), TrySendError<Message<T>>> {
        self.sender
            .try_send(Parcel::pack(message))
            .map_err(unpack_refused)
    }

    /// Tries a few times more, and gives the processor away before each.
    ///
    /// The channel's own wait begins with looking again and again at the line that the flusher
    /// writes for each item. On a full queue that could hold both up for whole runs: eight
    /// producers on two cores, batches of a hundred, took 27 ns an item, or in four runs of ten 37
    /// to 51, and take 27 to 28; one producer 33 for 35. Sixteen times are worse than four, and
    /// waiting for an eighth of the room is better than for any: 2 to 3 ns of 30 there, 5 of 73
    /// with items of 256 bytes.
    #[allow(clippy::reversed_empty_ranges, reason = "none in the models")]
    pub(crate) fn try_again(
        &self,
        mut message: Message<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Message<T>> {
        let end = looks_end(deadline);
        for _ in 0..LOOKS_FOR_ROOM {
            if now() >= end {
                break;
            }
            yield_now();
            if self.sender.len() <= self.roomy {
                match self.try_send(message) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                        message = back
                    }
                }
            }
        }
        Err(message)
    }

    pub(crate) fn send(&self, message: Message<T>) -> Result<(), SendError<Message<T>>> {
        self.sender
            .send(Parcel::pack(message))
            .map_err(|SendError(parcel)| SendError(parcel.unpack()))
    }

    pub(crate) fn send_deadline(
        &self,
        message: Message<T>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message<T>>> {
        self.sender
            .send_deadline(Parcel::pack(message), deadline)
            .map_err(|refused| match refused {
                SendTimeoutError::Timeout(parcel) => SendTimeoutError::Timeout(parcel.unpack()),
                SendTimeoutError::Disconnected(parcel) => {
                    SendTimeoutError::Disconnected(parcel.unpack())
                }
            })
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.sender.len()
    }
}

#[cold]
#[inline(never)]
fn unpack_refused<T>(refused: TrySendError<Parcel<T>>) -> TrySendError<Message<T>> {
    match refused {
        TrySendError::Full(parcel) => TrySendError::Full(parcel.unpack()),
        TrySendError::Disconnected(parcel) => TrySendError::Disconnected(parcel.unpack()),
    }
}

impl<T> Outlet<T> {
    pub(crate) fn try_recv(&self) -> Option<Message<T>> {
        self.0.try_recv().ok().map(Parcel::unpack)
    }

    /// Moves single items into the vector, up to this many: the loop in which a busy flusher spends
    /// its time.
    pub(crate) fn take_singles(&self, items: &mut Vec<T>, most: u64) -> Singles<T> {
        for _ in 0..most {
            match self.0.try_recv() {
                Ok(Parcel::One(_, item)) => items.push(ManuallyDrop::into_inner(item)),
                Ok(parcel) => return Singles::Until(parcel.unpack()),
                Err(_) => return Singles::Empty,
            }
        }
        Singles::All
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        while let Some(message) = self.try_recv() {
            drop(message);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn messages(item: &Arc<()>) -> [Message<Arc<()>>; 3] {
        let item = || Arc::clone(item);
        let chunk = Chunk {
            items: vec![item(), item()],
            weights: Vec::new(),
        };
        let tracked = Tracked {
            item: item(),
            weight: 1,
            ticket: None,
        };
        [
            Load::One(item()),
            Load::Chunk(Box::new(chunk)),
            Load::Tracked(Box::new(tracked)),
        ]
        .map(|load| Message { tag: 1, load })
    }

    #[test]
    fn what_is_left_in_the_channel_is_dropped_with_it() {
        let item = Arc::new(());
        let (inlet, outlet) = bounded(3);
        for message in messages(&item) {
            assert!(inlet.try_send(message).is_ok());
        }
        assert_eq!((outlet.len(), Arc::strong_count(&item)), (3, 5));
        drop((inlet, outlet));
        assert_eq!(Arc::strong_count(&item), 1);
    }

    #[test]
    fn what_is_refused_comes_back_whole() {
        let item = Arc::new(());
        for [full, closed] in [[true, false], [false, true]] {
            for message in messages(&item) {
                let (inlet, outlet) = bounded(1);
                let items = message.items();
                if full {
                    assert!(inlet.try_send_one(0, Arc::clone(&item)).is_ok());
                }
                let outlet = (!closed).then_some(outlet);
                let past = Instant::now();
                let back = match (inlet.try_send(message), full) {
                    (Err(TrySendError::Full(message)), true) => {
                        let Err(message) = inlet.try_again(message, None) else {
                            panic!()
                        };
                        let Err(SendTimeoutError::Timeout(message)) =
                            inlet.send_deadline(message, past)
                        else {
                            panic!()
                        };
                        message
                    }
                    (Err(TrySendError::Disconnected(message)), false) => {
                        let Err(SendTimeoutError::Disconnected(message)) =
                            inlet.send_deadline(message, past)
                        else {
                            panic!()
                        };
                        let Err(SendError(message)) = inlet.send(message) else {
                            panic!()
                        };
                        message
                    }
                    _ => panic!("taken, or refused for the wrong reason"),
                };
                assert_eq!((back.tag, back.items()), (1, items));
                drop(outlet);
            }
            assert_eq!(Arc::strong_count(&item), 1, "and is nobody else's");
        }
    }

    #[test]
    fn single_items_are_taken_up_to_the_first_message_that_is_none() {
        let (inlet, outlet) = bounded(9);
        for item in 1..=3 {
            assert!(inlet.try_send_one(0, item).is_ok());
        }
        let tracked = Load::Tracked(Box::new(Tracked {
            item: 4,
            weight: 1,
            ticket: None,
        }));
        assert!(
            inlet
                .try_send(Message {
                    tag: 7,
                    load: tracked
                })
                .is_ok()
        );
        let mut items = vec![0];
        assert!(matches!(outlet.take_singles(&mut items, 2), Singles::All));
        assert_eq!(items, [0, 1, 2]);
        let Singles::Until(message) = outlet.take_singles(&mut items, 9) else {
            panic!("there is one more")
        };
        assert_eq!((message.tag, message.into_item()), (7, 4));
        assert!(matches!(outlet.take_singles(&mut items, 9), Singles::Empty));
        assert_eq!(items, [0, 1, 2, 3]);
    }
}
