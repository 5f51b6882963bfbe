//! The coalesced wake-up: while a batch fills, the flusher sleeps until the batch is due or can be
//! full, and the producer that completes it, only that one, wakes it.
//!
//! Written by the flusher (how many items it sleeps for), by close (the closed bit) and by whoever
//! rings; read by every add. One word holds both, so that an add looks at one word: before it
//! sends, whether the batcher is closed; after it has sent, whether anybody needs anything of it.
//!
//! | word | state | what a producer does after its send |
//! | --- | --- | --- |
//! | 0 | open, the flusher is awake or sleeps for no item | nothing |
//! | 1..FAR | near: open, the flusher sleeps until so many items are in the channel | counts; if they are there, wakes |
//! | FAR + number | far: the same, and many are missing; the number is this sleep's | nothing while it is ahead; see below |
//! | CLOSED + … | closed | confirms whether its item was accepted (see `queue::gate`) |
//!
//! # Protocol
//! Flusher: (1) compare-exchange the word from 0 to `wanted`; (2) count the items in the channel,
//! look again at everything else that could end the sleep; (3) if it suffices, take the word back
//! and go on; (4) otherwise park until the deadline; (5) take the word back. Producer: (a) send,
//! which moves the channel's tail; (b) load the word; (c) if it holds a number, count the items in
//! the channel; (d) if they reach the number, compare-exchange the word to 0 and, if that
//! succeeded, unpark the flusher.
//!
//! The race: the last item that the batch needs is sent just as the flusher falls asleep. Steps
//! (1), (2), (a) and (b) are SeqCst, so they have one order. If (1) comes before (b), the producer
//! sees the number; it counts after its own send and after every send that precedes it in that
//! order, so the one whose send comes last counts them all and wakes. If (b) comes before (1), then
//! so does (a), and the count in (2) has that item. The re-check (2) is what makes it whole:
//! without it the flusher sleeps on an item whose producer saw the word still at 0 (the model
//! `the_completing_add_wakes_the_flusher` fails).
//!
//! # Far
//! Counting what is in the channel is most of what an add costs beyond its send (4.4 of 18.7 ns,
//! the bare send being 13.8), and pointless while hundreds are missing. So a flusher that misses
//! many announces how many may come uncounted, `ahead`. A producer that finds the word far takes a
//! share of those, [`share::ITEMS`] at a time, for its own next adds to this sleep (15.4 ns). One
//! that gets none makes the word near, first, and counts, second.
//!
//! Flusher: (1) counts the items, sets `ahead` to fewer than are missing, announces far; (2) counts
//! again, and stays awake unless they and `ahead` are fewer than wanted. Producer: (c') if this
//! thread has a share in this sleep left, uses up one of it; otherwise takes a share off `ahead`;
//! if that is not to be had, compare-exchanges the word from far to near, and goes on with (c).
//!
//! The race: the batch becomes full by adds that did not count. What (2) did not count was sent, or
//! the items of a chunk counted in, after it, so its producer saw the announcement. While each of
//! those had a share, they are at most `ahead`, and the batch is not full. So one of them got none,
//! and its producer, or another before it, makes the word near, in (c'). Any other add either
//! loaded the word before that: then the count that follows has it; or it loads it after that,
//! finds it near, and counts for itself, the last one all. A share is worth nothing in another
//! sleep: sleeps of all batchers have different numbers. One taken off the `ahead` of a later sleep
//! than was announced makes that smaller, never larger; below zero is none. Nor is it worth
//! anything in a closed batcher, whose word is no number of a sleep.
//!
//! # Rings
//! Only the producer whose compare-exchange succeeds unparks: one wake-up a sleep. A ring (flush,
//! close, a smaller size, a freed place for failed rows) changes its own state first, then takes
//! the number away and unparks always: the parker keeps the token, so a ring between (2) and (4)
//! ends the park at once.
//!
//! # Orderings
//! SeqCst throughout, in one order with the channel's tail: store-then-load on both sides admits
//! nothing less. On the producers' side these are plain loads, but for one read-modify-write a
//! share. Only `wanted` is Relaxed: the word publishes it.
//!
//! A flusher that blocks in the channel's own receive was measured against this: it is woken for
//! every item (3 to 4 times the flusher's CPU an item when paced).

use std::time::Instant;

use crate::sync::{AtomicUsize, CachePadded, Ordering, Parker, SeqCstUsize, Unparker, share};

/// Set forever by close.
pub(crate) const CLOSED: usize = 1 << (usize::BITS - 1);
/// Set during a sleep from which much is missing.
pub(crate) const FAR: usize = 1 << (usize::BITS - 2);

/// Where the flusher sleeps and who wakes it; see the module's doc.
pub(crate) struct Doorbell {
    /// See the table above. On a line of its own: every add loads it, and nobody writes it while
    /// the flusher is awake.
    word: CachePadded<SeqCstUsize>,
    /// How many items may come uncounted, as a wrapping number that may pass below zero: set by the
    /// flusher before it announces a far sleep, taken by producers in shares. On a line of its own:
    /// taking a share disturbs no add that has one.
    ahead: CachePadded<SeqCstUsize>,
    /// What the flusher sleeps for: written by it before it announces a far sleep, read by who
    /// makes that near.
    wanted: AtomicUsize,
    unparker: Unparker,
}

/// How many of the missing items may come uncounted: none if that is less than a share. None where
/// a word is too short for numbers of sleeps that never come again.
pub(crate) fn uncounted(missing: usize) -> usize {
    let ahead = missing.saturating_sub(share::COUNTED);
    if ahead < share::ITEMS || usize::BITS < 64 {
        0
    } else {
        ahead
    }
}

impl Doorbell {
    pub(crate) fn new(parker: &Parker) -> Self {
        Self {
            word: CachePadded::new(SeqCstUsize::new(0)),
            ahead: CachePadded::new(SeqCstUsize::new(0)),
            wanted: AtomicUsize::new(0),
            unparker: parker.unparker().clone(),
        }
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

    /// Closes forever; true for the first.
    pub(crate) fn close(&self) -> bool {
        self.word.fetch_or(CLOSED) & CLOSED == 0
    }

    /// Wakes the flusher, whatever it sleeps for. What it is to find was written before.
    pub(crate) fn ring(&self) {
        self.word.fetch_and(CLOSED);
        self.unparker.unpark();
    }

    /// Step (d): wakes the flusher if nobody else did since the word was read.
    pub(crate) fn ring_for(&self, word: usize) {
        if self.word.compare_exchange(word, 0).is_ok() {
            self.unparker.unpark();
        }
    }

    /// Step (c') in a far sleep, after the send of so many items: what to count up to, if they got
    /// no share.
    pub(crate) fn come_near(&self, word: usize, items: usize) -> Option<usize> {
        if let Some(left) = self.take_share(items) {
            share::keep(word, left);
            return None;
        }
        // Relaxed: the load of the word, which saw this sleep announced, comes first. With another
        // sleep's number the compare-exchange fails.
        let wanted = self.wanted.load(Ordering::Relaxed);
        // Otherwise somebody else did, and counts after this add's send. Or this sleep is over:
        // the flusher looks after this add's send, or was closed after it.
        self.word
            .compare_exchange(word, wanted)
            .is_ok()
            .then_some(wanted)
    }

    /// Takes a share off `ahead`, if it is to be had; returns what is left of it behind so many
    /// items.
    fn take_share(&self, items: usize) -> Option<usize> {
        let taken = items.max(share::ITEMS);
        let ahead = self.ahead.fetch_sub(taken);
        // Signed: adds to an earlier sleep may have taken more than there is.
        let is_had = ahead as isize >= taken as isize;
        is_had.then_some(taken - items)
    }

    /// Steps (1) to (5). `wanted` is how many items in the channel end the sleep, 0 for none;
    /// `enough` is the re-check.
    pub(crate) fn sleep(
        &self,
        parker: &Parker,
        wanted: usize,
        deadline: Option<Instant>,
        enough: impl FnOnce() -> bool,
    ) {
        self.sleep_far(parker, (wanted, 0), deadline, enough);
    }

    /// The same with so many `ahead`, which may come uncounted; then `enough` must hold where what
    /// is there and those suffice.
    pub(crate) fn sleep_far(
        &self,
        parker: &Parker,
        (wanted, ahead): (usize, usize),
        deadline: Option<Instant>,
        enough: impl FnOnce() -> bool,
    ) {
        let wanted = wanted.min(FAR - 1);
        let announced = wanted > 0
            && if ahead == 0 {
                self.announce(wanted)
            } else {
                self.announce_far(wanted, ahead)
            };
        // Not announced although something is wanted: closed meanwhile; the flusher looks again.
        if (wanted == 0 || announced) && !enough() {
            match deadline {
                Some(deadline) => parker.park_deadline(deadline),
                None => parker.park(),
            }
        }
        if announced {
            self.word.fetch_and(CLOSED);
        }
    }

    /// Step (1). A compare-exchange, so that the closed bit stays.
    fn announce(&self, wanted: usize) -> bool {
        self.word.compare_exchange(0, wanted).is_ok()
    }

    /// Step (1) of a far sleep: first what the number stands for, then the number.
    fn announce_far(&self, wanted: usize, ahead: usize) -> bool {
        // Relaxed: published with the word.
        self.wanted.store(wanted, Ordering::Relaxed);
        self.ahead.swap(ahead);
        self.announce(FAR | share::next_sleep())
    }
}
