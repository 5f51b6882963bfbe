//! Whether the batcher is being closed, as the handler sees it.

use std::time::Instant;

use crate::sync::Mutex;

/// Whether the batcher is being closed, and until when: shared with the batch that the handler
/// holds.
pub(crate) struct Closing(Mutex<ClosingState>);

#[derive(Clone, Copy, Default)]
struct ClosingState {
    begun: bool,
    deadline: Option<Instant>,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ClosingState::default()))
    }

    pub(crate) fn begin(&self, deadline: Option<Instant>) {
        *self.0.lock() = ClosingState {
            begun: true,
            deadline,
        };
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.lock().begun
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.lock().deadline
    }
}
