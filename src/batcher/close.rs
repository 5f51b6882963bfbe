//! The end: how closers, the flusher and the deadline meet.
//!
//! # Protocol
//! Closer: (1) under the locks of all lanes, close admission (see `flush::lanes`) and, as the first,
//! take the claim to the lists; (2) ring the flushers and the producers that wait for permits; (3)
//! for each lane, wait until its phase is no longer `Closing` or the own deadline has passed; (4)
//! the claimant takes everything that waits: after a close in time that is the rows retained, past
//! the deadline the phase becomes `Abandoned` and it is all that is not in flight; (5) unless a
//! phase is still `Closing`, end the controller; (6) wait for the threads to end, if there is time
//! left, and join them. Flusher: sees `Closing` at its next visit to the backlog and hands over
//! without waiting; empty, it sets `Done`, and the last one ends the controller. Seeing
//! `Abandoned`, it completes what it held and stops; no further batch is given to the handler. One
//! that waits for a permit at that time is rung.
//!
//! The controller goes on deciding while the flushers hand over what is left: a program that adds
//! its rows and closes at once has no other time to find their batch size. Both ends of (3) end it:
//! the last flusher, since nobody may wait for the close of a batcher that its own thread dropped,
//! and the closer, since a flusher whose handler hangs never comes to its end.
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
use crate::flush::backlog::Backlog;
use crate::flush::close_report::{
    CloseReport, OnClose, deliver, deliver_unclaimed, report, tell_closed,
};
use crate::flush::lanes::Lanes;
use crate::flush::lifecycle::CloseTerms;
use crate::stats::{Phase, Stats};
use crate::sync::{Arc, Mutex, MutexGuard, belongs_to, is_panicking, now};

/// What closing takes: everything that the threads and their callers share.
pub(crate) struct Core<T> {
    pub(crate) lanes: Arc<Lanes<T>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
    /// One for each lane.
    pub(crate) flushers: Vec<Thread>,
    pub(crate) controller: Thread,
    /// The hook for a drop's report, until it is used.
    pub(crate) on_close: Arc<Mutex<Option<OnClose<T>>>>,
}

impl<T> Core<T> {
    pub(crate) fn stats(&self) -> Stats {
        stats(&self.lanes, &self.control, &self.reporter)
    }

    /// Whether the caller is one of the batcher's own threads.
    fn is_own_thread(&self) -> bool {
        belongs_to(self.lanes.first().gate.batcher_id)
    }

    fn is_orphaned(&self) -> bool {
        self.lanes.first().gate.is_orphaned()
    }

    pub(crate) fn shutdown(&self, timeout: Duration) -> CloseReport<T> {
        if self.is_orphaned() {
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
        if self.is_own_thread() {
            self.lanes.close(terms, false, now());
            return CloseReport {
                reentrant: true,
                ..report(&mut self.lanes.lock(), false)
            };
        }
        let claimed = self.lanes.close(terms, true, now());
        let mut limits = Vec::with_capacity(self.lanes.all().len());
        for lane in self.lanes.all() {
            let mut backlog = lane.lock();
            let mut deadline = backlog.lifecycle.limit_of(&terms);
            while backlog.lifecycle.phase == Phase::Closing
                && deadline.is_none_or(|deadline| now() < deadline)
            {
                backlog = lane.changed.wait_until(backlog, deadline);
                // An answer moves the limit of a drop.
                deadline = backlog.lifecycle.limit_of(&terms);
            }
            limits.push(deadline);
        }
        // Of the lanes the one that may go on longest; `None`: without a bound.
        let limits: Option<Vec<_>> = limits.into_iter().collect();
        let latest = limits.and_then(|limits| limits.into_iter().max());
        let mut backlogs = self.lanes.lock();
        let is =
            |phase| move |backlog: &MutexGuard<'_, Backlog<T>>| backlog.lifecycle.phase == phase;
        let gave_up = backlogs.iter().any(|backlog| backlog.lifecycle.gave_up);
        // Whoever takes what was given up is the one whose time it was.
        let in_time = backlogs.iter().all(is(Phase::Done)) && !(gave_up && claimed);
        let given_up_before = backlogs.iter().any(is(Phase::Abandoned));
        // Under the same locks: what this close takes, the flushers are not given.
        let mut answer = report(&mut backlogs, claimed);
        let goes_on = backlogs.iter().any(is(Phase::Closing));
        drop(backlogs);
        let lanes = self.lanes.all().iter();
        lanes.for_each(|lane| lane.journal_failures());
        if !goes_on {
            self.reporter.end();
        }
        if claimed {
            // A flusher that waits for the permit of one whose handler hangs.
            let doorbells = self.lanes.all().iter().map(|lane| &lane.gate.doorbell);
            doorbells.for_each(|doorbell| doorbell.ring());
        }
        let mut ended = self.controller.wait_until(latest);
        for flusher in &self.flushers {
            ended &= flusher.wait_until(latest);
        }
        if given_up_before && ended {
            // An earlier close left the handler behind; this one had the time to see how its items
            // ended.
            answer = report(&mut self.lanes.lock(), false);
        }
        answer.timed_out = !ended || !(in_time || given_up_before);
        if claimed {
            // Flushes that wait for what is now unsent or abandoned.
            let lanes = self.lanes.all().iter();
            lanes.for_each(|lane| lane.changed.notify_all());
            tell_closed(self.lanes.first(), &answer);
        }
        answer
    }

    /// The drop of the owner: closes unless somebody has, and gives the report to the hook.
    pub(crate) fn close_on_drop(&self, timeout: Duration, patience: Duration) {
        if self.is_orphaned() {
            return;
        }
        let own_thread = self.is_own_thread();
        let terms = CloseTerms {
            deadline: now().checked_add(timeout),
            without_answer: Some(patience),
            one_attempt: is_panicking(),
        };
        if own_thread {
            self.lanes.close(terms, false, now());
        }
        let mut backlogs = self.lanes.lock();
        if backlogs[0].lifecycle.claimed {
            return;
        }
        if own_thread
            && backlogs
                .iter()
                .any(|backlog| backlog.lifecycle.is_closing())
        {
            // A flusher cannot wait for itself: the last one delivers the report at its end.
            backlogs[0].lifecycle.deliver_at_end = true;
            return;
        }
        drop(backlogs);
        if own_thread {
            deliver_unclaimed(&self.lanes, &self.on_close);
        } else {
            let report = self.shutdown_on(terms);
            deliver(&self.lanes, &self.on_close, report);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "close/tests.rs"]
pub(crate) mod tests;
