//! A lane: one queue and what lies behind it, up to its flusher. Producers come through the gate;
//! what they added waits in the backlog, under one lock, for the flusher.
//!
//! The gate knows nothing of the backlog. An add whose send may have come after the close comes
//! back to the lane, which asks the backlog: step (4) in the protocol of `gate`.

use crate::error::AddError;
use crate::flush::backlog::Backlog;
use crate::journal::Journal;
use crate::observe::Event;
use crate::queue::channel::Outlet;
use crate::queue::gate::{Admission, Gate, GateSettings, Patience};
use crate::queue::message::{CHUNK_ITEMS_MAX, Chunk, Extra, Load, Message, Tracked};
use crate::queue::refusal::{Refusal, Returned};
use crate::sync::{
    Arc, CachePadded, Condvar, Mutex, MutexGuard, Shared, TrySendError, now, thread_tag,
};
use crate::ticket::Resolver;
use crate::unwind::drop_each;
use crate::wakeup::Doorbell;

/// See the module's doc.
pub(crate) struct Lane<T> {
    pub(crate) gate: Gate<T>,
    /// Whether the batcher has others: then a close closes them together, see `lanes`.
    is_one_of_several: bool,
    /// On lines of its own: the flusher writes here at every gather, producers read the fields
    /// alongside it at every add.
    backlog: CachePadded<Mutex<Backlog<T>>>,
    /// Goes with `backlog`: an outcome for a flush, the end of a close.
    pub(crate) changed: Condvar,
    journal: Shared<Journal>,
}

/// How much of a chunk was accepted.
struct ChunkSent<T> {
    items: usize,
    /// What there was no room for.
    left: Option<Box<Chunk<T>>>,
}

impl<T> Lane<T> {
    pub(crate) fn new(
        settings: GateSettings<T>,
        doorbell: Arc<Doorbell>,
        batcher_id: u64,
        is_one_of_several: bool,
        backlog: impl FnOnce(Outlet<T>) -> Backlog<T>,
    ) -> Self {
        let (gate, outlet) = Gate::new(settings, doorbell, batcher_id);
        Self {
            gate,
            is_one_of_several,
            backlog: CachePadded::new(Mutex::new(backlog(outlet))),
            changed: Condvar::new(),
            journal: Shared::new(Journal::new(now())),
        }
    }

    /// With the journal of its batcher.
    pub(crate) fn of(mut self, journal: &Shared<Journal>) -> Self {
        self.journal = Shared::clone(journal);
        self
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Puts rows that have failed into the journal. Without the lock: their errors are the user's
    /// values.
    pub(crate) fn journal_failures(&self) {
        let mut backlog = self.lock();
        let mut notes = std::mem::take(&mut backlog.failure_notes);
        drop(backlog);
        if notes.is_empty() {
            return;
        }
        self.journal.failures(&notes, now());
        let panics = drop_each(&mut notes);
        if panics > 0 {
            self.lock().counts.observe(Event::DropsPanicked(panics));
        }
    }

    /// The consumer's side, under its lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Backlog<T>> {
        self.backlog.lock()
    }

    /// Whether the batcher is closed: this lane and all others.
    pub(crate) fn is_closed(&self) -> bool {
        let closed = self.gate.doorbell.is_closed();
        if closed {
            self.pass_close();
        }
        closed
    }

    /// This lane is closed: until the close has set the closed bits of all, see `lanes`.
    fn pass_close(&self) {
        if self.is_one_of_several && !self.gate.is_orphaned() {
            drop(self.lock());
        }
    }

    /// Adds one item.
    pub(crate) fn add(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        if self.gate.weigher.is_some() || self.gate.doorbell.is_closed() {
            self.add_tracked(item, None, patience)
        } else {
            self.add_plain(item, patience)
        }
    }

    /// Adds one item without a weight. Inlined, see [`Gate::try_send_one`]. All that is rare stands
    /// in functions of its own, so that this one keeps to few registers.
    #[inline(always)]
    pub(crate) fn add_plain(&self, item: T, patience: Patience) -> Result<(), AddError<T>> {
        let tag = thread_tag();
        match self.gate.try_send_one(tag, item) {
            Ok(()) => match self.gate.asked(1) {
                None => Ok(()),
                Some(word) => self.answer_one(tag, word),
            },
            Err(refused) => self.add_refused(refused, tag, patience),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_refused(
        &self,
        refused: TrySendError<Message<T>>,
        tag: u32,
        patience: Patience,
    ) -> Result<(), AddError<T>> {
        let sent = self.gate.send_refused(refused, patience);
        self.one(self.confirmed(tag, Extra::NONE, sent))
    }

    #[inline(never)]
    fn answer_one(&self, tag: u32, word: usize) -> Result<(), AddError<T>> {
        let admission = self.gate.answer(word, 1, || false);
        self.one(self.confirmed(tag, Extra::NONE, Ok(admission)))
    }

    /// Adds one item that carries a weight or a ticket.
    pub(crate) fn add_tracked(
        &self,
        item: T,
        ticket: Option<Resolver>,
        patience: Patience,
    ) -> Result<(), AddError<T>> {
        if self.gate.doorbell.is_closed() {
            return Err(self.refuse(Refusal::Closed, item));
        }
        let weight = match self.gate.weigh(&item) {
            Ok(weight) => weight,
            Err(refusal) => return Err(self.refuse(refusal, item)),
        };
        if let Err(refusal) = self.gate.take_weight(&[weight], patience) {
            return Err(self.refuse(refusal, item));
        }
        let tag = thread_tag();
        let tracked = Tracked {
            item,
            weight,
            ticket,
        };
        let message = Message {
            tag,
            load: Load::Tracked(Box::new(tracked)),
        };
        let extra = Extra { items: 0, weight };
        let sent = self.gate.send(message, extra, patience);
        let sent = self.confirmed(tag, extra, sent);
        if sent.is_err() {
            self.gate.give_weight_back(weight);
        }
        self.one(sent)
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
            let mut chunk = self.gate.spare_chunks.take();
            // `by_ref`: what this chunk does not take stays for the next, or for the error.
            let more = rest.by_ref().take(CHUNK_ITEMS_MAX - 1);
            let too_heavy = if self.gate.weigher.is_some() {
                self.weigh_into(&mut chunk, std::iter::once(first).chain(more))
            } else {
                chunk.items.push(first);
                chunk.items.extend(more);
                None
            };
            let mut unsent = Some(chunk);
            while let Some(chunk) = unsent.take() {
                if chunk.items.is_empty() {
                    self.gate.spare_chunks.put(chunk);
                    break;
                }
                match self.add_chunk(chunk, patience) {
                    Ok(sent) => {
                        added += sent.items;
                        unsent = sent.left;
                    }
                    Err((refusal, mut chunk)) => {
                        let mut back = Vec::new();
                        back.append(&mut chunk.items);
                        back.extend(too_heavy.into_iter().chain(rest));
                        return Err(self.refuse(refusal, back));
                    }
                }
            }
            if let Some(item) = too_heavy {
                let back = std::iter::once(item).chain(rest).collect();
                return Err(self.refuse(Refusal::TooHeavy, back));
            }
        }
        Ok(added)
    }

    /// Puts items with their weights into the chunk, up to the first that is too heavy.
    fn weigh_into(&self, chunk: &mut Chunk<T>, items: impl Iterator<Item = T>) -> Option<T> {
        for item in items {
            let Ok(weight) = self.gate.weigh(&item) else {
                return Some(item);
            };
            chunk.items.push(item);
            chunk.weights.push(weight);
        }
        None
    }

    /// Sends as much of the chunk as there are permits for, at least one item.
    fn add_chunk(
        &self,
        mut chunk: Box<Chunk<T>>,
        patience: Patience,
    ) -> Result<ChunkSent<T>, (Refusal, Box<Chunk<T>>)> {
        if self.gate.doorbell.is_closed() {
            return Err((Refusal::Closed, chunk));
        }
        let granted = match self.gate.take_room(&chunk, patience) {
            Ok(granted) => granted,
            Err(refusal) => return Err((refusal, chunk)),
        };
        let items = granted.items;
        let left = (items < chunk.items.len()).then(|| {
            let mut left = self.gate.spare_chunks.take();
            left.items.extend(chunk.items.drain(items..));
            left.weights
                .extend(chunk.weights.drain(items.min(chunk.weights.len())..));
            left
        });
        // Wrapping, as the sum of all is.
        let weight = chunk
            .weights
            .iter()
            .fold(0, |sum: usize, weight| sum.wrapping_add(*weight));
        let extra = Extra {
            items: items - 1,
            weight,
        };
        let tag = thread_tag();
        let message = Message {
            tag,
            load: Load::Chunk(chunk),
        };
        let sent = self.gate.send(message, extra, patience);
        match self.confirmed(tag, extra, sent) {
            Ok(()) => Ok(ChunkSent { items, left }),
            Err(Returned { refusal, message }) => {
                self.gate.permits.release(items);
                self.gate.give_weight_back(granted.weight);
                let mut chunk = message.into_chunk();
                if let Some(mut left) = left {
                    chunk.items.append(&mut left.items);
                    chunk.weights.append(&mut left.weights);
                }
                Err((refusal, chunk))
            }
        }
    }

    /// Step (4) of an add, where the close left open whether this thread's message was accepted.
    fn confirmed(
        &self,
        tag: u32,
        extra: Extra,
        sent: Result<Admission, Returned<T>>,
    ) -> Result<(), Returned<T>> {
        if let Admission::Accepted = sent? {
            return Ok(());
        }
        match self.lock().incoming.confirm_admission(tag) {
            None => Ok(()),
            Some(message) => {
                self.gate.uncount(extra);
                Err(Returned {
                    refusal: Refusal::Closed,
                    message,
                })
            }
        }
    }

    /// Counts what an add has come to, if it was refused.
    ///
    /// Not by `inspect_err`, which moves the whole result: the item's size, at each add.
    #[inline(always)]
    pub(crate) fn counted<R, I>(&self, added: Result<R, AddError<I>>) -> Result<R, AddError<I>> {
        match added {
            Ok(added) => Ok(added),
            Err(refused) => Err(self.count(refused)),
        }
    }

    #[cold]
    #[inline(never)]
    fn count<I>(&self, refused: AddError<I>) -> AddError<I> {
        self.gate.refusals.count((&refused).into());
        refused
    }

    /// Attaches the item to its refusal.
    fn one(&self, sent: Result<(), Returned<T>>) -> Result<(), AddError<T>> {
        sent.map_err(|Returned { refusal, message }| self.refuse(refusal, message.into_item()))
    }

    fn refuse<R>(&self, refusal: Refusal, refused: R) -> AddError<R> {
        if refusal == Refusal::Closed {
            self.pass_close();
        }
        refusal.of(refused)
    }
}
