//! Several calls at once, and what stays in order.

use std::hash::Hash;

use super::Builder;
use crate::batcher::route::{Route, key_hash};
use crate::error::BuildError;
use crate::policy::Concurrency;
use crate::sync::Shared;

impl<T: Send + 'static> Builder<T> {
    /// How many calls of the handler there may be at once, at least 1: a number, or a range within
    /// which the policy decides. Default 1.
    ///
    /// Each call has a handler of its own, on a thread of its own. If the number is greater than 1,
    /// start the batcher with [`spawn_workers`](Self::spawn_workers) or [`sink`](Self::sink). The
    /// largest number of handlers is created at the start. Choose which items may overtake one
    /// another, by one of [`order_by`](Self::order_by),
    /// [`order_by_producer`](Self::order_by_producer) and [`unordered`](Self::unordered).
    ///
    /// Each handler has a queue. [`queue_capacity`](Self::queue_capacity) and
    /// [`max_queue_weight`](Self::max_queue_weight) are divided among the queues. A queue has room
    /// for at least two of the largest batches, and for the weight of one. Limits on failed rows
    /// are for all handlers together.
    ///
    /// ```
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// # struct Connection;
    /// # impl Connection {
    /// #     fn open() -> std::io::Result<Self> { Ok(Self) }
    /// #     fn upsert(&mut self, _: &[(u32, f64)]) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// let batcher = Batcher::builder()
    ///     .concurrency(1..=8)
    ///     .order_by(|row: &(u32, f64)| row.0)
    ///     .spawn_workers(|_worker| {
    ///         let mut connection = Connection::open()?;
    ///         Ok::<_, std::io::Error>(move |batch: &mut Batch<(u32, f64)>| {
    ///             connection.upsert(batch)?;
    ///             Ok(LoadFeedback::new())
    ///         })
    ///     })?;
    /// batcher.add((7, 21.5)).expect("open");
    /// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    pub fn concurrency(mut self, calls: impl Into<Concurrency>) -> Self {
        self.concurrency = calls.into();
        self
    }

    /// Items with equal keys stay in the order in which one thread added them, through retries and
    /// backoffs, and are never in two calls at once. Items with different keys may overtake one
    /// another. The key of a table is the usual choice: a stale row then never overwrites a newer
    /// one, and two connections never lock the same row.
    ///
    /// The function runs on the thread that adds, and its panic reaches the caller of the add.
    /// Items with equal keys go to one queue. If that queue is full, an add to it waits, even if
    /// other queues have room. A key with a share `s` of all items bounds the whole rate at the
    /// rate of one connection divided by `s`.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # #[derive(Clone)]
    /// struct Order { account: u64, amount: i64 }
    ///
    /// let batcher = Batcher::builder()
    ///     .concurrency(4)
    ///     .order_by(|order: &Order| order.account)
    ///     .spawn_workers(|_| {
    ///         Ok::<_, std::io::Error>(|_: &mut Batch<Order>| Ok(LoadFeedback::new()))
    ///     })?;
    /// # batcher.add(Order { account: 1, amount: 2 }).map_err(|_| "closed")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn order_by<K: Hash>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.route = Some(Route::ByKey(Shared::new(move |item: &T| {
            key_hash(&key(item))
        })));
        self
    }

    /// Items added through one handle stay in order. Each [`Producer`](crate::Producer), clones
    /// included, has a connection of its own, as long as there are no more handles than
    /// connections. The batcher's own handle shares the connection of the first. So with fewer
    /// handles than connections, some connections are idle: a single reader uses one.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().concurrency(2).order_by_producer().spawn_workers(|_| {
    ///     Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
    /// })?;
    /// for reader in 0..2 {
    ///     let producer = batcher.producer();
    ///     std::thread::spawn(move || producer.add(reader)).join().unwrap()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn order_by_producer(mut self) -> Self {
        self.route = Some(Route::ByProducer);
        self
    }

    /// Any item may overtake any other, so an old upsert may overwrite a newer one. An add waits
    /// only while no queue has room.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().concurrency(4).unordered().spawn_workers(|_| {
    ///     Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
    /// })?;
    /// assert_eq!(batcher.add_many(0..1_000)?, 1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unordered(mut self) -> Self {
        self.route = Some(Route::Unordered);
        self
    }

    /// Sets [`order_by`](Self::order_by) unless the user has chosen an order. For a
    /// [`Sink`](crate::Sink) with a key.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .concurrency(2)
    ///     .unordered()
    ///     .default_order_by(|row: &u64| *row) // has no effect: the order was chosen
    ///     .spawn_workers(|_| Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new())))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_order_by<K: Hash>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        if self.route.is_some() {
            self
        } else {
            self.order_by(key)
        }
    }

    /// Sets [`unordered`](Self::unordered) unless the user has chosen an order. For a
    /// [`Sink`](crate::Sink) without a key.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .concurrency(2)
    ///     .default_unordered()
    ///     .spawn_workers(|_| Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new())))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_unordered(mut self) -> Self {
        self.route.get_or_insert(Route::Unordered);
        self
    }

    /// With several calls at once, the builder must know which items stay in order.
    pub(super) fn check_order(&self) -> Result<(), BuildError> {
        if self.concurrency.max() == 1 || self.route.is_some() {
            return Ok(());
        }
        let problem = "above 1, one of `order_by(key)`, `order_by_producer()` and `unordered()` must \
                       say which items stay in order";
        let value = self.concurrency.max();
        Err(BuildError::setting("concurrency", value, problem))
    }

    /// With several calls at once, one handler is not enough.
    pub(super) fn check_one_handler(&self) -> Result<(), BuildError> {
        if self.concurrency.max() == 1 {
            return Ok(());
        }
        let problem = "above 1, each call needs a handler of its own: use `spawn_workers`";
        let value = self.concurrency.max();
        Err(BuildError::setting("concurrency", value, problem))
    }
}
