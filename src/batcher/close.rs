//! The end: how closers, the flusher and the deadline meet.
//!
//! # Protocol
//! Closer:
//!
//! - (1) Under the locks of all lanes, close admission (see `flush::lanes`). The first closer also
//!   takes the claim to the lists.
//! - (2) Ring the flushers, and the producers that wait for permits.
//! - (3) For each lane, wait until its phase is no longer `Closing` or the own deadline has passed.
//! - (4) The claimant takes everything that waits. After a close in time that is the retained rows.
//!   Past the deadline the phase becomes `Abandoned`, and it is all that is not in flight.
//! - (5) Unless a phase is still `Closing`, end the controller.
//! - (6) If there is time left, wait for the threads to end, and join them.
//!
//! The flusher sees `Closing` at its next visit to the backlog, and hands over without waiting.
//! When the backlog is empty, it sets `Done`, and the last flusher ends the controller. When it
//! sees `Abandoned`, it completes its call and stops, and the handler gets no further batch. A
//! flusher that waits for a permit at that time is rung.
//!
//! The controller still decides while the flushers hand over what is left. A program that adds its
//! rows and closes at once has no other time to find their batch size. Either end of (3) ends the
//! controller. The last flusher does, since nobody may wait for the close of a batcher that its own
//! thread dropped. The closer does, since a flusher whose handler hangs never ends.
//!
//! The race: the deadline passes while the flusher finishes. Both change the phase under the
//! backlog's lock. If `Done` comes first, the claimant finds nothing that waits. If `Abandoned`
//! comes first, the flusher completes its call late. Each item is counted by the thread that has it
//! under the lock.

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
