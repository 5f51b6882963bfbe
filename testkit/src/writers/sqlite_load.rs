//! How contended an SQLite file is: how often the writer found it locked and had to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use load_aware_batcher::{LoadFeedback, Sensor};

use super::sqlite::BUSY_RETRIES;
use super::{TIMEOUTS, share};

/// Busy retries since the last sample, as locks waited for: one for every 2 ms that the writer
/// waited.
pub struct SqliteLoad {
    retries: u64,
    timeouts: Arc<AtomicU64>,
}

impl SqliteLoad {
    /// `timeouts` is the writer's own count.
    pub fn new(timeouts: Arc<AtomicU64>) -> Self {
        Self {
            retries: BUSY_RETRIES.load(Ordering::Relaxed),
            timeouts,
        }
    }
}

impl Sensor for SqliteLoad {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let retries = BUSY_RETRIES.load(Ordering::Relaxed);
        let since = retries.saturating_sub(std::mem::replace(&mut self.retries, retries));
        feedback
            .db_locks(since)
            .custom(TIMEOUTS, share(self.timeouts.swap(0, Ordering::Relaxed)))
    }
}
