//! One error type per operation; a refused item comes back in its error.

use std::error::Error;
use std::fmt;

mod batch_error;

pub use batch_error::{BatchError, ErrorClass};

/// Why an item was not accepted. The error contains the item.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AddError<T> {
    /// The queue was full, and the method does not wait.
    Full(T),
    /// The queue stayed full until the deadline. If a failed batch is being tried again,
    /// [`Stats::retrying`](crate::Stats::retrying) has its last error.
    Timeout(T),
    /// The batcher is closed or is being closed.
    Closed(T),
    /// The queue was full, and the call came from one of the batcher's own threads, which would
    /// have waited for itself.
    Reentrant(T),
    /// The item alone weighs more than `max_batch_weight`, and the builder refuses such items.
    TooHeavy(T),
    /// The queue was full, and no batch is handed over, because as many failed items are kept as
    /// `keep_failed` allows, and nobody takes them.
    /// [`Batcher::take_failed`](crate::Batcher::take_failed) ends this state. An `on_failed` hook
    /// prevents it.
    Stalled(T),
}

impl<T> AddError<T> {
    /// The item that was refused.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert_eq!(AddError::Full("row").into_inner(), "row");
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item)
            | Self::Timeout(item)
            | Self::Closed(item)
            | Self::Reentrant(item)
            | Self::TooHeavy(item)
            | Self::Stalled(item) => item,
        }
    }

    /// Whether the queue was full.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::Full("row").is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the deadline passed.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::Timeout("row").is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the batcher is closed.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::Closed("row").is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Whether the call came from one of the batcher's own threads.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::Reentrant("row").is_reentrant());
    /// ```
    pub fn is_reentrant(&self) -> bool {
        matches!(self, Self::Reentrant(_))
    }

    /// Whether the item is too heavy.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::TooHeavy("row").is_too_heavy());
    /// ```
    pub fn is_too_heavy(&self) -> bool {
        matches!(self, Self::TooHeavy(_))
    }

    /// Whether nothing is handed over because nobody takes the failed items.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert!(AddError::Stalled("row").is_stalled());
    /// ```
    pub fn is_stalled(&self) -> bool {
        matches!(self, Self::Stalled(_))
    }

    /// The same refusal with another item in it.
    ///
    /// ```
    /// # use load_aware_batcher::AddError;
    /// assert_eq!(AddError::Full(2).map(|row| row * 10), AddError::Full(20));
    /// ```
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> AddError<U> {
        match self {
            Self::Full(item) => AddError::Full(change(item)),
            Self::Timeout(item) => AddError::Timeout(change(item)),
            Self::Closed(item) => AddError::Closed(change(item)),
            Self::Reentrant(item) => AddError::Reentrant(change(item)),
            Self::TooHeavy(item) => AddError::TooHeavy(change(item)),
            Self::Stalled(item) => AddError::Stalled(change(item)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Full(_) => "Full",
            Self::Timeout(_) => "Timeout",
            Self::Closed(_) => "Closed",
            Self::Reentrant(_) => "Reentrant",
            Self::TooHeavy(_) => "TooHeavy",
            Self::Stalled(_) => "Stalled",
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
            Self::Reentrant(_) => {
                "called from one of the batcher's own threads, which would deadlock"
            }
            Self::TooHeavy(_) => "the item exceeds max_batch_weight",
            Self::Stalled(_) => {
                "the batcher is stalled: it keeps as many failed items as keep_failed allows, and nobody takes them"
            }
        })
    }
}

impl<T> Error for AddError<T> {}

/// Why a flush did not end with every item handled.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushError {
    /// Every item has its outcome, but some have failed.
    #[non_exhaustive]
    Failed {
        /// How many items have failed since this handle's last flush, the rejected ones included.
        items: u64,
    },
    /// The deadline passed first. The items are still handed over. If a failed batch is being tried
    /// again, [`Stats::retrying`](crate::Stats::retrying) has its last error.
    Timeout,
    /// The batcher was closed before every item had its outcome: some came back unsent or were
    /// abandoned.
    Closed,
    /// The call came from one of the batcher's own threads, which would have waited for itself.
    Reentrant,
    /// No batch is handed over, because as many failed items are kept as `keep_failed` allows, and
    /// nobody takes them.
    Stalled,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { items } => write!(f, "{items} flushed items failed"),
            Self::Timeout => f.write_str("the deadline passed before everything was flushed"),
            Self::Closed => f.write_str("the batcher was closed before everything was flushed"),
            Self::Reentrant => {
                f.write_str("called from one of the batcher's own threads, which would deadlock")
            }
            Self::Stalled => f.write_str(
                "the batcher is stalled: it keeps as many failed items as keep_failed allows, and nobody takes them",
            ),
        }
    }
}

impl Error for FlushError {}

/// Why a batcher could not be built or reconfigured: which setting, which value, what is wrong with
/// it.
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
        /// How the two must relate.
        problem: &'static str,
    },
    /// A thread did not start.
    #[non_exhaustive]
    Thread {
        /// Which thread.
        name: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The closure given to `spawn_with`, `try_spawn_with` or `spawn_workers` panicked or failed,
    /// so there is no handler.
    #[non_exhaustive]
    Handler {
        /// The panic's or the error's message.
        message: String,
        /// The error, if it was one. Its text is part of this error's, so `Error::source` returns
        /// the source of it.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A [`Sink`](crate::Sink) did not start: its address, its table or its columns do not fit the
    /// backend, or there is no connection.
    #[non_exhaustive]
    Sink {
        /// What is wrong, in one sentence.
        message: String,
        /// The error, if it was one. Its text is part of this error's, so `Error::source` returns
        /// the source of it.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl BuildError {
    /// A setting whose value makes no sense; for a [`Policy`](crate::Policy) that checks its own
    /// settings.
    ///
    /// ```
    /// # use load_aware_batcher::BuildError;
    /// let error = BuildError::setting("step", 0, "must be at least 1");
    /// assert_eq!(error.to_string(), "step is 0: must be at least 1");
    /// ```
    pub fn setting(setting: &'static str, value: impl fmt::Display, problem: &'static str) -> Self {
        Self::Setting {
            setting,
            value: value.to_string(),
            problem,
        }
    }

    pub(crate) fn conflict(
        (setting, value): (&'static str, impl fmt::Display),
        (other, other_value): (&'static str, impl fmt::Display),
        problem: &'static str,
    ) -> Self {
        Self::Conflict {
            setting,
            value: value.to_string(),
            other,
            other_value: other_value.to_string(),
            problem,
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting {
                setting,
                value,
                problem,
            } => write!(f, "{setting} is {value}: {problem}"),
            Self::Conflict {
                setting,
                value,
                other,
                other_value,
                problem,
            } => {
                write!(
                    f,
                    "{setting} is {value} and {other} is {other_value}: {problem}"
                )
            }
            Self::Handler { message, .. } => write!(f, "failed to create the handler: {message}"),
            Self::Sink { message, .. } => f.write_str(message),
            Self::Thread { name, .. } => write!(f, "failed to spawn the {name} thread"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Thread { source, .. } => Some(source),
            Self::Handler {
                source: Some(source),
                ..
            }
            | Self::Sink {
                source: Some(source),
                ..
            } => source.source(),
            _ => None,
        }
    }
}
