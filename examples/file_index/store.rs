//! The backend: a SQLite database with one row a file, and the handler that writes a batch in one
//! transaction.
//!
//! The table is `files(path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, modified_unix_ns
//! INTEGER, extension TEXT, blake3 TEXT)`; names that are not UTF-8 are BLOBs, see
//! [`row`](crate::row). A row is an upsert, so writing it twice does no harm and a second run over
//! the same tree brings the table up to date. What an earlier run wrote under DIR and this walk did
//! not come across is noted in a temporary table, and removed at the end.
//!
//! While it is written the database keeps a write-ahead log, so that readers do not stand in the
//! way. At the end it gets the journal mode back that it had: then the one file is the whole
//! database.

use std::io::{self, ErrorKind};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{fs, thread};

use load_aware_batcher::classify::{Stage, sqlite};
use load_aware_batcher::{Batch, BatchError};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, TransactionBehavior::Immediate, params};

use crate::row::{Name, Row, one_line, path_of, shown};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS files(path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, \
                     modified_unix_ns INTEGER, extension TEXT, blake3 TEXT)";
const UPSERT: &str = "INSERT INTO files(path, size_bytes, modified_unix_ns, extension, blake3) VALUES (?1, ?2, ?3, ?4, ?5) \
                      ON CONFLICT(path) DO UPDATE SET size_bytes = excluded.size_bytes, \
                      modified_unix_ns = excluded.modified_unix_ns, extension = excluded.extension, blake3 = excluded.blake3";
/// A TEXT and a BLOB never compare equal: each kind of name has a range of its own.
const NOTE_BELOW: &str = "INSERT INTO unseen SELECT path FROM files \
                          WHERE path >= ?1 AND path < ?2 OR path >= ?3 AND path < ?4";
const SEEN: &str = "DELETE FROM unseen WHERE path = ?1";

/// A lock is waited for in steps, two seconds in all: the batcher's own retries come on top.
const BUSY_STEP: Duration = Duration::from_millis(20);
const BUSY_STEPS_MAX: i32 = 100;

/// SQLite calls a plain function when it finds a lock, so what it counts is static.
static BUSY_RETRIES: AtomicU64 = AtomicU64::new(0);
/// Whether to wait for locks no more.
static GIVE_UP: AtomicBool = AtomicBool::new(false);

fn wait_for_lock(steps: i32) -> bool {
    if steps >= BUSY_STEPS_MAX || GIVE_UP.load(Relaxed) {
        return false;
    }
    BUSY_RETRIES.fetch_add(1, Relaxed);
    thread::sleep(BUSY_STEP);
    true
}

/// From now on a lock is an error at once.
pub fn give_up_on_locks() {
    GIVE_UP.store(true, Relaxed);
}

pub struct Store {
    connection: Connection,
    db: PathBuf,
    /// The journal mode to go back to.
    journal_mode: String,
    /// Whether an earlier run left rows under DIR.
    has_unseen: bool,
}

/// What a batch met.
pub struct Written {
    pub refused: usize,
    pub busy_retries: u64,
}

impl Store {
    /// Opens the database or makes it, and makes sure that rows can be written.
    pub fn open(db: &Path, dir: &Path) -> Result<Self, String> {
        // Absolute, or `:memory:` would be taken for what it says.
        let db = std::path::absolute(db).map_err(|error| format!("{}: {error}", shown(db)))?;
        let fault = |error: Error| describe(&db, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let before = fs::metadata(&db);
        if before.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(format!("{}: is not a file, so no database", shown(&db)));
        }
        let mut connection = Connection::open_with_flags(&db, flags).map_err(fault)?;
        connection
            .busy_handler(Some(wait_for_lock))
            .map_err(fault)?;
        if before.is_ok_and(|metadata| metadata.len() > 0) {
            check(&connection, &db)?;
        }
        let journal_mode: String = connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(fault)?;
        let transaction = connection
            .transaction_with_behavior(Immediate)
            .map_err(fault)?;
        transaction.execute(TABLE, []).map_err(fault)?;
        transaction
            .prepare_cached(UPSERT)
            .map(drop)
            .map_err(|error| {
                format!(
                    "{}: its table `files` is not this program's: {}",
                    shown(&db),
                    one_line(&error.to_string())
                )
            })?;
        transaction.commit().map_err(fault)?;
        // Where there can be no such log (a reader is in the way, no shared memory) the old mode
        // does as well.
        let _ = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        let has_unseen = note_rows_below(&connection, dir).map_err(fault)?;
        Ok(Self {
            connection,
            db,
            journal_mode,
            has_unseen,
        })
    }

    /// Where SQLite keeps its journals of this database.
    pub fn journals(&self) -> io::Result<Vec<PathBuf>> {
        let db = self.db.canonicalize()?;
        let beside = |suffix: &str| {
            let mut name = db.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(["-wal", "-shm", "-journal"].map(beside).into())
    }

    /// Writes the batch in one transaction. Rows that the table refuses are rejected one by one,
    /// the others are written.
    pub fn write(&mut self, batch: &mut Batch<Row>) -> Result<Written, BatchError> {
        let busy_before = BUSY_RETRIES.load(Relaxed);
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut refused = Vec::new();
        {
            let mut upsert = transaction.prepare_cached(UPSERT)?;
            let mut seen = if self.has_unseen {
                Some(transaction.prepare_cached(SEEN)?)
            } else {
                None
            };
            for (index, row) in batch.iter().enumerate() {
                let size_bytes = i64::try_from(row.size_bytes).unwrap_or(i64::MAX);
                let extension = row.path.extension().map(Name);
                let blake3 = row.blake3.as_ref().map(blake3::Hash::to_hex);
                let blake3 = blake3.as_deref();
                let path = Name::of(&row.path);
                match upsert.execute(params![
                    path,
                    size_bytes,
                    row.modified_unix_ns,
                    extension,
                    blake3
                ]) {
                    Ok(_) => {
                        if let Some(seen) = &mut seen {
                            seen.execute([Name::of(&row.path)])?;
                        }
                    }
                    // A trigger may have ended the transaction: then nothing of this call is
                    // written.
                    Err(error) if is_refusal(&error) && !transaction.is_autocommit() => {
                        refused.push((index, error))
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // A refusal is definite. After an I/O error nobody knows whether the commit took place;
        // upserts may be repeated, and the builder says idempotent.
        transaction.commit().map_err(|error| {
            let code = error.sqlite_error().map(|error| error.extended_code);
            BatchError::classified(sqlite(code, Stage::Commit), error)
        })?;
        let written = Written {
            refused: refused.len(),
            busy_retries: BUSY_RETRIES.load(Relaxed) - busy_before,
        };
        for (index, error) in refused {
            batch.reject(index, error);
        }
        Ok(written)
    }

    /// Removes the rows of files that are gone: all that the walk did not come across if it saw
    /// everything, else those whose file cannot be found. Returns how many.
    pub fn remove_gone(&mut self, walk_is_complete: bool) -> Result<usize, String> {
        if !self.has_unseen {
            return Ok(0);
        }
        let fault = |error: Error| describe(&self.db, &error);
        let transaction = self
            .connection
            .transaction_with_behavior(Immediate)
            .map_err(fault)?;
        if !walk_is_complete {
            let mut keep = transaction.prepare(SEEN).map_err(fault)?;
            let mut unseen = transaction
                .prepare("SELECT path FROM unseen")
                .map_err(fault)?;
            let paths: Vec<_> = unseen
                .query_map([], |row| Ok(path_of(row.get_ref(0)?)))
                .and_then(Iterator::collect)
                .map_err(fault)?;
            for path in paths.into_iter().flatten().filter(|path| !is_gone(path)) {
                keep.execute([Name::of(&path)]).map_err(fault)?;
            }
        }
        let removed = transaction
            .execute(
                "DELETE FROM files WHERE path IN (SELECT path FROM unseen)",
                [],
            )
            .map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(removed)
    }

    /// Puts everything into the one file. A reader that is in the way keeps the log beside it:
    /// SQLite finds it there.
    pub fn finish(&mut self) -> Result<(), String> {
        if self.journal_mode != "wal" {
            let mode = format!("PRAGMA journal_mode = {}", self.journal_mode);
            match self.connection.query_row(&mode, [], |_| Ok(())) {
                Err(error) if !is_busy(&error) => return Err(describe(&self.db, &error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the whole database once: damage is better found before the work than after it.
fn check(connection: &Connection, db: &Path) -> Result<(), String> {
    let verdict: Result<String, Error> =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(format!(
            "{}: the database is corrupt: {}",
            shown(db),
            one_line(&verdict)
        )),
        Err(error) => Err(describe(db, &error)),
    }
}

/// Notes what an earlier run left under DIR. Returns whether that is anything.
fn note_rows_below(connection: &Connection, dir: &Path) -> rusqlite::Result<bool> {
    // Everything below DIR lies between `DIR/` and `DIR` with the byte after `/`.
    let mut from = dir.as_os_str().as_encoded_bytes().to_vec();
    if from.last() != Some(&(MAIN_SEPARATOR as u8)) {
        from.push(MAIN_SEPARATOR as u8);
    }
    let mut to = from.clone();
    *to.last_mut().expect("a separator at least") += 1;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    connection.execute(
        "CREATE TEMP TABLE unseen(path PRIMARY KEY) WITHOUT ROWID",
        [],
    )?;
    let unseen = connection.execute(NOTE_BELOW, params![text(&from), text(&to), from, to])?;
    Ok(unseen > 0)
}

fn is_gone(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// Whether the row is at fault and not the database: the next one may well go through.
pub fn is_refusal(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

fn is_busy(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// What is wrong with the database, on one line.
pub fn describe(db: &Path, error: &Error) -> String {
    let problem = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program has the database locked"
        }
        Some(ErrorCode::NotADatabase) => "is not a database of SQLite",
        Some(ErrorCode::DatabaseCorrupt) => "the database is corrupt",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => "the database cannot be written",
        Some(ErrorCode::CannotOpen) => "the database cannot be opened or made",
        _ => "the database failed",
    };
    format!("{}: {problem}: {}", shown(db), one_line(&error.to_string()))
}
