//! Settings of a consumer, each with a default.

use std::time::Duration;

/// Settings of a [`Consumer`](crate::Consumer).
///
/// ```
/// # use load_aware_batcher_streams::Options;
/// let options = Options::new().capacity(500).delivery_limit(10);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) capacity: usize,
    pub(crate) delivery_limit: u64,
    pub(crate) keep_every: Duration,
    pub(crate) idle_wait: Duration,
    pub(crate) recall_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capacity: 4_000,
            delivery_limit: 5,
            keep_every: Duration::from_secs(5),
            idle_wait: Duration::from_millis(200),
            recall_timeout: Duration::from_secs(10),
        }
    }

    /// How many entries are in hand at most: read, and neither acknowledged nor buried. Default
    /// 4 000. At least 1; 0 counts as 1.
    ///
    /// Choose no more than the batcher's
    /// [`queue_capacity`](load_aware_batcher::Builder::queue_capacity): what exceeds it waits in the
    /// consumer.
    #[must_use]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries.max(1);
        self
    }

    /// An entry that was delivered more often than this is submitted alone. Default 5.
    ///
    /// It is buried only if it then fails as permanent, or if two processes end while it is
    /// submitted alone.
    #[must_use]
    pub fn delivery_limit(mut self, times: u64) -> Self {
        self.delivery_limit = times;
        self
    }

    /// How often the log is notified that this process still works on what it has in hand. Default
    /// 5 s. Choose at most a third of the time after which others claim an entry.
    #[must_use]
    pub fn keep_every(mut self, interval: Duration) -> Self {
        self.keep_every = interval;
        self
    }

    /// How long entries that the log wants back may take to be stored. Default 10 s. What is not
    /// stored by then may be stored twice, by this consumer and by the next one.
    ///
    /// Choose less than the log waits for it: for Kafka `max.poll.interval.ms`, 5 minutes.
    #[must_use]
    pub fn recall_timeout(mut self, timeout: Duration) -> Self {
        self.recall_timeout = timeout;
        self
    }
}
