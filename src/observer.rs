//! The handle to watch a batcher with: numbers, decisions, and what happened lately.
//!
//! It is not generic over the items and keeps nothing open: the owner's drop takes the batcher's
//! parts out of it and leaves the last numbers in their place.

use std::fmt;
use std::time::Duration;

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

struct Numbers {
    origin: Origin,
    /// How many flushers have ended. A snapshot has the last of those that ended before it was
    /// begun, so this says which of two snapshots is the later one.
    ended: u64,
}

enum Origin {
    Live(Shared<dyn Source>),
    /// The owner is gone. The number is that of the flushers that had ended before.
    Last(Box<Stats>, u64),
}

impl Observer {
    pub(crate) fn new(name: String, journal: Shared<Journal>, source: Shared<dyn Source>) -> Self {
        Self(Shared::new(Seen {
            name,
            journal,
            numbers: PlainMutex::new(Numbers {
                origin: Origin::Live(source),
                ended: 0,
            }),
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
        let source = match &self.0.numbers.lock().origin {
            Origin::Live(source) => Shared::clone(source),
            Origin::Last(stats, _) => return Stats::clone(stats),
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

    /// Time since the batcher started. An event's `at` is on the same clock, so an event happened
    /// `uptime() - at` ago.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// let observer = batcher.observer();
    /// let call = observer.recent(0).calls.remove(0);
    /// assert!(call.at <= observer.uptime());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.journal.uptime()
    }

    /// The owner is dropped: keeps the last numbers and lets go of the batcher.
    pub(crate) fn end(&self) {
        let live = loop {
            let ended = self.0.numbers.lock().ended;
            let stats = self.stats();
            let mut numbers = self.0.numbers.lock();
            // A flusher that ended meanwhile found the batcher live and left its numbers to this.
            if numbers.ended == ended {
                let last = Origin::Last(Box::new(stats), ended);
                break std::mem::replace(&mut numbers.origin, last);
            }
        };
        // Dropped outside the lock: with it may go the queue, and its items are the user's.
        drop(live);
    }

    /// A flusher ends. If the owner went before, its numbers were not the last.
    pub(crate) fn settle(&self, source: &dyn Source) {
        let ended = {
            let mut numbers = self.0.numbers.lock();
            numbers.ended += 1;
            if matches!(numbers.origin, Origin::Live(_)) {
                return;
            }
            numbers.ended
        };
        let stats = source.stats();
        let mut numbers = self.0.numbers.lock();
        let Origin::Last(last, before) = &mut numbers.origin else {
            return;
        };
        // Two flushers may end at once: the snapshot that has both stays.
        if *before < ended {
            *before = ended;
            let older = std::mem::replace(&mut **last, stats);
            // Dropped outside the lock: an error in it is the user's.
            drop(numbers);
            drop(older);
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
