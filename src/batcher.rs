//! The owner: everything a producer can do, close, and what one can look at.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::batch::Failed;
use crate::batcher::builder::Builder;
use crate::batcher::close::Core;
use crate::batcher::producer::Producer;
use crate::control::limits::Limits;
use crate::error::BuildError;
use crate::events::DecisionRecord;
use crate::exchange::published::SetpointCell;
use crate::feedback::LoadFeedback;
use crate::flush::close_report::CloseReport;
use crate::observer::Observer;
use crate::stats::Stats;
use crate::sync::Arc;

pub(crate) mod builder;
pub(crate) mod close;
pub(crate) mod lane_watch;
pub(crate) mod producer;
pub(crate) mod queue_watch;
pub(crate) mod route;
pub(crate) mod sensor;
pub(crate) mod sink;
pub(crate) mod threads;
pub(crate) mod watched;

/// Collects items from many threads and hands them to a handler, in batches whose size the
/// [`Policy`](crate::Policy) decides.
///
/// It derefs to a [`Producer`]: adding, submitting and flushing are that type's methods. Every
/// method but [`close`](Self::close) takes `&self`, and every method may be called from any thread.
/// A batcher cannot be cloned, since its owner closes it; [`producer`](Self::producer) makes a
/// handle that can be. Dropping a batcher closes it with the builder's
/// [`close_timeout`](Builder::close_timeout) and gives the report to the hook
/// [`on_close`](Builder::on_close).
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
///
/// let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
///     // INSERT the rows of `batch` here.
///     Ok(LoadFeedback::new())
/// })?;
/// batcher.add(1)?; // `Producer::add`
/// assert!(batcher.submit(2)?.wait().is_handled()); // `Producer::submit`
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a batcher closes it"]
pub struct Batcher<T: Send + 'static> {
    pub(crate) core: Core<T>,
    pub(crate) setpoint: Arc<SetpointCell>,
    pub(crate) observer: Observer,
    /// The owner's own handle.
    pub(crate) producer: Producer<T>,
    pub(crate) close_timeout: Duration,
    pub(crate) drop_patience: Duration,
}

impl<T: Send + 'static> Deref for Batcher<T> {
    type Target = Producer<T>;

    #[inline]
    fn deref(&self) -> &Producer<T> {
        &self.producer
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// The settings, each with a default. One of the builder's methods `spawn`, `spawn_workers` and
    /// `sink` starts the batcher.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .spawn(|batch: &mut Batch<u64>| {
    ///         println!("{} rows", batch.len());
    ///         Ok(LoadFeedback::new())
    ///     })?;
    /// batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    /// Makes a handle for another thread.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let producer = batcher.producer();
    /// std::thread::spawn(move || producer.add(1)).join().unwrap()?;
    /// assert_eq!(batcher.close(std::time::Duration::from_secs(9)).handled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn producer(&self) -> Producer<T> {
        self.producer.sibling()
    }

    /// Closes the batcher: refuses new items at once, hands over what was accepted, and waits until
    /// every item has its outcome or `timeout` has passed.
    ///
    /// A close waits for no linger and no pause. A batch in a backoff is called at once, and its
    /// backoff begins anew. Only a wait after an [`unavailable`](crate::BatchError::unavailable)
    /// error is kept. A batch that fails is tried again, and searched for bad rows, as before the
    /// close. A further attempt begins only if there is time for it before the deadline: as long as
    /// the batch's longest failed call, and at least 50 ms. If there is not, close returns at once.
    /// With [`Retry::while_closing(false)`](crate::Retry::while_closing), rows whose call fails
    /// during the close are not called again.
    ///
    /// Items that have no outcome at the end are in the report. Those that were never handed to the
    /// handler come back as `unsent`. Those that were in a call before, and are in none now, come
    /// back as `failed`, in doubt where they were. Those in a call that has not returned count as
    /// `abandoned`. Their handler is left on its thread: it may still write them, and is given
    /// nothing more.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add_many(0..100)?;
    /// let report = batcher.close(std::time::Duration::from_secs(9));
    /// assert!(report.is_clean(), "{report:?}");
    /// assert_eq!(report.handled, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self, timeout: Duration) -> CloseReport<T> {
        self.core.shutdown(timeout)
    }

    /// Closes as [`close`](Self::close) does, through a shared reference. The first caller gets the
    /// report's lists. Later callers wait within their own timeout and get the counts, with empty
    /// lists. On one of the batcher's own threads it begins the close and returns at once, with
    /// [`CloseReport::reentrant`] set.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// let report = batcher.shutdown(std::time::Duration::from_secs(9));
    /// assert_eq!(report.handled, 1);
    /// assert!(batcher.add(2).unwrap_err().is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> CloseReport<T> {
        self.core.shutdown(timeout)
    }

    /// Takes the failed rows that are kept because the builder has no
    /// [`on_failed`](Builder::on_failed) hook, in the order in which they left their queue. A row
    /// whose ticket has returned its failure is not among them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, FlushError, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    /// #     for (index, _) in batch.iter().enumerate().filter(|(_, row)| **row == 13) {
    /// #         batch.reject(index, BatchError::permanent("unlucky"));
    /// #     }
    /// #     Ok(LoadFeedback::new())
    /// # })?;
    /// batcher.add_many([12, 13])?;
    /// assert!(batcher.flush(Duration::from_secs(9)).is_err());
    /// let failed = batcher.take_failed();
    /// assert_eq!((failed.len(), failed[0].item), (1, 13));
    /// assert!(batcher.take_failed().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_failed(&self) -> Vec<Failed<T>> {
        let lanes = &self.core.lanes;
        if lanes.first().gate.is_orphaned() {
            return Vec::new();
        }
        let mut failed = Vec::new();
        for lane in lanes.all() {
            failed.append(&mut lane.lock().dead_letters.retained.take_all());
        }
        lanes.end_stalls();
        failed
    }

    /// Reports how loaded the backend is, from any thread. For a monitor that runs alongside the
    /// handler; [`Builder::sensor`] runs one for you.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().cpu_load(1.5)); // out of range: clamped and counted
    /// assert_eq!(batcher.stats().values_corrected, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self, feedback: LoadFeedback) {
        self.core.reporter.report(&feedback);
    }

    /// Changes the limits or the policy of the running batcher. When it returns, the batch size is
    /// within the new limits.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new())).unwrap();
    /// batcher.reconfigure(|limits| limits.max_batch_size = 10).unwrap();
    /// assert!(batcher.stats().batch_size <= 10);
    /// assert!(batcher.reconfigure(|limits| limits.max_batch_size = 0).is_err());
    /// ```
    ///
    /// # Errors
    /// A [`BuildError`] that names the setting and its value. Nothing has changed then.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Limits)) -> Result<(), BuildError> {
        self.core.control.reconfigure(change)?;
        // A new policy decides at once.
        self.core.reporter.wake();
        Ok(())
    }

    /// The batcher's numbers, as one consistent snapshot.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// let stats = batcher.stats();
    /// assert_eq!((stats.added, stats.handled, stats.pending), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Makes a handle that reads the batcher's numbers and last events from any thread. It does not
    /// keep the batcher open.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let observer = batcher.observer();
    /// let watcher = std::thread::spawn(move || observer.stats().pending);
    /// watcher.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// The last 128 decisions of the policy, oldest first. A decision that only repeats the one
    /// before it is left out.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// for decision in batcher.decisions() {
    ///     println!("{} -> {}: {}", decision.from, decision.to, decision.reason);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decisions(&self) -> Vec<DecisionRecord> {
        self.core.control.decisions()
    }
}

impl<T: Send + 'static> Drop for Batcher<T> {
    fn drop(&mut self) {
        self.core
            .close_on_drop(self.close_timeout, self.drop_patience);
        // A forked child has no numbers of its own, and its locks may be held for ever.
        if !self.core.lanes.first().gate.is_orphaned() {
            self.observer.end();
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("batch_size", &self.setpoint.batch_size())
            .field("closed", &self.producer.is_closed())
            .finish_non_exhaustive()
    }
}
