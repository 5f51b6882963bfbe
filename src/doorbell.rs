//! The coalesced wake-up: while a batch fills, the flusher sleeps until the batch is due or can be full, and the producer that
//! completes it, only that one, wakes it.
//!
//! Written by the flusher (how many items it sleeps for), by close (the closed bit) and by whoever rings; read by every add.
//! One word holds both, so that an add looks at one word: before it sends, whether the batcher is closed; after it has sent,
//! whether anybody needs anything of it.
//!
//! | word | state | what a producer does after its send |
//! | --- | --- | --- |
//! | 0 | open, the flusher is awake or sleeps for no item | nothing |
//! | 1..CLOSED | open, the flusher sleeps until so many items are in the channel | counts; if they are there, wakes |
//! | CLOSED | closed | settles whether its item was accepted (see `queue`) |
//!
//! # Protocol
//! Flusher: (1) compare-exchange the word from 0 to `wanted`; (2) count the items in the channel, look again at everything
//! else that could end the sleep; (3) if it suffices, take the word back and go on; (4) otherwise park until the deadline;
//! (5) take the word back.
//! Producer: (a) send, which moves the channel's tail; (b) load the word; (c) if it holds a number, count the items in the
//! channel; (d) if they reach the number, compare-exchange the word to 0 and, if that succeeded, unpark the flusher.
//!
//! The race: the last item that the batch needs is sent just as the flusher falls asleep. Steps (1), (2), (a) and (b) are
//! SeqCst, so they have one order. If (1) comes before (b), the producer sees the number; it counts after its own send and
//! after every send that precedes it in that order, so the one whose send comes last counts them all and wakes. If (b) comes
//! before (1), then so does (a), and the count in (2) has that item. The re-check (2) is what makes it whole: without it the
//! flusher sleeps on an item whose producer saw the word still at 0 (the model `the_completing_add_wakes_the_flusher` fails).
//!
//! Only the producer whose compare-exchange succeeds unparks: one wake-up a sleep. A ring (flush, close, a smaller size, a
//! freed place for failed rows) changes its own state first, then takes the number away and unparks always: the parker keeps
//! the token, so a ring between (2) and (4) ends the park at once.
//!
//! # Orderings
//! SeqCst throughout, in one order with the channel's tail: store-then-load on both sides admits nothing less. On the
//! producers' side these are plain loads.
//!
//! A flusher that blocks in the channel's own receive was measured against this: it is woken for every item (3 to 4 times the
//! flusher's CPU an item when paced).

use std::time::Instant;

use crate::sync::{CachePadded, Parker, SeqCstUsize, Unparker, mutant};

/// Set for ever by close.
pub(crate) const CLOSED: usize = 1 << (usize::BITS - 1);

/// Where the flusher sleeps and who wakes it; see the module's doc.
pub(crate) struct Doorbell {
    /// See the table above. On a line of its own: every add loads it, and nobody writes it while the flusher is awake.
    word: CachePadded<SeqCstUsize>,
    unparker: Unparker,
}

impl Doorbell {
    pub(crate) fn new(parker: &Parker) -> Self {
        Self { word: CachePadded::new(SeqCstUsize::new(0, "doorbell")), unparker: parker.unparker().clone() }
    }

    /// The word, for an add to judge.
    #[inline]
    pub(crate) fn word(&self) -> usize {
        self.word.load()
    }

    /// Whether the batcher is closed.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load() & CLOSED != 0
    }

    /// Closes for ever; true for the first.
    pub(crate) fn close(&self) -> bool {
        self.word.fetch_or(CLOSED) & CLOSED == 0
    }

    /// Wakes the flusher, whatever it sleeps for. What it is to find was written before.
    pub(crate) fn ring(&self) {
        self.word.fetch_and(CLOSED);
        if !mutant("doorbell: a ring without unpark") {
            self.unparker.unpark();
        }
    }

    /// Step (d): wakes the flusher if nobody else did since the word was read.
    pub(crate) fn ring_for(&self, word: usize) {
        if self.word.compare_exchange(word, 0).is_ok() && !mutant("doorbell: a completing add without unpark") {
            self.unparker.unpark();
        }
    }

    /// Steps (1) to (5). `wanted` is how many items in the channel end the sleep, 0 for none; `enough` is the re-check.
    pub(crate) fn sleep(
        &self,
        parker: &Parker,
        wanted: usize,
        deadline: Option<Instant>,
        enough: impl FnOnce() -> bool,
    ) {
        let announced = wanted > 0 && self.announce(wanted.min(CLOSED - 1));
        // Not announced although something is wanted: closed meanwhile; the flusher looks again.
        if (wanted == 0 || announced) && (mutant("doorbell: no re-check") || !enough()) {
            match deadline {
                Some(deadline) => parker.park_deadline(deadline),
                None => parker.park(),
            }
        }
        if announced && !mutant("doorbell: the word is not taken back") {
            self.word.fetch_and(CLOSED);
        }
    }

    /// Step (1). A compare-exchange, so that the closed bit stays.
    fn announce(&self, wanted: usize) -> bool {
        if mutant("doorbell: an announcement over the closed bit") {
            self.word.fetch_and(0);
            self.word.fetch_or(wanted);
            return true;
        }
        self.word.compare_exchange(0, wanted).is_ok()
    }
}
