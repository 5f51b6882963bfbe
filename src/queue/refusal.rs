//! Why an add is refused: inside the crate a plain reason, alongside what comes back. The item is
//! attached at the edge, where an [`AddError`] is made.

use crate::error::AddError;
use crate::queue::message::Message;
use crate::stats::Refused;
use crate::sync::{AtomicU64, Ordering};

/// The reasons of [`AddError`], without an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Timeout,
    Closed,
    Reentrant,
    TooHeavy,
    Stalled,
}

impl<R> From<&AddError<R>> for Refusal {
    fn from(error: &AddError<R>) -> Self {
        match error {
            AddError::Full(_) => Self::Full,
            AddError::Timeout(_) => Self::Timeout,
            AddError::Closed(_) => Self::Closed,
            AddError::Reentrant(_) => Self::Reentrant,
            AddError::TooHeavy(_) => Self::TooHeavy,
            AddError::Stalled(_) => Self::Stalled,
        }
    }
}

impl Refusal {
    /// The error with what was refused.
    pub(crate) fn of<R>(self, refused: R) -> AddError<R> {
        match self {
            Self::Full => AddError::Full(refused),
            Self::Timeout => AddError::Timeout(refused),
            Self::Closed => AddError::Closed(refused),
            Self::Reentrant => AddError::Reentrant(refused),
            Self::TooHeavy => AddError::TooHeavy(refused),
            Self::Stalled => AddError::Stalled(refused),
        }
    }
}

/// A message that was not accepted.
pub(crate) struct Returned<T> {
    pub(crate) refusal: Refusal,
    pub(crate) message: Message<T>,
}

/// How many adds were refused, by reason: counted by the refused thread, read by `stats`. Relaxed
/// throughout: counts for people, they order nothing.
pub(crate) struct RefusalCounters {
    full: AtomicU64,
    timeout: AtomicU64,
    closed: AtomicU64,
    reentrant: AtomicU64,
    too_heavy: AtomicU64,
    stalled: AtomicU64,
}

impl Default for RefusalCounters {
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

impl RefusalCounters {
    pub(crate) fn count(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Full => &self.full,
            Refusal::Timeout => &self.timeout,
            Refusal::Closed => &self.closed,
            Refusal::Reentrant => &self.reentrant,
            Refusal::TooHeavy => &self.too_heavy,
            Refusal::Stalled => &self.stalled,
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
