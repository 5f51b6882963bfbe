//! Where samples enter the ring, and who wakes the controller for one.
//!
//! The flusher writes a sample after each call, monitor threads write theirs, and the controller
//! reads. Some samples deserve a decision at once: a failed batch, and any batch under
//! `Cadence::EveryBatch`. Such a sample sets `pending` and then loads whether the controller
//! sleeps. The controller announces its sleep and then loads `pending`. Both sides store and then
//! load, as in `wakeup`, which this uses.

use crate::exchange::ring::Ring;
use crate::feedback::{BatchSample, CallOutcome, CustomSignal, LoadFeedback, Sample, Signals};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, SeqCstUsize};
use crate::wakeup::{CLOSED, Doorbell};

/// See the module's doc.
pub(crate) struct Reporter {
    ring: Arc<Ring>,
    /// The declared custom signals with their weights.
    pub(crate) custom: Vec<CustomSignal>,
    pub(crate) alarm: Doorbell,
    /// 1 from a sample that deserves a decision until the controller takes it.
    pending: SeqCstUsize,
    /// 1 if each batch deserves a decision. Written at the start and by the controller, read by the
    /// flusher.
    every_batch: AtomicU32,
    /// Relaxed: counts for people.
    corrected: AtomicU64,
    unknown: AtomicU64,
    sensor_panics: AtomicU64,
}

impl Reporter {
    pub(crate) fn new(ring: Arc<Ring>, custom: Vec<CustomSignal>, alarm: Doorbell) -> Self {
        Self {
            ring,
            custom,
            alarm,
            pending: SeqCstUsize::new(0),
            every_batch: AtomicU32::new(0),
            corrected: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            sensor_panics: AtomicU64::new(0),
        }
    }

    /// A monitor's report.
    pub(crate) fn report(&self, feedback: &LoadFeedback) {
        let signals = self.resolve(feedback);
        if !signals.is_empty() {
            self.ring.report(&Sample {
                signals,
                batch: None,
            });
        }
    }

    /// A batch with what its handler said.
    pub(crate) fn report_batch(&self, feedback: Option<&LoadFeedback>, batch: BatchSample) {
        let signals = feedback.map_or_else(Signals::default, |feedback| self.resolve(feedback));
        self.ring.report(&Sample {
            signals,
            batch: Some(batch),
        });
        // Relaxed: a cadence that changes just now may be seen one batch late.
        let deserved =
            batch.outcome != CallOutcome::Ok || self.every_batch.load(Ordering::Relaxed) == 1;
        if deserved {
            self.wake();
        }
    }

    fn resolve(&self, feedback: &LoadFeedback) -> Signals {
        let (signals, corrected, unknown) = feedback.resolve(&self.custom);
        if corrected + unknown > 0 {
            // Relaxed: counts for people.
            self.corrected
                .fetch_add(corrected.into(), Ordering::Relaxed);
            self.unknown.fetch_add(unknown.into(), Ordering::Relaxed);
        }
        signals
    }

    /// Asks the controller for a decision now.
    pub(crate) fn wake(&self) {
        self.pending.fetch_or(1);
        let word = self.alarm.word();
        if word != 0 && word & CLOSED == 0 {
            self.alarm.ring_for(word);
        }
    }

    /// Nothing will be reported that anybody needs: the controller ends.
    pub(crate) fn end(&self) {
        self.alarm.close();
        self.alarm.ring();
    }

    pub(crate) fn set_every_batch(&self, on: bool) {
        // Relaxed: see `report_batch`.
        self.every_batch.store(on.into(), Ordering::Relaxed);
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load() != 0
    }

    /// The controller is about to take the samples; true if one was pending.
    pub(crate) fn take_pending(&self) -> bool {
        self.pending.fetch_and(0) != 0
    }

    pub(crate) fn lost(&self) -> u64 {
        self.ring.lost()
    }

    pub(crate) fn corrected(&self) -> u64 {
        // Relaxed: a count for people.
        self.corrected.load(Ordering::Relaxed)
    }

    pub(crate) fn sensor_panicked(&self) {
        // Relaxed: a count for people.
        self.sensor_panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sensor_panics(&self) -> u64 {
        // Relaxed: a count for people.
        self.sensor_panics.load(Ordering::Relaxed)
    }

    pub(crate) fn unknown(&self) -> u64 {
        // Relaxed: a count for people.
        self.unknown.load(Ordering::Relaxed)
    }
}
