//! Errors of the driver as errors of the batch or of a row.

use std::error::Error as StdError;

use load_aware_batcher::classify::{Stage, mysql_verdict};
use load_aware_batcher::{BatchError, ErrorClass};
use mysql::{DriverError, Error};

use crate::connection::AnyError;

/// What the server or the network answered is classified by code and stage. What the driver refuses
/// to send never left the program: the rows are at fault and nothing is in doubt.
pub(crate) fn failed(error: Error, stage: Stage) -> BatchError {
    if stage != Stage::Connect && is_drivers_own(&error) {
        return BatchError::permanent(error);
    }
    mysql_verdict(code(&error), stage).error(error)
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
            mysql_verdict(code(driver), Stage::Statement).error(AnyError::from(error))
        }
        _ => error,
    }
}

/// The code of the server's answer.
pub(crate) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::MySqlError(refused) => Some(refused.code),
        _ => None,
    }
}

/// The code behind a batch's error.
pub(crate) fn code_of(error: &BatchError) -> Option<u16> {
    code(error.source().downcast_ref::<Error>()?)
}

/// The driver could not encode a value, or a packet is over the limit.
fn is_drivers_own(error: &Error) -> bool {
    match error {
        // The driver does not export the type, so its text has to do.
        Error::CodecError(problem) => problem.to_string().contains("max_allowed_packet"),
        Error::DriverError(
            DriverError::PacketTooLarge
            | DriverError::MismatchedStmtParams(..)
            | DriverError::Params(_)
            | DriverError::MixedParams
            | DriverError::BulkExecute(_),
        ) => true,
        _ => false,
    }
}

/// What the error says, without the driver's frame around it: one line.
pub(crate) fn text(error: &(dyn StdError + 'static)) -> String {
    match error.downcast_ref::<Error>() {
        Some(Error::MySqlError(refused)) => refused.message.clone(),
        Some(Error::DriverError(error)) => error.to_string(),
        Some(Error::IoError(error)) => error.to_string(),
        _ => error.to_string(),
    }
}
