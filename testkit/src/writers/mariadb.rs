//! Rows into MariaDB or MySQL, with the crate `mysql`: a handler that reconnects and classifies
//! each error by code and stage.
//!
//! Multi-row `INSERT`s, prepared. A statement is prepared for one number of rows, and a policy that
//! learns changes the size of the batches all the time: so a batch goes in statements of 512 rows
//! and the rest in powers of two, each prepared once, in one transaction. Preparing for every new
//! size instead cost a quarter of the throughput at 3 000 rows.
//!
//! Rows that are there already are skipped by `ON DUPLICATE KEY UPDATE id = id`, not by `INSERT
//! IGNORE`: that one also turns values that do not fit into others that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::classify::{Stage, mysql_verdict};
use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, Error, Opts, OptsBuilder, Params, TxOpts, Value};

use super::Dedup;
use super::Row;

/// The most rows of one statement.
const STATEMENT_ROWS: usize = 512;

/// The handler.
pub struct MariadbWriter {
    opts: Opts,
    table: String,
    dedup: Dedup,
    conn: Option<Conn>,
    timeouts: Arc<AtomicU64>,
    /// Whether rows are sent in the order of their keys: two writers that meet then deadlock less.
    pub sorted: bool,
}

/// Bad values are errors, and two writers lock rows, not the gaps between them.
const SESSION: [&str; 2] = [
    "SET sql_mode = 'STRICT_ALL_TABLES'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

impl MariadbWriter {
    /// `session`: run on every new connection, such as `SET innodb_lock_wait_timeout = 2`. An
    /// answer that takes longer than `patience` counts as lost.
    pub fn new(
        opts: Opts,
        table: &str,
        dedup: Dedup,
        session: &[&str],
        patience: Duration,
    ) -> Self {
        let opts = OptsBuilder::from_opts(opts)
            .init(SESSION.iter().chain(session).copied().collect::<Vec<_>>())
            .tcp_connect_timeout(Some(patience))
            .read_timeout(Some(patience))
            .write_timeout(Some(patience))
            // One for each power of two, and one for the table of batches.
            .stmt_cache_size(16);
        Self {
            opts: opts.into(),
            table: table.to_owned(),
            dedup,
            conn: None,
            timeouts: Arc::default(),
            sorted: true,
        }
    }

    /// Counts the statements that ran into a timeout: the server keeps no such figure itself.
    pub fn timeouts(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.timeouts)
    }

    /// The tables, if they are missing.
    ///
    /// # Errors
    /// Whatever the server says.
    pub fn create_tables(conn: &mut Conn, table: &str, dedup: Dedup) -> Result<(), Error> {
        let key = if dedup == Dedup::Key {
            " PRIMARY KEY"
        } else {
            ""
        };
        conn.query_drop(format!(
            "CREATE TABLE IF NOT EXISTS {table} (id bigint NOT NULL{key}, value double NOT NULL, text text NOT NULL)
             ENGINE = InnoDB DEFAULT CHARSET = utf8mb4"
        ))?;
        conn.query_drop(format!(
            "CREATE TABLE IF NOT EXISTS {table}_batches (id char(32) CHARACTER SET ascii PRIMARY KEY,
             at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE = InnoDB"
        ))
    }

    fn write(&self, conn: &mut Conn, batch: &Batch<Row>) -> Result<(), BatchError> {
        let refused = |error| self.failed(error, Stage::Statement);
        let mut rows: Vec<&Row> = batch.iter().collect();
        if self.sorted {
            rows.sort_unstable_by_key(|row| row.id);
        }
        // Dropped on every early return: that rolls back. A lock wait timeout alone rolls back its
        // statement only.
        let mut transaction = conn.start_transaction(TxOpts::default()).map_err(refused)?;
        if self.dedup == Dedup::BatchId {
            let mark = format!(
                "INSERT INTO {}_batches (id) VALUES (?) ON DUPLICATE KEY UPDATE id = id",
                self.table
            );
            let marked = transaction.exec_drop(mark, (batch.id().to_string(),));
            marked.map_err(refused)?;
            if transaction.affected_rows() == 0 {
                // An earlier attempt was applied and only its answer lost.
                return Ok(());
            }
        }
        let mut left = &rows[..];
        while !left.is_empty() {
            let (rows, rest) = left.split_at(statement_rows(left.len()));
            let sent = transaction.exec_drop(self.statement(rows.len()), parameters(rows));
            sent.map_err(refused)?;
            left = rest;
        }
        transaction
            .commit()
            .map_err(|error| self.failed(error, Stage::Commit))
    }

    fn statement(&self, rows: usize) -> String {
        let mut statement = format!("INSERT INTO {} (id, value, text) VALUES ", self.table);
        for row in 0..rows {
            statement.push_str(if row == 0 { "(?,?,?)" } else { ",(?,?,?)" });
        }
        if self.dedup == Dedup::Key {
            statement.push_str(" ON DUPLICATE KEY UPDATE id = id");
        }
        statement
    }

    fn failed(&self, error: Error, stage: Stage) -> BatchError {
        if matches!(&error, Error::MySqlError(refused) if matches!(refused.code, 1205 | 1969 | 3024))
        {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        failed(error, stage)
    }
}

impl Handler<Row> for MariadbWriter {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        // Taken out, so that a panic leaves no half-used connection behind.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                Conn::new(self.opts.clone()).map_err(|error| self.failed(error, Stage::Connect))?
            }
        };
        let result = self.write(&mut conn, batch);
        // The next attempt makes a new one where this one is of no more use.
        if !matches!(&result, Err(error) if error.is_handler_broken()) {
            self.conn = Some(conn);
        }
        // How loaded the server is, a monitor reports: asking here would cost every batch a round
        // trip.
        result.map(|()| LoadFeedback::new())
    }
}

/// The error for the batch. What the server or the network answered is classified by code and
/// stage; what the driver refuses to send never left the program, so the rows are at fault and
/// nothing is in doubt.
pub fn failed(error: Error, stage: Stage) -> BatchError {
    match &error {
        Error::MySqlError(refused) => mysql_verdict(Some(refused.code), stage).error(error),
        // A packet over the limit: half a batch may fit. The driver does not export the type, so
        // its text has to do.
        Error::CodecError(problem) if problem.to_string().contains("max_allowed_packet") => {
            BatchError::permanent(error)
        }
        Error::DriverError(
            DriverError::PacketTooLarge
            | DriverError::MismatchedStmtParams(..)
            | DriverError::Params(_)
            | DriverError::MixedParams
            | DriverError::BulkExecute(_),
        ) => BatchError::permanent(error),
        _ => mysql_verdict(None, stage).error(error),
    }
}

/// How many of the rows that are left go into the next statement.
fn statement_rows(left: usize) -> usize {
    if left >= STATEMENT_ROWS {
        STATEMENT_ROWS
    } else {
        1 << left.ilog2()
    }
}

fn parameters(rows: &[&Row]) -> Params {
    let mut values = Vec::with_capacity(rows.len() * 3);
    for row in rows {
        values.extend([
            Value::Int(row.id),
            Value::Double(row.value),
            Value::Bytes(row.text.clone().into_bytes()),
        ]);
    }
    Params::Positional(values)
}
