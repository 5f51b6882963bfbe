//! Errors of the driver as errors of the batch or of a row.

use std::error::Error as StdError;
use std::fmt;

use load_aware_batcher::classify::{Stage, sqlite_verdict};
use load_aware_batcher::{BatchError, ErrorClass};
use rusqlite::Error;

/// What SQLite answered is classified by code and stage. What has no code comes from the driver,
/// which cannot convert a value: the row is at fault.
pub(crate) fn failed(error: Error, stage: Stage) -> BatchError {
    match code(&error) {
        None if stage != Stage::Connect => BatchError::permanent(error),
        code => sqlite_verdict(code, stage).error(error),
    }
}

/// The error of the user's own part of the transaction: an error of the driver that was passed on
/// with `?` is classified as the sink's own are.
pub(crate) fn of_user(error: BatchError) -> BatchError {
    let driver = error.source().downcast_ref::<Error>();
    match driver {
        Some(driver) if error.class() == ErrorClass::Unclassified => match code(driver) {
            None => BatchError::permanent(Box::<dyn StdError + Send + Sync>::from(error)),
            code => sqlite_verdict(code, Stage::Statement)
                .error(Box::<dyn StdError + Send + Sync>::from(error)),
        },
        _ => error,
    }
}

pub(crate) fn code(error: &Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// What the error says, without the statement that it is about: one line.
pub(crate) fn text(error: &Error) -> String {
    match error {
        Error::SqlInputError { msg, .. } => msg.clone(),
        _ => error.to_string(),
    }
}

/// Whether the file stayed locked for as long as the sink waits.
pub(crate) fn is_busy(error: &Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == 5)
}

/// A value that the driver could not convert, with its column.
#[derive(Debug)]
pub(crate) struct ColumnError {
    pub(crate) column: String,
    pub(crate) error: Error,
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {:?}: {}", self.column, self.error)
    }
}

impl StdError for ColumnError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}
