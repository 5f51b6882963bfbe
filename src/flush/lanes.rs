//! All lanes of one batcher. Each is a queue with its backlog and its flusher. From outside they
//! are one.
//!
//! # Protocol of a close over several lanes
//! Closer:
//!
//! - (1) Lock every backlog, in order.
//! - (2) Close each lane as `queue::gate` says, steps (b) to (d).
//! - (3) Unlock.
//!
//! A producer that finds a lane closed passes through that lane's lock before it returns `Closed`.
//!
//! The race: one lane refuses a thread, and another lane accepts it afterwards. Then the thread
//! would see `Closed` and after that `Ok`. But before it returned `Closed`, it passed through the
//! lock of the first lane. The closed bit of that lane is set only in (2), while all locks are
//! held. So the thread had the lock in (3) or later. By then every lane is closed, and what the
//! thread sends afterwards comes after (c) of every lane.
//!
//! A thread that holds two of these locks holds all of them, and has taken them in this order.
//!
//! # The end
//! The last flusher to finish its work ends the controller. The flusher whose thread ends last
//! delivers the report of an owner that was dropped on one of the batcher's own threads. That owner
//! checks under all locks whether a lane is still closing. If one is, its flusher has not ended. So
//! the last flusher ends later, and finds what the owner left for it.

use std::time::Instant;

use crate::exchange::published::SetpointCell;
use crate::flush::backlog::Backlog;
use crate::flush::lane::Lane;
use crate::flush::lifecycle::CloseTerms;
use crate::sync::{Arc, AtomicUsize, MutexGuard, Ordering};

/// See the module's doc.
pub(crate) struct Lanes<T> {
    all: Box<[Arc<Lane<T>>]>,
    setpoint: Arc<SetpointCell>,
    /// Which lane unordered items go to.
    filling: AtomicUsize,
    /// The lane of the next producer handle, as a wrapping number.
    next_handle: AtomicUsize,
    /// Flushers that may still call the handler.
    working: AtomicUsize,
    /// Flushers whose threads have not ended.
    running: AtomicUsize,
}

impl<T> Lanes<T> {
    /// At least one.
    pub(crate) fn new(all: Box<[Arc<Lane<T>>]>, setpoint: Arc<SetpointCell>) -> Self {
        let count = || AtomicUsize::new(all.len());
        let (working, running) = (count(), count());
        Self {
            all,
            setpoint,
            filling: AtomicUsize::new(0),
            next_handle: AtomicUsize::new(0),
            working,
            running,
        }
    }

    pub(crate) fn all(&self) -> &[Arc<Lane<T>>] {
        &self.all
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn setpoint(&self) -> &Arc<SetpointCell> {
        &self.setpoint
    }

    /// The lane that stands for all: it has the claim to the close report.
    pub(crate) fn first(&self) -> &Arc<Lane<T>> {
        &self.all[0]
    }

    /// Which lane the next unordered item goes to: the same as the last one, unless that has a whole
    /// batch.
    pub(crate) fn next_to_fill(&self) -> usize {
        let place = self.filling();
        if self.all[place].gate.items_in_channel() < self.setpoint.batch_size() {
            return place;
        }
        let next = (place + 1) % self.all.len();
        self.fill(next);
        next
    }

    fn filling(&self) -> usize {
        // Relaxed: any lane will do.
        self.filling.load(Ordering::Relaxed)
    }

    /// Unordered items go to this lane from now on.
    pub(crate) fn fill(&self, place: usize) {
        // Relaxed: as in `filling`.
        self.filling.store(place, Ordering::Relaxed);
    }

    /// The flusher of this lane has gathered a batch: if unordered items went there, the next ones
    /// go to the lane with the fewest items, one that is not in a call if there is any.
    pub(crate) fn gathered(&self, place: usize) {
        let Some(permits) = self.setpoint.permits.as_ref() else {
            return;
        };
        if self.filling() == place {
            self.fill(permits.least_loaded(place));
        }
    }

    /// How many lanes have a producer handle of their own, the owner's aside.
    pub(crate) fn with_handles(&self) -> usize {
        // Relaxed: as in `next_handle`.
        self.next_handle.load(Ordering::Relaxed).min(self.all.len())
    }

    /// The lane of a new producer handle: each has the next.
    pub(crate) fn next_handle(&self) -> usize {
        // Relaxed: a number that orders nothing.
        self.next_handle.fetch_add(1, Ordering::Relaxed) % self.all.len()
    }

    /// Every backlog, in order.
    pub(crate) fn lock(&self) -> Vec<MutexGuard<'_, Backlog<T>>> {
        self.all.iter().map(|lane| lane.lock()).collect()
    }

    /// Closes all lanes; true if this caller was the first to ask for the claim to the report.
    pub(crate) fn close(&self, terms: CloseTerms, claim: bool, now: Instant) -> bool {
        let mut backlogs = self.lock();
        for (backlog, lane) in backlogs.iter_mut().zip(&self.all) {
            backlog.close(&lane.gate, terms, now);
        }
        let claimed = claim && backlogs[0].lifecycle.claim();
        drop(backlogs);
        if let Some(permits) = &self.setpoint.permits {
            permits.end_pauses();
        }
        for lane in &self.all {
            lane.gate.doorbell.ring();
            lane.gate.permits.wake_all();
        }
        claimed
    }

    /// Asks for everything that was added to be handed over without waiting.
    pub(crate) fn request_flush(&self, now: Instant) {
        self.cut_pauses();
        for lane in &self.all {
            lane.lock().request_flush(now);
            lane.gate.doorbell.ring();
        }
    }

    /// Where pauses rest on permits: cuts one. The caller rings every lane.
    pub(crate) fn cut_pauses(&self) {
        if let Some(permits) = &self.setpoint.permits {
            permits.cut_pauses();
        }
    }

    /// Kept failed rows were taken: wakes the flushers that wait for that.
    pub(crate) fn end_stalls(&self) {
        for lane in &self.all {
            let ends = lane.lock().dead_letters.end_stall(&lane.gate);
            if ends {
                lane.gate.doorbell.ring();
            }
        }
    }

    /// A flusher calls no more; true for the last.
    pub(crate) fn one_finished(&self) -> bool {
        Self::is_last(&self.working)
    }

    /// A flusher's thread ends; true for the last.
    pub(crate) fn one_ended(&self) -> bool {
        Self::is_last(&self.running)
    }

    fn is_last(count: &AtomicUsize) -> bool {
        // AcqRel: what each flusher did before comes before what the last one does after.
        count.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// A lane by itself, for the tests of one.
#[cfg(test)]
pub(crate) fn single<T>(lane: &Arc<Lane<T>>) -> Arc<Lanes<T>> {
    several(Box::new([Arc::clone(lane)]))
}

/// Lanes without permits, for tests.
#[cfg(test)]
pub(crate) fn several<T>(lanes: Box<[Arc<Lane<T>>]>) -> Arc<Lanes<T>> {
    let first = crate::policy::setpoint::Setpoint {
        batch_size: 1,
        linger: std::time::Duration::from_secs(3_600),
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: crate::policy::Zone::Unknown,
        score: None,
        reason: "start".into(),
    };
    let doorbells = lanes.iter().map(|lane| Arc::clone(&lane.gate.doorbell));
    let setpoint = Arc::new(SetpointCell::new(first, doorbells.collect(), None));
    Arc::new(Lanes::new(lanes, setpoint))
}
