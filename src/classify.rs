//! What a database's error code says of the rows: the [`ErrorClass`] for SQLSTATEs, MySQL and MariaDB codes, SQLite codes.
//!
//! Pure functions on plain codes: no driver is a dependency, no driver's version is forced on anybody. A handler says which
//! code it got and at which point, and gets the class for [`BatchError::classified`](crate::BatchError::classified):
//!
//! ```
//! use load_aware_batcher::classify::{Point, mysql, sqlite, sqlstate};
//! use load_aware_batcher::ErrorClass;
//! // postgres: sqlstate(error.code().map(|code| code.code()), point)
//! assert_eq!(sqlstate(Some("40P01"), Point::Statement), ErrorClass::Transient);
//! // mysql: mysql(match &error { mysql::Error::MySqlError(e) => Some(e.code), _ => None }, point)
//! assert_eq!(mysql(Some(1062), Point::Statement), ErrorClass::Permanent);
//! // rusqlite: sqlite(error.sqlite_error().map(|e| e.extended_code), point)
//! assert_eq!(sqlite(Some(5), Point::Commit), ErrorClass::Transient);
//! // No answer at all: before the commit nothing was applied, at the commit nobody knows.
//! assert_eq!(sqlstate(None, Point::Statement), ErrorClass::Transient);
//! assert_eq!(sqlstate(None, Point::Commit), ErrorClass::InDoubt);
//! ```
//!
//! `None` stands for "the server gave no answer": a lost connection, a client-side time-out. An error that the driver itself
//! made up, such as a value it cannot encode, is the rows' fault: call it permanent without asking here.
//!
//! Before the commit every class but in doubt leans on the transaction being rolled back: a handler rolls back, or drops its
//! connection, before it returns.
//!
//! # SQLSTATE (PostgreSQL and others)
//!
//! | codes | meaning | class | at the commit |
//! | --- | --- | --- | --- |
//! | no code, `08xxx`, `57P01`–`57P05` | connection lost or refused, server going down or starting | transient | in doubt |
//! | `08007`, `40003` | the server itself does not know how the transaction ended | in doubt | in doubt |
//! | `40xxx`: `40001`, `40P01` | serialization failure, deadlock | transient | transient |
//! | `55P03`, `55006`, `57014` | lock time-out, object in use, statement time-out or cancel | transient | transient, `57014` in doubt |
//! | `53xxx` | out of disk, memory or connections, a limit reached | transient | transient |
//! | `25006` | read only: a replica, or a primary that is being replaced | transient | transient |
//! | `58xxx` | the server's operating system, I/O | transient | in doubt |
//! | `22xxx`, `23xxx`, `21000`, `44000` | bad value, constraint, the same key twice in one upsert, check option | permanent | permanent |
//! | everything else, `42xxx` above all | the statement is wrong, the table is missing, a right is missing | unclassified | unclassified |
//!
//! `57014` at the commit: a cancel can reach a server that has committed and waits for its synchronous replica. `57014` is
//! `statement_timeout`, `55P03` is `lock_timeout`.
//!
//! # MySQL and MariaDB
//!
//! | codes | meaning | class | at the commit |
//! | --- | --- | --- | --- |
//! | no code, 2002, 2003, 2006, 2013, 2055, 1053, 1077, 1079, 1152, 1158–1161, 1184, 1927, 4031 | connection lost or refused, shutdown, killed | transient | in doubt |
//! | 1205, 1213, 1614 | lock wait time-out, deadlock | transient | transient |
//! | 1028, 1317, 1969, 3024 | interrupted, statement time-out | transient | in doubt |
//! | 1040, 1203, 1226 | too many connections, a user's limit | transient | transient |
//! | 1021, 1037, 1038, 1041, 1114 | out of disk or memory, table full | transient | transient |
//! | 3, 1026, 1030 | a file could not be written, an error of the storage engine | transient | in doubt |
//! | 1290, 1792, 1836 | read only | transient | transient |
//! | 1062, 1022, 1169, 1586 | duplicate key | permanent | permanent |
//! | 1048, 1364, 1263 | null where none may be, no default | permanent | permanent |
//! | 1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 1690, 3140 | value out of range, too long, of a wrong form | permanent | permanent |
//! | 1216, 1217, 1451, 1452, 3819, 4025 | foreign key, check | permanent | permanent |
//! | 1118, 1153, 1301, 1390 | a row or packet too large, too many placeholders: half a batch may fit | permanent | permanent |
//! | everything else: 1054, 1064, 1142, 1146 … | the statement, the table, a right | unclassified | unclassified |
//!
//! 1205 rolls back the statement only, not the transaction: roll back yourself. MySQL and MariaDB give 1213 readily where two
//! writers insert the same keys, even in the same order, because of gap locks; READ COMMITTED makes it rare.
//!
//! # SQLite, by the primary code (the low 8 bits of an extended one)
//!
//! | codes | meaning | class | at the commit |
//! | --- | --- | --- | --- |
//! | 5 BUSY, 6 LOCKED, 15 PROTOCOL, 17 SCHEMA | another connection has the lock | transient | transient |
//! | 7 NOMEM, 13 FULL, 14 CANTOPEN | out of memory, disk, file handles | transient | transient |
//! | 9 INTERRUPT, 10 IOERR | interrupted, I/O | transient | in doubt |
//! | 18 TOOBIG, 19 CONSTRAINT, 20 MISMATCH, 25 RANGE | the row | permanent | permanent |
//! | everything else: 1 ERROR, 8 READONLY, 11 CORRUPT, no code … | the statement, the file | unclassified | unclassified |
//!
//! # Why a missing table is unclassified
//!
//! Permanent means "these rows": the batcher searches them one by one, two calls a row if all are refused. A missing table or
//! right says nothing of the rows. Unclassified, the batch is tried again with backoff, is then taken for an outage and fails as
//! a whole, in a number of calls that does not grow with its size.

use crate::error::ErrorClass;

/// At which point of its transaction a handler got an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before the commit: connecting, beginning, or a statement inside a transaction.
    Statement,
    /// At the statement that makes the rows permanent: the commit, or a statement outside a transaction.
    Commit,
}

impl Point {
    /// The class of an error after which nobody knows what the server did last.
    fn answer_lost(self) -> ErrorClass {
        match self {
            Self::Statement => ErrorClass::Transient,
            Self::Commit => ErrorClass::InDoubt,
        }
    }
}

/// The class of an SQLSTATE, five characters; `None` if the server gave no answer.
#[must_use]
pub fn sqlstate(code: Option<&str>, point: Point) -> ErrorClass {
    let Some(code) = code else { return point.answer_lost() };
    match code {
        "08007" | "40003" => ErrorClass::InDoubt,
        "55P03" | "55006" | "25006" => ErrorClass::Transient,
        "57014" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => point.answer_lost(),
        "21000" | "44000" => ErrorClass::Permanent,
        _ => match code.get(..2) {
            Some("08" | "58") => point.answer_lost(),
            Some("40" | "53") => ErrorClass::Transient,
            Some("22" | "23") => ErrorClass::Permanent,
            _ => ErrorClass::Unclassified,
        },
    }
}

/// The class of an error code of a MySQL or MariaDB server or of its C client; `None` if the server gave no answer.
#[must_use]
pub fn mysql(code: Option<u16>, point: Point) -> ErrorClass {
    let Some(code) = code else { return point.answer_lost() };
    match code {
        2002 | 2003 | 2006 | 2013 | 2055 | 1053 | 1077 | 1079 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => {
            point.answer_lost()
        }
        3 | 1026 | 1028 | 1030 | 1317 | 1969 | 3024 => point.answer_lost(),
        1205 | 1213 | 1614 | 1040 | 1203 | 1226 => ErrorClass::Transient,
        1021 | 1037 | 1038 | 1041 | 1114 | 1290 | 1792 | 1836 => ErrorClass::Transient,
        1062 | 1022 | 1169 | 1586 | 1048 | 1364 | 1263 => ErrorClass::Permanent,
        1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1416 | 1690 | 3140 => ErrorClass::Permanent,
        1216 | 1217 | 1451 | 1452 | 3819 | 4025 => ErrorClass::Permanent,
        1118 | 1153 | 1301 | 1390 => ErrorClass::Permanent,
        _ => ErrorClass::Unclassified,
    }
}

/// The class of an SQLite result code, primary or extended; `None` if the error did not come from SQLite itself.
#[must_use]
pub fn sqlite(code: Option<i32>, point: Point) -> ErrorClass {
    match code.map(|code| code & 0xff) {
        Some(5 | 6 | 7 | 13 | 14 | 15 | 17) => ErrorClass::Transient,
        Some(9 | 10) => point.answer_lost(),
        Some(18 | 19 | 20 | 25) => ErrorClass::Permanent,
        _ => ErrorClass::Unclassified,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::ErrorClass::{InDoubt, Permanent, Transient, Unclassified};
    use super::*;

    #[test]
    fn sqlstates_have_the_class_of_the_table() {
        for (code, statement, commit) in [
            (None, Transient, InDoubt),
            (Some("08006"), Transient, InDoubt),
            (Some("08007"), InDoubt, InDoubt),
            (Some("40003"), InDoubt, InDoubt),
            (Some("40001"), Transient, Transient),
            (Some("40P01"), Transient, Transient),
            (Some("55P03"), Transient, Transient),
            (Some("57014"), Transient, InDoubt),
            (Some("57P01"), Transient, InDoubt),
            (Some("57P03"), Transient, InDoubt),
            (Some("53100"), Transient, Transient),
            (Some("58030"), Transient, InDoubt),
            (Some("23505"), Permanent, Permanent),
            (Some("22003"), Permanent, Permanent),
            (Some("21000"), Permanent, Permanent),
            (Some("42P01"), Unclassified, Unclassified),
            (Some("x"), Unclassified, Unclassified),
            (Some("\u{e9}\u{e9}"), Unclassified, Unclassified),
        ] {
            assert_eq!(sqlstate(code, Point::Statement), statement, "{code:?}");
            assert_eq!(sqlstate(code, Point::Commit), commit, "{code:?} at the commit");
        }
    }

    #[test]
    fn mysql_codes_have_the_class_of_the_table() {
        for (code, statement, commit) in [
            (None, Transient, InDoubt),
            (Some(2006), Transient, InDoubt),
            (Some(2013), Transient, InDoubt),
            (Some(1053), Transient, InDoubt),
            (Some(1205), Transient, Transient),
            (Some(1213), Transient, Transient),
            (Some(1114), Transient, Transient),
            (Some(1969), Transient, InDoubt),
            (Some(1062), Permanent, Permanent),
            (Some(1406), Permanent, Permanent),
            (Some(4025), Permanent, Permanent),
            (Some(1390), Permanent, Permanent),
            (Some(1146), Unclassified, Unclassified),
        ] {
            assert_eq!(mysql(code, Point::Statement), statement, "{code:?}");
            assert_eq!(mysql(code, Point::Commit), commit, "{code:?} at the commit");
        }
    }

    #[test]
    fn sqlite_codes_have_the_class_of_the_table() {
        for (code, statement, commit) in [
            (Some(5), Transient, Transient),
            (Some(517), Transient, Transient),
            (Some(6), Transient, Transient),
            (Some(13), Transient, Transient),
            (Some(10), Transient, InDoubt),
            (Some(778), Transient, InDoubt),
            (Some(19), Permanent, Permanent),
            (Some(1555), Permanent, Permanent),
            (Some(2067), Permanent, Permanent),
            (Some(1), Unclassified, Unclassified),
            (None, Unclassified, Unclassified),
        ] {
            assert_eq!(sqlite(code, Point::Statement), statement, "{code:?}");
            assert_eq!(sqlite(code, Point::Commit), commit, "{code:?} at the commit");
        }
    }
}
