//! The ways to start: with a handler, with a function that makes one, or with a factory of
//! handlers.

use std::convert::Infallible;
use std::error::Error;

use super::Builder;
use crate::batch::Handler;
use crate::batcher::Batcher;
use crate::error::BuildError;
use crate::flush::workers::{HandlerSlot, MakeSlot, Worker};
use crate::sync::{Arc, Mutex};

impl<T: Send + 'static> Builder<T> {
    /// Starts the batcher with a handler: a closure `|batch: &mut Batch<Row>| …` or a type that
    /// implements [`Handler`](crate::Handler). The handler moves to the flusher's thread.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, Handler, LoadFeedback};
    /// struct Count(usize);
    ///
    /// impl Handler<u64> for Count {
    ///     fn handle(&mut self, batch: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
    ///         self.0 += batch.len();
    ///         Ok(LoadFeedback::new())
    ///     }
    /// }
    ///
    /// let batcher = Batcher::builder().spawn(Count(0))?;
    /// batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A [`BuildError`](crate::BuildError): a setting that makes no sense, or a thread that did not
    /// start.
    pub fn spawn<H: Handler<T> + Send + 'static>(
        self,
        handler: H,
    ) -> Result<Batcher<T>, BuildError> {
        self.spawn_with(move || handler)
    }

    /// Starts the batcher with a handler that is created on the flusher's thread, for a connection
    /// that is not `Send`. Returns when the handler is created.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// use std::rc::Rc;
    ///
    /// let batcher = Batcher::builder().spawn_with(|| {
    ///     let connection = Rc::new("not Send");
    ///     move |_: &mut Batch<u64>| { let _ = &connection; Ok(LoadFeedback::new()) }
    /// })?;
    /// batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and [`BuildError::Handler`](crate::BuildError::Handler) if `make`
    /// panics.
    pub fn spawn_with<H, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        F: FnOnce() -> H + Send + 'static,
    {
        self.try_spawn_with(|| Ok::<H, Infallible>(make()))
    }

    /// Like [`spawn_with`](Self::spawn_with), for a constructor that can fail, such as opening a
    /// connection.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let refused = Batcher::builder().try_spawn_with(|| {
    ///     let port: u16 = "many".parse()?;
    ///     Ok::<_, std::num::ParseIntError>(move |_: &mut Batch<u64>| {
    ///         Ok(LoadFeedback::new().queue_depth(u64::from(port)))
    ///     })
    /// });
    /// assert!(refused.err().unwrap().to_string().starts_with("failed to create the handler: "));
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and [`BuildError::Handler`](crate::BuildError::Handler) with the
    /// error that `make` returned, as its source, or with the message of its panic.
    pub fn try_spawn_with<H, E, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: FnOnce() -> Result<H, E> + Send + 'static,
    {
        self.validate()?;
        self.check_one_handler()?;
        let sizes = self.sizes()?;
        let make = move || make().map(HandlerSlot::fixed).map_err(Into::into);
        self.start(&sizes, vec![Box::new(make)])
    }

    /// Starts the batcher with a factory of handlers, for a connection that can be lost.
    ///
    /// The factory runs on the flusher's thread: at the start, after a panic of the handler, after
    /// an error that is marked [`handler_broken`](crate::BatchError::handler_broken), and while a
    /// batch fails again and again without an answer. The old handler is dropped first.
    ///
    /// A factory that fails after the start counts as an
    /// [`unavailable`](crate::BatchError::unavailable) backend: the batch waits, and no row is at
    /// fault. Only if the factory returns a [`BatchError`](crate::BatchError) with another class,
    /// that class counts.
    ///
    /// ```
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// # struct Connection;
    /// # impl Connection {
    /// #     fn open() -> std::io::Result<Self> { Ok(Self) }
    /// #     fn insert(&mut self, _: &[u64]) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// let batcher = Batcher::builder().spawn_workers(|_worker| {
    ///     let mut connection = Connection::open()?;
    ///     Ok::<_, std::io::Error>(move |batch: &mut Batch<u64>| {
    ///         connection.insert(batch)?;
    ///         Ok(LoadFeedback::new())
    ///     })
    /// })?;
    /// batcher.add(1).expect("open");
    /// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
    /// # Ok::<(), load_aware_batcher::BuildError>(())
    /// ```
    ///
    /// Use the driver's transaction guard: `let tx = connection.transaction()?` rolls back when it
    /// is dropped. After a raw `BEGIN`, a handler that panics or returns before `COMMIT` leaves its
    /// connection inside the transaction. After a panic the factory opens another connection. After
    /// an error it does so only if the error is
    /// [`handler_broken`](crate::BatchError::handler_broken).
    ///
    /// # Errors
    /// As [`try_spawn_with`](Self::try_spawn_with), for the first call of the factory.
    pub fn spawn_workers<H, E, F>(self, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: FnMut(Worker) -> Result<H, E> + Send + 'static,
    {
        let make = Arc::new(Mutex::new(make));
        self.start_workers(|_| {
            let make = Arc::clone(&make);
            move |worker| (make.lock())(worker)
        })
    }

    /// Starts a handler for each call that there may be at once, each with a factory of its own.
    pub(super) fn start_workers<H, E, F>(
        self,
        factory: impl Fn(usize) -> F,
    ) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: FnMut(Worker) -> Result<H, E> + Send + 'static,
    {
        self.validate()?;
        let sizes = self.sizes()?;
        let makes = (0..self.concurrency.max()).map(|index| {
            let make = factory(index);
            let slot = move || HandlerSlot::made(index, make).map_err(Into::into);
            Box::new(slot) as MakeSlot<H>
        });
        let makes = makes.collect();
        self.start(&sizes, makes)
    }
}
