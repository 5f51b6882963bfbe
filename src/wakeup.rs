//! The coalesced wake-up of the flusher. While a batch fills, the flusher sleeps until the batch is
//! due or can be full. Only the producer that completes the batch wakes it.
//!
//! One word holds the state. The flusher writes it when it goes to sleep. Close sets one of its
//! bits. Whoever wakes the flusher clears it. Every add loads it twice: before its send, to see
//! whether the batcher is closed; after its send, to see whether the flusher waits for it.
//!
//! | word | state | what a producer does after its send |
//! | --- | --- | --- |
//! | 0 | open; the flusher is awake, or its sleep waits for no item | nothing |
//! | a number below `ON_CREDIT` | open; the flusher sleeps until this many items are in the channel | counts the items in the channel; if there are that many, wakes the flusher |
//! | `ON_CREDIT` + the id of the sleep | open; the flusher sleeps, and many items are missing | spends a credit; without one, see [Credits](#credits) |
//! | `CLOSED` + anything | closed | finds out whether its item was accepted (see `queue::gate`) |
//!
//! # Protocol
//! Flusher:
//!
//! - (1) Compare-exchange the word from 0 to `wanted`.
//! - (2) Count the items in the channel, and check everything else that can end the sleep.
//! - (3) If the sleep has no reason any more, skip (4).
//! - (4) Park until the deadline.
//! - (5) Clear the word, except for the closed bit.
//!
//! Producer:
//!
//! - (a) Send, which moves the channel's tail. A chunk's further items are counted in here, too.
//! - (b) Load the word.
//! - (c) If the word is a number, count the items in the channel.
//! - (d) If there are that many, compare-exchange the word to 0. If that succeeds, unpark the
//!   flusher.
//!
//! The race: the item that completes the batch is sent while the flusher falls asleep. Steps (1),
//! (2), (a) and (b) are SeqCst, so they have one total order. Take the item whose (a) comes last in
//! that order.
//!
//! - Its (b) comes after (1). Its producer sees the number. It counts after its own send, and so
//!   after every send. It finds all items and wakes the flusher.
//! - Its (b) comes before (1). Then every send comes before (1), and so before (2). The flusher
//!   finds all items in (2) and stays awake.
//!
//! The second case needs the check in (2). Without it the model
//! `the_completing_add_wakes_the_flusher` fails.
//!
//! # Credits
//! The count in (c) is most of what an add costs beyond its send: 4.4 of 18.7 ns, where a bare send
//! takes 13.8. It is useless while hundreds of items are missing. So the flusher gives a credit to
//! most of the missing items, and an add that spends a credit does not count. A producer leases
//! [`credit::LEASE`] credits at a time, for its own next adds. Then an add takes 15.4 ns.
//!
//! Flusher:
//!
//! - (1) Count the items in the channel. Set `credits` to less than what is missing.
//!   Compare-exchange the word from 0 to `ON_CREDIT` + a new id.
//! - (2) Count again. Stay awake unless the items and the credits together are less than `wanted`.
//!
//! Producer, where (b) found a sleep on credit:
//!
//! - (c1) If this thread's lease is of this sleep and has credits left, spend one for each item,
//!   and end.
//! - (c2) Otherwise take a lease off `credits`. If `credits` held that much, end.
//! - (c3) Otherwise compare-exchange the word to `wanted`. If that succeeds, go on with (c). If
//!   not, end: another producer has done it, or the sleep is over.
//!
//! The race: the batch becomes full by adds that do not count. Every item that (2) did not count
//! was sent after (2), so its producer saw the sleep. At most `credits` of these items have a
//! credit, and these alone do not fill the batch. So at least one of them has none, and its
//! producer comes to (c3). Take the first compare-exchange of (c3) that succeeds, and the item
//! whose (a) comes last.
//!
//! - The item's (b) comes before the compare-exchange. Then so does every send. The count after the
//!   compare-exchange finds all items.
//! - The item's (b) comes after it. Its producer sees the number and counts, and finds all items.
//!
//! A lease is void in every other sleep, since no two sleeps in a process have the same id. It is
//! void in a closed batcher, since no id has the closed bit. A producer that saw an earlier sleep
//! may take a lease off the credits of a later one. Its item was sent before the later sleep began,
//! so (2) counts it. The later sleep has fewer credits then, never more. Below zero is none.
//!
//! # Rings
//! Only the producer whose compare-exchange in (d) succeeds unparks: one wake-up for one sleep. A
//! ring (a flush, a close, a smaller size, room for failed rows) first changes its own state. Then
//! it clears the word and always unparks. The parker keeps the token, so a ring between (2) and (4)
//! ends the park at once.
//!
//! # Orderings
//! All accesses are SeqCst, in one order with the channel's tail. Both sides store and then load,
//! and nothing weaker orders that. Producers pay for plain loads, and for one read-modify-write a
//! lease. Only `wanted` is Relaxed: the word publishes it.
//!
//! The alternative was measured: a flusher that blocks in the channel's own receive. It wakes for
//! every item, and takes 3 to 4 times the CPU an item where items come at a pace.

use std::time::Instant;

use crate::sync::{AtomicUsize, CachePadded, Ordering, Parker, SeqCstUsize, Unparker, credit};

/// Set forever by close.
pub(crate) const CLOSED: usize = 1 << (usize::BITS - 1);
/// Set during a sleep on credit.
pub(crate) const ON_CREDIT: usize = 1 << (usize::BITS - 2);

/// Where the flusher sleeps and who wakes it; see the module's doc.
pub(crate) struct Doorbell {
    /// See the table above. On a line of its own: every add loads it, and nobody writes it while
    /// the flusher is awake.
    word: CachePadded<SeqCstUsize>,
    /// How many items may be added uncounted, as a wrapping number that may pass below zero. The
    /// flusher sets it before it announces a sleep on credit, and producers take leases off it. On
    /// a line of its own: taking a lease disturbs no add that has one.
    credits: CachePadded<SeqCstUsize>,
    /// How many items end a sleep on credit. The flusher writes it before it announces the sleep,
    /// and the producer of step (c3) reads it.
    wanted: AtomicUsize,
    unparker: Unparker,
}

/// How many of the missing items get a credit. None do if that is less than one lease, or if a word
/// is too short for ids that never repeat.
pub(crate) fn credits_for(missing: usize) -> usize {
    let credits = missing.saturating_sub(credit::RESERVE);
    if credits < credit::LEASE || usize::BITS < 64 {
        0
    } else {
        credits
    }
}

impl Doorbell {
    pub(crate) fn new(parker: &Parker) -> Self {
        Self {
            word: CachePadded::new(SeqCstUsize::new(0)),
            credits: CachePadded::new(SeqCstUsize::new(0)),
            wanted: AtomicUsize::new(0),
            unparker: parker.unparker().clone(),
        }
    }

    /// The word, see the table in the module's doc.
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

    /// Wakes the flusher, whatever it sleeps for. The caller has changed before what the flusher is
    /// to see.
    pub(crate) fn ring(&self) {
        self.word.fetch_and(CLOSED);
        self.unparker.unpark();
    }

    /// Step (d): wakes the flusher, unless somebody else has since the word was loaded.
    pub(crate) fn ring_for(&self, word: usize) {
        if self.word.compare_exchange(word, 0).is_ok() {
            self.unparker.unpark();
        }
    }

    /// Steps (c1) to (c3), after the send of `items`; the lease at hand did not cover them. Returns
    /// the number to count up to if (c3) succeeded.
    pub(crate) fn lease_or_count(&self, word: usize, items: usize) -> Option<usize> {
        if let Some(left) = self.take_lease(items) {
            credit::keep(word, left);
            return None;
        }
        // Relaxed: the load of the word comes first, and it published this sleep's number. With the
        // number of another sleep the compare-exchange fails.
        let wanted = self.wanted.load(Ordering::Relaxed);
        // If it fails, another producer's succeeded, and its count follows this add's send. Or this
        // sleep is over: the flusher counts after this add's send, or the close finds the item.
        self.word
            .compare_exchange(word, wanted)
            .is_ok()
            .then_some(wanted)
    }

    /// Takes a lease off `credits` that covers `items`. Returns what is left of it after them, or
    /// `None` if `credits` did not hold as much.
    fn take_lease(&self, items: usize) -> Option<usize> {
        let lease = items.max(credit::LEASE);
        let credits = self.credits.fetch_sub(lease);
        // Signed: producers of an earlier sleep may have taken more than there is.
        let is_covered = credits as isize >= lease as isize;
        is_covered.then_some(lease - items)
    }

    /// Steps (1) to (5). `wanted` is how many items in the channel end the sleep, 0 for none.
    /// `enough` is the check of step (2).
    pub(crate) fn sleep(
        &self,
        parker: &Parker,
        wanted: usize,
        deadline: Option<Instant>,
        enough: impl FnOnce() -> bool,
    ) {
        self.sleep_on_credit(parker, (wanted, 0), deadline, enough);
    }

    /// The same with this many credits, 0 for none. Then `enough` must be true if the items in the
    /// channel and the credits together are as many as wanted.
    pub(crate) fn sleep_on_credit(
        &self,
        parker: &Parker,
        (wanted, credits): (usize, usize),
        deadline: Option<Instant>,
        enough: impl FnOnce() -> bool,
    ) {
        let wanted = wanted.min(ON_CREDIT - 1);
        let announced = wanted > 0
            && if credits == 0 {
                self.announce(wanted)
            } else {
                self.announce_on_credit(wanted, credits)
            };
        // If an announcement failed, the batcher was closed meanwhile: the flusher checks again.
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

    /// Step (1) of a sleep on credit. The word comes last: it publishes the two numbers.
    fn announce_on_credit(&self, wanted: usize, credits: usize) -> bool {
        // Relaxed: published with the word.
        self.wanted.store(wanted, Ordering::Relaxed);
        self.credits.swap(credits);
        self.announce(ON_CREDIT | credit::next_sleep())
    }
}
