//! The consumer's side of a lane: everything that waits, under one lock. The flusher takes from it,
//! close empties it.
//!
//! The flusher holds the lock only while it moves messages, never while it sleeps or runs user
//! code, and only what handler or hook holds at this moment is on the flusher's stack. The rest
//! lies here, where a close that runs out of time can take it:
//!
//! | part | what it holds |
//! | --- | --- |
//! | `incoming` | what was added and is in no batch yet |
//! | `in_progress` | the batch that is worked on: in flight, searched for bad rows, set aside |
//! | `dead_letters` | rows that failed and that nobody was given |
//! | `lifecycle` | how far the batcher is on its way to its end |
//! | `barriers` | who waits in `flush`, and for what |
//!
//! What the flusher does next is in `step`, what becomes of a call in `complete`.

use std::time::Instant;

use crate::batch::rows::Row;
use crate::batch::{Closing, Failed};
use crate::error::BatchError;
use crate::flush::age::AgeEstimator;
use crate::flush::barriers::FlushBarriers;
use crate::flush::dead_letters::{DeadLetters, FailedRows};
use crate::flush::in_progress::InProgress;
use crate::flush::incoming::Incoming;
use crate::flush::lifecycle::{CloseTerms, Lifecycle};
use crate::journal::{FAILURES_MAX, FailureNote};
use crate::observe::{Counts, Event, WaitCause};
use crate::queue::channel::Outlet;
use crate::queue::gate::Gate;
use crate::queue::waiters::Waited;
use crate::snapshot::LanePart;
use crate::stats::Retrying;
use crate::sync::Arc;
use crate::ticket::{Outcome, Wakes};

/// See the module's doc.
pub(crate) struct Backlog<T> {
    pub(crate) incoming: Incoming<T>,
    pub(crate) in_progress: InProgress<T>,
    pub(crate) dead_letters: DeadLetters<T>,
    pub(crate) lifecycle: Lifecycle<T>,
    pub(crate) barriers: FlushBarriers,
    pub(crate) age: AgeEstimator,
    /// Whom to notify of outcomes.
    pub(crate) wakes: Wakes,
    /// How far somebody waits for a ticket.
    pub(crate) waited: Waited,
    /// Why the flusher waits, if not for items, and since when.
    pub(crate) wait: Option<(WaitCause, Instant)>,
    /// Rows that have failed and are not in the journal yet.
    pub(crate) failure_notes: Vec<FailureNote>,
    pub(crate) counts: Counts,
}

impl<T> Backlog<T> {
    /// `random` is for the ids of the batches, `worker` the number of the lane.
    pub(crate) fn new(
        outlet: Outlet<T>,
        failed: FailedRows,
        random: u64,
        worker: usize,
        now: Instant,
    ) -> Self {
        let closing = Arc::new(Closing::new());
        Self {
            incoming: Incoming::new(outlet),
            in_progress: InProgress::new(Arc::clone(&closing), random, worker),
            dead_letters: DeadLetters::new(failed),
            lifecycle: Lifecycle::new(closing, now),
            barriers: FlushBarriers::default(),
            age: AgeEstimator::new(now),
            wakes: Wakes::default(),
            waited: Waited::default(),
            wait: None,
            failure_notes: Vec::new(),
            counts: Counts::new(now),
        }
    }

    /// Steps (b) to (d) of a close; true for the first. Afterwards the caller wakes who waits for
    /// permits.
    pub(crate) fn close(&mut self, gate: &Gate<T>, terms: CloseTerms, now: Instant) -> bool {
        let first = self.lifecycle.begin_close(terms, now);
        if first {
            gate.stall.end();
            self.incoming.close(gate);
            self.in_progress.hurry(now);
        }
        first
    }

    /// Asks for everything sent so far to be handed over without waiting. One pause or backoff is
    /// cut: the present one, or the one after the running call. Returns the position up to which
    /// that is.
    pub(crate) fn request_flush(&mut self, now: Instant) -> u64 {
        let end = self.incoming.end();
        self.barriers.request(end);
        self.in_progress.cut_wait(now);
        end
    }

    /// Registers a flush; `None` if everything sent so far has its outcome.
    pub(crate) fn register_flush(&mut self, now: Instant) -> Option<u64> {
        // Read once: adds need no lock, and what came after the request would linger.
        let target = self.request_flush(now);
        let gathered = self.incoming.gathered;
        let done =
            !self.in_progress.is_busy() && self.dead_letters.hook_is_idle() && gathered >= target;
        let first = self.incoming.gathered_items;
        (!done).then(|| self.barriers.register(target, gathered, first))
    }

    /// Whether rows that fail now are retained, for `take_failed` or the close report.
    pub(crate) fn retains_failed(&self) -> bool {
        self.dead_letters.retains() && !self.lifecycle.is_abandoned()
    }

    /// The hook hands a row back: it is retained, unless nobody is left to take it.
    pub(crate) fn take_back(&mut self, row: Failed<T>) -> Option<Failed<T>> {
        if self.lifecycle.is_abandoned() {
            self.counts.observe(Event::DroppedLate(1));
            return Some(row);
        }
        self.dead_letters.retained.keep(row);
        None
    }

    /// Items accepted so far, see [`Incoming::added`].
    pub(crate) fn added(&self, gate: &Gate<T>) -> u64 {
        self.incoming.added(gate).max(self.counts.with_outcome())
    }

    /// Takes everything that waits, for a close report: items never given to the handler, and
    /// failed rows that nobody was given. After a close in time there are only the retained rows;
    /// otherwise the flusher is left with what its user code holds, which counts as abandoned.
    pub(crate) fn drain_for_report(&mut self) -> (Vec<T>, Vec<Failed<T>>) {
        self.lifecycle.abandon();
        let (mut unsent, mut failed) = std::mem::take(&mut self.lifecycle.given_back);
        let (more_unsent, more_failed) = self.take_waiting();
        unsent.extend(more_unsent);
        failed.extend(more_failed);
        (unsent, failed)
    }

    /// The flusher, while closing: no further attempt fits. What waits is counted now, so that
    /// every closer reports the same, and lies here for the one that has the claim.
    pub(crate) fn give_up(&mut self) {
        self.lifecycle.gave_up = true;
        self.lifecycle.given_back = self.take_waiting();
    }

    fn take_waiting(&mut self) -> (Vec<T>, Vec<Failed<T>>) {
        let unsent = self.incoming.take_unsent();
        self.counts.observe(Event::Unsent(unsent.len()));
        let mut failed = self.dead_letters.take_all();
        if let Some(search) = self.in_progress.search.take() {
            let error = search.outage.error.clone();
            self.lifecycle.last_error = Some(error.clone());
            let rows = search.into_rows();
            failed.extend(self.fail_rows(rows, &error, false, false));
        }
        for mut row in self.in_progress.take_aside() {
            let again = row.memo.again.take().expect("what is set aside says why");
            failed.extend(self.fail_rows(vec![row], &again.error, false, false));
            self.lifecycle.last_error.get_or_insert(again.error);
        }
        if let Some(in_flight) = &mut self.in_progress.in_flight {
            self.counts.observe(Event::Abandoned(in_flight.items));
            let memos = in_flight.memos.iter_mut();
            let tickets = in_flight.tickets.drain(..).map(|(_, ticket)| ticket);
            for ticket in tickets.chain(memos.filter_map(|memo| memo.ticket.take())) {
                ticket.tell(Outcome::InDoubt);
            }
        }
        let _ = self.wakes.notify();
        (unsent, failed)
    }

    /// These rows have failed: counted, reported to their tickets and to the flushes that wait for
    /// them. `retained`: they are kept until their tickets have returned that.
    pub(crate) fn fail_rows(
        &mut self,
        rows: Vec<Row<T>>,
        error: &BatchError,
        outage: bool,
        retained: bool,
    ) -> Vec<Failed<T>> {
        let mut failed = Vec::with_capacity(rows.len());
        for Row { item, mut memo } in rows {
            let in_doubt = memo.in_doubt;
            self.counts.observe(Event::Failed { in_doubt });
            if self.failure_notes.len() < FAILURES_MAX {
                self.failure_notes.push(FailureNote {
                    error: error.clone(),
                    attempts: memo.calls,
                    in_doubt,
                    outage,
                });
            }
            self.barriers.note_failed(memo.number..memo.number + 1);
            if let Some(ticket) = memo.ticket.take() {
                let outcome = if in_doubt {
                    Outcome::InDoubt
                } else {
                    Outcome::Failed(error.clone())
                };
                ticket.tell_with(&mut self.wakes, outcome, retained.then_some(memo.number));
            }
            self.in_progress
                .spent
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

    /// What this lane adds to a snapshot.
    pub(crate) fn part(&self, gate: &Gate<T>, now: Instant) -> LanePart {
        let in_flight = self.in_progress.in_flight.as_ref();
        let (blocked, producer_wait) = gate.blocked.read(now);
        let (first, end) = (self.incoming.gathered, self.incoming.end());
        LanePart {
            counts: self.counts(now),
            added: self.added(gate),
            refused: gate.refusals.read(),
            capacity: gate.permits.capacity(),
            calls_in_flight: in_flight.into_iter().len(),
            items_in_flight: in_flight.map_or(0, |in_flight| in_flight.items),
            call_begun: in_flight.map(|in_flight| in_flight.begun),
            oldest_since: self.age.peek(first, end, self.wait.is_some()),
            producers_blocked: blocked,
            producer_wait,
            retrying: self.retrying(),
            kept_failed: self.dead_letters.retained.len(),
            stalled: self.dead_letters.stalled,
            phase: self.lifecycle.phase,
        }
    }

    /// The counts, with those of the search and of the running wait.
    fn counts(&self, now: Instant) -> Counts {
        let mut counts = self.counts.clone();
        if let Some((cause, begun)) = self.wait {
            let time = now.saturating_duration_since(begun);
            counts.observe(Event::Waited { cause, time });
        }
        if let Some(search) = &self.in_progress.search {
            counts.observe(Event::SearchEnded(search.counts()));
        }
        counts
    }

    /// What is being tried again, for the statistics.
    pub(crate) fn retrying(&self) -> Option<Retrying> {
        let outage = &self.in_progress.search.as_ref()?.outage;
        let (attempts, since, next_at) = outage.progress();
        let next_at = next_at.filter(|_| self.in_progress.in_flight.is_none());
        Some(Retrying {
            error: outage.error.clone(),
            attempts,
            since,
            next_at,
        })
    }
}
