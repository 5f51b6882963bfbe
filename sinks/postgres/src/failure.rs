//! Errors of the driver as errors of the batch or of a row.

use std::error::Error as StdError;
use std::{fmt, io};

use load_aware_batcher::classify::{Stage, sqlstate_verdict};
use load_aware_batcher::{BatchError, ErrorClass, SinkError};
use postgres::Error;
use postgres::error::DbError;

use crate::connection::AnyError;

/// Why an attempt failed. The driver's error is kept: which way is tried next depends on it.
pub(crate) enum Failure {
    Driver(Error, Stage),
    Batch(BatchError),
}

impl Failure {
    pub(crate) fn at(stage: Stage) -> impl Fn(Error) -> Self {
        move |error| Self::Driver(error, stage)
    }

    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Driver(error, _) => code(error),
            Self::Batch(_) => None,
        }
    }

    /// The constraint or the index that the server names.
    pub(crate) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Driver(error, _) => error.as_db_error()?.constraint(),
            Self::Batch(_) => None,
        }
    }

    pub(crate) fn into_error(self) -> BatchError {
        match self {
            Self::Driver(error, stage) => failed(error, stage),
            Self::Batch(error) => error,
        }
    }
}

/// What the server or the network answered is classified by code and stage. What the driver refuses
/// to send never left the program: the rows are at fault and nothing is in doubt.
pub(crate) fn failed(error: Error, stage: Stage) -> BatchError {
    if stage != Stage::Connect && is_drivers_own(&error) {
        return BatchError::permanent(error);
    }
    if is_stale_plan(&error) {
        // A statement that is prepared anew is a good one.
        return BatchError::transient(error).handler_broken();
    }
    if is_refused_by_policy(&error) {
        return BatchError::permanent(error);
    }
    sqlstate_verdict(code(&error), stage).error(error)
}

/// Why there is no connection. What is no error of this driver is a pool's: it has none to give.
pub(crate) fn not_connected(error: AnyError) -> BatchError {
    match error.downcast::<Error>() {
        Ok(error) => failed(*error, Stage::Connect),
        Err(error) => BatchError::unavailable(error),
    }
}

/// The error of the user's own part of the transaction: an error of the driver that was passed on
/// with `?` is classified as the sink's own are.
pub(crate) fn of_user(error: BatchError) -> BatchError {
    let driver = error.source().downcast_ref::<Error>();
    match driver {
        Some(driver) if error.class() == ErrorClass::Unclassified => {
            if is_drivers_own(driver) {
                return BatchError::permanent(AnyError::from(error));
            }
            sqlstate_verdict(code(driver), Stage::Statement).error(AnyError::from(error))
        }
        _ => error,
    }
}

/// The SQLSTATE of the server's answer.
pub(crate) fn code(error: &Error) -> Option<&str> {
    error.code().map(|code| code.code())
}

/// What is wrong with a table is read by a person: one line, without the driver's frame around it.
pub(crate) fn text(error: &(dyn StdError + 'static)) -> String {
    if let Some(refused) = error
        .downcast_ref::<Error>()
        .and_then(|error| error.as_db_error())
    {
        return refused.message().replace('\n', " ");
    }
    // The driver's text may or may not hold that of its source.
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        let source = source.to_string();
        if !text.contains(&source) {
            text = format!("{text}: {source}");
        }
    }
    text.replace('\n', " ")
}

/// The driver could not encode a value or a message.
fn is_drivers_own(error: &Error) -> bool {
    match error.source() {
        // A socket fails with this type too. The driver's own text is all that distinguishes the
        // two.
        Some(source) if source.is::<io::Error>() => {
            error.to_string().starts_with("error encoding message")
        }
        Some(source) => !source.is::<DbError>(),
        None => false,
    }
}

fn is_stale_plan(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refused| {
        refused.code().code() == "0A000" && refused.message().starts_with("cached plan")
    })
}

/// Row-level security refuses a row with the code of a missing right. The message is in the server's
/// language, the routine's name is not.
fn is_refused_by_policy(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refused| {
        refused.code().code() == "42501" && refused.routine() == Some("ExecWithCheckOptions")
    })
}

/// A value that cannot be converted to its column's type.
#[derive(Debug)]
pub(crate) struct ColumnError {
    pub(crate) column: String,
    pub(crate) error: AnyError,
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {:?}: {}", self.column, self.error)
    }
}

impl StdError for ColumnError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The error itself is a part of this one's text.
        self.error.source()
    }
}

/// Why rows cannot be written as the user asked: one sentence.
pub(crate) struct Problem {
    sentence: String,
    /// The server did not answer what it was asked.
    cause: Option<Error>,
}

impl Problem {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            cause: None,
        }
    }

    pub(crate) fn by(what: String, cause: Error) -> Self {
        Self {
            sentence: format!("{what}: {}", text(&cause)),
            cause: Some(cause),
        }
    }

    /// At the start.
    pub(crate) fn into_sink_error(self) -> SinkError {
        SinkError::new(self.sentence)
    }

    /// On a later connection.
    pub(crate) fn into_batch_error(self) -> BatchError {
        match self.cause {
            Some(cause) => sqlstate_verdict(code(&cause), Stage::Connect).error(self.sentence),
            None => BatchError::misconfigured(self.sentence),
        }
    }
}
