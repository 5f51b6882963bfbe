//! What a database's error code means: the [`ErrorClass`] for the rows, and whether the
//! [`Connection`] is kept.
//!
//! Pure functions on plain codes: no driver is a dependency, no driver's version is forced on
//! anybody. A handler passes the code and the [`Stage`] of the call. [`sqlstate`], [`mysql`] and
//! [`sqlite`] return the class alone; [`sqlstate_verdict`], [`mysql_verdict`] and
//! [`sqlite_verdict`] return both answers, and [`Verdict::error`] makes the [`BatchError`] from
//! them:
//!
//! ```
//! use load_aware_batcher::classify::{Connection, Stage, mysql, sqlite, sqlstate, sqlstate_verdict};
//! use load_aware_batcher::ErrorClass;
//! // postgres: sqlstate(error.code().map(|code| code.code()), stage)
//! assert_eq!(sqlstate(Some("40P01"), Stage::Statement), ErrorClass::Transient);
//! // mysql: mysql(match &error { mysql::Error::MySqlError(e) => Some(e.code), _ => None }, stage)
//! assert_eq!(mysql(Some(1062), Stage::Statement), ErrorClass::Permanent);
//! // rusqlite: sqlite(error.sqlite_error().map(|e| e.extended_code), stage)
//! assert_eq!(sqlite(Some(5), Stage::Commit), ErrorClass::Transient);
//! // No answer at all: before the commit nothing was applied, at the commit nobody knows.
//! assert_eq!(sqlstate(None, Stage::Statement), ErrorClass::Transient);
//! assert_eq!(sqlstate(None, Stage::Commit), ErrorClass::InDoubt);
//! // A server that turned read-only: wait for another one, and do not wait on this connection.
//! let verdict = sqlstate_verdict(Some("25006"), Stage::Statement);
//! assert_eq!((verdict.class, verdict.connection), (ErrorClass::Unavailable, Connection::Drop));
//! assert!(verdict.error("read-only transaction").is_handler_broken());
//! ```
//!
//! `None` means that the server gave no answer: a lost connection, a client-side timeout. It does
//! not mean an error that the driver made up itself, such as a value that it cannot encode or a
//! packet over its limit. Nothing was sent then, and the rows are at fault: return
//! [`BatchError::permanent`] without a call of this module, as the recipes do.
//!
//! # Recipes
//!
//! One function maps every error of the handler; the call site passes the stage. A refusal at the
//! commit is definite: a deferred constraint, a serialization failure. Only a lost answer is in
//! doubt. The crate `postgres`:
//!
//! ```no_run
//! use std::error::Error;
//! use load_aware_batcher::classify::{Stage, sqlstate_verdict};
//! use load_aware_batcher::{Batch, BatchError, LoadFeedback};
//!
//! fn failed(error: postgres::Error, stage: Stage) -> BatchError {
//!     // Neither the server's answer nor a socket's failure: the driver could not encode a value, and sent nothing.
//!     let from_driver = |source: &(dyn Error + 'static)| {
//!         !source.is::<postgres::error::DbError>() && !source.is::<std::io::Error>()
//!     };
//!     if stage != Stage::Connect && error.source().is_some_and(from_driver) {
//!         return BatchError::permanent(error);
//!     }
//!     sqlstate_verdict(error.code().map(|code| code.code()), stage).error(error)
//! }
//!
//! fn write(client: &mut postgres::Client, batch: &mut Batch<i64>) -> Result<LoadFeedback, BatchError> {
//!     let mut transaction = client.transaction().map_err(|error| failed(error, Stage::Statement))?;
//!     let insert = "INSERT INTO readings SELECT unnest($1::bigint[])";
//!     transaction.execute(insert, &[&&batch[..]]).map_err(|error| failed(error, Stage::Statement))?;
//!     transaction.commit().map_err(|error| failed(error, Stage::Commit))?;
//!     Ok(LoadFeedback::new())
//! }
//! ```
//!
//! The crates `mysql` and `rusqlite`:
//!
//! ```no_run
//! use load_aware_batcher::BatchError;
//! use load_aware_batcher::classify::{Stage, mysql_verdict, sqlite_verdict};
//!
//! fn mysql_failed(error: mysql::Error, stage: Stage) -> BatchError {
//!     use mysql::{DriverError, Error};
//!     match &error {
//!         Error::MySqlError(refused) => mysql_verdict(Some(refused.code), stage).error(error),
//!         // A packet over the limit; version 28 does not export the type.
//!         Error::CodecError(problem) if problem.to_string().contains("max_allowed_packet") => {
//!             BatchError::permanent(error)
//!         }
//!         Error::DriverError(
//!             DriverError::PacketTooLarge | DriverError::MismatchedStmtParams(..) | DriverError::Params(_),
//!         ) => BatchError::permanent(error),
//!         _ => mysql_verdict(None, stage).error(error),
//!     }
//! }
//!
//! fn sqlite_failed(error: rusqlite::Error, stage: Stage) -> BatchError {
//!     match error.sqlite_error().map(|error| error.extended_code) {
//!         // Made by the driver: a value that it cannot convert.
//!         None if stage != Stage::Connect => BatchError::permanent(error),
//!         code => sqlite_verdict(code, stage).error(error),
//!     }
//! }
//! ```
//!
//! The companion crates do the same, and make a new connection where
//! [`is_handler_broken`](BatchError::is_handler_broken) says so.
//!
//! # What a handler must do
//!
//! Before the commit, every class except in doubt assumes that the transaction is rolled back: a
//! handler rolls back, or drops its connection, before it returns. Let the driver's transaction
//! guard do it: it also rolls back in a panic. A raw `BEGIN` does not: after a panic, or after `?`
//! between `BEGIN` and `COMMIT`, the connection is still inside the transaction, and the next batch
//! is written into it. SQLite answers the next `BEGIN` with code 1, forever; PostgreSQL answers
//! with a warning only, and the next `COMMIT` stores the rows of both calls. Where a raw `BEGIN`
//! cannot be avoided, spawn the handler with
//! [`Builder::spawn_workers`](crate::Builder::spawn_workers): its factory makes a new handler after
//! a panic, and after an error that is marked as [`handler_broken`](BatchError::handler_broken).
//!
//! # Idle connections
//!
//! A server or a proxy can end an idle session (`idle_session_timeout`, `wait_timeout`, a
//! firewall). The next call finds out. If that call is an `INSERT` outside a transaction, the
//! client cannot know whether the server received it: the batch is in doubt though the server never
//! saw it. Begin a transaction: the error then arrives at `BEGIN` or at a statement, where nothing
//! was applied. Or check the connection right before the statement (`is_valid`, `ping`). The codes
//! that a server sends for it, `57P05` and 4031, are definite; but a driver that writes before it
//! reads reports a broken pipe instead.
//!
//! # SQLSTATE (PostgreSQL and others)
//!
//! | codes | meaning | at a statement | at the commit | connection |
//! | --- | --- | --- | --- | --- |
//! | no code, `08xxx` | the connection was lost; a row may have crashed the server | transient | in doubt | drop |
//! | `08001`, `08004`, `28xxx`, `53300`, `57P03` | connection or login refused, too many connections, starting up | unavailable | unavailable | drop |
//! | `25006` | read only: a replica, or a primary that was demoted | unavailable | unavailable | drop |
//! | `57P05` | idle session timeout: the session had ended before it read the statement | unavailable | unavailable | drop |
//! | `57P02` | another session crashed the server | unavailable | in doubt | drop |
//! | `57P01`, `57P04`, `25P04` | the session was terminated, its database dropped, its transaction timed out | transient | in doubt | drop |
//! | `25P03` | idle-in-transaction timeout: rolled back before it read the statement | transient | transient | drop |
//! | `08007`, `40003` | the server itself does not know how the transaction ended | in doubt | in doubt | drop |
//! | `40xxx`: `40001`, `40P01` | serialization failure, deadlock | transient | transient | keep |
//! | `55P03`, `55006`, `57014`, `72000` | lock timeout, object in use, statement timeout or cancel, old snapshot | transient | transient, 57014 in doubt | keep |
//! | `53xxx`, `HV001`, `HV00N` | out of disk or memory, a foreign server away | transient | transient | keep |
//! | `58xxx` | the server's operating system, I/O | transient | in doubt | keep |
//! | `26000`, `25P02`, `42P03`, `42P05` | the session is not as expected: a prepared statement is gone or exists already, an aborted transaction | transient | transient | drop |
//! | `0A000`, `25xxx` | a cached plan whose result type changed, a wrong transaction state; or the statement | unclassified | unclassified | drop |
//! | `21000`, `22xxx`, `23xxx`, `40002`, `44000` | the same key twice in one upsert, a bad value, a constraint, a check option | permanent | permanent | keep |
//! | `54xxx` | a limit: index row or row too large, stack depth; half a batch may fit | permanent | permanent | keep |
//! | `09000`, `20000`, `27000`, `2Fxxx`, `38xxx`, `39xxx`, `45xxx`, `P0xxx` | a trigger or a function refused the row: `RAISE EXCEPTION`, `ASSERT`, no `CASE` for it | permanent | permanent | keep |
//! | `3Dxxx`, `3Fxxx`, `42xxx`, `2200H`, `54011`, `54023` | no such database, schema, table, column, function; syntax; a sequence at its end | misconfigured | misconfigured | drop |
//! | everything else, `42501`, `42000`, `55000`, `XX000` | rows and statement can both cause it | unclassified | unclassified | keep |
//!
//! - `57P01` arrives in mid-statement from `pg_terminate_backend`, which watchdogs use against
//!   statements that take too long: the batch may be to blame, so it is transient. At
//!   [`Stage::Connect`] it is a shutdown, and unavailable.
//! - `57014` at the commit: a cancel can reach a server that has committed and waits for its
//!   synchronous replica. `57014` is `statement_timeout`, `55P03` is `lock_timeout`.
//! - `42501` is a missing right, and also a row that row-level security refuses. So it does not
//!   count as misconfigured.
//! - `0A000` has no class because rows can cause it (an upsert that moves a row to another
//!   partition). As "cached plan must not change result type" it lasts as long as the prepared
//!   statement; a new connection prepares anew.
//! - `42xxx`: with bind parameters a row cannot cause these. A statement whose text is put together
//!   from values can get `42601` or `42703` from a row. Use bind parameters.
//! - Misconfigured drops the connection because the session can be the reason: a `search_path` or a
//!   temporary table that a pooler has reset.
//! - `28xxx` is unavailable rather than misconfigured: credentials that are rotated, or an LDAP
//!   server that is away, heal without a change of the program.
//!
//! # MySQL and MariaDB
//!
//! | codes | meaning | at a statement | at the commit | connection |
//! | --- | --- | --- | --- | --- |
//! | no code, 2006, 2013, 2055, 1152, 1154–1161, 1184, 1927, 3169 | the connection was lost or killed | transient | in doubt | drop |
//! | 2002, 2003, 2005, 1042, 1043, 1045, 1129, 1130, 1135, 1698, 3032, 3118, 3168, 3955, 4151 | connection or login refused, offline mode | unavailable | unavailable | drop |
//! | 1040, 1203, 1226 | too many connections, a user's limit | unavailable | unavailable | drop |
//! | 1290, 1792, 1836 | read only: a replica, or a primary that was demoted | unavailable | unavailable | drop |
//! | 1047 | a Galera node that is not ready | unavailable | unavailable | drop |
//! | 4031 | idle timeout: the session had ended before it read the statement | unavailable | unavailable | drop |
//! | 1053, 1077, 1079, 1080 | the server shuts down | unavailable | in doubt | drop |
//! | 1020, 1205, 1206, 1213, 1402, 1412, 1613, 1614, 1637, 1689, 3058, 3100, 3101, 3572, 4145 | lock wait timeout, deadlock, a record or a table that changed meanwhile, rolled back by replication | transient | transient | keep |
//! | 1028, 1317, 1969, 3024 | interrupted, statement timeout | transient | in doubt | keep |
//! | 1021, 1037, 1038, 1041, 1114, 3015 | out of disk or memory, table full | transient | transient | keep |
//! | 3, 1026, 1030, 1180 | a file could not be written, an error of the storage engine | transient | in doubt | keep |
//! | 1243, 1461, 1615 | the prepared statement is gone, or there are too many | transient | transient | drop |
//! | 1179, 1192, 1568 | the session is inside another transaction | transient | transient | drop |
//! | 1022, 1062, 1169, 1557, 1586, 1761, 1762, 1859 | duplicate key | permanent | permanent | keep |
//! | 1048, 1138, 1263, 1364, 1423 | null where none may be, no default | permanent | permanent | keep |
//! | 1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1525, 1690, 1742, 1916, 1917, 1918, 1977, 3020, 3037 | value out of range, too long, of a wrong form | permanent | permanent | keep |
//! | 3140, 3141, 3146, 3156, 3157, 3158, 3616, 3617, 3903, 3904, 4035–4040, 4048–4050, 4076 | JSON, GIS | permanent | permanent | keep |
//! | 1216, 1217, 1369, 1451, 1452, 1526, 1591, 1748, 1863, 3008, 3819, 4025 | foreign key, check, check option, no partition | permanent | permanent | keep |
//! | 1139, 1172, 1242, 1339, 1456, 1643, 1644 | a trigger or a function refused the row: `SIGNAL`, no `CASE` for it, a subquery with several rows | permanent | permanent | keep |
//! | 1118, 1119, 1197, 1301, 1390, 1436, 1705, 1713 | a row, transaction or statement too large: half a batch may fit | permanent | permanent | keep |
//! | 1153 | a packet too large; the server closes the connection | permanent | permanent | drop |
//! | 1044, 1046, 1049, 1051, 1052, 1054, 1064, 1066, 1103, 1109, 1110, 1115, 1142, 1143, 1146, 1149, 1193, 1227, 1231, 1235, 1267, 1273, 1286, 1295, 1305, 1348, 1356, 1370, 1442, 1449, 1471, 1582, 1630, 1906, 1932, 3105, 4084, 4161, 4162 | no such database, table, column, function, right; syntax; a sequence at its end | misconfigured | misconfigured | drop |
//! | everything else: 1105, 1467 | rows and statement can both cause it | unclassified | unclassified | keep |
//!
//! 1205 rolls back the statement only, not the transaction: roll back yourself. MySQL and MariaDB
//! give 1213 readily where two writers insert the same keys, even in the same order, because of gap
//! locks; READ COMMITTED makes it rare. MySQL has no row-level security, so a missing right (1142)
//! is misconfigured here. 4031 is MySQL's; MariaDB has another error under this number, which no
//! row write raises.
//!
//! # SQLite, by the primary code (the low 8 bits of an extended one)
//!
//! | codes | meaning | at a statement | at the commit | connection |
//! | --- | --- | --- | --- | --- |
//! | 5 BUSY, 6 LOCKED, 15 PROTOCOL, 17 SCHEMA, 4 ABORT | another connection has the lock, another statement rolled back | transient | transient | keep |
//! | 7 NOMEM, 13 FULL, 14 CANTOPEN | out of memory, disk, file handles | transient | transient | keep |
//! | 8 READONLY | the file is read only, or was moved away (1032) | unavailable | unavailable | drop |
//! | 9 INTERRUPT | interrupted | transient | in doubt | keep |
//! | 10 IOERR | I/O | transient | in doubt | drop |
//! | 18 TOOBIG, 19 CONSTRAINT, 20 MISMATCH | the row; at the commit a deferred foreign key | permanent | permanent | keep |
//! | 25 RANGE | a bind parameter that the statement does not have | misconfigured | misconfigured | keep |
//! | 11 CORRUPT, 21 MISUSE, 26 NOTADB | the file, the connection | unclassified | unclassified | drop |
//! | everything else: 1 ERROR, 2 INTERNAL, 23 AUTH, no code … | the statement, or the row | unclassified | unclassified | keep |
//!
//! Code 1 is "no such table" and "no such column", and also "malformed JSON" and "integer
//! overflow", which rows cause. The code does not distinguish these; the stage does. A statement
//! that does not *prepare* has seen no row: report it with [`Stage::Connect`], where code 1 is
//! misconfigured. `no code` means that the error did not come from SQLite. `rusqlite` makes such
//! errors for values that it cannot convert: return [`BatchError::permanent`] for them.
//!
//! After a failed `COMMIT` (5, 19) SQLite stays inside the transaction; the guard of `rusqlite`
//! rolls back.

mod mysql;
mod sqlite;
mod sqlstate;

use std::error::Error;

use crate::error::{BatchError, ErrorClass};

pub use self::mysql::{mysql, mysql_verdict};
pub use self::sqlite::{sqlite, sqlite_verdict};
pub use self::sqlstate::{sqlstate, sqlstate_verdict};

/// At which stage of its work a handler got an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Before a row was sent: connecting, session settings, preparing statements.
    ///
    /// Rows cannot be the reason here. What is transient or in doubt at a statement is unavailable
    /// here, and what is permanent there is misconfigured here.
    Connect,
    /// Before the commit: beginning, or a statement inside a transaction.
    Statement,
    /// At the statement that makes the rows permanent: the commit, or a statement outside a
    /// transaction.
    Commit,
}

#[doc(hidden)]
pub use Stage as Point;

/// Whether the connection that returned an error is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The error says nothing against the connection. Roll back and go on.
    Keep,
    /// The session is over, or is in a state that another attempt on it would meet again: make a
    /// new connection.
    Drop,
}

/// Both answers to an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What may be done with the rows.
    pub class: ErrorClass,
    /// What is to be done with the connection.
    pub connection: Connection,
}

impl Verdict {
    /// The error for the batch: of this class, and marked as
    /// [`handler_broken`](BatchError::handler_broken) if the connection is to be dropped.
    ///
    /// ```
    /// # use load_aware_batcher::classify::{Stage, sqlstate_verdict};
    /// let shutdown = sqlstate_verdict(Some("57P01"), Stage::Statement);
    /// let error = shutdown.error("terminating connection due to administrator command");
    /// assert!(error.is_transient() && error.is_handler_broken());
    /// ```
    pub fn error(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> BatchError {
        let error = BatchError::classified(self.class, error);
        match self.connection {
            Connection::Keep => error,
            Connection::Drop => error.handler_broken(),
        }
    }
}

/// What a code means, whatever the stage.
#[derive(Clone, Copy)]
enum Meaning {
    /// The session ended in mid-statement: at the commit nobody knows what the server did last.
    Lost,
    /// The server shut down, and no statement is to blame: at the commit nobody knows what it did
    /// last.
    Shutdown,
    /// Refused before the statement was read, or before it could change anything.
    Refused,
    /// Definitely not applied, and another attempt may do better.
    Again,
    /// The rows are at fault.
    Rows,
    /// The statement, the schema or a right is at fault, never a row.
    Setup,
    /// The server does not know itself.
    Doubt,
    /// Rows and statement can both be at fault.
    Either,
    /// As `Either`, but before a row was sent it can only be the statement.
    Text,
}

impl Meaning {
    fn at(self, stage: Stage) -> ErrorClass {
        match (self, stage) {
            (Self::Setup, _) | (Self::Rows | Self::Text, Stage::Connect) => {
                ErrorClass::Misconfigured
            }
            (Self::Rows, _) => ErrorClass::Permanent,
            (Self::Either | Self::Text, _) => ErrorClass::Unclassified,
            (Self::Refused, _) | (_, Stage::Connect) | (Self::Shutdown, Stage::Statement) => {
                ErrorClass::Unavailable
            }
            (Self::Again, _) | (Self::Lost, Stage::Statement) => ErrorClass::Transient,
            (Self::Doubt, _) | (Self::Lost | Self::Shutdown, Stage::Commit) => ErrorClass::InDoubt,
        }
    }
}

/// What a code means for the rows, and for the connection.
type Answers = (Meaning, Connection);

fn verdict((meaning, connection): Answers, stage: Stage) -> Verdict {
    Verdict {
        class: meaning.at(stage),
        connection,
    }
}
