//! How many adds were refused, by reason: counted by whoever is refused, read by `stats`.

use crate::error::AddError;
use crate::stats::Refused;
use crate::sync::{AtomicU64, Ordering};

/// One count for each reason. Relaxed throughout: counts for people, they order nothing.
pub(crate) struct RefusedCounters {
    full: AtomicU64,
    timeout: AtomicU64,
    closed: AtomicU64,
    reentrant: AtomicU64,
    too_heavy: AtomicU64,
    stalled: AtomicU64,
}

impl Default for RefusedCounters {
    fn default() -> Self {
        let none = || AtomicU64::new(0);
        Self {
            full: none(),
            timeout: none(),
            closed: none(),
            reentrant: none(),
            too_heavy: none(),
            stalled: none(),
        }
    }
}

impl RefusedCounters {
    pub(crate) fn count<T>(&self, refused: &AddError<T>) {
        let counter = match refused {
            AddError::Full(_) => &self.full,
            AddError::Timeout(_) => &self.timeout,
            AddError::Closed(_) => &self.closed,
            AddError::Reentrant(_) => &self.reentrant,
            AddError::TooHeavy(_) => &self.too_heavy,
            AddError::Stalled(_) => &self.stalled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Refused {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Refused {
            full: read(&self.full),
            timeout: read(&self.timeout),
            closed: read(&self.closed),
            reentrant: read(&self.reentrant),
            too_heavy: read(&self.too_heavy),
            stalled: read(&self.stalled),
        }
    }
}
