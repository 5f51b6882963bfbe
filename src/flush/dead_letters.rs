//! Rows that failed: those that wait for the `on_failed` hook, and those that are retained where
//! there is none. Part of the backlog, under its lock.

use std::collections::VecDeque;
use std::time::Instant;

use crate::batch::Failed;
use crate::flush::retained::{Budget, Retained};
use crate::queue::gate::Gate;

/// What is done with rows that fail, from the builder.
#[derive(Clone)]
pub(crate) struct FailedRows {
    /// The hook is given each of them.
    pub(crate) has_hook: bool,
    /// So many are retained otherwise, or if the hook hands them back.
    pub(crate) keep: Budget,
}

/// See the module's doc.
pub(crate) struct DeadLetters<T> {
    has_hook: bool,
    /// Failed rows that wait for the hook.
    awaiting_hook: VecDeque<Failed<T>>,
    /// The hook holds a row at this moment.
    hook_running: bool,
    /// Failed rows kept for `take_failed` and the close report.
    pub(crate) retained: Retained<T>,
    /// Nothing is handed over: as many rows are retained as may be.
    pub(crate) stalled: bool,
}

impl<T> DeadLetters<T> {
    pub(crate) fn new(FailedRows { has_hook, keep }: FailedRows) -> Self {
        Self {
            has_hook,
            awaiting_hook: VecDeque::new(),
            hook_running: false,
            retained: Retained::new(keep),
            stalled: false,
        }
    }

    /// The next row for the hook, which holds it until this is asked again.
    pub(crate) fn next_for_hook(&mut self) -> Option<Failed<T>> {
        let failed = self.awaiting_hook.pop_front();
        self.hook_running = failed.is_some();
        failed
    }

    /// Whether the hook has been given all that failed.
    pub(crate) fn hook_is_idle(&self) -> bool {
        !self.hook_running && self.awaiting_hook.is_empty()
    }

    /// Whether failed rows are retained.
    pub(crate) fn retains(&self) -> bool {
        !self.has_hook
    }

    /// These rows have failed.
    pub(crate) fn accept(&mut self, failed: Vec<Failed<T>>) {
        if self.has_hook {
            self.awaiting_hook.extend(failed);
        } else {
            failed
                .into_iter()
                .for_each(|failed| self.retained.keep(failed));
        }
    }

    /// Begins or ends the stall; whether there is one. A close has none: it lifts the bound.
    pub(crate) fn check_stall(&mut self, gate: &Gate<T>, closing: bool, now: Instant) -> bool {
        let was_stalled = self.stalled;
        self.stalled = self.retained.is_full() && !closing;
        match (was_stalled, self.stalled) {
            (false, true) => gate.stall.begin(now),
            (true, false) => gate.stall.end(),
            _ => {}
        }
        self.stalled
    }

    /// Retained rows were taken: ends the stall, if there is one and there is room again. Whether
    /// to ring the flusher.
    pub(crate) fn end_stall(&mut self, gate: &Gate<T>) -> bool {
        let ends = self.stalled && !self.retained.is_full();
        if ends {
            self.stalled = false;
            gate.stall.end();
        }
        ends
    }

    /// All rows that nobody was given.
    pub(crate) fn take_all(&mut self) -> Vec<Failed<T>> {
        let mut failed = self.retained.take_all();
        failed.extend(std::mem::take(&mut self.awaiting_hook));
        failed
    }
}
