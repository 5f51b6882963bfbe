//! The consumer's side of the queue: everything that waits, under one lock. The flusher takes from it, close empties it.
//!
//! The flusher holds the lock only while it moves messages, never while it sleeps or runs user code, and only what handler or
//! hook holds at this moment is on the flusher's stack. The rest, surplus, parts of a batch that wait for their turn, failed
//! rows that wait for the hook, lies here, where a close that runs out of time can take it.
//!
//! # Positions
//! Messages are numbered as they leave the channel, which is the order in which they entered it. `gathered` counts those that
//! are wholly in batches; the surplus begins there, the channel behind it. A flush waits for a position: all that was sent
//! before the call lies below `gathered + surplus + channel length`, whether the channel is full or not, so it needs no marker.
//!
//! # Age
//! An add reads no clock. At each look at the queue the flusher notes its end and the time; an item at or behind that
//! position was added later than that. The age of the first item is taken from the latest note at or before its position, so
//! it is never too low, and too high by one look at most: an item is never overdue unseen, at most one call early.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::batch::{Batch, BatchId, Closing, Course, Failed, Trigger};
use crate::queue::{Chunk, Message, Queue};
use crate::stats::Counts;
use crate::sync::{Arc, Receiver, mutant};
use crate::ticket::{Outcome, Resolver};

/// Notes of age kept at most; beyond it none is added, and an age may be over-estimated by more than one look.
const NOTES_MAX: usize = 64;

/// How far the batcher is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Items are accepted.
    Open,
    /// Closed to producers; the flusher handles what is left.
    Closing,
    /// A close ran out of time and took everything; the flusher stops when its user code returns.
    Abandoned,
    /// The flusher has stopped.
    Done,
}

/// What is in force at this look, from the setpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    pub(crate) probe: bool,
}

/// What the flusher does next.
#[allow(clippy::large_enum_variant, reason = "moved once a batch; a box would be an allocation once a batch")]
pub(crate) enum Step<T> {
    /// Lend this batch; so many items gave their credit back.
    Lend(Batch<T>),
    /// Give this row to the hook.
    Hook(Failed<T>),
    /// Nothing until so many items are in the channel, the deadline, or a ring.
    Sleep { wanted: usize, deadline: Option<Instant> },
    /// Nothing any more.
    Stop,
}

/// What the handler holds at this moment.
pub(crate) struct Lent {
    pub(crate) items: usize,
    pub(crate) tickets: Vec<(usize, Resolver)>,
}

/// The search for the bad rows of one batch.
#[derive(Clone, Copy, Default)]
pub(crate) struct Search {
    /// Rows in the whole batch; 0 while none is searched.
    pub(crate) whole: usize,
    /// Failed calls of its parts since one succeeded.
    pub(crate) run: u32,
    /// Waits for an outage to end since one succeeded.
    pub(crate) outage_waits: u32,
}

/// Somebody who waits in `flush`.
struct Waiter {
    id: u64,
    /// Every message before this position.
    target: u64,
    /// The sequence number of the first item behind the target, once gathered so far.
    boundary: Option<u64>,
    /// Items before the target that failed since the call.
    failed: u64,
    done: bool,
}

/// See the module's doc.
pub(crate) struct Intake<T> {
    receiver: Receiver<Message<T>>,
    /// Taken out of the channel, first in line. After close: all that was accepted.
    surplus: VecDeque<Message<T>>,
    /// Items in `surplus`.
    surplus_items: usize,
    /// Sent behind the close; each waits for its producer to take it back.
    late: Vec<Message<T>>,
    /// Messages wholly in batches.
    gathered: u64,
    /// Items in batches: the sequence number of the next.
    gathered_items: u64,
    /// Items beyond one a message that left the channel.
    extra_taken: u64,
    notes: VecDeque<(u64, Instant)>,
    /// The last look found nothing to wait for: the next item's age counts from the wake-up.
    was_idle: bool,
    /// Everything before this position is handed over without waiting for size, linger or pause.
    urgent_before: u64,
    waiters: Vec<Waiter>,
    next_waiter: u64,
    /// The batch under way in parts, first part first; empty if none is, or if its only part is lent.
    pub(crate) parts: VecDeque<Batch<T>>,
    pub(crate) lent: Option<Lent>,
    /// No batch before this time.
    pub(crate) pause_until: Option<Instant>,
    /// Failed rows that wait for the hook.
    pub(crate) for_hook: VecDeque<Failed<T>>,
    /// Failed rows kept for `take_failed` and the close report.
    pub(crate) kept: Vec<Failed<T>>,
    pub(crate) keep_failed: usize,
    pub(crate) has_hook: bool,
    pub(crate) stalled: bool,
    pub(crate) phase: Phase,
    /// Whether somebody has, or will have, the lists of the close report.
    pub(crate) collected: bool,
    /// The owner was dropped on one of the batcher's own threads: the flusher delivers the report when it ends.
    pub(crate) deliver_at_end: bool,
    /// What was added in all, once closed.
    added_at_close: Option<u64>,
    pub(crate) counts: Counts,
    /// How the search for the bad rows of the batch under way stands.
    pub(crate) search: Search,
    /// An emptied batch, for its buffers.
    spare: Option<Batch<T>>,
    random: u64,
    batches: u64,
    closing: Arc<Closing>,
}

impl<T> Intake<T> {
    pub(crate) fn new(
        receiver: Receiver<Message<T>>,
        closing: Arc<Closing>,
        random: u64,
        now: Instant,
        (has_hook, keep_failed): (bool, usize),
    ) -> Self {
        Self {
            receiver,
            surplus: VecDeque::new(),
            surplus_items: 0,
            late: Vec::new(),
            gathered: 0,
            gathered_items: 0,
            extra_taken: 0,
            notes: VecDeque::from([(0, now)]),
            was_idle: false,
            urgent_before: 0,
            waiters: Vec::new(),
            next_waiter: 0,
            parts: VecDeque::new(),
            lent: None,
            pause_until: None,
            for_hook: VecDeque::new(),
            kept: Vec::new(),
            keep_failed,
            has_hook,
            stalled: false,
            phase: Phase::Open,
            collected: false,
            deliver_at_end: false,
            added_at_close: None,
            counts: Counts::default(),
            search: Search::default(),
            spare: None,
            random,
            batches: 0,
            closing,
        }
    }

    // ---- admission and close, from the producers' side ----

    /// Step (4) of an add: the message with this tag, if it was sent behind the close.
    pub(crate) fn settle_late(&mut self, tag: usize) -> Option<Message<T>> {
        while let Ok(message) = self.receiver.try_recv() {
            self.late.push(message);
        }
        let place = self.late.iter().position(|message| message.tag() == tag)?;
        Some(self.late.swap_remove(place))
    }

    /// Steps (b) to (d) of a close; true for the first. Afterwards the caller wakes who waits for credit.
    pub(crate) fn close(&mut self, queue: &Queue<T>, deadline: Option<Instant>) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.phase = Phase::Closing;
        self.closing.begin(deadline);
        let before = mutant("close: length before the closed bit").then(|| self.receiver.len());
        queue.doorbell.close();
        let accepted = before.unwrap_or_else(|| self.receiver.len());
        for _ in 0..accepted {
            // The lock is held and so many are there: each is received, at the latest when its sender has written it.
            let Ok(message) = self.receiver.try_recv() else { break };
            self.left_channel(queue, &message);
            self.surplus_items += message.items();
            self.surplus.push_back(message);
        }
        self.added_at_close = Some(self.gathered_items + self.surplus_items as u64);
        true
    }

    fn left_channel(&mut self, queue: &Queue<T>, message: &Message<T>) {
        if !matches!(message, Message::One { .. }) {
            let extra = message.extra();
            self.extra_taken += extra.items as u64;
            queue.taken_out(extra);
        }
    }

    // ---- flush ----

    /// Behind everything that was sent so far.
    fn end(&self) -> u64 {
        self.gathered
            + self.surplus.len() as u64
            + if self.phase == Phase::Open { self.receiver.len() as u64 } else { 0 }
    }

    /// Asks for everything sent so far to be handed over without waiting; a present pause or backoff is cut once.
    pub(crate) fn request_flush(&mut self, now: Instant) {
        self.urgent_before = self.urgent_before.max(self.end());
        self.pause_until = None;
        if let Some(part) = self.parts.front_mut() {
            part.course.not_before = Some(now);
        }
    }

    /// Registers a flush; `None` if everything sent so far has its outcome.
    pub(crate) fn register_flush(&mut self, now: Instant) -> Option<u64> {
        self.request_flush(now);
        let target = self.end();
        if !self.is_busy() && self.gathered >= target {
            return None;
        }
        self.next_waiter += 1;
        let boundary = (self.gathered >= target).then_some(self.gathered_items);
        self.waiters.push(Waiter { id: self.next_waiter, target, boundary, failed: 0, done: false });
        Some(self.next_waiter)
    }

    /// How many of the flushed items failed, once all have their outcome.
    pub(crate) fn flushed(&self, id: u64) -> Option<u64> {
        self.waiters.iter().find(|waiter| waiter.id == id).filter(|waiter| waiter.done).map(|waiter| waiter.failed)
    }

    /// The caller of `flush` no longer waits.
    pub(crate) fn unregister_flush(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// Whether items that were gathered have no outcome yet, or failed rows wait for the hook.
    fn is_busy(&self) -> bool {
        self.lent.is_some() || !self.parts.is_empty() || !self.for_hook.is_empty()
    }

    /// Everything gathered has its outcome: flushes up to here are done. True if one is.
    fn settle_flushes(&mut self) -> bool {
        let gathered = self.gathered;
        let mut any = false;
        for waiter in &mut self.waiters {
            if !waiter.done && waiter.target <= gathered {
                waiter.done = true;
                any = true;
            }
        }
        any
    }

    /// The item with this sequence number failed: the flushes that wait for it say so.
    pub(crate) fn note_failure(&mut self, sequence: u64) {
        for waiter in &mut self.waiters {
            if !waiter.done && waiter.boundary.is_none_or(|boundary| sequence < boundary) {
                waiter.failed += 1;
            }
        }
    }

    // ---- the flusher ----

    /// What to do now. Sets `flushed` if a flush is done and its callers must be woken.
    pub(crate) fn next(&mut self, queue: &Queue<T>, target: Target, now: Instant, flushed: &mut bool) -> Step<T> {
        if let Some(failed) = self.for_hook.pop_front() {
            return Step::Hook(failed);
        }
        if self.phase == Phase::Abandoned {
            return Step::Stop;
        }
        let closing = self.phase == Phase::Closing;
        if let Some(part) = self.parts.pop_front() {
            match part.course.not_before {
                Some(time) if time > now && !closing => {
                    self.parts.push_front(part);
                    return Step::Sleep { wanted: 0, deadline: Some(time) };
                }
                _ => return Step::Lend(self.lend(part)),
            }
        }
        self.search = Search::default();
        *flushed = self.settle_flushes();
        self.stalled = !self.has_hook && self.kept.len() >= self.keep_failed && !closing;
        if self.stalled {
            return Step::Sleep { wanted: 0, deadline: None };
        }
        self.gather_or_sleep(queue, target, now, closing)
    }

    fn gather_or_sleep(&mut self, queue: &Queue<T>, target: Target, now: Instant, closing: bool) -> Step<T> {
        self.note(now);
        let surplus = self.surplus_items;
        let available = if closing { surplus } else { surplus + queue.items_in_channel() };
        if self.gathered == self.end() {
            self.was_idle = true;
            return if closing { Step::Stop } else { Step::Sleep { wanted: 1, deadline: None } };
        }
        let urgent = self.gathered < self.urgent_before;
        if let Some(until) = self.pause_until.filter(|until| *until > now && !closing) {
            return Step::Sleep { wanted: 0, deadline: Some(until) };
        }
        let since = self.notes.front().map_or(now, |(_, time)| *time);
        let due = since.checked_add(target.linger);
        let overdue = due.is_some_and(|due| due <= now);
        if available < target.batch_size && !closing && !urgent && !overdue && !queue.is_heavy() {
            // The closed bit may be set just now: the sleep then is none.
            return Step::Sleep { wanted: target.batch_size.saturating_sub(surplus), deadline: due };
        }
        let mut batch = self.fresh_batch();
        let full = self.gather(queue, &mut batch, target.batch_size);
        batch.trigger = match () {
            () if full => Trigger::Size,
            () if closing => Trigger::Close,
            () if urgent => Trigger::Flush,
            () => Trigger::Linger,
        };
        batch.course.cut_at = target.batch_size;
        batch.course.full = full;
        batch.course.probe = target.probe;
        batch.course.queue_wait = now.saturating_duration_since(since);
        self.counts.batches.count(batch.trigger);
        self.counts.queue_wait.record(batch.course.queue_wait);
        Step::Lend(self.lend(batch))
    }

    /// Notes the end of the queue and the time, and forgets the notes that no waiting item needs.
    fn note(&mut self, now: Instant) {
        if std::mem::take(&mut self.was_idle) {
            self.notes.clear();
            self.notes.push_back((self.gathered, now));
        }
        let end = self.end();
        let notes = self.notes.len();
        match self.notes.back_mut() {
            Some((position, time)) if *position == end => *time = now,
            _ if notes < NOTES_MAX => self.notes.push_back((end, now)),
            _ => {}
        }
        while self.notes.get(1).is_some_and(|(position, _)| *position <= self.gathered) {
            self.notes.pop_front();
        }
    }

    /// Moves up to `size` items into the batch; whether it is full, by count or by weight.
    fn gather(&mut self, queue: &Queue<T>, batch: &mut Batch<T>, size: usize) -> bool {
        let limit = queue.weigher.as_ref().map_or(usize::MAX, |weigher| weigher.limit);
        let mut weight = 0usize;
        let mut credit = 0;
        let mut next_target = self.next_flush_target();
        let mut full_by_weight = false;
        while batch.items.len() < size && !full_by_weight {
            if self.gathered == next_target {
                next_target = self.pass_flush_target(batch.items.len() as u64);
            }
            let message = match self.surplus.pop_front() {
                Some(message) => {
                    self.surplus_items -= message.items();
                    message
                }
                None if self.phase != Phase::Open => break,
                None => match self.receiver.try_recv() {
                    Ok(message) => {
                        self.left_channel(queue, &message);
                        message
                    }
                    Err(_) => break,
                },
            };
            match message {
                Message::One { item, .. } => batch.items.push(item),
                Message::Special { tag, special } => {
                    if !batch.items.is_empty() && weight.saturating_add(special.weight) > limit {
                        self.surplus_items += 1;
                        self.surplus.push_front(Message::Special { tag, special });
                        full_by_weight = true;
                        continue;
                    }
                    weight = weight.saturating_add(special.weight);
                    full_by_weight = weight >= limit;
                    if let Some(ticket) = special.ticket {
                        batch.tickets.push((batch.items.len(), ticket));
                    }
                    batch.items.push(special.item);
                }
                Message::Chunk { tag, mut chunk } => {
                    let room = size - batch.items.len();
                    let taken = fitting(&chunk, room, limit, batch.items.is_empty(), &mut weight);
                    full_by_weight = taken < chunk.items.len().min(room) || weight >= limit;
                    credit += taken;
                    batch.items.extend(chunk.items.drain(..taken));
                    chunk.weights.drain(..taken.min(chunk.weights.len()));
                    if !chunk.items.is_empty() {
                        self.surplus_items += chunk.items.len();
                        self.surplus.push_front(Message::Chunk { tag, chunk });
                        continue;
                    }
                    queue.recycle(chunk);
                }
            }
            self.gathered += 1;
        }
        if self.gathered == next_target {
            self.pass_flush_target(batch.items.len() as u64);
        }
        self.gathered_items += batch.items.len() as u64;
        queue.give_credit(credit);
        full_by_weight || batch.items.len() >= size
    }

    /// Takes one message out of the channel and gives its credit back, for the models.
    #[cfg(all(test, loom))]
    pub(crate) fn take_one_message(&mut self, queue: &Queue<T>) -> Option<Message<T>> {
        let message = self.receiver.try_recv().ok()?;
        self.left_channel(queue, &message);
        queue.give_credit(message.items());
        Some(message)
    }

    /// The next position at which a flush wants to know the sequence number.
    fn next_flush_target(&self) -> u64 {
        self.waiters.iter().filter(|w| w.boundary.is_none()).map(|w| w.target).min().unwrap_or(u64::MAX)
    }

    /// Position `gathered` is reached with so many items in the batch being gathered.
    fn pass_flush_target(&mut self, in_batch: u64) -> u64 {
        for waiter in &mut self.waiters {
            if waiter.boundary.is_none() && waiter.target <= self.gathered {
                waiter.boundary = Some(self.gathered_items + in_batch);
            }
        }
        self.next_flush_target()
    }

    fn fresh_batch(&mut self) -> Batch<T> {
        let id = self.next_id();
        let first = self.gathered_items;
        let mut batch = match self.spare.take() {
            Some(spare) => Batch { id, parent: None, attempt: 0, out_of_range: 0, ..spare },
            None => Batch::new(id, Arc::clone(&self.closing)),
        };
        batch.course = Course { first, ..Course::default() };
        batch
    }

    pub(crate) fn next_id(&mut self) -> BatchId {
        self.batches += 1;
        BatchId::new(self.random, self.batches)
    }

    /// Marks the batch as in the handler's hands.
    fn lend(&mut self, mut batch: Batch<T>) -> Batch<T> {
        batch.attempt += 1;
        self.counts.calls += 1;
        self.counts.retries += u64::from(batch.attempt > 1);
        self.lent = Some(Lent { items: batch.items.len(), tickets: std::mem::take(&mut batch.tickets) });
        batch
    }

    /// Keeps an emptied batch for its buffers; one that is far too large for the size in force is given back instead.
    pub(crate) fn keep_spare(&mut self, mut batch: Batch<T>, batch_size: usize) {
        debug_assert!(batch.items.is_empty());
        if batch.items.capacity() > batch_size.max(64).saturating_mul(4) {
            batch.items.shrink_to(batch_size);
        }
        self.spare = Some(batch);
    }

    // ---- the numbers and the end ----

    /// Items accepted so far. Before close: every message sent, and the items of chunks as far as they were counted; an
    /// `add_many` between its send and its count may be behind by its chunk, never an add that has returned.
    pub(crate) fn added(&self, queue: &Queue<T>) -> u64 {
        let counted = self
            .added_at_close
            .unwrap_or_else(|| self.end() + (self.extra_taken as i64 + queue.chunk_surplus() as i64).max(0) as u64);
        counted.max(self.counts.settled())
    }

    /// Takes everything that waits: items never lent, and failed rows that nobody was given. After a close in time there are
    /// only the kept rows; otherwise the flusher is left with what its user code holds, which counts as abandoned.
    pub(crate) fn seize(&mut self) -> (Vec<T>, Vec<Failed<T>>) {
        if self.phase != Phase::Done {
            self.phase = Phase::Abandoned;
        }
        let mut unsent = Vec::new();
        self.surplus_items = 0;
        for message in std::mem::take(&mut self.surplus) {
            match message {
                Message::One { item, .. } => unsent.push(item),
                Message::Chunk { mut chunk, .. } => unsent.append(&mut chunk.items),
                Message::Special { special, .. } => {
                    if let Some(ticket) = special.ticket {
                        ticket.tell(Outcome::Unsent);
                    }
                    unsent.push(special.item);
                }
            }
        }
        self.counts.unsent += unsent.len() as u64;
        let mut failed = std::mem::take(&mut self.kept);
        failed.extend(std::mem::take(&mut self.for_hook));
        for part in std::mem::take(&mut self.parts) {
            self.counts.failed += part.items.len() as u64;
            self.counts.in_doubt += if part.course.in_doubt { part.items.len() as u64 } else { 0 };
            failed.extend(fail_all(part));
        }
        if let Some(lent) = &mut self.lent {
            self.counts.abandoned += lent.items as u64;
            for (_, ticket) in lent.tickets.drain(..) {
                ticket.tell(Outcome::InDoubt);
            }
        }
        (unsent, failed)
    }
}

/// How many of the chunk's items fit into the room and under the weight limit; the first of a batch always does.
fn fitting<T>(chunk: &Chunk<T>, room: usize, limit: usize, first: bool, weight: &mut usize) -> usize {
    if chunk.weights.is_empty() {
        return chunk.items.len().min(room);
    }
    let mut taken = 0;
    for item in chunk.weights.iter().take(room) {
        let heavier = weight.saturating_add(*item);
        if heavier > limit && !(first && taken == 0) {
            break;
        }
        *weight = heavier;
        taken += 1;
    }
    taken
}

/// The rows of a part that is not tried again, with the error of its last attempt; their tickets are told.
pub(crate) fn fail_all<T>(part: Batch<T>) -> impl Iterator<Item = Failed<T>> {
    let Batch { items, course, attempt, tickets, .. } = part;
    let attempts = course.calls_before + attempt;
    let error = course.error.expect("a part waits only after an attempt that failed");
    for (_, ticket) in tickets {
        ticket.tell(if course.in_doubt { Outcome::InDoubt } else { Outcome::Failed(error.clone()) });
    }
    items.into_iter().map(move |item| Failed { item, error: error.clone(), attempts, in_doubt: course.in_doubt })
}
