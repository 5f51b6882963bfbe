//! Admission: the bounded channel, who may still add, who must be woken. Producers write here, the
//! flusher reads.
//!
//! # Protocol of an add and a close
//! An add is accepted or refused, exactly, and a close decides which with one look at the channel's
//! length:
//!
//! Producer: (1) load the doorbell's word: closed, refuse; (2) send the message with this thread's
//! tag; (3) load the word again; (4) if it is closed, settle: lock the intake, move what is in the
//! channel to the late list, look there for the own tag; found, take the item out and refuse; not
//! found, it was accepted. Closer: (a) lock the intake; (b) set the closed bit; (c) n = the
//! channel's length; (d) move exactly n messages to the surplus: they are accepted; (e) unlock.
//!
//! The race: an add sends while close runs. Sends move the tail by a SeqCst compare-exchange, (b)
//! is a SeqCst read-modify-write, (c) loads the tail SeqCst: all have one order. A send before (c)
//! is among the first n, because the channel is first in, first out and nobody receives while the
//! lock is held; (d) moves it, and a settling producer does not find it in the late list, so it is
//! accepted. A send behind (c) is behind (b), so (3) sees the bit and the producer comes to settle;
//! it finds its message, because only settling producers receive from the channel after (e), all
//! under the lock, all into the late list. No third case. A thread has one add in flight, so its
//! tag is unique in the late list.
//!
//! Producers that wait for room wake at once: (d) makes room, the channel wakes one sender for each
//! message taken out, and each of them settles, which takes at least its own message out and wakes
//! the next. None waits for the handler.
//!
//! Shown on the real channel by `close_races_lose_and_double_nothing` (tests/close.rs), also under
//! Miri.
//!
//! # Costs
//! An add is one send and two loads of a word that stays in the producer's cache: as fast as a bare
//! send on one thread, 7 % slower while the flusher sleeps and much is missing
//! (`benches/channel.rs`). Tried and rejected for the same guarantee: a fence of one's own (+5 ns
//! on 8), a striped in-flight counter (+10), an arc-swap guard (+12), a read lock (+10). What
//! travels through the channel, and how often it is copied, is `channel`'s.

use std::time::{Duration, Instant};

use crate::channel::{Inlet, Outlet, bounded};
use crate::credit::Credit;
use crate::doorbell::{CLOSED, Doorbell, FAR, uncounted};
use crate::error::AddError;
use crate::intake::Intake;
use crate::message::{CHUNK_ITEMS_MAX, Chunk, Extra, Load, Message, SpareChunks, Special};
use crate::refused::RefusedCounters;
use crate::stall::Stall;
use crate::sync::{
    Arc, CachePadded, Condvar, Mutex, MutexGuard, Parker, SeqCstUsize, TrySendError, share,
    thread_tag,
};
use crate::ticket::Resolver;
use crate::waiters::Waiters;
use crate::weigher::Weigher;

mod room;

/// How long a stall lasts before it is reported, where the builder sets nothing.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an add may wait for room.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    Never,
    Until(Instant),
    Forever,
}

/// See the module's doc.
pub(crate) struct Queue<T> {
    inlet: Inlet<T>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) weigher: Option<Weigher<T>>,
    /// Which batcher this is, for its own threads to be known by.
    pub(crate) serial: u64,
    /// Items beyond one a message that are in the channel, as a wrapping sum: producers add after
    /// the send, the flusher subtracts when it takes a chunk out, so it may pass below zero while
    /// an `add_many` is between its send and its count.
    chunk_surplus: CachePadded<SeqCstUsize>,
    /// Room for the items of chunks.
    pub(crate) credit: Credit,
    /// The weight that waits, in the channel or first in line, as a wrapping sum like
    /// `chunk_surplus`. 0 without a weigher.
    weight: SeqCstUsize,
    pub(crate) spare_chunks: SpareChunks<T>,
    pub(crate) refused: RefusedCounters,
    /// Who waits for a ticket.
    pub(crate) waiters: Waiters,
    /// Whether nothing is handed over because nobody takes the kept failed rows.
    pub(crate) stall: Stall,
    /// On lines of its own: the flusher writes here at every gather, producers read the fields
    /// beside it at every add.
    pub(crate) intake: CachePadded<Mutex<Intake<T>>>,
    /// Goes with `intake`: an outcome for a flush, the end of a close.
    pub(crate) changed: Condvar,
}

impl<T> Queue<T> {
    pub(crate) fn new(
        capacity: usize,
        weigher: Option<Weigher<T>>,
        doorbell: Arc<Doorbell>,
        serial: u64,
        intake: impl FnOnce(Outlet<T>) -> Intake<T>,
    ) -> Self {
        let (inlet, outlet) = bounded(capacity);
        let weight_limit = weigher.as_ref().and_then(|weigher| weigher.queue_limit);
        Self {
            inlet,
            doorbell,
            weigher,
            serial,
            chunk_surplus: CachePadded::new(SeqCstUsize::new(0)),
            credit: Credit::new(capacity, weight_limit),
            weight: SeqCstUsize::new(0),
            spare_chunks: SpareChunks::new(capacity),
            refused: RefusedCounters::default(),
            waiters: Waiters::new(true),
            stall: Stall::new(STALL_TIMEOUT),
            intake: CachePadded::new(Mutex::new(intake(outlet))),
            changed: Condvar::new(),
        }
    }

    /// Whether a wait for a ticket overrides the linger, and how long a stall lasts before it is
    /// reported.
    pub(crate) fn waiting(mut self, wait_overrides_linger: bool, stall_timeout: Duration) -> Self {
        self.waiters = Waiters::new(wait_overrides_linger);
        self.stall = Stall::new(stall_timeout);
        self
    }

    /// Adds one item.
    ///
    /// Inlined into the caller, so that the item is built where its message lies: then it is copied
    /// once, into the channel, as by a bare send. All that is rare stands in functions of its own,
    /// so that this one keeps to few registers.
    #[inline(always)]
    pub(crate) fn add(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        let tag = thread_tag();
        if self.weigher.is_some() || self.doorbell.is_closed() {
            return self.add_weighed(item, patience);
        }
        match self.inlet.try_send_one(tag, item) {
            Ok(()) => match self.doorbell.word() {
                0 => Ok(()),
                word if share::use_up(word, 1) => Ok(()),
                word => self
                    .answer(tag, word, 1, || false)
                    .map_err(|refused| self.count(refused.map(Message::into_item))),
            },
            Err(refused) => self.add_waiting(refused, patience),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_weighed(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        self.add_special(item, None, patience)
    }

    #[cold]
    #[inline(never)]
    fn add_waiting(
        &self,
        refused: TrySendError<Message<T>>,
        patience: Patience,
    ) -> Result<(), AddError<T>> {
        let result = match refused {
            TrySendError::Full(message) => self.wait_for_room(message, Extra::NONE, patience),
            TrySendError::Disconnected(message) => Err(AddError::Closed(message)),
        };
        result.map_err(|refused| self.count(refused.map(Message::into_item)))
    }

    /// Adds one item that carries a weight or a ticket.
    pub(crate) fn add_special(
        &self,
        item: T,
        ticket: Option<Resolver>,
        patience: Patience,
    ) -> Result<(), AddError<T>> {
        if self.doorbell.is_closed() {
            return Err(self.count(AddError::Closed(item)));
        }
        let weight = match self.weigh(&item) {
            Ok(weight) => weight,
            Err(()) => return Err(self.count(AddError::TooHeavy(item))),
        };
        if let Err(refused) = self.take_weight(&[weight], patience) {
            return Err(self.count(refused.map(|()| item)));
        }
        let message = Message {
            tag: thread_tag(),
            load: Load::Special(Box::new(Special {
                item,
                weight,
                ticket,
            })),
        };
        self.send(message, Extra { items: 0, weight }, patience)
            .map_err(|refused| {
                self.give_weight_back(weight);
                self.count(refused.map(Message::into_item))
            })
    }

    /// The item's weight, or that it is too heavy and such are refused. 0 without a weigher.
    fn weigh(&self, item: &T) -> Result<usize, ()> {
        self.weigher
            .as_ref()
            .map_or(Ok(0), |weigher| weigher.weigh(item))
    }

    /// Adds the items of an iterator in chunks, lazily; returns how many. On refusal all that was
    /// not accepted comes back.
    pub(crate) fn add_many(
        &self,
        items: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<usize, AddError<Vec<T>>> {
        let mut rest = items.into_iter().fuse();
        let mut added = 0;
        // A chunk is fetched for an item, not for the look that finds none.
        while let Some(first) = rest.next() {
            let mut chunk = self.spare_chunks.take();
            // `by_ref`: what this chunk does not take stays for the next, or for the error.
            let more = rest.by_ref().take(CHUNK_ITEMS_MAX - 1);
            let too_heavy = if self.weigher.is_some() {
                self.weigh_into(&mut chunk, std::iter::once(first).chain(more))
            } else {
                chunk.items.push(first);
                chunk.items.extend(more);
                None
            };
            let mut unsent = Some(chunk);
            while let Some(chunk) = unsent.take() {
                if chunk.items.is_empty() {
                    self.spare_chunks.put(chunk);
                    break;
                }
                match self.add_chunk(chunk, patience) {
                    Ok((sent, left)) => {
                        added += sent;
                        unsent = left;
                    }
                    Err(refused) => {
                        let mut back = Vec::new();
                        let refused = refused.map(|mut chunk| {
                            back.append(&mut chunk.items);
                            back.extend(too_heavy.into_iter().chain(rest));
                            back
                        });
                        return Err(self.count(refused));
                    }
                }
            }
            if let Some(item) = too_heavy {
                let back = std::iter::once(item).chain(rest).collect();
                return Err(self.count(AddError::TooHeavy(back)));
            }
        }
        Ok(added)
    }

    /// Puts items with their weights into the chunk, up to the first that is too heavy.
    fn weigh_into(&self, chunk: &mut Chunk<T>, items: impl Iterator<Item = T>) -> Option<T> {
        for item in items {
            let Ok(weight) = self.weigh(&item) else {
                return Some(item);
            };
            chunk.items.push(item);
            chunk.weights.push(weight);
        }
        None
    }

    /// Sends as much of the chunk as there is credit for, at least one item; returns how many and
    /// what is left.
    #[allow(clippy::type_complexity, reason = "the parts of one answer")]
    fn add_chunk(
        &self,
        mut chunk: Box<Chunk<T>>,
        patience: Patience,
    ) -> Result<(usize, Option<Box<Chunk<T>>>), AddError<Box<Chunk<T>>>> {
        if self.doorbell.is_closed() {
            return Err(AddError::Closed(chunk));
        }
        let (granted, room) = match self.take_room(&chunk, patience) {
            Ok(granted) => granted,
            Err(refused) => return Err(refused.map(|()| chunk)),
        };
        let left = (granted < chunk.items.len()).then(|| {
            let mut left = self.spare_chunks.take();
            left.items.extend(chunk.items.drain(granted..));
            left.weights
                .extend(chunk.weights.drain(granted.min(chunk.weights.len())..));
            left
        });
        // Wrapping, as the sum of all is.
        let weight = chunk
            .weights
            .iter()
            .fold(0, |sum: usize, weight| sum.wrapping_add(*weight));
        let extra = Extra {
            items: granted - 1,
            weight,
        };
        match self.send(
            Message {
                tag: thread_tag(),
                load: Load::Chunk(chunk),
            },
            extra,
            patience,
        ) {
            Ok(()) => Ok((granted, left)),
            Err(refused) => {
                self.credit.give_back(granted);
                self.give_weight_back(room);
                Err(refused.map(|message| {
                    let Load::Chunk(mut chunk) = message.load else {
                        unreachable!("a chunk was sent")
                    };
                    if let Some(mut left) = left {
                        chunk.items.append(&mut left.items);
                        chunk.weights.append(&mut left.weights);
                    }
                    chunk
                }))
            }
        }
    }

    fn send(
        &self,
        message: Message<T>,
        extra: Extra,
        patience: Patience,
    ) -> Result<(), AddError<Message<T>>> {
        let tag = message.tag;
        match self.inlet.try_send(message) {
            Ok(()) => self.sent_with(tag, extra),
            Err(TrySendError::Full(message)) => self.wait_for_room(message, extra, patience),
            Err(TrySendError::Disconnected(message)) => Err(AddError::Closed(message)),
        }
    }

    /// Counts what the message brought beyond one item; then step (3). Counted behind the send, so
    /// that nothing counts that is not there, and before the word is loaded, so that a sleeping
    /// flusher and this producer cannot both miss it.
    fn sent_with(&self, tag: usize, extra: Extra) -> Result<(), AddError<Message<T>>> {
        if extra.items > 0 {
            self.chunk_surplus.fetch_add(extra.items);
        }
        if extra.weight > 0 {
            self.weight.fetch_add(extra.weight);
        }
        self.sent(tag, extra.items + 1, || self.is_heavy())
            .inspect_err(|_| {
                self.chunk_left(extra.items);
                self.uncount_weight(extra.weight);
            })
    }

    /// So many items beyond one a message have left the channel: taken by the flusher, or by a
    /// settling producer.
    pub(crate) fn chunk_left(&self, items: usize) {
        if items > 0 {
            self.chunk_surplus.fetch_sub(items);
        }
    }

    /// So much weight was gathered by the flusher: it no longer waits.
    pub(crate) fn weight_left(&self, weight: usize) {
        self.uncount_weight(weight);
        if let Some(room) = &self.credit.weight {
            room.gathered(weight);
        }
    }

    fn uncount_weight(&self, weight: usize) {
        if weight > 0 {
            self.weight.fetch_sub(weight);
        }
    }

    /// Step (3) of an add, behind the send. `is_heavy` is asked where weights are known.
    fn sent(
        &self,
        tag: usize,
        items: usize,
        is_heavy: impl FnOnce() -> bool,
    ) -> Result<(), AddError<Message<T>>> {
        match self.doorbell.word() {
            0 => Ok(()),
            word if share::use_up(word, items) => Ok(()),
            word => self.answer(tag, word, items, is_heavy),
        }
    }

    /// Somebody needs something of an add. Out of line, so that the add itself keeps to few
    /// registers.
    #[inline(never)]
    fn answer(
        &self,
        tag: usize,
        word: usize,
        items: usize,
        is_heavy: impl FnOnce() -> bool,
    ) -> Result<(), AddError<Message<T>>> {
        if word & CLOSED != 0 {
            return self.settle(tag);
        }
        let wanted = if word & FAR == 0 {
            Some(word)
        } else {
            self.doorbell.come_near(word, items)
        };
        match wanted {
            Some(wanted) if self.items_in_channel() >= wanted || is_heavy() => {
                self.doorbell.ring_for(wanted)
            }
            _ => {}
        }
        Ok(())
    }

    /// Step (4) of an add: was this thread's message accepted?
    #[cold]
    #[inline(never)]
    fn settle(&self, tag: usize) -> Result<(), AddError<Message<T>>> {
        match self.intake.lock().settle_late(tag) {
            None => Ok(()),
            Some(message) => Err(AddError::Closed(message)),
        }
    }

    /// Items in the channel, those of chunks that were counted included.
    #[inline]
    pub(crate) fn items_in_channel(&self) -> usize {
        // Below zero is none.
        (self.inlet.len() as isize + self.chunk_surplus()).max(0) as usize
    }

    /// The flusher's sleep until so many items are in the channel, or their weight fills a batch, 0
    /// for neither; or something else has `changed`.
    pub(crate) fn sleep(
        &self,
        parker: &Parker,
        wanted: usize,
        deadline: Option<Instant>,
        changed: impl FnOnce() -> bool,
    ) {
        let missing = wanted.saturating_sub(self.items_in_channel());
        let ahead = if self.weigher.is_some() {
            0
        } else {
            uncounted(missing)
        };
        self.doorbell
            .sleep_far(parker, (wanted, ahead), deadline, || {
                changed()
                    || (wanted > 0
                        && (self.items_in_channel() + ahead >= wanted || self.is_heavy()))
            });
    }

    /// Whether the weight that waits fills a batch, or leaves no room for the next item.
    pub(crate) fn is_heavy(&self) -> bool {
        self.weigher
            .as_ref()
            .is_some_and(|weigher| self.weight.load() as isize >= weigher.limit as isize)
            || self.is_pressed()
    }

    /// Items beyond one a message in the channel; below zero while a chunk was taken out before it
    /// was counted.
    #[inline]
    pub(crate) fn chunk_surplus(&self) -> isize {
        self.chunk_surplus.load() as isize
    }

    fn count<U>(&self, refused: AddError<U>) -> AddError<U> {
        self.refused.count(&refused);
        refused
    }

    /// The consumer's side, under its lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Intake<T>> {
        self.intake.lock()
    }
}
