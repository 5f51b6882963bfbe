//! The result codes of SQLite.

use super::Connection::{Drop, Keep};
use super::Meaning::{Again, Either, Lost, Refused, Rows, Setup, Text};
use super::{Answers, Stage, Verdict, verdict};
use crate::error::ErrorClass;

/// The class of an SQLite result code, primary or extended; `None` if the error did not come from
/// SQLite itself.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// use load_aware_batcher::classify::{Stage, sqlite};
///
/// assert_eq!(sqlite(Some(19), Stage::Statement), ErrorClass::Permanent); // SQLITE_CONSTRAINT
/// ```
#[must_use]
pub fn sqlite(code: Option<i32>, stage: Stage) -> ErrorClass {
    sqlite_verdict(code, stage).class
}

/// The class of an SQLite result code, primary or extended, and whether the connection is kept;
/// `None` if the error did not come from SQLite itself.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// # use load_aware_batcher::classify::{Connection, Stage, sqlite_verdict};
/// // SQLITE_BUSY: another connection holds the lock.
/// let verdict = sqlite_verdict(Some(5), Stage::Statement);
/// assert_eq!((verdict.class, verdict.connection), (ErrorClass::Transient, Connection::Keep));
/// ```
#[must_use]
pub fn sqlite_verdict(code: Option<i32>, stage: Stage) -> Verdict {
    verdict(
        code.map_or((Either, Keep), |code| answers(code & 0xff)),
        stage,
    )
}

fn answers(primary: i32) -> Answers {
    match primary {
        1 => (Text, Keep),
        4 | 5 | 6 | 7 | 13 | 14 | 15 | 17 => (Again, Keep),
        8 => (Refused, Drop),
        9 => (Lost, Keep),
        10 => (Lost, Drop),
        11 | 21 | 26 => (Either, Drop),
        18..=20 => (Rows, Keep),
        25 => (Setup, Keep),
        _ => (Either, Keep),
    }
}
