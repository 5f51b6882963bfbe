//! Rows into SQLite, with the crate `rusqlite`: a handler for a file that others write too.
//!
//! One prepared `INSERT` a row inside one transaction: there is no round trip to save, and no bind
//! parameter limit to mind. What a batch saves is the commit, an fsync. A statement that fails
//! rolls back alone, so a row that SQLite refuses is rejected and the rest of its batch goes
//! through at once: no search.
//!
//! `BEGIN IMMEDIATE` takes the write lock first: a transaction that begins by reading and finds the
//! file changed underneath cannot wait, only start again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::classify::{Stage, sqlite_verdict};
use load_aware_batcher::{Batch, BatchError, ErrorClass, Handler, LoadFeedback};
use rusqlite::{Connection, Error, OpenFlags, Transaction, TransactionBehavior, params};

use super::Dedup;
use super::Row;

/// How often any writer of this process found a file locked. A static: the callback of the driver
/// is a plain function.
pub static BUSY_RETRIES: AtomicU64 = AtomicU64::new(0);
/// So many tries, 2 ms apart, before a statement fails as busy: the busy timeout, counted.
pub const BUSY_RETRIES_MAX: i32 = 1_000;

/// The handler.
pub struct SqliteWriter {
    path: PathBuf,
    table: String,
    dedup: Dedup,
    /// Run on every new connection.
    session: String,
    connection: Option<Connection>,
    timeouts: Arc<AtomicU64>,
}

impl SqliteWriter {
    pub fn new(path: &Path, table: &str, dedup: Dedup) -> Self {
        Self {
            path: path.to_owned(),
            table: table.to_owned(),
            dedup,
            session: String::new(),
            connection: None,
            timeouts: Arc::default(),
        }
    }

    /// Statements for every new connection.
    pub fn session(mut self, statements: &str) -> Self {
        statements.clone_into(&mut self.session);
        self
    }

    /// Counts the statements that stayed busy to the end.
    pub fn timeouts(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.timeouts)
    }

    /// The file and its tables, if they are missing.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn create_tables(path: &Path, table: &str, dedup: Dedup) -> Result<(), Error> {
        let key = if dedup == Dedup::Key {
            " PRIMARY KEY"
        } else {
            ""
        };
        let connection = open(path, OpenFlags::default())?;
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (id INTEGER NOT NULL{key}, value REAL NOT NULL, text TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS {table}_batches (id TEXT PRIMARY KEY) WITHOUT ROWID"
        ))
    }

    fn new_connection(&self) -> Result<Connection, Error> {
        // Never creates the file: a mistyped name is an error.
        let connection = open(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI,
        )?;
        connection.execute_batch(&self.session)?;
        connection.prepare(&self.insert())?;
        Ok(connection)
    }

    fn insert(&self) -> String {
        let skip = if self.dedup == Dedup::Key {
            " ON CONFLICT (id) DO NOTHING"
        } else {
            ""
        };
        format!(
            "INSERT INTO {} (id, value, text) VALUES (?1, ?2, ?3){skip}",
            self.table
        )
    }

    fn write(&self, connection: &mut Connection, batch: &mut Batch<Row>) -> Result<(), BatchError> {
        let refused = |error| self.failed(error, Stage::Statement);
        // Dropped on every early return: that rolls back.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(refused)?;
        if self.dedup == Dedup::BatchId {
            let mark = format!(
                "INSERT INTO {}_batches (id) VALUES (?1) ON CONFLICT DO NOTHING",
                self.table
            );
            let mut mark = transaction
                .prepare(&mark)
                .map_err(|error| self.failed(error, Stage::Connect))?;
            let fresh = mark.execute([batch.id().to_string()]);
            if fresh.map_err(refused)? == 0 {
                // An earlier attempt was applied.
                return Ok(());
            }
        }
        let refused = self.insert_all(&transaction, batch)?;
        transaction
            .commit()
            .map_err(|error| self.failed(error, Stage::Commit))?;
        for (index, error) in refused {
            batch.reject(index, error);
        }
        Ok(())
    }

    /// The rows that SQLite refused; the others are in the transaction.
    fn insert_all(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch<Row>,
    ) -> Result<Vec<(usize, BatchError)>, BatchError> {
        // A statement that does not prepare has seen no row: a missing table is not a row's fault.
        // A cached one would show it only at its first row, with the same code as a row's own
        // fault. To prepare costs some microseconds a batch.
        let mut statement = transaction
            .prepare(&self.insert())
            .map_err(|error| self.failed(error, Stage::Connect))?;
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_unstable_by_key(|index| batch[*index].id);
        let mut refused = Vec::new();
        for index in order {
            let row = &batch[index];
            if let Err(error) = statement.execute(params![row.id, row.value, row.text]) {
                let error = self.failed(error, Stage::Statement);
                match error.class() {
                    ErrorClass::Permanent => refused.push((index, error)),
                    _ => return Err(error),
                }
            }
        }
        Ok(refused)
    }

    fn failed(&self, error: Error, stage: Stage) -> BatchError {
        if error
            .sqlite_error()
            .is_some_and(|error| error.extended_code & 0xff == 5)
        {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        failed(error, stage)
    }
}

impl Handler<Row> for SqliteWriter {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        // Taken out, so that a panic leaves no half-used connection behind.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self
                .new_connection()
                .map_err(|error| self.failed(error, Stage::Connect))?,
        };
        let result = self.write(&mut connection, batch);
        // Kept while it is in order: not inside a transaction that would not roll back.
        if connection.is_autocommit() && !matches!(&result, Err(error) if error.is_handler_broken())
        {
            self.connection = Some(connection);
        }
        result.map(|()| LoadFeedback::new())
    }
}

/// The error for the batch or for one row. What SQLite answered is classified by code and stage.
/// What has no code comes from the driver, which cannot convert a value: the row is at fault.
pub fn failed(error: Error, stage: Stage) -> BatchError {
    match error.sqlite_error().map(|error| error.extended_code) {
        None if stage != Stage::Connect => BatchError::permanent(error),
        code => sqlite_verdict(code, stage).error(error),
    }
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(busy))?;
    // A commit is an append and one fsync, and readers go on meanwhile. And 16 MB of cache, for all
    // pages that a batch touches: with the default of 2 MB they are written to the log before the
    // commit and read again, 5 kB a row and not 2.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16000",
    )?;
    Ok(connection)
}

/// Called each time the file is locked, with how often it was before in this statement; true tries
/// again.
fn busy(tries: i32) -> bool {
    BUSY_RETRIES.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(2));
    tries < BUSY_RETRIES_MAX
}
