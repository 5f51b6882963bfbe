//! Why a call of the handler failed, and what may be done with its rows.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::sync::Shared;

/// The class of an error: what became of the rows of a failed call, and so what may be done with
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The handler gave no class. The batcher assumes that nothing was stored, and that another
    /// attempt may succeed.
    Unclassified,
    /// Nothing was stored, and another attempt may succeed: a deadlock, a timeout, a lost
    /// connection.
    Transient,
    /// Nothing was stored, and the same rows will fail again: a constraint, a value out of range.
    Permanent,
    /// The backend may or may not have stored the rows: the answer to a commit was lost.
    InDoubt,
    /// The backend refused the call before it read a row. Nothing was stored, and neither the rows
    /// nor their number are at fault. The backend is down, starting or read only, or it asks for
    /// calls to come later.
    Unavailable,
    /// Nothing was stored, and every batch will fail until somebody repairs the statement or the
    /// schema: a missing table, a misspelt column.
    Misconfigured,
}

/// Why a batch failed. `?` converts any error into one. Constructors such as
/// [`permanent`](Self::permanent) also give it a class, which says what may be done with the rows:
///
/// | class | the rows | what happens |
/// | --- | --- | --- |
/// | none, by `?` or [`new`](Self::new) | assumed not stored | tried again, then searched for bad rows |
/// | [`transient`](Self::transient) | not stored; another attempt may succeed | tried again, then searched for bad rows |
/// | [`permanent`](Self::permanent) | not stored; they will fail again | searched for bad rows at once |
/// | [`in_doubt`](Self::in_doubt) | perhaps stored | fail, or are tried again if idempotent |
/// | [`unavailable`](Self::unavailable) | not stored; not at fault | tried again after a wait |
/// | [`misconfigured`](Self::misconfigured) | not stored; the statement is at fault | fail after a few attempts |
///
/// It is cheap to clone. It does not implement [`Error`] itself, so that `?` can convert every
/// error; its [`source`](Self::source) does.
///
/// `?` converts what implements [`Error`]. A text, a `Box<dyn Error + Send + Sync>` and an
/// `anyhow::Error` do not implement it. Use `.map_err(BatchError::new)?` for them:
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
    /// An error without a class, as by `?`. The batcher assumes that nothing was stored, and that
    /// another attempt may succeed.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert_eq!(BatchError::new("no idea").class(), ErrorClass::Unclassified);
    /// ```
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Unclassified, error)
    }

    /// Nothing was stored, and another attempt may succeed. The batch is tried again.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::transient("deadlock").is_transient());
    /// ```
    pub fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Transient, error)
    }

    /// Nothing was stored, and the same rows will fail again. The batch is searched for the bad
    /// rows at once.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::permanent("value out of range").is_permanent());
    /// ```
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Permanent, error)
    }

    /// The backend may or may not have stored the rows. They are tried again only with
    /// [`Builder::idempotent`](crate::Builder::idempotent).
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::in_doubt("no answer to the commit").is_in_doubt());
    /// ```
    pub fn in_doubt(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::InDoubt, error)
    }

    /// The backend refused the call before it read a row. Nothing was stored, and neither the rows
    /// nor their number are at fault. Examples are a refused connection, a server that is starting
    /// or read only, and HTTP 429 or 503 for a whole request.
    ///
    /// The same batch is called again after a backoff, or after [`retry_after`](Self::retry_after).
    /// The refused call does not count as an attempt, starts no search for bad rows, and is no
    /// evidence for the policy. It uses the patience of
    /// [`Retry::for_at_least`](crate::Retry::for_at_least).
    ///
    /// A connection that is lost during a statement is [`transient`](Self::transient): a row may
    /// have crashed the server.
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

    /// Nothing was stored, and every batch will fail until somebody repairs the statement or the
    /// schema: a missing table, a misspelt column.
    ///
    /// There are five attempts within a second, then one with the first row alone. If that fails in
    /// the same way, the batch fails as a whole. Later batches get one attempt each while the error
    /// stays the same.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchError, ErrorClass};
    /// assert!(BatchError::misconfigured("no such table").is_misconfigured());
    /// ```
    pub fn misconfigured(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::classified(ErrorClass::Misconfigured, error)
    }

    /// An error of a class that is known at run time, such as one from
    /// [`classify`](crate::classify).
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

    /// Sets how long the backend asks to wait: the next attempt does not begin earlier. The wait is
    /// at most [`Retry::longest_retry_after`](crate::Retry::longest_retry_after). It counts for
    /// errors that are [`unavailable`](Self::unavailable), and in
    /// [`Batch::retry`](crate::Batch::retry).
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

    /// Marks that the handler cannot be used any more: its connection is lost, or in a state that
    /// it cannot leave. With a factory ([`Builder::spawn_workers`](crate::Builder::spawn_workers)),
    /// the next call gets a new handler.
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

    /// The class that the handler gave the error.
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

    /// Whether the rows may have been stored.
    ///
    /// ```
    /// # use load_aware_batcher::BatchError;
    /// assert!(BatchError::in_doubt("no answer to the commit").is_in_doubt());
    /// ```
    pub fn is_in_doubt(&self) -> bool {
        self.class == ErrorClass::InDoubt
    }

    /// Whether the backend refused the call before it read a row.
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

    /// Whether the handler panicked. The panic's message is then the error's text.
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

    /// Whether the error is marked by [`handler_broken`](Self::handler_broken).
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
