//! The batcher's threads as their owner sees them: how to wait for their end.

use std::time::Instant;

use crate::sync::{Arc, Condvar, JoinHandle, Mutex, now};

/// Set once, waited for with a deadline.
pub(crate) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self {
            open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    pub(crate) fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    /// Whether it was opened in time.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut open = self.open.lock();
        while !*open && deadline.is_none_or(|deadline| now() < deadline) {
            open = self.opened.wait_until(open, deadline);
        }
        *open
    }
}

/// One of the batcher's threads, and the latch that it opens when all user code on it is done.
pub(crate) struct Thread {
    pub(crate) ended: Arc<Latch>,
    pub(crate) handle: Mutex<Option<JoinHandle>>,
}

impl Thread {
    /// Whether it ended in time; then it is joined.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let ended = self.ended.wait_until(deadline);
        if ended {
            let handle = self.handle.lock().take();
            if let Some(handle) = handle {
                handle.join();
            }
        }
        ended
    }
}
