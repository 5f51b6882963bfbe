//! Sinks: ready-made writers into a kind of backend.

use std::error::Error;
use std::fmt;

use crate::batch::Handler;
use crate::batcher::builder::Builder;
use crate::batcher::sensor::Sensor;
use crate::error::{BatchError, BuildError};
use crate::flush::workers::Worker;

/// A ready-made writer into a kind of backend, with the settings that fit it. For
/// [`Builder::sink`](crate::Builder::sink).
///
/// ```
/// use load_aware_batcher::{
///     Batch, BatchError, Batcher, Builder, Handler, LoadFeedback, Sink, SinkError, Worker,
/// };
///
/// /// Prints each batch as one line.
/// struct Lines;
/// struct Writer;
///
/// impl Sink<u64> for Lines {
///     type Handler = Writer;
///
///     fn configure(&self, builder: Builder<u64>) -> Result<Builder<u64>, SinkError> {
///         Ok(builder.default_max_batch_size(100).idempotent(true))
///     }
///
///     fn connect(&self, _worker: Worker) -> Result<Writer, BatchError> {
///         Ok(Writer)
///     }
/// }
///
/// impl Handler<u64> for Writer {
///     fn handle(&mut self, batch: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
///         println!("{:?}", &**batch);
///         Ok(LoadFeedback::new())
///     }
/// }
///
/// let batcher = Batcher::builder().sink(Lines)?;
/// batcher.add(1).expect("open");
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// # Ok::<(), load_aware_batcher::BuildError>(())
/// ```
pub trait Sink<T>: Send + Sync {
    /// What writes the batches.
    type Handler: Handler<T>;

    /// Checks the sink's own settings, at the backend too where possible. Sets what the user has
    /// not set on the builder: whether rows are idempotent, how batches are retried, sizes, custom
    /// signals. Called once, before any thread starts.
    ///
    /// # Errors
    /// A [`SinkError`] that names the setting, and its value: a table that does not exist, a column
    /// with another type. It becomes [`BuildError::Sink`](crate::BuildError::Sink).
    fn configure(&self, builder: Builder<T>) -> Result<Builder<T>, SinkError>;

    /// Connects a handler to the backend. Called at the same times as the factory of
    /// [`Builder::spawn_workers`](crate::Builder::spawn_workers).
    ///
    /// # Errors
    /// The reason why there is no connection. At the start it becomes
    /// [`BuildError::Sink`](crate::BuildError::Sink). Later, the batch waits and `connect` is
    /// called again.
    fn connect(&self, worker: Worker) -> Result<Self::Handler, BatchError>;

    /// The sensor that measures the backend's load, once every `load_check_interval`. Default none.
    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        None
    }
}

/// Why a [`Sink`] does not start: one sentence that names the setting and its value.
///
/// ```
/// # use load_aware_batcher::SinkError;
/// let error = SinkError::new("table readings has no column \"valeu\"");
/// assert_eq!(error.to_string(), "table readings has no column \"valeu\"");
/// ```
pub struct SinkError(Box<dyn Error + Send + Sync>);

impl SinkError {
    /// From an error or a text, which becomes this error's own.
    ///
    /// ```
    /// # use load_aware_batcher::SinkError;
    /// let parsed = "five".parse::<u16>().map_err(SinkError::new);
    /// assert_eq!(parsed.unwrap_err().to_string(), "invalid digit found in string");
    /// ```
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    pub(crate) fn into_build_error(self) -> BuildError {
        BuildError::Sink {
            message: self.0.to_string(),
            source: Some(self.0),
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SinkError").field(&self.0).finish()
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The error itself is this one's text.
        self.0.source()
    }
}
