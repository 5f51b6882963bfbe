//! A log that delivers entries and takes acknowledgements.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::Delivery;

/// A log with acknowledgements, read by one thread of this process.
///
/// A [`Consumer`](crate::Consumer) calls it. Every method may fail; the consumer repeats the call
/// later, so a method must be harmless when it is repeated after a lost answer.
pub trait Source: Send + 'static {
    /// Names an entry.
    type Id: Clone + Ord + Send + fmt::Debug + 'static;

    /// Connects and checks that the log can be read.
    ///
    /// # Errors
    /// What is wrong, in one sentence. [`Consumer::start`](crate::Consumer::start) returns it.
    fn open(&mut self) -> Result<(), SourceError>;

    /// At most `room` entries: first those that were delivered to this consumer before, then those
    /// of consumers that are gone, then new ones. Waits for at most `wait` if there are none.
    ///
    /// # Errors
    /// The log does not answer or refuses. What it delivered meanwhile comes again.
    fn poll(&mut self, room: usize, wait: Duration)
    -> Result<Vec<Delivery<Self::Id>>, SourceError>;

    /// These entries are stored: the log need not deliver them again.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn ack(&mut self, stored: &[Self::Id]) -> Result<(), SourceError>;

    /// Moves an entry to where dead letters are kept, and acknowledges it, in one step.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn bury(&mut self, dead: &Delivery<Self::Id>, why: &str) -> Result<(), SourceError>;

    /// This process still works on these entries: nobody else is to claim them yet.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn keep(&mut self, in_hand: &[Self::Id]) -> Result<(), SourceError>;

    /// Notes that this entry is about to be submitted alone: one death more than it has, unless the
    /// note is removed. Until [`ack`](Self::ack),
    /// [`bury`](Self::bury) or [`survived`](Self::survived), further deliveries count it in
    /// [`Delivery::deaths`].
    ///
    /// # Errors
    /// The log does not answer or refuses. The entry is not submitted then.
    fn alone(&mut self, suspect: &Delivery<Self::Id>) -> Result<(), SourceError>;

    /// The entry that was submitted alone has an outcome and this process lives.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn survived(&mut self, id: &Self::Id) -> Result<(), SourceError>;

    /// Called instead of [`poll`](Self::poll) while nothing may be read. Every round of the consumer
    /// calls one of the two, some milliseconds apart. Default: does nothing.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn serve(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether the log wants entries back, to give them to another consumer. Default: it never does.
    ///
    /// The consumer then drops what it has not submitted, waits for the other outcomes for at most
    /// [`Options::recall_timeout`](crate::Options::recall_timeout), acknowledges, and calls
    /// [`give_back`](Self::give_back). Meanwhile it reads nothing.
    fn is_recalling(&self) -> bool {
        false
    }

    /// Whether this entry is one that the log wants back. Default: none is.
    fn is_recalled(&self, id: &Self::Id) -> bool {
        let _ = id;
        false
    }

    /// None of the entries that the log wants back is in hand any more. Default: does nothing.
    ///
    /// # Errors
    /// The log does not answer or refuses.
    fn give_back(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// The consumer ends. Nothing is acknowledged by this that was not by [`ack`](Self::ack).
    ///
    /// # Errors
    /// The log may not know everything that was acknowledged. The consumer's report is not clean
    /// then.
    fn close(&mut self) -> Result<(), SourceError>;
}

/// Why a source did not do what it was asked for, in one sentence.
pub struct SourceError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// An error with this sentence.
    ///
    /// ```
    /// # use load_aware_batcher_streams::SourceError;
    /// assert_eq!(SourceError::new("there is no stream in").to_string(), "there is no stream in");
    /// ```
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            message,
            source: None,
        }
    }

    /// An error with this sentence and the error behind it.
    pub fn with_source(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceError({:?})", self.message)
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
