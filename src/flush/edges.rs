//! The beginnings and ends of waits, for listeners: the flusher visits the backlog many times
//! within one wait, and each wait is told once.

use std::time::Instant;

use crate::events::{BackoffEvent, StallEvent};
use crate::journal::{Journal, error_event};
use crate::listeners::Told;
use crate::observe::WaitCause;
use crate::stats::Retrying;

/// See the module's doc.
#[derive(Default)]
pub(crate) struct Edges {
    /// The end of the backoff that was told last.
    backoff_until: Option<Instant>,
    stalled_since: Option<Instant>,
}

impl Edges {
    /// What a visit has come to: a wait for this cause until then, or none.
    pub(crate) fn see(
        &mut self,
        journal: &Journal,
        (cause, until): (Option<WaitCause>, Option<Instant>),
        retrying: Option<Retrying>,
        now: Instant,
    ) {
        let is_stalled = cause == Some(WaitCause::Stall);
        match (self.stalled_since, is_stalled) {
            (None, true) => {
                self.stalled_since = Some(now);
                journal.tell(Told::Stall(StallEvent {
                    at: journal.at(now),
                    lasted: None,
                }));
            }
            (Some(since), false) => {
                self.stalled_since = None;
                journal.tell(Told::Stall(StallEvent {
                    at: journal.at(now),
                    lasted: Some(now.saturating_duration_since(since)),
                }));
            }
            _ => {}
        }
        if cause == Some(WaitCause::Backoff) && until.is_some() && until != self.backoff_until {
            self.backoff_until = until;
            journal.tell(Told::Backoff(BackoffEvent {
                at: journal.at(now),
                wait: until.map(|until| until.saturating_duration_since(now)),
                failures: retrying.as_ref().map_or(0, |retrying| retrying.attempts),
                error: retrying.map(|retrying| error_event(&retrying.error)),
            }));
        }
    }
}
