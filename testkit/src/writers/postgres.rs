//! Rows into PostgreSQL, with the crate `postgres`: a handler that reconnects and classifies each
//! error by code and stage.
//!
//! One `INSERT … SELECT unnest` a batch takes three bind parameters, whatever its size. A list of
//! `VALUES` would take three a row, of which the protocol counts 65 535.
//!
//! The crate has no timeout for reading: a frozen server holds a call as long as it likes. The
//! batcher's own deadlines hold all the same; the server-side timeouts in `session` bound what a
//! living server does.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use load_aware_batcher::classify::{Stage, sqlstate_verdict};
use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use postgres::error::DbError;
use postgres::{Client, Config, Error, NoTls, Statement, Transaction};

use super::Dedup;
use super::Row;

/// The handler.
pub struct PostgresWriter {
    config: Config,
    table: String,
    dedup: Dedup,
    /// Run on every new connection.
    session: String,
    link: Option<Link>,
    timeouts: Arc<AtomicU64>,
    /// Whether rows are sent in the order of their keys: two writers that meet then wait for each
    /// other instead of deadlocking.
    pub sorted: bool,
}

/// A connection with its prepared statements.
struct Link {
    client: Client,
    insert: Statement,
    mark: Option<Statement>,
}

impl PostgresWriter {
    pub fn new(config: Config, table: &str, dedup: Dedup) -> Self {
        Self {
            config,
            table: table.to_owned(),
            dedup,
            session: String::new(),
            link: None,
            timeouts: Arc::default(),
            sorted: true,
        }
    }

    /// Statements for every new connection, such as `SET statement_timeout = '5s'; SET lock_timeout
    /// = '2s'`.
    pub fn session(mut self, statements: &str) -> Self {
        statements.clone_into(&mut self.session);
        self
    }

    /// Counts the statements that ran into a timeout: the server keeps no such figure itself.
    pub fn timeouts(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.timeouts)
    }

    /// The tables, if they are missing.
    ///
    /// # Errors
    /// Whatever the server says.
    pub fn create_tables(client: &mut Client, table: &str, dedup: Dedup) -> Result<(), Error> {
        let key = if dedup == Dedup::Key {
            " PRIMARY KEY"
        } else {
            ""
        };
        client.batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {table}
                (id bigint NOT NULL{key}, value double precision NOT NULL, text text NOT NULL);
             CREATE TABLE IF NOT EXISTS {table}_batches (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
        ))
    }

    fn new_link(&self) -> Result<Link, Error> {
        let mut client = self.config.connect(NoTls)?;
        client.batch_execute(&self.session)?;
        let table = &self.table;
        let skip = if self.dedup == Dedup::Key {
            " ON CONFLICT DO NOTHING"
        } else {
            ""
        };
        let insert = client.prepare(&format!(
            "INSERT INTO {table} (id, value, text)
             SELECT * FROM unnest($1::bigint[], $2::double precision[], $3::text[]){skip}"
        ))?;
        let mark = match self.dedup {
            Dedup::BatchId => {
                let mark = format!(
                    "INSERT INTO {table}_batches (id) VALUES ($1::text::uuid) ON CONFLICT DO NOTHING"
                );
                Some(client.prepare(&mark)?)
            }
            _ => None,
        };
        Ok(Link {
            client,
            insert,
            mark,
        })
    }

    fn write(&self, link: &mut Link, batch: &Batch<Row>) -> Result<(), BatchError> {
        let refused = |error| self.failed(error, Stage::Statement);
        let mut rows: Vec<&Row> = batch.iter().collect();
        if self.sorted {
            rows.sort_unstable_by_key(|row| row.id);
        }
        // Dropped on every early return: that rolls back, so nothing of a failed attempt stays.
        let mut transaction = link.client.transaction().map_err(refused)?;
        if let Some(mark) = &link.mark {
            let fresh = transaction.execute(mark, &[&batch.id().to_string()]);
            if fresh.map_err(refused)? == 0 {
                // An earlier attempt was applied and only its answer lost.
                return Ok(());
            }
        }
        insert(&mut transaction, &link.insert, &rows).map_err(refused)?;
        transaction
            .commit()
            .map_err(|error| self.failed(error, Stage::Commit))
    }

    fn failed(&self, error: Error, stage: Stage) -> BatchError {
        if matches!(
            error.code().map(|code| code.code()),
            Some("57014" | "55P03")
        ) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        failed(error, stage)
    }
}

impl Handler<Row> for PostgresWriter {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        // Taken out, so that a panic leaves no half-used connection behind.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self
                .new_link()
                .map_err(|error| self.failed(error, Stage::Connect))?,
        };
        let result = self.write(&mut link, batch);
        // The next attempt makes a new one where this one is of no more use.
        if !matches!(&result, Err(error) if error.is_handler_broken()) {
            self.link = Some(link);
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
    if stage != Stage::Connect && was_not_sent(&error) {
        return BatchError::permanent(error);
    }
    sqlstate_verdict(error.code().map(|code| code.code()), stage).error(error)
}

/// Whether the driver could not encode a value or a message.
fn was_not_sent(error: &Error) -> bool {
    match error.source() {
        // A socket fails with this type too. The driver's own text is all that distinguishes the two.
        Some(source) if source.is::<io::Error>() => {
            error.to_string().starts_with("error encoding message")
        }
        Some(source) => !source.is::<DbError>(),
        None => false,
    }
}

fn insert(
    transaction: &mut Transaction<'_>,
    statement: &Statement,
    rows: &[&Row],
) -> Result<(), Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let values: Vec<f64> = rows.iter().map(|row| row.value).collect();
    let texts: Vec<&str> = rows.iter().map(|row| &*row.text).collect();
    transaction
        .execute(statement, &[&ids, &values, &texts])
        .map(drop)
}
