//! The list of batchers that an exporter publishes.

use std::sync::{Arc, Mutex, PoisonError};

use load_aware_batcher::{Observer, Stats};

/// The batchers that an exporter publishes, each under its
/// [name](load_aware_batcher::Builder::name).
///
/// Cheap to clone. All clones are the same list, so a batcher that starts later is added to the
/// clone that the program kept. Names must differ: two batchers of one name would be one series.
/// The list keeps no batcher open. A dropped batcher stays in it with its last numbers until it is
/// [removed](Self::remove).
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::Observers;
///
/// let batcher = Batcher::builder().name("orders").spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// let observers = Observers::from(batcher.observer());
/// assert_eq!(observers.names(), ["orders"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Observers(Arc<Mutex<Vec<Observer>>>);

impl Observers {
    /// An empty list.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::Observers;
    /// assert!(Observers::new().names().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batcher. It takes the place of one of the same name.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # use load_aware_batcher_telemetry::Observers;
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let observers = Observers::new();
    /// observers.add(batcher.observer());
    /// observers.add(batcher.observer());
    /// assert_eq!(observers.names().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add(&self, observer: Observer) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|listed| listed.name() != observer.name());
        list.push(observer);
    }

    /// Takes a batcher out and says whether it was listed.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # use load_aware_batcher_telemetry::Observers;
    /// # let batcher = Batcher::builder().name("orders").spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let observers = Observers::from(batcher.observer());
    /// assert!(observers.remove("orders"));
    /// assert!(!observers.remove("orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, name: &str) -> bool {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.len();
        list.retain(|listed| listed.name() != name);
        list.len() < before
    }

    /// The names of the batchers, in the order in which they were added.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::Observers;
    /// assert!(Observers::new().names().is_empty());
    /// ```
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let observers = self.listed();
        observers.iter().map(|one| one.name().to_owned()).collect()
    }

    /// One snapshot of each batcher, under its name.
    #[cfg_attr(
        not(any(
            feature = "metrics",
            feature = "opentelemetry",
            feature = "prometheus-client"
        )),
        expect(dead_code, reason = "only exporters take snapshots")
    )]
    pub(crate) fn snapshots(&self) -> Vec<(String, Stats)> {
        // Not under the lock: a snapshot takes the batcher's locks.
        let observers = self.listed();
        observers
            .iter()
            .map(|one| (one.name().to_owned(), one.stats()))
            .collect()
    }

    fn listed(&self) -> Vec<Observer> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }
}

impl From<Observer> for Observers {
    fn from(observer: Observer) -> Self {
        [observer].into_iter().collect()
    }
}

impl FromIterator<Observer> for Observers {
    fn from_iter<I: IntoIterator<Item = Observer>>(observers: I) -> Self {
        let list = Self::new();
        observers.into_iter().for_each(|one| list.add(one));
        list
    }
}
