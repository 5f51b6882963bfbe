//! The handle to watch a batcher with: numbers, decisions, and what happened lately.
//!
//! It is not generic over the items and keeps nothing open: the owner's drop takes the batcher's
//! parts out of it and leaves the last numbers in their place.

use std::fmt;

use crate::events::{DecisionRecord, Recent};
use crate::journal::Journal;
use crate::stats::Stats;
use crate::sync::{PlainMutex, Shared};

/// What an observer asks for numbers.
pub(crate) trait Source: Send + Sync {
    /// The snapshot as of now.
    fn stats(&self) -> Stats;
}

/// A handle to watch a batcher with; from [`Batcher::observer`](crate::Batcher::observer).
///
/// It is cheap to clone, can be sent to any thread, and does not depend on the type of the items,
/// so one list holds the observers of all batchers of a program. It does not keep the batcher open:
/// once that is dropped, its queue is freed, and the observer answers with the last numbers.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Observer};
/// # let start = || Batcher::builder().name("orders").spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
/// let batcher = start()?;
/// let watched: Vec<Observer> = vec![batcher.observer()];
/// batcher.add(1)?;
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// for observer in &watched {
///     assert_eq!((observer.name(), observer.stats().handled), ("orders", 1));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Observer(Shared<Seen>);

struct Seen {
    name: String,
    journal: Shared<Journal>,
    numbers: PlainMutex<Numbers>,
}

enum Numbers {
    Live(Shared<dyn Source>),
    /// The owner is gone.
    Last(Box<Stats>),
}

impl Observer {
    pub(crate) fn new(name: String, journal: Shared<Journal>, source: Shared<dyn Source>) -> Self {
        Self(Shared::new(Seen {
            name,
            journal,
            numbers: PlainMutex::new(Numbers::Live(source)),
        }))
    }

    /// The batcher's [`name`](crate::Builder::name).
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.observer().name(), "batcher");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The numbers, as [`Batcher::stats`](crate::Batcher::stats) has them; the last ones once the
    /// batcher was dropped. If a handler that was left behind by a close comes back after that, they
    /// change once more.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let observer = batcher.observer();
    /// batcher.add(1)?;
    /// drop(batcher);
    /// assert_eq!(observer.stats().handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        // A statement of its own: the batcher's locks are not taken under this one.
        let source = match &*self.0.numbers.lock() {
            Numbers::Live(source) => Shared::clone(source),
            Numbers::Last(stats) => return Stats::clone(stats),
        };
        source.stats()
    }

    /// The last 128 decisions, as [`Batcher::decisions`](crate::Batcher::decisions) has them.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| limits.max_batch_size(10))?;
    /// let decisions = batcher.observer().decisions();
    /// assert_eq!(decisions.last().unwrap().reason.to_string(), "reconfigured");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn decisions(&self) -> Vec<DecisionRecord> {
        self.0.journal.decisions()
    }

    /// The calls, decisions and failed rows that came after the event with the sequence number
    /// `since`, as far as they are still kept; 0 asks for all that is kept. Asking from
    /// [`Recent::next`] of the last answer gives each event once.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add_many([1, 2])?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// // Somebody who comes later has history.
    /// let observer = batcher.observer();
    /// let recent = observer.recent(0);
    /// assert_eq!(recent.calls[0].len, 2);
    /// assert!(observer.recent(recent.next).calls.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn recent(&self, since: u64) -> Recent {
        self.0.journal.since(since)
    }

    /// The owner is dropped: keeps the last numbers and lets go of the batcher.
    pub(crate) fn end(&self) {
        let stats = self.stats();
        let last = Numbers::Last(Box::new(stats));
        // Dropped outside the lock: with it may go the queue, and its items are the user's.
        let live = std::mem::replace(&mut *self.0.numbers.lock(), last);
        drop(live);
    }

    /// The flusher ends. If the owner went before, its numbers were not the last.
    pub(crate) fn settle(&self, source: &dyn Source) {
        if let Numbers::Live(_) = &*self.0.numbers.lock() {
            return;
        }
        let stats = source.stats();
        if let Numbers::Last(last) = &mut *self.0.numbers.lock() {
            **last = stats;
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}
