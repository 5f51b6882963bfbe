//! What happened, as plain data for people: a call, a decision, a failed row. No event holds an
//! item.

use std::time::Duration;

use crate::batch::Trigger;
use crate::batch::id::BatchId;
use crate::error::ErrorClass;
use crate::policy::{Reason, Zone};

/// A call of the handler that has returned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CallEvent {
    /// Its place among all events of the batcher, from 1.
    pub sequence: u64,
    /// When it returned, since the batcher started.
    pub at: Duration,
    /// The batch's id.
    pub id: BatchId,
    /// The id of the batch that this is a part of, if it is one.
    pub parent: Option<BatchId>,
    /// Which attempt at these items this was, from 1.
    pub attempt: u32,
    /// Why the batch was handed over.
    pub trigger: Trigger,
    /// Items handed to the handler.
    pub len: usize,
    /// The batch size in force when the batch was cut.
    pub cut_at: usize,
    /// Whether the batch was a probe.
    pub probe: bool,
    /// How long the oldest item had waited, if the batch is new and that was measured.
    pub queue_wait: Option<Duration>,
    /// Time of the call.
    pub service_time: Duration,
    /// Rows that the handler rejected for good.
    pub rejected: usize,
    /// Why the call failed; `None` if it returned `Ok`.
    pub error: Option<ErrorEvent>,
}

/// An error without its source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorEvent {
    /// Its class.
    pub class: ErrorClass,
    /// Whether the handler panicked.
    pub panicked: bool,
    /// Its text.
    pub text: String,
}

/// A decision that was put in force. One that changes nothing and only says again what the one
/// before said is not kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecisionRecord {
    /// Its place among all events of the batcher, from 1.
    pub sequence: u64,
    /// The batch size before.
    pub from: usize,
    /// The batch size from then on.
    pub to: usize,
    /// How many calls of the handler there may be at once from then on.
    pub concurrency: usize,
    /// Where the policy saw the load.
    pub zone: Zone,
    /// Why.
    pub reason: Reason,
    /// The load score it went by, 0..=1.
    pub score: Option<f64>,
    /// When, since the batcher started.
    pub at: Duration,
}

impl DecisionRecord {
    /// Whether it changes nothing and says the same as the one before, figures aside.
    pub(crate) fn repeats(&self, last: &Self) -> bool {
        let same_words = match (&self.reason, &last.reason) {
            (Reason::Text(words), Reason::Text(before)) => words == before,
            (reason, before) => std::mem::discriminant(reason) == std::mem::discriminant(before),
        };
        let same_calls = self.concurrency == last.concurrency;
        self.from == self.to
            && last.to == self.to
            && same_calls
            && last.zone == self.zone
            && same_words
    }
}

/// A row that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureEvent {
    /// Its place among all events of the batcher, from 1.
    pub sequence: u64,
    /// When, since the batcher started.
    pub at: Duration,
    /// Why its last attempt failed.
    pub error: ErrorEvent,
    /// How many calls of the handler it was in.
    pub attempts: u32,
    /// Whether the backend may have applied it after all.
    pub in_doubt: bool,
    /// Whether it failed because the backend gave no answer for as long as
    /// [`Retry`](crate::Retry) says.
    pub outage: bool,
}

/// The flusher waits before another attempt at what failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackoffEvent {
    /// When it began, since the batcher started.
    pub at: Duration,
    /// How long it lasts, unless a flush or a close cuts it.
    pub wait: Option<Duration>,
    /// Failed calls since one went through or blamed its rows; 0 where the handler asked for single
    /// rows again.
    pub failures: u32,
    /// Why the last of them failed.
    pub error: Option<ErrorEvent>,
}

/// A stall: nothing is handed over, since as many failed rows are kept as may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StallEvent {
    /// When, since the batcher started.
    pub at: Duration,
    /// How long it has lasted, at its end; `None` at its beginning.
    pub lasted: Option<Duration>,
}

/// Producers wait for room in the queue, or are refused since there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueFullEvent {
    /// When that was noticed, since the batcher started.
    pub at: Duration,
    /// How long it has lasted, at the first check at which it is over; `None` at its beginning.
    pub lasted: Option<Duration>,
}

/// How a close has ended: the counts of its [`CloseReport`](crate::CloseReport).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseSummary {
    /// When, since the batcher started.
    pub at: Duration,
    /// Items handled since the start.
    pub handled: u64,
    /// Items failed since the start.
    pub failed: u64,
    /// Items that were never handed to the handler.
    pub unsent: u64,
    /// Items handed to a handler that had not come back.
    pub abandoned: u64,
    /// Whether the deadline passed before everything was done.
    pub timed_out: bool,
    /// Whether every item that was ever added was handled.
    pub is_clean: bool,
}

/// What has happened lately, oldest first; from [`Observer::recent`](crate::Observer::recent).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Recent {
    /// The last calls, 256 at most.
    pub calls: Vec<CallEvent>,
    /// The last decisions, 128 at most.
    pub decisions: Vec<DecisionRecord>,
    /// The last failed rows, 64 at most. Of more rows that fail together, the first 64 are kept.
    pub failures: Vec<FailureEvent>,
    /// What to ask for next time: the largest sequence number so far.
    pub next: u64,
}
