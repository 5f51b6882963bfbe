//! The consumer's side of the queue: everything that waits, under one lock. The flusher takes from it, close empties it.
//!
//! The flusher holds the lock only while it moves messages, never while it sleeps or runs user code, and only what handler or
//! hook holds at this moment is on the flusher's stack. The rest, surplus, parts of a batch that wait for their turn, failed
//! rows that wait for the hook, lies here, where a close that runs out of time can take it.
//!
//! Messages are numbered as they leave the channel. `gathered` counts those that are wholly in batches; the surplus begins
//! there, the channel behind it. What the flusher does with it is in `gather`, what becomes of a call in `settle`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ages::Ages;
use crate::batch::{Batch, BatchId, Closing, Failed};
use crate::channel::Outlet;
use crate::dead_letters::DeadLetters;
use crate::flushes::Flushes;
use crate::message::{CHUNKS_TOGETHER, Chunk, Load, Message};
use crate::queue::Queue;
use crate::stats::Counts;
use crate::sync::{Arc, mutant};
use crate::ticket::{Outcome, Resolver, Wakes};
use crate::waiters::Waited;

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
    /// Its parts that failed since one succeeded, each counted once.
    pub(crate) run: u32,
    /// Waits for an outage to end since one succeeded.
    pub(crate) outage_waits: u32,
}

/// See the module's doc.
pub(crate) struct Intake<T> {
    pub(crate) outlet: Outlet<T>,
    /// Taken out of the channel, first in line. While open at most one message; after close all that was accepted.
    pub(crate) surplus: VecDeque<Message<T>>,
    /// Chunks whose items are in the batch being gathered, until they are given back together.
    #[allow(clippy::vec_box, reason = "they travel as they are")]
    pub(crate) emptied: Vec<Box<Chunk<T>>>,
    /// Items in `surplus`.
    pub(crate) surplus_items: usize,
    /// Sent behind the close; each waits for its producer to take it back.
    late: Vec<Message<T>>,
    /// Messages wholly in batches.
    pub(crate) gathered: u64,
    /// Items in batches: the number of the next.
    pub(crate) gathered_items: u64,
    /// Items beyond one a message that left the channel.
    extra_taken: u64,
    pub(crate) ages: Ages,
    pub(crate) flushes: Flushes,
    /// Whom to notify of the outcomes that were told.
    pub(crate) wakes: Wakes,
    /// How far somebody waits for a ticket.
    pub(crate) waited: Waited,
    /// The batch under way in parts, first part first; empty if none is, or if its only part is lent.
    pub(crate) parts: VecDeque<Box<Batch<T>>>,
    pub(crate) lent: Option<Lent>,
    /// The call that is paused after: when it ended and how long it took.
    pub(crate) paused_after: Option<(Instant, Duration)>,
    /// Somebody flushed while a call was under way: the pause or backoff behind it is cut.
    pub(crate) cut_next_wait: bool,
    /// Failed rows that wait for the hook.
    pub(crate) for_hook: VecDeque<Failed<T>>,
    /// The hook holds a row at this moment.
    pub(crate) hooking: bool,
    /// Failed rows kept for `take_failed` and the close report.
    pub(crate) kept: DeadLetters<T>,
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
    pub(crate) spare: Option<Box<Batch<T>>>,
    random: u64,
    batches: u64,
    pub(crate) closing: Arc<Closing>,
}

impl<T> Intake<T> {
    pub(crate) fn new(
        outlet: Outlet<T>,
        closing: Arc<Closing>,
        random: u64,
        now: Instant,
        (has_hook, keep_failed): (bool, usize),
    ) -> Self {
        Self {
            outlet,
            // Until close at most the message that the last batch had no room for.
            surplus: VecDeque::with_capacity(1),
            emptied: Vec::with_capacity(CHUNKS_TOGETHER),
            surplus_items: 0,
            late: Vec::new(),
            gathered: 0,
            gathered_items: 0,
            extra_taken: 0,
            ages: Ages::new(now),
            flushes: Flushes::default(),
            wakes: Wakes::default(),
            waited: Waited::default(),
            parts: VecDeque::new(),
            lent: None,
            paused_after: None,
            cut_next_wait: false,
            for_hook: VecDeque::new(),
            hooking: false,
            kept: DeadLetters::new(keep_failed),
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

    /// Step (4) of an add: the message with this tag, if it was sent behind the close.
    pub(crate) fn settle_late(&mut self, tag: usize) -> Option<Message<T>> {
        while let Some(message) = self.outlet.try_recv() {
            self.late.push(message);
            if mutant("settle: one message is looked at") {
                break;
            }
        }
        let place = self.late.iter().position(|message| message.tag == tag)?;
        Some(self.late.swap_remove(place))
    }

    /// Steps (b) to (d) of a close; true for the first. Afterwards the caller wakes who waits for credit.
    pub(crate) fn close(&mut self, queue: &Queue<T>, deadline: Option<Instant>) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.phase = Phase::Closing;
        queue.stall.end();
        self.closing.begin(deadline);
        let before = mutant("close: length before the closed bit").then(|| self.outlet.len());
        queue.doorbell.close();
        let accepted = before.unwrap_or_else(|| self.outlet.len());
        for _ in 0..accepted {
            // The lock is held and so many are there: each is received, at the latest when its sender has written it.
            let Some(message) = self.outlet.try_recv() else { break };
            self.left_channel(queue, &message);
            self.surplus_items += message.items();
            self.surplus.push_back(message);
        }
        self.added_at_close = Some(self.gathered_items + self.surplus_items as u64);
        true
    }

    pub(crate) fn left_channel(&mut self, queue: &Queue<T>, message: &Message<T>) {
        let extra = message.items() - 1;
        if extra > 0 {
            self.extra_taken += extra as u64;
            queue.chunk_left(extra);
        }
    }

    /// Behind everything that was sent so far.
    pub(crate) fn end(&self) -> u64 {
        self.gathered + self.surplus.len() as u64 + if self.phase == Phase::Open { self.outlet.len() as u64 } else { 0 }
    }

    /// Asks for everything sent so far to be handed over without waiting. One pause or backoff is cut: the present one, or the
    /// one behind the call under way.
    pub(crate) fn request_flush(&mut self, now: Instant) {
        let end = self.end();
        self.flushes.request(end);
        self.paused_after = None;
        self.cut_next_wait = self.lent.is_some();
        if let Some(part) = self.parts.front_mut() {
            part.course.not_before = Some(now);
        }
    }

    /// Registers a flush; `None` if everything sent so far has its outcome.
    pub(crate) fn register_flush(&mut self, now: Instant) -> Option<u64> {
        self.request_flush(now);
        let target = self.end();
        // Items that were gathered have no outcome yet, or the hook has not been given all that failed.
        let busy = self.lent.is_some() || !self.parts.is_empty();
        let hook_busy = self.hooking || !self.for_hook.is_empty();
        let done = !busy && !hook_busy && self.gathered >= target;
        (!done).then(|| self.flushes.register(target, self.gathered, self.gathered_items))
    }

    /// Whether rows that fail now are kept, for `take_failed` or the close report.
    pub(crate) fn keeps_failed(&self) -> bool {
        !self.has_hook && self.phase != Phase::Abandoned
    }

    /// Kept rows were taken: ends the stall, if there is one and there is room again. Whether to ring the flusher.
    pub(crate) fn end_stall(&mut self, queue: &Queue<T>) -> bool {
        let ends = self.stalled && !self.kept.is_full();
        if ends {
            self.stalled = false;
            queue.stall.end();
        }
        ends
    }

    pub(crate) fn next_id(&mut self) -> BatchId {
        self.batches += 1;
        BatchId::new(self.random, self.batches)
    }

    /// Takes one message out of the channel and gives its credit back, for the models.
    #[cfg(test)]
    pub(crate) fn take_one_message(&mut self, queue: &Queue<T>) -> Option<Message<T>> {
        let message = self.outlet.try_recv()?;
        self.left_channel(queue, &message);
        queue.credit.give_back(message.items());
        Some(message)
    }

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
        if self.phase != Phase::Done && !mutant("close: out of time without a word") {
            self.phase = Phase::Abandoned;
        }
        let mut unsent = Vec::new();
        self.surplus_items = 0;
        for message in std::mem::take(&mut self.surplus) {
            match message.load {
                Load::One(item) => unsent.push(item),
                Load::Chunk(mut chunk) => unsent.append(&mut chunk.items),
                Load::Special(special) => {
                    if let Some(ticket) = special.ticket {
                        ticket.tell(Outcome::Unsent);
                    }
                    unsent.push(special.item);
                }
            }
        }
        self.counts.unsent += unsent.len() as u64;
        let mut failed = self.kept.take_all();
        failed.extend(std::mem::take(&mut self.for_hook));
        for part in std::mem::take(&mut self.parts) {
            self.counts.failed += part.items.len() as u64;
            self.counts.in_doubt += if part.course.in_doubt { part.items.len() as u64 } else { 0 };
            failed.extend(fail_all(part, false, &mut self.wakes));
        }
        if let Some(lent) = &mut self.lent {
            self.counts.abandoned += lent.items as u64;
            for (_, ticket) in lent.tickets.drain(..) {
                ticket.tell(Outcome::InDoubt);
            }
        }
        let _ = self.wakes.notify();
        (unsent, failed)
    }
}

/// The rows of a part that is not tried again, with the error of its last attempt; their tickets are told. `kept`: the rows are
/// kept until then.
pub(crate) fn fail_all<T>(
    part: Box<Batch<T>>,
    kept: bool,
    wakes: &mut Wakes,
) -> impl Iterator<Item = Failed<T>> + use<T> {
    let Batch { items, course, attempt, tickets, .. } = *part;
    let attempts = course.calls_before + attempt;
    let error = course.error.expect("a part waits only after an attempt that failed");
    for (index, ticket) in tickets {
        let outcome = if course.in_doubt { Outcome::InDoubt } else { Outcome::Failed(error.clone()) };
        ticket.tell_with(wakes, outcome, kept.then_some(course.first + index as u64));
    }
    items.into_iter().zip(course.first..).map(move |(item, number)| Failed {
        item,
        error: error.clone(),
        attempts,
        in_doubt: course.in_doubt,
        number,
    })
}

/// The time after a wait; one that is longer than the clock can tell ends in a hundred years and more.
pub(crate) fn later(time: Instant, wait: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(1 << 32);
    time.checked_add(wait).or_else(|| time.checked_add(AGES)).unwrap_or(time)
}
