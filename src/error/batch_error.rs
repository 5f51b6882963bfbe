//! Why a call of the handler failed, and what may be done with its rows.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::sync::Shared;

/// What a failed call says of the backend, and so what may be done with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Nothing was said. Taken as: nothing was applied, worth another attempt.
    Unclassified,
    /// Nothing was applied, and another attempt may do better: a deadlock, a timeout, a lost
    /// connection.
    Transient,
    /// Nothing was applied, and the same rows will fail again: a constraint, a value out of range.
    Permanent,
    /// The backend may or may not have applied the rows: the answer to a commit was lost.
    InDoubt,
    /// The backend refused the call before it looked at a row: nothing was applied, and neither the
    /// rows nor their number are to blame. It is down, starting, read only, or asks for calls to
    /// come later.
    Unavailable,
    /// Nothing was applied, and no batch will fare better until somebody mends the statement or the
    /// schema: a missing table, a misspelt column.
    Misconfigured,
}

/// Why a batch failed. Comes from any error by `?`, or from a constructor that says what may be
/// done with the rows.
///
/// Cheap to clone. It does not implement [`Error`] itself, so that `?` can take every error;
/// [`source`](Self::source) does.
///
/// `?` takes what implements [`Error`]. A text, a `Box<dyn Error + Send + Sync>` and an
/// `anyhow::Error` do not; for them the line is `.map_err(BatchError::new)?`:
///
/// ```
/// use std::error::Error;
/// use load_aware_batcher::{Batch, BatchError, LoadFeedback};
///
/// fn insert(rows: &[String]) -> Result<(), Box<dyn Error + Send + Sync>> {
///     if rows.is_empty() { Err("no rows".into()) } else { Ok(()) }
/// }
///
/// let handler = |batch: &mut Batch<String>| -> Result<LoadFeedback, BatchError> {
///     let first: u64 = batch[0].parse()?; // any std error
///     if first == 0 {
///         return Err(BatchError::permanent(format!("row {first} is not allowed"))); // a text
///     }
///     insert(batch).map_err(BatchError::new)?; // a boxed error
///     Ok(LoadFeedback::new())
/// };
/// # let _ = handler;
/// ```
#[derive(Clone)]
pub struct BatchError {
    class: ErrorClass,
    panicked: bool,
    handler_broken: bool,
    retry_after: Option<Duration>,
    source: Shared<dyn Error + Send + Sync>,
}

impl BatchError {
    /// An error of no class, as by `?`: nothing was applied, and another attempt may succeed.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert_eq!(BatchError::new("no idea").class(), ErrorClass::Unclassified);
    /// ```
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Unclassified, error)
    }

    /// Nothing was applied and another attempt may succeed: retried.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::transient("deadlock").is_transient());
    /// ```
    pub fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Transient, error)
    }

    /// Nothing was applied and these rows will fail again: the rows at fault are searched for at
    /// once.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::permanent("value out of range").is_permanent());
    /// ```
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Permanent, error)
    }

    /// The backend may or may not have applied the rows: retried only under
    /// [`Builder::idempotent`](crate::Builder::idempotent).
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::in_doubt("no answer to the commit").is_in_doubt());
    /// ```
    pub fn in_doubt(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::InDoubt, error)
    }

    /// The backend refused the call before it looked at a row: nothing was applied, and neither the
    /// rows nor their number are to blame. A refused connection, a server that starts or is read
    /// only, HTTP 429 or 503 for a whole request.
    ///
    /// The batch is called again as it was after a backoff, or after
    /// [`retry_after`](Self::retry_after). That counts as no attempt, starts no search for bad
    /// rows, and teaches the policy nothing; it uses the patience of
    /// [`Retry::for_at_least`](crate::Retry::for_at_least). A connection that is lost in
    /// mid-statement is [`transient`](Self::transient) instead: a row may have crashed the server.
    ///
    /// From the second refusal in a row on, a factory of
    /// [`spawn_workers`](crate::Builder::spawn_workers) makes another handler before each attempt,
    /// unless the backend says when to come again: it may be the connection that is of no use.
    ///
    /// ```
    /// use std::time::Duration;
    /// use load_aware_batcher::BatchError;
    ///
    /// let error = BatchError::unavailable("503 Service Unavailable").retry_after(Duration::from_secs(7));
    /// assert!(error.is_unavailable());
    /// ```
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Unavailable, error)
    }

    /// Nothing was applied, and no batch will fare better until somebody mends the statement or the
    /// schema: a missing table, a misspelt column.
    ///
    /// Five attempts within a second, then the first row alone; if that fails alike, the batch
    /// fails as a whole, and later batches get one attempt each while the error stays the same.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::misconfigured("no such table").is_misconfigured());
    /// ```
    pub fn misconfigured(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Misconfigured, error)
    }

    /// An error of this class, for a class that was looked up: see [`classify`](crate::classify).
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// let error = BatchError::classified(ErrorClass::Permanent, "duplicate key");
    /// assert_eq!(error, BatchError::permanent("duplicate key"));
    /// ```
    pub fn classified(class: ErrorClass, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            class,
            panicked: false,
            handler_broken: false,
            retry_after: None,
            source: Shared::from(error.into()),
        }
    }

    /// The error of a factory of handlers: unavailable, unless it was passed on with a class of its
    /// own.
    pub(crate) fn of_factory(error: Box<dyn Error + Send + Sync>) -> Self {
        match error.downcast::<Passed>() {
            Ok(passed) if passed.0.class != ErrorClass::Unclassified => passed.0,
            Ok(passed) => Self {
                class: ErrorClass::Unavailable,
                ..passed.0
            },
            Err(error) => Self::unavailable(error),
        }
    }

    pub(crate) fn panicked(message: String) -> Self {
        Self {
            panicked: true,
            ..Self::new(Panicked(message))
        }
    }

    /// The backend says when to come again: the next attempt does not begin earlier. Capped at
    /// [`Retry::longest_retry_after`](crate::Retry::longest_retry_after). Counts for errors that
    /// are [`unavailable`](Self::unavailable), and in [`Batch::retry`](crate::Batch::retry).
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// use std::time::Duration;
    ///
    /// let error = BatchError::unavailable("429").retry_after(Duration::from_secs(2));
    /// assert_eq!(error.wait_asked(), Some(Duration::from_secs(2)));
    /// ```
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The handler is of no use any more: its connection is lost, or in a state that it cannot
    /// leave. Where the builder has a factory
    /// ([`Builder::spawn_workers`](crate::Builder::spawn_workers)), the next call gets a new
    /// handler.
    ///
    /// ```
    /// use load_aware_batcher::BatchError;
    ///
    /// let error = BatchError::transient("connection reset by peer").handler_broken();
    /// assert!(error.is_handler_broken());
    /// ```
    #[must_use]
    pub fn handler_broken(mut self) -> Self {
        self.handler_broken = true;
        self
    }

    /// What the handler said of the failure.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert_eq!(BatchError::transient("deadlock").class(), ErrorClass::Transient);
    /// assert_eq!(BatchError::new("?").class(), ErrorClass::Unclassified);
    /// ```
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether another attempt may succeed.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::transient("deadlock").is_transient());
    /// ```
    pub fn is_transient(&self) -> bool {
        self.class == ErrorClass::Transient
    }

    /// Whether the rows are at fault.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::permanent("duplicate key").is_permanent());
    /// ```
    pub fn is_permanent(&self) -> bool {
        self.class == ErrorClass::Permanent
    }

    /// Whether the rows may have been applied.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::in_doubt("no answer to the commit").is_in_doubt());
    /// ```
    pub fn is_in_doubt(&self) -> bool {
        self.class == ErrorClass::InDoubt
    }

    /// Whether the backend refused the call unseen.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::unavailable("connection refused").is_unavailable());
    /// ```
    pub fn is_unavailable(&self) -> bool {
        self.class == ErrorClass::Unavailable
    }

    /// Whether the statement or the schema is at fault.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::misconfigured("no such table").is_misconfigured());
    /// ```
    pub fn is_misconfigured(&self) -> bool {
        self.class == ErrorClass::Misconfigured
    }

    /// Whether the handler panicked instead of returning; the panic's message is the error's text.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// # let batcher = Batcher::builder().retry(Retry::none()).spawn(
    /// |_: &mut Batch<u64>| -> Result<LoadFeedback, load_aware_batcher::BatchError> {
    ///     panic!("a bug")
    /// }
    /// # )?;
    /// # batcher.add(1)?;
    /// let failed = batcher.close(std::time::Duration::from_secs(9)).failed;
    /// assert!(failed[0].error.is_panic());
    /// assert!(failed[0].error.to_string().contains("a bug"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_panic(&self) -> bool {
        self.panicked
    }

    /// Whether the handler said that it is of no use any more.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// let lost = BatchError::transient("connection reset").handler_broken();
    /// assert!(lost.is_handler_broken());
    /// ```
    pub fn is_handler_broken(&self) -> bool {
        self.handler_broken
    }

    /// How long the backend asks to wait, if it said so.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// # use std::time::Duration;
    /// let busy = BatchError::unavailable("429").retry_after(Duration::from_secs(2));
    /// assert_eq!(busy.wait_asked(), Some(Duration::from_secs(2)));
    /// ```
    pub fn wait_asked(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error that the handler returned, for `downcast_ref`.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// let error = BatchError::from(std::io::Error::other("disk full"));
    /// assert!(error.source().downcast_ref::<std::io::Error>().is_some());
    /// ```
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for BatchError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// So that a function that returns a boxed error can pass one on with `?`. The class is kept where
/// the box comes from a factory of handlers, and lost elsewhere.
impl From<BatchError> for Box<dyn Error + Send + Sync> {
    fn from(error: BatchError) -> Self {
        Box::new(Passed(error))
    }
}

#[derive(Debug)]
struct Passed(BatchError);

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Passed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Its text is this one's; what lies behind it is the source.
        self.0.source.source()
    }
}

impl fmt::Debug for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchError({:?}, {:?})", self.class, self.source)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

/// Two batch errors are equal when they say the same: their class and their text.
impl PartialEq for BatchError {
    fn eq(&self, other: &Self) -> bool {
        self.class == other.class && self.to_string() == other.to_string()
    }
}

#[derive(Debug)]
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler panicked: {}", self.0)
    }
}

impl Error for Panicked {}
