//! The decisions that were put in force, for people to look at.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::{Reason, Zone};

/// Decisions kept.
const DECISIONS_MAX: usize = 128;

/// A decision that was put in force. One that changes nothing and only says again what the one
/// before said is not kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecisionRecord {
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
    fn repeats(&self, last: &Self) -> bool {
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

/// The last decisions, oldest first.
pub(crate) struct DecisionLog(VecDeque<DecisionRecord>);

impl DecisionLog {
    pub(crate) fn new() -> Self {
        Self(VecDeque::with_capacity(DECISIONS_MAX))
    }

    /// Keeps a decision, unless it only repeats the one before.
    pub(crate) fn push(&mut self, record: DecisionRecord) {
        if self.0.back().is_some_and(|last| record.repeats(last)) {
            return;
        }
        if self.0.len() == DECISIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(crate) fn to_vec(&self) -> Vec<DecisionRecord> {
        self.0.iter().cloned().collect()
    }
}
