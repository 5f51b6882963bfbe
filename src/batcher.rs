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

/// Batches items from many threads for one handler, sized by how loaded the handler says its
/// backend is.
///
/// It derefs to a [`Producer`]: adding, submitting and flushing are that type's methods. Every
/// method takes `&self` and may be called from any thread. A batcher is not cloneable, since its
/// owner closes it; [`producer`](Self::producer) makes a cloneable handle. Dropping a batcher closes
/// it with the builder's `close_timeout` and gives the report to `on_close`.
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
    /// The settings, each with a default.
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

    /// A handle for another thread.
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

    /// Closes: refuses new items at once, hands over what was accepted, and waits until all have
    /// their outcome or `timeout` has passed.
    ///
    /// Linger and pauses are overridden, and a backoff begins anew with an attempt at once; a wait
    /// that the backend asked for holds. A batch that fails is tried again, and searched for bad
    /// rows, as before the close. A further attempt begins only if the longest of the batch's
    /// failed calls, at least 50 ms, fits before the deadline. If it does not, close returns at
    /// once. With [`Retry::while_closing(false)`](crate::Retry::while_closing), a call that begins
    /// during the close is its rows' last.
    ///
    /// What was never handed to the handler then comes back as `unsent`. Rows that were in a call
    /// before, and are not in one now, come back as `failed`, in doubt where they were. What a
    /// handler holds that has not come back counts as `abandoned`. Such a handler is left behind on
    /// its thread: it may still write what it holds, and is given nothing more.
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

    /// [`close`](Self::close) through a shared reference. Whoever calls it first gets the lists;
    /// later callers wait within their own timeout and get the counts with empty lists. On one of
    /// the batcher's own threads it begins the close and returns at once, `reentrant`.
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

    /// Takes the failed rows that are kept because the builder has no `on_failed` hook, in the
    /// order in which they left their queue. A row whose ticket has returned its failure is not among
    /// them.
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

    /// Reports to the controller how loaded the backend is, from any thread: for a monitor
    /// alongside the handler.
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

    /// Changes the limits or the policy of a running batcher. When it returns, the batch size lies
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
    /// A [`BuildError`] that names the setting and its value; then nothing has changed.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Limits)) -> Result<(), BuildError> {
        self.core.control.reconfigure(change)?;
        // A new policy decides at once.
        self.core.reporter.wake();
        Ok(())
    }

    /// The numbers, as one consistent snapshot.
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

    /// A handle that watches this batcher from anywhere, keeps nothing open, and has history.
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

    /// The last 128 decisions, oldest first; those that only repeat the one before are left out.
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
