//! The consumer's side of the queue: everything that waits, under one lock. The flusher takes from
//! it, close empties it.
//!
//! The flusher holds the lock only while it moves messages, never while it sleeps or runs user
//! code, and only what handler or hook holds at this moment is on the flusher's stack. The rest,
//! surplus, parts of a batch that wait for their turn, failed rows that wait for the hook, lies
//! here, where a close that runs out of time can take it.
//!
//! Messages are numbered as they leave the channel. `gathered` counts those that are wholly in
//! batches; the surplus begins there, the channel behind it. What the flusher does with it is in
//! `gather`, what becomes of a call in `settle`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ages::Ages;
use crate::batch::{Batch, Closing, Failed};
use crate::batch_id::BatchId;
use crate::channel::Outlet;
use crate::dead_letters::DeadLetters;
use crate::error::BatchError;
use crate::flushes::Flushes;
use crate::gate::Gate;
use crate::message::{CHUNKS_TOGETHER, Chunk, Load, Message};
use crate::rows::{Memo, Row};
use crate::search::{Search, later};
use crate::stats::{Counts, Retrying};
use crate::sync::Arc;
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
    pub(crate) memos: Vec<Memo>,
}

/// How a close that has begun goes on.
#[derive(Clone, Copy, Default)]
pub(crate) struct CloseTerms {
    /// Nothing begins that would end later.
    pub(crate) deadline: Option<Instant>,
    /// It ends when nothing has answered for so long: the drop of the owner.
    pub(crate) without_answer: Option<Duration>,
    /// What fails has failed: the owner is dropped by a panic.
    pub(crate) one_attempt: bool,
}

/// How long calls take that go through: means over about eight of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Typical {
    len: f64,
    time: f64,
}

impl Typical {
    const GAIN: f64 = 0.125;

    pub(crate) fn learn(&mut self, len: usize, time: Duration) {
        let gain = if self.len > 0.0 { Self::GAIN } else { 1.0 };
        self.len += gain * (len as f64 - self.len);
        self.time += gain * (time.as_secs_f64() - self.time);
    }

    /// Whether a call of this length ended in less than half of the time that it should take at
    /// least.
    pub(crate) fn is_early(&self, len: usize, time: Duration) -> bool {
        self.len > 0.0 && time.as_secs_f64() < 0.5 * self.time * (len as f64 / self.len).min(1.0)
    }
}

/// See the module's doc.
pub(crate) struct Intake<T> {
    pub(crate) outlet: Outlet<T>,
    /// Taken out of the channel, first in line. While open at most one message; after close all
    /// that was accepted.
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
    /// The batch that failed and is not decided yet, but for the rows in flight.
    pub(crate) search: Option<Box<Search<T>>>,
    /// Rows that the handler asked for again, by number.
    pub(crate) again: Vec<Row<T>>,
    pub(crate) lent: Option<Lent>,
    pub(crate) typical: Typical,
    /// The error that says that statement or schema is wrong, since the last call that went
    /// through.
    pub(crate) misconfigured: Option<BatchError>,
    /// Errors to be dropped outside the lock.
    pub(crate) spent: Vec<BatchError>,
    /// When a call last went through or blamed its rows; at first the start.
    pub(crate) answered_at: Instant,
    pub(crate) close_terms: CloseTerms,
    /// While closing, it was seen that no further attempt fits.
    pub(crate) gave_up: bool,
    /// Of rows that waited for another attempt when they were taken out.
    pub(crate) last_error: Option<BatchError>,
    /// What the flusher gave up, unsent and failed, until a closer takes it.
    given_back: (Vec<T>, Vec<Failed<T>>),
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
    /// The owner was dropped on one of the batcher's own threads: the flusher delivers the report
    /// when it ends.
    pub(crate) deliver_at_end: bool,
    /// What was added in all, once closed.
    added_at_close: Option<u64>,
    pub(crate) counts: Counts,
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
            search: None,
            again: Vec::new(),
            lent: None,
            typical: Typical::default(),
            misconfigured: None,
            spent: Vec::new(),
            answered_at: now,
            close_terms: CloseTerms::default(),
            gave_up: false,
            last_error: None,
            given_back: (Vec::new(), Vec::new()),
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
            spare: None,
            random,
            batches: 0,
            closing,
        }
    }

    /// Step (4) of an add: the message with this tag, if it was sent behind the close.
    pub(crate) fn confirm_admission(&mut self, tag: usize) -> Option<Message<T>> {
        while let Some(message) = self.outlet.try_recv() {
            self.late.push(message);
        }
        let place = self.late.iter().position(|message| message.tag == tag)?;
        Some(self.late.swap_remove(place))
    }

    /// Steps (b) to (d) of a close; true for the first. Afterwards the caller wakes who waits for
    /// credit.
    pub(crate) fn close(&mut self, gate: &Gate<T>, terms: CloseTerms, now: Instant) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.phase = Phase::Closing;
        gate.stall.end();
        self.close_terms = terms;
        self.answered_at = self.answered_at.max(now);
        self.closing.begin(terms.deadline);
        gate.doorbell.close();
        let accepted = self.outlet.len();
        for _ in 0..accepted {
            // The lock is held and so many are there: each is received, at the latest when its
            // sender has written it.
            let Some(message) = self.outlet.try_recv() else {
                break;
            };
            self.left_channel(gate, &message);
            self.surplus_items += message.items();
            self.surplus.push_back(message);
        }
        self.added_at_close = Some(self.gathered_items + self.surplus_items as u64);
        true
    }

    pub(crate) fn left_channel(&mut self, gate: &Gate<T>, message: &Message<T>) {
        let extra = message.items() - 1;
        if extra > 0 {
            self.extra_taken += extra as u64;
            gate.chunk_left(extra);
        }
    }

    /// Behind everything that was sent so far.
    pub(crate) fn end(&self) -> u64 {
        self.gathered
            + self.surplus.len() as u64
            + if self.phase == Phase::Open {
                self.outlet.len() as u64
            } else {
                0
            }
    }

    /// Asks for everything sent so far to be handed over without waiting. One pause or backoff is
    /// cut: the present one, or the one behind the call under way.
    pub(crate) fn request_flush(&mut self, now: Instant) {
        let end = self.end();
        self.flushes.request(end);
        self.paused_after = None;
        self.cut_next_wait = self.lent.is_some();
        if let Some(search) = self.search.as_mut().filter(|_| self.lent.is_none()) {
            search.outage.flush(now);
        }
    }

    /// Registers a flush; `None` if everything sent so far has its outcome.
    pub(crate) fn register_flush(&mut self, now: Instant) -> Option<u64> {
        self.request_flush(now);
        let target = self.end();
        // Items that were gathered have no outcome yet, or the hook has not been given all that
        // failed.
        let busy = self.lent.is_some() || self.search.is_some() || !self.again.is_empty();
        let hook_busy = self.hooking || !self.for_hook.is_empty();
        let done = !busy && !hook_busy && self.gathered >= target;
        (!done).then(|| {
            self.flushes
                .register(target, self.gathered, self.gathered_items)
        })
    }

    /// Whether rows that fail now are kept, for `take_failed` or the close report.
    pub(crate) fn keeps_failed(&self) -> bool {
        !self.has_hook && self.phase != Phase::Abandoned
    }

    /// The hook hands a row back: it is kept, unless nobody is left to take it.
    pub(crate) fn take_back(&mut self, row: Failed<T>) -> Option<Failed<T>> {
        if self.phase == Phase::Abandoned {
            self.counts.dropped_late += 1;
            return Some(row);
        }
        self.kept.keep(row);
        None
    }

    /// Kept rows were taken: ends the stall, if there is one and there is room again. Whether to
    /// ring the flusher.
    pub(crate) fn end_stall(&mut self, gate: &Gate<T>) -> bool {
        let ends = self.stalled && !self.kept.is_full();
        if ends {
            self.stalled = false;
            gate.stall.end();
        }
        ends
    }

    pub(crate) fn next_id(&mut self) -> BatchId {
        self.batches += 1;
        BatchId::new(self.random, self.batches)
    }

    /// Takes one message out of the channel and gives its credit back, for the models.
    #[cfg(test)]
    pub(crate) fn take_one_message(&mut self, gate: &Gate<T>) -> Option<Message<T>> {
        let message = self.outlet.try_recv()?;
        self.left_channel(gate, &message);
        gate.credit.give_back(message.items());
        Some(message)
    }

    /// Items accepted so far. Before close: every message sent, and the items of chunks as far as
    /// they were counted; an `add_many` between its send and its count may be behind by its chunk,
    /// never an add that has returned.
    pub(crate) fn added(&self, gate: &Gate<T>) -> u64 {
        let counted = self.added_at_close.unwrap_or_else(|| {
            self.end() + (self.extra_taken as i64 + gate.extra_items() as i64).max(0) as u64
        });
        counted.max(self.counts.settled())
    }

    /// Takes everything that waits: items never lent, and failed rows that nobody was given. After
    /// a close in time there are only the kept rows; otherwise the flusher is left with what its
    /// user code holds, which counts as abandoned.
    pub(crate) fn seize(&mut self) -> (Vec<T>, Vec<Failed<T>>) {
        if self.phase != Phase::Done {
            self.phase = Phase::Abandoned;
        }
        let (mut unsent, mut failed) = std::mem::take(&mut self.given_back);
        let (more_unsent, more_failed) = self.take_waiting();
        unsent.extend(more_unsent);
        failed.extend(more_failed);
        (unsent, failed)
    }

    /// The flusher, while closing: no further attempt fits. What waits is counted now, so that
    /// every closer reports the same, and lies here for the one that has the claim.
    pub(crate) fn give_up(&mut self) {
        self.gave_up = true;
        self.given_back = self.take_waiting();
    }

    fn take_waiting(&mut self) -> (Vec<T>, Vec<Failed<T>>) {
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
        if let Some(search) = self.search.take() {
            let error = search.outage.error.clone();
            self.last_error = Some(error.clone());
            let rows = search.into_rows();
            failed.extend(self.fail_rows(rows, &error, false, false));
        }
        for mut row in std::mem::take(&mut self.again) {
            let again = row
                .memo
                .again
                .take()
                .expect("the handler asked for it again");
            failed.extend(self.fail_rows(vec![row], &again.error, false, false));
            self.last_error.get_or_insert(again.error);
        }
        if let Some(lent) = &mut self.lent {
            self.counts.abandoned += lent.items as u64;
            let memos = lent.memos.iter_mut().filter_map(|memo| memo.ticket.take());
            for ticket in lent
                .tickets
                .drain(..)
                .map(|(_, ticket)| ticket)
                .chain(memos)
            {
                ticket.tell(Outcome::InDoubt);
            }
        }
        let _ = self.wakes.notify();
        (unsent, failed)
    }

    /// These rows have failed: counted, reported to their tickets and to the flushes that wait for
    /// them. `kept`: they are kept until their tickets have returned that.
    pub(crate) fn fail_rows(
        &mut self,
        rows: Vec<Row<T>>,
        error: &BatchError,
        outage: bool,
        kept: bool,
    ) -> Vec<Failed<T>> {
        self.counts.failed += rows.len() as u64;
        let mut failed = Vec::with_capacity(rows.len());
        for Row { item, mut memo } in rows {
            let in_doubt = memo.in_doubt;
            self.counts.in_doubt += u64::from(in_doubt);
            self.flushes.note_failed(memo.number..memo.number + 1);
            if let Some(ticket) = memo.ticket.take() {
                let outcome = if in_doubt {
                    Outcome::InDoubt
                } else {
                    Outcome::Failed(error.clone())
                };
                ticket.tell_with(&mut self.wakes, outcome, kept.then_some(memo.number));
            }
            self.spent
                .extend(memo.again.take().map(|again| again.error));
            failed.push(Failed {
                item,
                error: error.clone(),
                attempts: memo.calls,
                in_doubt,
                outage,
                number: memo.number,
            });
        }
        failed
    }

    /// No call begins that is expected to end later, while closing.
    pub(crate) fn close_limit(&self) -> Option<Instant> {
        self.limit_of(&self.close_terms)
    }

    /// Until when a close on these terms goes on, as of now.
    pub(crate) fn limit_of(&self, terms: &CloseTerms) -> Option<Instant> {
        let CloseTerms {
            deadline,
            without_answer,
            ..
        } = *terms;
        let quiet = without_answer.map(|limit| later(self.answered_at, limit));
        deadline.into_iter().chain(quiet).min()
    }

    /// What is being tried again, for the statistics.
    pub(crate) fn retrying(&self) -> Option<Retrying> {
        let outage = &self.search.as_ref()?.outage;
        let (attempts, since, next_at) = outage.progress();
        let next_at = next_at.filter(|_| self.lent.is_none());
        Some(Retrying {
            error: outage.error.clone(),
            attempts,
            since,
            next_at,
        })
    }
}
