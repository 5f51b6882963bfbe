//! SQLSTATEs, gone through in the order of PostgreSQL's appendix A with the question: can a row
//! cause it?

use super::Connection::{Drop, Keep};
use super::Meaning::{Again, Doubt, Either, Lost, Refused, Rows, Setup, Shutdown};
use super::{Answers, Stage, Verdict, verdict};
use crate::error::ErrorClass;

/// The class of an SQLSTATE, five characters; `None` if the server gave no answer.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// use load_aware_batcher::classify::{Stage, sqlstate};
///
/// assert_eq!(sqlstate(Some("23505"), Stage::Statement), ErrorClass::Permanent); // unique_violation
/// assert_eq!(sqlstate(None, Stage::Commit), ErrorClass::InDoubt); // no answer
/// ```
#[must_use]
pub fn sqlstate(code: Option<&str>, stage: Stage) -> ErrorClass {
    sqlstate_verdict(code, stage).class
}

/// The class of an SQLSTATE, five characters, and whether the connection is kept; `None` if the
/// server gave no answer.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// # use load_aware_batcher::classify::{Connection, Stage, sqlstate_verdict};
/// // A deadlock: this transaction was rolled back, the connection is fine.
/// let verdict = sqlstate_verdict(Some("40P01"), Stage::Statement);
/// assert_eq!((verdict.class, verdict.connection), (ErrorClass::Transient, Connection::Keep));
/// ```
#[must_use]
pub fn sqlstate_verdict(code: Option<&str>, stage: Stage) -> Verdict {
    verdict(code.map_or((Lost, Drop), answers), stage)
}

fn answers(code: &str) -> Answers {
    match code {
        "08001" | "08004" | "53300" | "57P03" | "25006" | "57P05" => (Refused, Drop),
        "57P02" => (Shutdown, Drop),
        "57P01" | "57P04" | "25P04" => (Lost, Drop),
        "08007" | "40003" => (Doubt, Drop),
        // The state of the session; a new one has another.
        "25P02" | "25P03" | "26000" | "42P03" | "42P05" => (Again, Drop),
        "0A000" => (Either, Drop),
        "57014" => (Lost, Keep),
        "55P03" | "55006" | "72000" | "HV001" | "HV00N" => (Again, Keep),
        "09000" | "20000" | "21000" | "27000" | "40002" | "44000" => (Rows, Keep),
        "2200H" | "54011" | "54023" => (Setup, Drop),
        "42000" | "42501" => (Either, Keep),
        _ => match code.get(..2) {
            Some("08") => (Lost, Drop),
            Some("58") => (Lost, Keep),
            Some("28") => (Refused, Drop),
            Some("40" | "53") => (Again, Keep),
            Some("22" | "23" | "2F" | "38" | "39" | "45" | "54" | "P0") => (Rows, Keep),
            Some("3D" | "3F" | "42") => (Setup, Drop),
            Some("25") => (Either, Drop),
            _ => (Either, Keep),
        },
    }
}
