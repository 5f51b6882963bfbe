//! The last calls, decisions and failures, for late observers. Written by flusher, controller
//! and closers once a call, a decision or a failed row; read by observers.
//!
//! One lock, and one row of sequence numbers for all three: what an observer has not seen yet has a
//! larger number than all that it has seen. The room is allocated at the start.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::error::BatchError;
use crate::events::{CallEvent, DecisionRecord, ErrorEvent, FailureEvent, Recent};
use crate::listeners::{Listener, Listeners, Told};
use crate::sync::PlainMutex;
use crate::unwind::message;

const CALLS_MAX: usize = 256;
const DECISIONS_MAX: usize = 128;
/// Failed rows kept, and noted at most between two visits of the flusher.
pub(crate) const FAILURES_MAX: usize = 64;

/// See the module's doc.
pub(crate) struct Journal {
    start: Instant,
    rings: PlainMutex<Rings>,
    listeners: Option<Listeners>,
}

struct Rings {
    last: u64,
    calls: VecDeque<CallEvent>,
    decisions: VecDeque<DecisionRecord>,
    failures: VecDeque<FailureEvent>,
}

/// A row that failed, until its error is put into words: that is the user's code, and no lock is
/// held over it.
#[derive(Clone)]
pub(crate) struct FailureNote {
    pub(crate) error: BatchError,
    pub(crate) attempts: u32,
    pub(crate) in_doubt: bool,
    pub(crate) outage: bool,
}

impl Journal {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            rings: PlainMutex::new(Rings {
                last: 0,
                calls: VecDeque::with_capacity(CALLS_MAX),
                decisions: VecDeque::with_capacity(DECISIONS_MAX),
                failures: VecDeque::with_capacity(FAILURES_MAX),
            }),
            listeners: None,
        }
    }

    /// Time since the start, which every event's `at` counts from.
    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// With those who are told.
    pub(crate) fn with(mut self, listeners: Vec<Box<dyn Listener>>) -> Self {
        self.listeners = (!listeners.is_empty()).then(|| Listeners::new(listeners));
        self
    }

    /// Whether anybody is told.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.is_some()
    }

    /// Queues an event for the listeners.
    pub(crate) fn tell(&self, told: Told) {
        if let Some(listeners) = &self.listeners {
            listeners.push(told);
        }
    }

    /// Delivers what was queued. The user's code: no lock is held here.
    pub(crate) fn deliver(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.deliver();
        }
    }

    /// Events that the listeners missed.
    pub(crate) fn events_dropped(&self) -> u64 {
        self.listeners.as_ref().map_or(0, Listeners::dropped)
    }

    /// Panics of listeners.
    pub(crate) fn listener_panics(&self) -> u64 {
        self.listeners.as_ref().map_or(0, Listeners::panics)
    }

    /// The time since the batcher started.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// Keeps a call, under the next number.
    pub(crate) fn call(&self, mut call: CallEvent) {
        let mut rings = self.rings.lock();
        call.sequence = rings.next();
        if self.has_listeners() {
            self.tell(Told::Call(call.clone()));
        }
        push(&mut rings.calls, call, CALLS_MAX);
    }

    /// Keeps a decision under the next number, unless it only repeats the one before.
    pub(crate) fn decision(&self, mut decision: DecisionRecord) {
        let mut rings = self.rings.lock();
        let last = rings.decisions.back();
        if last.is_some_and(|last| decision.repeats(last)) {
            return;
        }
        decision.sequence = rings.next();
        if self.has_listeners() {
            self.tell(Told::Decision(decision.clone()));
        }
        push(&mut rings.decisions, decision, DECISIONS_MAX);
    }

    /// Keeps failed rows.
    pub(crate) fn failures(&self, notes: &[FailureNote], now: Instant) {
        for note in notes {
            let error = error_event(&note.error);
            let mut rings = self.rings.lock();
            let failure = FailureEvent {
                sequence: rings.next(),
                at: self.at(now),
                error,
                attempts: note.attempts,
                in_doubt: note.in_doubt,
                outage: note.outage,
            };
            push(&mut rings.failures, failure, FAILURES_MAX);
        }
    }

    pub(crate) fn decisions(&self) -> Vec<DecisionRecord> {
        self.rings.lock().decisions.iter().cloned().collect()
    }

    /// What has a larger number than this.
    pub(crate) fn since(&self, since: u64) -> Recent {
        let rings = self.rings.lock();
        Recent {
            calls: newer(&rings.calls, |call| call.sequence > since),
            decisions: newer(&rings.decisions, |decision| decision.sequence > since),
            failures: newer(&rings.failures, |failure| failure.sequence > since),
            next: rings.last,
        }
    }
}

impl Rings {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

fn push<E>(ring: &mut VecDeque<E>, event: E, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(event);
}

fn newer<E: Clone>(ring: &VecDeque<E>, is_newer: impl Fn(&E) -> bool) -> Vec<E> {
    let seen = ring.partition_point(|event| !is_newer(event));
    ring.range(seen..).cloned().collect()
}

/// The error in words. Its text is the user's code, which may panic.
pub(crate) fn error_event(error: &BatchError) -> ErrorEvent {
    let text = catch_unwind(AssertUnwindSafe(|| error.to_string())).unwrap_or_else(|panic| {
        drop(message(panic));
        "an error whose text panicked".to_owned()
    });
    ErrorEvent {
        class: error.class(),
        panicked: error.is_panic(),
        text,
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn decision(to: usize) -> DecisionRecord {
        DecisionRecord {
            concurrency: 1,
            sequence: 0,
            from: to,
            to,
            zone: crate::policy::Zone::Low,
            reason: "steady".into(),
            score: None,
            at: Duration::ZERO,
        }
    }

    fn note() -> FailureNote {
        FailureNote {
            error: BatchError::permanent("no"),
            attempts: 2,
            in_doubt: false,
            outage: false,
        }
    }

    #[test]
    fn who_asks_from_where_it_left_off_gets_each_event_once() {
        let start = Instant::now();
        let journal = Journal::new(start);
        journal.decision(decision(1));
        journal.failures(&[note()], start + Duration::from_secs(3));
        let first = journal.since(0);
        assert_eq!((first.decisions[0].sequence, first.next), (1, 2));
        assert_eq!(first.failures[0].at, Duration::from_secs(3));
        assert_eq!(first.failures[0].error.text, "no");
        journal.decision(decision(1));
        assert_eq!(
            journal.since(first.next),
            Recent {
                next: 2,
                ..Recent::default()
            }
        );
        journal.decision(decision(2));
        let second = journal.since(first.next);
        assert_eq!((second.decisions.len(), second.failures.len()), (1, 0));
        assert_eq!((second.decisions[0].sequence, second.next), (3, 3));
    }

    #[test]
    fn the_last_ones_are_kept_and_no_more() {
        let start = Instant::now();
        let journal = Journal::new(start);
        let most = FAILURES_MAX as u64;
        (0..most + 3).for_each(|_| journal.failures(&[note()], start));
        let kept = journal.since(0).failures;
        assert_eq!((kept.len(), kept[0].sequence), (FAILURES_MAX, 4));
        let capacity = journal.rings.lock().failures.capacity();
        (0..most).for_each(|_| journal.failures(&[note()], start));
        assert_eq!(journal.rings.lock().failures.capacity(), capacity);
    }

    #[test]
    fn an_error_whose_text_panics_is_an_event_all_the_same() {
        #[derive(Debug)]
        struct Wordless;
        impl std::fmt::Display for Wordless {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::panic::resume_unwind(Box::new("wordless"))
            }
        }
        impl std::error::Error for Wordless {}
        let event = error_event(&BatchError::from(Wordless));
        assert_eq!(event.text, "an error whose text panicked");
    }
}
