//! diesel: typed statements, one transaction a batch. Here with SQLite.
//!
//! ```sh
//! cargo run --manifest-path recipes/diesel/Cargo.toml -- readings.db
//! ```
//!
//! With another of diesel's databases only the type of the connection changes, and the statement
//! that leaves rows alone that are there: `insert_into(…).values(…).on_conflict_do_nothing()`.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};

diesel::table! {
    readings (id) {
        id -> BigInt,
        value -> Double,
        text -> Nullable<Text>,
    }
}

#[derive(Insertable)]
#[diesel(table_name = readings)]
struct Reading {
    id: i64,
    value: f64,
    text: Option<String>,
}

/// A statement has at most 32 766 parameters, and `Reading` has three.
const ROWS_A_STATEMENT: usize = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or_else(|| "readings.db".to_owned());
    let mut setup = SqliteConnection::establish(&path)?;
    diesel::sql_query("PRAGMA journal_mode = WAL").execute(&mut setup)?;
    diesel::sql_query(
        "CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY, value REAL NOT NULL, text TEXT)",
    )
    .execute(&mut setup)?;

    let batcher = Batcher::builder()
        .idempotent(true) // a row that is there is left alone
        // Called again for a new connection whenever an error says `handler_broken`.
        .spawn_workers(move |_worker| {
            let mut connection = SqliteConnection::establish(&path)?;
            Ok::<_, ConnectionError>(move |batch: &mut Batch<Reading>| {
                store(&mut connection, batch).map_err(classified)
            })
        })?;
    batcher.add_many((0..100_000).map(|id| Reading {
        id,
        value: id as f64 / 4.0,
        text: (id % 2 == 0).then(|| format!("reading number {id}")),
    }))?;
    let report = batcher.close(Duration::from_secs(60));
    let stored: i64 = readings::table.count().get_result(&mut setup)?;
    println!(
        "{} handled, {} failed, {stored} rows in the table",
        report.handled, report.failed_total
    );
    if report.is_clean() {
        Ok(())
    } else {
        Err("not everything is stored".into())
    }
}

fn store(
    connection: &mut SqliteConnection,
    batch: &mut Batch<Reading>,
) -> Result<LoadFeedback, Error> {
    connection.immediate_transaction(|connection| {
        for rows in batch.chunks(ROWS_A_STATEMENT) {
            diesel::insert_or_ignore_into(readings::table)
                .values(rows)
                .execute(connection)?;
        }
        Ok(LoadFeedback::new())
    })
}

fn classified(error: Error) -> BatchError {
    match &error {
        Error::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation => BatchError::permanent(error),
            DatabaseErrorKind::SerializationFailure => BatchError::transient(error),
            DatabaseErrorKind::ClosedConnection => BatchError::in_doubt(error).handler_broken(),
            _ => BatchError::new(error),
        },
        // A value that diesel does not convert.
        Error::SerializationError(_) => BatchError::permanent(error),
        // What the connection is in the middle of is not known any more.
        Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. } => {
            BatchError::in_doubt(error).handler_broken()
        }
        _ => BatchError::new(error),
    }
}
