//! The end: how closers, the flusher and the deadline meet.
//!
//! # Protocol
//! Closer: (1) under the backlog's lock, close admission (see `queue::gate`) and, as the first, take the
//! claim to the lists; (2) ring the flusher and the producers that wait for permits; (3) wait until
//! the phase is no longer `Closing` or the own deadline has passed; (4) the claimant takes
//! everything that waits: after a close in time that is the rows retained, past the deadline the
//! phase becomes `Abandoned` and it is all that is not in flight; (5) unless the phase is still
//! `Closing`, end the controller; (6) wait for the threads to end, if there is time left, and join
//! them. Flusher: sees `Closing` at its next visit to the backlog and hands over without waiting;
//! empty, it sets `Done` and ends the controller. Seeing `Abandoned`, it completes what it held and
//! stops; no further batch is given to the handler.
//!
//! The controller goes on deciding while the flusher hands over what is left: a program that adds
//! its rows and closes at once has no other time to find their batch size. Both ends of (3) end it:
//! the flusher, since nobody may wait for the close of a batcher that its own thread dropped, and
//! the closer, since a flusher whose handler hangs never comes to its end.
//!
//! The race: the deadline passes as the flusher finishes. Both change the phase under the backlog's
//! lock: either `Done` is there first, and the claimant finds nothing that waits, or `Abandoned`
//! is, and what the flusher still holds is completed late. Each item is counted by whoever has it
//! in hand under the lock.

use std::time::Duration;

use crate::batcher::threads::Thread;
use crate::batcher::watched::stats;
use crate::control::limits::Control;
use crate::exchange::reporter::Reporter;
use crate::flush::close_report::{
    CloseReport, OnClose, deliver, deliver_unclaimed, report, tell_closed,
};
use crate::flush::lane::Lane;
use crate::flush::lifecycle::CloseTerms;
use crate::stats::{Phase, Stats};
use crate::sync::{Arc, Mutex, belongs_to, is_panicking, now};

/// What closing takes: everything that two threads and their callers share.
pub(crate) struct Core<T> {
    pub(crate) lane: Arc<Lane<T>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
    pub(crate) flusher: Thread,
    pub(crate) controller: Thread,
    /// The hook for a drop's report, until it is used.
    pub(crate) on_close: Arc<Mutex<Option<OnClose<T>>>>,
}

impl<T> Core<T> {
    pub(crate) fn stats(&self) -> Stats {
        stats(&self.lane, &self.control, &self.reporter)
    }

    /// Steps (1) and (2). True if this caller has the claim to the lists.
    fn begin_close(&self, terms: CloseTerms, claim: bool) -> bool {
        let mut backlog = self.lane.lock();
        backlog.close(&self.lane.gate, terms, now());
        let claimed = claim && backlog.lifecycle.claim();
        drop(backlog);
        self.lane.gate.doorbell.ring();
        self.lane.gate.permits.wake_all();
        claimed
    }

    pub(crate) fn shutdown(&self, timeout: Duration) -> CloseReport<T> {
        if self.lane.gate.is_orphaned() {
            return CloseReport {
                forked: true,
                ..CloseReport::empty()
            };
        }
        // None: beyond the range of the clock, so without a bound.
        self.shutdown_on(CloseTerms {
            deadline: now().checked_add(timeout),
            ..CloseTerms::default()
        })
    }

    fn shutdown_on(&self, terms: CloseTerms) -> CloseReport<T> {
        if belongs_to(self.lane.gate.batcher_id) {
            self.begin_close(terms, false);
            return CloseReport {
                reentrant: true,
                ..report(&mut self.lane.lock(), false)
            };
        }
        let claimed = self.begin_close(terms, true);
        let mut backlog = self.lane.lock();
        let mut deadline = backlog.lifecycle.limit_of(&terms);
        while backlog.lifecycle.phase == Phase::Closing
            && deadline.is_none_or(|deadline| now() < deadline)
        {
            backlog = self.lane.changed.wait_until(backlog, deadline);
            // An answer moves the limit of a drop.
            deadline = backlog.lifecycle.limit_of(&terms);
        }
        // Whoever takes what was given up is the one whose time it was.
        let in_time =
            backlog.lifecycle.phase == Phase::Done && !(backlog.lifecycle.gave_up && claimed);
        let given_up_before = backlog.lifecycle.phase == Phase::Abandoned;
        // Under the same lock: what this close takes, the flusher is not given.
        let mut answer = report(&mut backlog, claimed);
        let goes_on = backlog.lifecycle.is_closing();
        drop(backlog);
        self.lane.journal_failures();
        if !goes_on {
            self.reporter.end();
        }
        let ended = self.flusher.wait_until(deadline) & self.controller.wait_until(deadline);
        if given_up_before && ended {
            // An earlier close left the handler behind; this one had the time to see how its items
            // ended.
            answer = report(&mut self.lane.lock(), false);
        }
        answer.timed_out = !ended || !(in_time || given_up_before);
        if claimed {
            // Flushes that wait for what is now unsent or abandoned.
            self.lane.changed.notify_all();
            tell_closed(&self.lane, &answer);
        }
        answer
    }

    /// The drop of the owner: closes unless somebody has, and gives the report to the hook.
    pub(crate) fn close_on_drop(&self, timeout: Duration, patience: Duration) {
        if self.lane.gate.is_orphaned() {
            return;
        }
        let own_thread = belongs_to(self.lane.gate.batcher_id);
        let terms = CloseTerms {
            deadline: now().checked_add(timeout),
            without_answer: Some(patience),
            one_attempt: is_panicking(),
        };
        if own_thread {
            self.begin_close(terms, false);
        }
        let mut backlog = self.lane.lock();
        if backlog.lifecycle.claimed {
            return;
        }
        if own_thread && backlog.lifecycle.phase == Phase::Closing {
            // The flusher cannot wait for itself: it delivers the report at its end.
            backlog.lifecycle.deliver_at_end = true;
            return;
        }
        drop(backlog);
        if own_thread {
            deliver_unclaimed(&self.lane, &self.on_close);
        } else {
            let report = self.shutdown_on(terms);
            deliver(&self.lane, &self.on_close, report);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "close/tests.rs"]
pub(crate) mod tests;
