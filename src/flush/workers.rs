//! The handler and the factory that can make another: asked again where a connection is lost.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::batch::{Batch, Handler};
use crate::error::BatchError;
use crate::feedback::LoadFeedback;
use crate::unwind::{drop_each, message};

/// Says which handler a factory makes, for
/// [`Builder::spawn_workers`](crate::Builder::spawn_workers).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    index: usize,
    times: u64,
}

impl Worker {
    /// The number of the thread that calls the handler, from 0 to one less than the largest
    /// [`concurrency`](crate::Builder::concurrency). With one handler it is 0.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().spawn_workers(|worker| {
    ///     let application = format!("ingest-{}", worker.index()); // a name for the connection
    ///     assert_eq!(application, "ingest-0");
    ///     Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
    /// })?;
    /// # batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many handlers were made on this thread before.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().spawn_workers(|worker| {
    ///     if worker.times() > 0 {
    ///         eprintln!("connecting again");
    ///     }
    ///     Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
    /// })?;
    /// # batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn times(&self) -> u64 {
        self.times
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .field("times", &self.times)
            .finish()
    }
}

type Make<H> = Box<dyn FnMut(Worker) -> Result<H, BatchError>>;

/// Makes the handler of one lane, on its flusher's thread.
pub(crate) type MakeSlot<H> = Box<dyn FnOnce() -> Result<HandlerSlot<H>, AnyError> + Send>;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The handler in use, on the flusher's thread.
pub(crate) struct HandlerSlot<H> {
    handler: Option<H>,
    /// Makes the next one. Without it there is one handler forever.
    make: Option<Make<H>>,
    /// The number of the thread.
    index: usize,
    /// Handlers asked for so far.
    times: u64,
    /// The last call panicked, or its error says that the handler is of no use.
    broken: bool,
}

impl<H> HandlerSlot<H> {
    /// One handler forever.
    pub(crate) fn fixed(handler: H) -> Self {
        Self {
            handler: Some(handler),
            make: None,
            index: 0,
            times: 1,
            broken: false,
        }
    }

    /// The handler of this thread, from a factory. Not caught: the thread that starts it catches
    /// panics.
    pub(crate) fn made<E>(
        index: usize,
        mut make: impl FnMut(Worker) -> Result<H, E> + 'static,
    ) -> Result<Self, E>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let handler = make(Worker { index, times: 0 })?;
        let make = move |worker| make(worker).map_err(|error| BatchError::of_factory(error.into()));
        Ok(Self {
            handler: Some(handler),
            make: Some(Box::new(make)),
            index,
            times: 1,
            broken: false,
        })
    }

    /// Drops the handler, if another can be made, and makes it. A factory that fails or panics is a
    /// backend that is unavailable.
    fn renew(&mut self, drop_panics: &mut u64) -> Result<(), BatchError> {
        let Some(make) = &mut self.make else {
            return Ok(());
        };
        // The old connection is closed first: it may hold a lock.
        *drop_panics += drop_each(&mut self.handler.take().into_iter().collect());
        let worker = Worker {
            index: self.index,
            times: self.times,
        };
        self.times += 1;
        match catch_unwind(AssertUnwindSafe(|| make(worker))) {
            Ok(made) => self.handler = Some(made?),
            Err(panic) => return Err(BatchError::unavailable(message(panic))),
        }
        self.broken = false;
        Ok(())
    }

    /// Calls the handler; first makes it anew if it is broken, or if `anew` and that is possible.
    pub(crate) fn call<T>(
        &mut self,
        batch: &mut Batch<T>,
        anew: bool,
        drop_panics: &mut u64,
    ) -> Result<LoadFeedback, BatchError>
    where
        H: Handler<T>,
    {
        if anew || self.broken || self.handler.is_none() {
            self.renew(drop_panics)?;
        }
        let handler = self
            .handler
            .as_mut()
            .expect("a handler that was not made is an error above");
        let result = catch_unwind(AssertUnwindSafe(|| handler.handle(batch)))
            .unwrap_or_else(|panic| Err(BatchError::panicked(message(panic))));
        self.broken = result
            .as_ref()
            .is_err_and(|error| error.is_panic() || error.is_handler_broken());
        result
    }
}
