//! Admission: the bounded channel, who may still add, who must be woken. Producers write here, the
//! flusher reads.
//!
//! The gate knows nothing of what lies behind the channel. The lane knows it, and has the lock
//! around it (see `flush::lane`).
//!
//! # Protocol of an add and a close
//! Every add is either accepted or refused. A close decides which by one load of the channel's
//! length.
//!
//! Producer:
//!
//! - (1) Load the doorbell's word. If it is closed, refuse.
//! - (2) Send the message with this thread's tag.
//! - (3) Load the word again.
//! - (4) If it is closed, confirm the admission. Lock the backlog, move what is in the channel to
//!   the late list, and search the list for the own tag. If it is there, take the item out and
//!   refuse. If not, the item was accepted.
//!
//! Closer:
//!
//! - (a) Lock the backlog.
//! - (b) Set the closed bit.
//! - (c) Load n, the channel's length.
//! - (d) Move exactly n messages to the carryover. These are accepted.
//! - (e) Unlock.
//!
//! The race: an add sends while a close runs. Sends move the tail by a SeqCst compare-exchange, (b)
//! is a SeqCst read-modify-write, and (c) loads the tail SeqCst. So all have one total order.
//!
//! - A send before (c) is among the first n, because the channel is first in, first out and nobody
//!   receives while the lock is held. So (d) moves it. A producer that confirms does not find it in
//!   the late list: it was accepted.
//! - A send after (c) is after (b), so (3) sees the bit and the producer confirms. It finds its
//!   message: after (e) only producers that confirm receive from the channel, under the lock and
//!   into the late list. The item is refused.
//!
//! A thread has one add in flight, so its tag is unique in the late list. Tags repeat after 2³²
//! threads: two threads with one tag would have to meet in one close.
//!
//! Producers that wait for room wake at once. The moves of (d) make room, and the channel wakes one
//! sender for each message taken out. Each of these confirms, which takes at least its own message
//! out and wakes the next. None waits for the handler.
//!
//! Shown on the real channel by `close_races_lose_and_double_nothing` (tests/close.rs), also under
//! Miri.
//!
//! # Costs
//! An add is one send and two loads of a word that stays in the producer's cache: as fast as a bare
//! send on one thread, 7 % slower while the flusher sleeps on credit (`benches/channel`). Tried and
//! rejected for the same guarantee: a fence of one's own (+5 ns on 8), a striped in-flight counter
//! (+10), an arc-swap guard (+12), a read lock (+10). `channel` describes what travels through the
//! channel and how often it is copied.

use std::time::{Duration, Instant};

use crate::queue::blocked::Blocked;
use crate::queue::channel::{Inlet, Outlet, bounded};
use crate::queue::message::{Extra, Message, SpareChunks};
use crate::queue::permits::ChunkPermits;
use crate::queue::refusal::{Refusal, RefusalCounters, Returned};
use crate::queue::stall::Stall;
use crate::queue::waiters::Waiters;
use crate::queue::weigher::Weigher;
use crate::sync::{Arc, CachePadded, Parker, SeqCstUsize, TrySendError, credit};
use crate::wakeup::{CLOSED, Doorbell, ON_CREDIT, credits_for};

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

/// What a send has come to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accepted,
    /// The batcher was closed before or after the send: step (4) decides.
    Unconfirmed,
}

/// What a gate is made with.
pub(crate) struct GateSettings<T> {
    pub(crate) capacity: usize,
    pub(crate) weigher: Option<Weigher<T>>,
    /// Whether each item has a route of its own among several queues.
    pub(crate) is_routed: bool,
    /// Whether a wait for a ticket overrides the linger.
    pub(crate) wait_overrides_linger: bool,
    /// How long a stall lasts before it is reported.
    pub(crate) stall_timeout: Duration,
}

/// See the module's doc.
pub(crate) struct Gate<T> {
    inlet: Inlet<T>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) weigher: Option<Weigher<T>>,
    /// An add goes the shortest way: without a weigher, and to this queue whatever the item is.
    pub(crate) is_plain: bool,
    /// Which batcher this is, for its own threads to be known by.
    pub(crate) batcher_id: u64,
    /// Items beyond one a message that are in the channel, as a wrapping sum. Producers add after
    /// the send, and the flusher subtracts when it takes a chunk out. So it may pass below zero
    /// while an `add_many` is between its send and its count.
    extra_items: CachePadded<SeqCstUsize>,
    /// Permits for the items of chunks.
    pub(crate) permits: ChunkPermits,
    /// The weight that waits, in the channel or first in line, as a wrapping sum like
    /// `extra_items`. 0 without a weigher.
    weight: SeqCstUsize,
    pub(crate) spare_chunks: SpareChunks<T>,
    pub(crate) refusals: RefusalCounters,
    /// Who waits for room.
    pub(crate) blocked: Blocked,
    /// Who waits for a ticket.
    pub(crate) waiters: Waiters,
    /// Whether nothing is handed over because nobody takes the kept failed rows.
    pub(crate) stall: Stall,
}

impl<T> Gate<T> {
    /// The gate and the channel's other end.
    pub(crate) fn new(
        settings: GateSettings<T>,
        doorbell: Arc<Doorbell>,
        batcher_id: u64,
    ) -> (Self, Outlet<T>) {
        let GateSettings {
            capacity,
            weigher,
            is_routed,
            wait_overrides_linger,
            stall_timeout,
        } = settings;
        let (inlet, outlet) = bounded(capacity);
        let weight_limit = weigher.as_ref().and_then(|weigher| weigher.queue_limit);
        let gate = Self {
            inlet,
            doorbell,
            is_plain: weigher.is_none() && !is_routed,
            weigher,
            batcher_id,
            extra_items: CachePadded::new(SeqCstUsize::new(0)),
            permits: ChunkPermits::new(capacity, weight_limit),
            weight: SeqCstUsize::new(0),
            spare_chunks: SpareChunks::new(capacity),
            refusals: RefusalCounters::default(),
            blocked: Blocked::new(),
            waiters: Waiters::new(wait_overrides_linger),
            stall: Stall::new(stall_timeout),
        };
        (gate, outlet)
    }

    /// Step (1) of an add that goes the shortest way.
    #[inline(always)]
    pub(crate) fn is_open_and_plain(&self) -> bool {
        self.is_plain && !self.doorbell.is_closed()
    }

    /// Step (2) for one plain item, if there is room: the shortest way through the gate.
    ///
    /// Inlined into the caller, so that the item is built where its message lies. Then it is copied
    /// once, into the channel, as by a bare send.
    #[inline(always)]
    pub(crate) fn try_send_one(&self, tag: u32, item: T) -> Result<(), TrySendError<Message<T>>> {
        self.inlet.try_send_one(tag, item)
    }

    /// Step (3) after the send of `items`: the doorbell's word, if this add has to act on it.
    #[inline(always)]
    pub(crate) fn asked(&self, items: usize) -> Option<usize> {
        match self.doorbell.word() {
            0 => None,
            word if credit::spend(word, items) => None,
            word => Some(word),
        }
    }

    /// Waits for room, as far as `patience` goes, where [`try_send_one`](Self::try_send_one) found
    /// none.
    pub(crate) fn send_refused(
        &self,
        refused: TrySendError<Message<T>>,
        patience: Patience,
    ) -> Result<Admission, Returned<T>> {
        match refused {
            TrySendError::Full(message) => self.wait_for_room(message, Extra::NONE, patience),
            TrySendError::Disconnected(message) => Err(Returned {
                refusal: Refusal::Closed,
                message,
            }),
        }
    }

    /// Steps (2) and (3) for any message.
    pub(crate) fn send(
        &self,
        message: Message<T>,
        extra: Extra,
        patience: Patience,
    ) -> Result<Admission, Returned<T>> {
        match self.inlet.try_send(message) {
            Ok(()) => Ok(self.sent_with(extra)),
            Err(TrySendError::Full(message)) => self.wait_for_room(message, extra, patience),
            Err(TrySendError::Disconnected(message)) => Err(Returned {
                refusal: Refusal::Closed,
                message,
            }),
        }
    }

    /// Counts what the message brought beyond one item; then step (3). It is counted after the
    /// send, so that the count never exceeds what is there. It is counted before the word is
    /// loaded, so that a sleeping flusher and this producer cannot both miss it.
    fn sent_with(&self, extra: Extra) -> Admission {
        if extra.items > 0 {
            self.extra_items.fetch_add(extra.items);
        }
        if extra.weight > 0 {
            self.weight.fetch_add(extra.weight);
        }
        match self.asked(extra.items + 1) {
            None => Admission::Accepted,
            Some(word) => self.answer(word, extra.items + 1, || self.is_heavy()),
        }
    }

    /// The message that brought this was refused after all, in step (4).
    pub(crate) fn uncount(&self, extra: Extra) {
        self.chunk_left(extra.items);
        self.uncount_weight(extra.weight);
    }

    /// This many items beyond one a message have left the channel: taken by the flusher, or by a
    /// producer that confirms.
    pub(crate) fn chunk_left(&self, items: usize) {
        if items > 0 {
            self.extra_items.fetch_sub(items);
        }
    }

    /// The flusher has gathered this much weight: it no longer waits.
    pub(crate) fn weight_left(&self, weight: usize) {
        self.uncount_weight(weight);
        if let Some(room) = &self.permits.weight {
            room.gathered(weight);
        }
    }

    fn uncount_weight(&self, weight: usize) {
        if weight > 0 {
            self.weight.fetch_sub(weight);
        }
    }

    /// The rest of step (3), where an add has to act on the word. `is_heavy` is called where
    /// weights are known. Out of line, so that the add itself keeps to few registers.
    #[inline(never)]
    pub(crate) fn answer(
        &self,
        word: usize,
        items: usize,
        is_heavy: impl FnOnce() -> bool,
    ) -> Admission {
        if word & CLOSED != 0 {
            return Admission::Unconfirmed;
        }
        let wanted = if word & ON_CREDIT == 0 {
            Some(word)
        } else {
            self.doorbell.lease_or_count(word, items)
        };
        match wanted {
            Some(wanted) if self.items_in_channel() >= wanted || is_heavy() => {
                self.doorbell.ring_for(wanted)
            }
            _ => {}
        }
        Admission::Accepted
    }

    /// Items in the channel, those of chunks that were counted included.
    #[inline]
    pub(crate) fn items_in_channel(&self) -> usize {
        // Below zero is none.
        (self.inlet.len() as isize + self.extra_items()).max(0) as usize
    }

    /// The flusher's sleep. It ends when `wanted` items are in the channel, or when their weight
    /// fills a batch; with 0, neither ends it. It does not begin if `changed` is true.
    pub(crate) fn sleep(
        &self,
        parker: &Parker,
        wanted: usize,
        deadline: Option<Instant>,
        changed: impl FnOnce() -> bool,
    ) {
        let missing = wanted.saturating_sub(self.items_in_channel());
        let credits = if self.weigher.is_some() {
            0
        } else {
            credits_for(missing)
        };
        self.doorbell
            .sleep_on_credit(parker, (wanted, credits), deadline, || {
                changed()
                    || (wanted > 0
                        && (self.items_in_channel() + credits >= wanted || self.is_heavy()))
            });
    }

    /// Whether the weight that waits fills a batch, or leaves no room for the next item.
    pub(crate) fn is_heavy(&self) -> bool {
        self.weigher
            .as_ref()
            .is_some_and(|weigher| self.weight.load() as isize >= weigher.limit as isize)
            || self.is_pressed()
    }

    /// How much a batch may weigh.
    pub(crate) fn batch_weight_limit(&self) -> usize {
        self.weigher
            .as_ref()
            .map_or(usize::MAX, |weigher| weigher.limit)
    }

    /// Items beyond one a message in the channel; below zero while a chunk was taken out before it
    /// was counted.
    #[inline]
    pub(crate) fn extra_items(&self) -> isize {
        self.extra_items.load() as isize
    }

    /// The item's weight. 0 without a weigher.
    pub(crate) fn weigh(&self, item: &T) -> Result<usize, Refusal> {
        self.weigher
            .as_ref()
            .map_or(Ok(0), |weigher| weigher.weigh(item))
            .map_err(|()| Refusal::TooHeavy)
    }
}
