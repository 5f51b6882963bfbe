//! A flush: it registers with each lane, waits for each, and reports the failures that are new to
//! its handle.

use std::time::{Duration, Instant};

use crate::error::FlushError;
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::stats::Phase;
use crate::sync::{AtomicU64, Ordering, belongs_to, now};

/// How many failed items of one lane, since the start, the flushes of one handle have reported.
pub(crate) struct FailureCursor(AtomicU64);

impl FailureCursor {
    pub(crate) fn new(failed: u64) -> Self {
        Self(AtomicU64::new(failed))
    }

    /// Read when a flush registers, under the backlog's lock: another flush through this handle may
    /// end first.
    fn seen(&self) -> u64 {
        // Relaxed: a count that orders nothing; called under the backlog's lock.
        self.0.load(Ordering::Relaxed)
    }

    /// A flush ends with this many failed items since the start.
    fn advance(&self, failed: u64) {
        // Relaxed: as in `seen`.
        self.0.fetch_max(failed, Ordering::Relaxed);
    }
}

impl Clone for FailureCursor {
    fn clone(&self) -> Self {
        // Relaxed: as in `seen`.
        Self::new(self.0.load(Ordering::Relaxed))
    }
}

/// A flush of one lane that has begun.
struct Begun {
    /// What the handle's flushes had reported before.
    seen: u64,
    /// The registration; or the failures since the start, if there is nothing to wait for.
    waits: Result<u64, u64>,
}

/// Flushes all lanes: first asks each, then waits for each. `cursors` are those of one handle, one
/// for each lane.
pub(crate) fn flush<T>(
    lanes: &Lanes<T>,
    cursors: &[FailureCursor],
    timeout: Duration,
) -> Result<(), FlushError> {
    let gate = &lanes.first().gate;
    if gate.is_orphaned() {
        return Err(FlushError::Closed);
    }
    if belongs_to(gate.batcher_id) {
        return Err(FlushError::Reentrant);
    }
    let deadline = now().checked_add(timeout);
    lanes.cut_pauses();
    let mut begun = Vec::with_capacity(cursors.len());
    let mut problem = None;
    for (lane, cursor) in lanes.all().iter().zip(cursors) {
        let mut backlog = lane.lock();
        if backlog.lifecycle.phase != Phase::Open {
            problem = Some(FlushError::Closed);
            break;
        }
        let seen = cursor.seen();
        let waits = backlog.register_flush(now());
        begun.push(Begun {
            seen,
            waits: waits.ok_or_else(|| backlog.barriers.failed()),
        });
        drop(backlog);
        if waits.is_some() {
            lane.gate.doorbell.ring();
        }
    }
    let mut ended = Vec::with_capacity(begun.len());
    for (lane, flush) in lanes.all().iter().zip(&begun) {
        let failed = match flush.waits {
            Ok(waiter) => wait_for_flush(lane, waiter, deadline, problem.take()),
            Err(failed) => Ok(failed),
        };
        match failed {
            Ok(failed) => ended.push(failed),
            // What waits for the others is taken back at once.
            Err(error) => problem = Some(error),
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    let mut items = 0;
    for ((failed, flush), cursor) in ended.iter().zip(&begun).zip(cursors) {
        cursor.advance(*failed);
        items += failed.saturating_sub(flush.seen);
    }
    if items > 0 {
        Err(FlushError::Failed { items })
    } else {
        Ok(())
    }
}

/// Waits for a flush of one lane, unless there is a problem already; how many items before it
/// failed since the start.
fn wait_for_flush<T>(
    lane: &Lane<T>,
    waiter: u64,
    deadline: Option<Instant>,
    problem: Option<FlushError>,
) -> Result<u64, FlushError> {
    let mut backlog = lane.lock();
    let result = loop {
        if let Some(problem) = problem {
            break Err(problem);
        }
        if let Some(failed) = backlog.barriers.failed_before(waiter) {
            break Ok(failed);
        }
        if matches!(backlog.lifecycle.phase, Phase::Abandoned | Phase::Done) {
            break Err(FlushError::Closed);
        }
        if lane.gate.stall.has_lasted() {
            break Err(FlushError::Stalled);
        }
        if deadline.is_some_and(|deadline| deadline <= now()) {
            break Err(FlushError::Timeout);
        }
        backlog = lane
            .changed
            .wait_until(backlog, lane.gate.stall.next_check(deadline));
    };
    backlog.barriers.unregister(waiter);
    result
}
