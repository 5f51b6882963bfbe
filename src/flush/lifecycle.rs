//! How far the batcher is on its way to its end, and on what terms it closes. Part of the backlog,
//! under its lock; the protocol is `close`'s.

use std::time::{Duration, Instant};

use crate::batch::{Closing, Failed};
use crate::error::BatchError;
use crate::flush::search::later;
use crate::stats::Phase;
use crate::sync::Arc;

/// How a close that has begun goes on.
#[derive(Clone, Copy, Default)]
pub(crate) struct CloseTerms {
    /// Nothing begins that would end later.
    pub(crate) deadline: Option<Instant>,
    /// It ends when nothing has answered for this long: the drop of the owner.
    pub(crate) without_answer: Option<Duration>,
    /// What fails has failed: the owner is dropped by a panic.
    pub(crate) one_attempt: bool,
}

/// See the module's doc.
pub(crate) struct Lifecycle<T> {
    pub(crate) phase: Phase,
    terms: CloseTerms,
    /// When a call last went through or blamed its rows; at first the start.
    answered_at: Instant,
    /// While closing, it was seen that no further attempt fits.
    pub(crate) gave_up: bool,
    /// Of rows that waited for another attempt when they were taken out.
    pub(crate) last_error: Option<BatchError>,
    /// What the flusher gave up, unsent and failed, until a closer takes it.
    pub(crate) given_back: (Vec<T>, Vec<Failed<T>>),
    /// Whether somebody has, or will have, the lists of the close report.
    pub(crate) claimed: bool,
    /// The owner was dropped on one of the batcher's own threads: the flusher delivers the report
    /// when it ends.
    pub(crate) deliver_at_end: bool,
    /// For the batch that the handler holds.
    closing: Arc<Closing>,
}

impl<T> Lifecycle<T> {
    pub(crate) fn new(closing: Arc<Closing>, now: Instant) -> Self {
        Self {
            phase: Phase::Open,
            terms: CloseTerms::default(),
            answered_at: now,
            gave_up: false,
            last_error: None,
            given_back: (Vec::new(), Vec::new()),
            claimed: false,
            deliver_at_end: false,
            closing,
        }
    }

    /// Begins the close; true for the first.
    pub(crate) fn begin_close(&mut self, terms: CloseTerms, now: Instant) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.phase = Phase::Closing;
        self.terms = terms;
        self.answered_at = self.answered_at.max(now);
        self.closing.begin(terms.deadline);
        true
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.phase == Phase::Abandoned
    }

    /// A call went through or blamed its rows.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.answered_at = now;
    }

    /// Whether a failed batch is its rows' last.
    pub(crate) fn allows_one_attempt(&self) -> bool {
        self.terms.one_attempt
    }

    /// Takes the claim to the lists; true for the first.
    pub(crate) fn claim(&mut self) -> bool {
        !std::mem::replace(&mut self.claimed, true)
    }

    /// The end of the flusher, or of a close out of time: whichever comes first stays.
    pub(crate) fn abandon(&mut self) {
        if self.phase != Phase::Done {
            self.phase = Phase::Abandoned;
        }
    }

    /// The flusher stops.
    pub(crate) fn finish(&mut self) {
        if self.phase != Phase::Abandoned {
            self.phase = Phase::Done;
        }
    }

    /// No call begins that is expected to end later, while closing.
    pub(crate) fn close_limit(&self) -> Option<Instant> {
        self.limit_of(&self.terms)
    }

    /// A wait before another attempt. While closing it takes half of the time left at most.
    pub(crate) fn hurried(&self, wait: Duration, now: Instant) -> Duration {
        match self.close_limit().filter(|_| self.is_closing()) {
            Some(limit) => wait.min(limit.saturating_duration_since(now) / 2),
            None => wait,
        }
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
}
