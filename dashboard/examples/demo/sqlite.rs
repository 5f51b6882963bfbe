//! SQLite.

use std::path::Path;
use std::thread;
use std::time::Duration;

use load_aware_batcher_rusqlite::rusqlite::{Connection, Error};
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};

use crate::database::{Database, Problem};
use crate::reading::Reading;

/// For the end of somebody else's transaction.
const BUSY: Duration = Duration::from_secs(5);

pub fn connect(file: &Path) -> Result<Connection, Problem> {
    let refused = |error: Error| format!("cannot open the database {file:?}: {error}");
    let connection = Connection::open(file).map_err(refused)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

pub fn sink(file: &Path, table: &str) -> Sqlite<Reading> {
    Sqlite::open(file)
        .wal(true)
        .table(table)
        .column("id", |reading: &Reading| &reading.id)
        .column("value", |reading| &reading.value)
        .on_conflict(OnConflict::Ignore)
        .key(["id"])
}

impl Database for Connection {
    fn run(&mut self, statements: &str) -> Result<(), Problem> {
        Ok(self.execute_batch(statements)?)
    }

    fn hold(&mut self, time: Duration) -> Result<(), Problem> {
        self.execute_batch("BEGIN IMMEDIATE")?;
        thread::sleep(time);
        Ok(self.execute_batch("COMMIT")?)
    }
}
