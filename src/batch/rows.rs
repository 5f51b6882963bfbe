//! A row whose first call did not decide it, with what is remembered of it from call to call.

use std::time::Instant;

use crate::batch::id::BatchId;
use crate::error::BatchError;
use crate::ticket::Resolver;

/// What a call of the handler is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A batch that has not failed yet.
    Fresh,
    /// All undecided rows.
    Whole,
    /// All undecided rows, ahead of schedule since somebody flushes. Its failure changes nothing.
    Early,
    /// Rows from the front.
    Group,
    /// A row that was set aside.
    Suspect,
    /// The first row alone, in the dark.
    First,
    /// A single row elsewhere.
    Witness,
    /// The next row in line.
    FromLine,
}

/// One undecided row.
pub(crate) struct Row<T> {
    pub(crate) item: T,
    pub(crate) memo: Memo,
}

/// What is remembered of an undecided row.
pub(crate) struct Memo {
    /// The item's sequence number.
    pub(crate) number: u64,
    /// Calls of the handler that it was in.
    pub(crate) calls: u32,
    /// Those of them that count as no attempt: refused unseen, or ahead of schedule.
    pub(crate) uncounted: u32,
    /// Whether any of them ended in doubt.
    pub(crate) in_doubt: bool,
    pub(crate) ticket: Option<Resolver>,
    pub(crate) suspicion: Suspicion,
    /// A group that held the row failed, and every other row of that group has been handled since.
    pub(crate) convicted: bool,
    /// It was the next row in line, called as a witness: it is called alone only, so that no batch
    /// is larger than it may be.
    pub(crate) guest: bool,
    /// The name under which the row is called alone, once it was.
    pub(crate) alone: Option<Name>,
    /// Set if the row was set aside, to head a later batch.
    pub(crate) again: Option<Again>,
    /// The row's weight, once it was set aside; 0 before and without a weigher.
    pub(crate) weight: usize,
}

/// Whether a row has failed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// It has not.
    None,
    /// It has, and nothing has answered since.
    Alone,
    /// It has, and another call has answered since: it is called alone again.
    Due,
}

/// Why a row was set aside, and until when: by the handler's `retry`, or as a witness of another
/// batch whose patience has ended.
pub(crate) struct Again {
    /// When the handler first asked for the row again.
    pub(crate) since: Instant,
    /// How often it did; 0 for a witness.
    pub(crate) times: u32,
    /// Those of them that count as attempts: the row was not refused unseen.
    pub(crate) attempts: u32,
    /// Not to be called before.
    pub(crate) due: Instant,
    /// Not to be called before, whoever is in a hurry: the backend asked for it.
    pub(crate) earliest: Instant,
    /// Why, the last time.
    pub(crate) error: BatchError,
}

/// An id that names a set of rows, and how often the set was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) id: BatchId,
    pub(crate) attempts: u32,
}

impl Memo {
    pub(crate) fn new(number: u64, ticket: Option<Resolver>) -> Self {
        Self {
            number,
            calls: 0,
            uncounted: 0,
            in_doubt: false,
            ticket,
            suspicion: Suspicion::None,
            convicted: false,
            guest: false,
            alone: None,
            again: None,
            weight: 0,
        }
    }

    /// Calls that count as attempts.
    pub(crate) fn attempts(&self) -> u32 {
        self.calls - self.uncounted
    }

    /// The row is to head another batch: what a search found out about it is forgotten. Its name
    /// goes too. The call under it may have gone through and recorded it.
    pub(crate) fn leave_search(&mut self) {
        self.suspicion = Suspicion::None;
        (self.convicted, self.guest, self.alone) = (false, false, None);
    }
}
