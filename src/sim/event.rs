//! The events of a run, and their times.

/// A time in a heap. Never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(pub(super) f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The background load changes.
    Load,
    /// A call's latency is over: it begins to work.
    Join {
        call: usize,
    },
    TimeOut {
        call: usize,
    },
    /// A call is refused.
    Refuse {
        call: usize,
    },
    /// A call may have waited for the lock for too long.
    GiveUp {
        call: usize,
    },
    /// A call that waited tries to enter the lock.
    Enter {
        call: usize,
    },
    /// The lock's holder asks for it.
    Ask,
    /// The lock's holder releases it.
    Release,
    /// A batcher begins.
    Begin {
        unit: usize,
    },
    /// The pause after a call is over.
    Free {
        unit: usize,
        lane: usize,
    },
    /// A flush to disk is over.
    Flushed,
    /// The number of cores changes.
    Cores {
        cores: u32,
    },
    /// A batch may be full or due, if this plan still holds.
    Cut {
        unit: usize,
        plan: u64,
    },
    Decide {
        unit: usize,
    },
    Check {
        unit: usize,
    },
}
