//! One error type per operation; a refused item comes back in its error.

use std::error::Error;
use std::fmt;

use crate::sync::Shared;

/// Why an item was not accepted; the item comes back.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AddError<T> {
    /// The queue was full and the call does not wait.
    Full(T),
    /// The queue stayed full until the deadline.
    Timeout(T),
    /// The batcher is closed or is being closed.
    Closed(T),
    /// The queue was full and the call came from one of the batcher's own threads, which would wait for itself.
    Reentrant(T),
    /// The item alone weighs more than `max_batch_weight`, and the builder said to refuse such items.
    TooHeavy(T),
}

impl<T> AddError<T> {
    /// The item that was refused.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item)
            | Self::Timeout(item)
            | Self::Closed(item)
            | Self::Reentrant(item)
            | Self::TooHeavy(item) => item,
        }
    }

    /// Whether the queue was full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the batcher is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Whether the call came from one of the batcher's own threads.
    pub fn is_reentrant(&self) -> bool {
        matches!(self, Self::Reentrant(_))
    }

    /// Whether the item is too heavy.
    pub fn is_too_heavy(&self) -> bool {
        matches!(self, Self::TooHeavy(_))
    }

    /// The same refusal with another item in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> AddError<U> {
        match self {
            Self::Full(item) => AddError::Full(change(item)),
            Self::Timeout(item) => AddError::Timeout(change(item)),
            Self::Closed(item) => AddError::Closed(change(item)),
            Self::Reentrant(item) => AddError::Reentrant(change(item)),
            Self::TooHeavy(item) => AddError::TooHeavy(change(item)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Full(_) => "Full",
            Self::Timeout(_) => "Timeout",
            Self::Closed(_) => "Closed",
            Self::Reentrant(_) => "Reentrant",
            Self::TooHeavy(_) => "TooHeavy",
        }
    }
}

impl<T> fmt::Debug for AddError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

impl<T> fmt::Display for AddError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Timeout(_) => "the queue stayed full until the deadline",
            Self::Closed(_) => "the batcher is closed",
            Self::Reentrant(_) => "the batcher's own thread would wait for itself",
            Self::TooHeavy(_) => "the item weighs more than a whole batch may",
        })
    }
}

impl<T> Error for AddError<T> {}

/// Why a flush did not do what it promises.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushError {
    /// Every item has its outcome, but not all were handled.
    #[non_exhaustive]
    Failed {
        /// How many items failed since this handle's last flush: in failed batches or rejected one by one.
        items: u64,
    },
    /// The deadline passed first. The flush itself goes on.
    Timeout,
    /// The batcher was closed before every item had its outcome, and some came back unsent or were abandoned.
    Closed,
    /// The call came from one of the batcher's own threads, which would wait for itself.
    Reentrant,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { items } => write!(f, "{items} flushed items failed"),
            Self::Timeout => f.write_str("the deadline passed before everything was flushed"),
            Self::Closed => f.write_str("the batcher was closed before everything was flushed"),
            Self::Reentrant => f.write_str("the batcher's own thread would wait for itself"),
        }
    }
}

impl Error for FlushError {}

/// Why a batcher could not be built or reconfigured: which setting, which value, what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// One setting has a value that makes no sense.
    #[non_exhaustive]
    Setting {
        /// The setting, as the builder's method is called.
        setting: &'static str,
        /// The value that was given.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two settings contradict each other.
    #[non_exhaustive]
    Conflict {
        /// The one setting and its value.
        setting: &'static str,
        /// The value that was given.
        value: String,
        /// The other setting.
        other: &'static str,
        /// The other's value.
        other_value: String,
        /// What the two would have to be to each other.
        problem: &'static str,
    },
    /// A thread did not start.
    #[non_exhaustive]
    Thread {
        /// Which thread.
        name: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The closure given to `spawn_with` or `try_spawn_with` panicked or failed instead of making a handler.
    #[non_exhaustive]
    Handler {
        /// The panic's or the error's message.
        message: String,
        /// The error, if it was one.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl BuildError {
    /// A setting whose value makes no sense; for a [`Policy`](crate::Policy) that checks its own settings.
    pub fn setting(setting: &'static str, value: impl fmt::Display, problem: &'static str) -> Self {
        Self::Setting { setting, value: value.to_string(), problem }
    }

    pub(crate) fn conflict(
        (setting, value): (&'static str, impl fmt::Display),
        (other, other_value): (&'static str, impl fmt::Display),
        problem: &'static str,
    ) -> Self {
        Self::Conflict { setting, value: value.to_string(), other, other_value: other_value.to_string(), problem }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { setting, value, problem } => write!(f, "{setting} is {value}: {problem}"),
            Self::Conflict { setting, value, other, other_value, problem } => {
                write!(f, "{setting} is {value} and {other} is {other_value}: {problem}")
            }
            Self::Handler { message, .. } => write!(f, "the handler could not be made: {message}"),
            Self::Thread { name, source } => write!(f, "thread {name} did not start: {source}"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Thread { source, .. } => Some(source),
            Self::Handler { source: Some(source), .. } => Some(&**source),
            _ => None,
        }
    }
}

/// What a failed call says of the backend, and so what may be done with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Nothing was said. Taken as: nothing was applied, worth another attempt.
    Unclassified,
    /// Nothing was applied, and another attempt may do better: a deadlock, a time-out, a lost connection.
    Transient,
    /// Nothing was applied, and the same rows will fail again: a constraint, a value out of range.
    Permanent,
    /// The backend may or may not have applied the rows: the answer to a commit was lost.
    InDoubt,
}

/// Why a batch failed. Comes from any error by `?`, or from [`transient`](Self::transient),
/// [`permanent`](Self::permanent) and [`in_doubt`](Self::in_doubt), which say what may be done with the rows.
///
/// Cheap to clone. It does not implement [`Error`] itself, so that `?` can take every error; [`source`](Self::source) does.
#[derive(Clone)]
pub struct BatchError {
    class: ErrorClass,
    panicked: bool,
    source: Shared<dyn Error + Send + Sync>,
}

impl BatchError {
    /// Nothing was applied and another attempt may succeed: retried.
    pub fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorClass::Transient, error)
    }

    /// Nothing was applied and these rows will fail again: the rows at fault are searched for at once.
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorClass::Permanent, error)
    }

    /// The backend may or may not have applied the rows: retried only under
    /// [`Builder::idempotent`](crate::Builder::idempotent).
    pub fn in_doubt(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorClass::InDoubt, error)
    }

    /// An error of this class, for a class that was looked up: see [`classify`](crate::classify).
    pub fn classified(class: ErrorClass, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(class, error)
    }

    fn new(class: ErrorClass, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { class, panicked: false, source: Shared::from(error.into()) }
    }

    pub(crate) fn panicked(message: String) -> Self {
        Self { panicked: true, ..Self::new(ErrorClass::Unclassified, Panicked(message)) }
    }

    /// What the handler said of the failure.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether another attempt may succeed.
    pub fn is_transient(&self) -> bool {
        self.class == ErrorClass::Transient
    }

    /// Whether the rows are at fault.
    pub fn is_permanent(&self) -> bool {
        self.class == ErrorClass::Permanent
    }

    /// Whether the rows may have been applied.
    pub fn is_in_doubt(&self) -> bool {
        self.class == ErrorClass::InDoubt
    }

    /// Whether the handler panicked instead of returning; the panic's message is the error's text.
    pub fn is_panic(&self) -> bool {
        self.panicked
    }

    /// The error that the handler returned, for `downcast_ref`.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for BatchError {
    fn from(error: E) -> Self {
        Self::new(ErrorClass::Unclassified, error)
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
