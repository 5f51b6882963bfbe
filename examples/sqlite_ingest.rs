//! Writes lines `id,value,text`, or with `--log` the lines of a log, into an SQLite file in batches
//! sized by what they cost.
//!
//! ```text
//! cargo run --release --example sqlite_ingest -- --url readings.db --create readings.csv
//! ```

mod ingest;

use std::process::ExitCode;

use ingest::{Dedup, Options, Problem, Row};
use load_aware_batcher_rusqlite::rusqlite::Connection;
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};

fn main() -> ExitCode {
    ingest::main("sqlite_ingest", "readings.db", sink)
}

fn sink(options: &Options) -> Result<Sqlite<Row>, Problem> {
    if options.create {
        let (table, key) = (&options.table, options.primary_key());
        Connection::open(&options.url)?.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (id INTEGER NOT NULL {key}, value REAL NOT NULL, text TEXT NOT NULL)"
        ))?;
    }
    let sink = Sqlite::open(&options.url)
        .wal(true)
        .table(&options.table)
        .column("id", |row: &Row| &row.id)
        .column("value", |row| &row.value)
        .column("text", |row| row.text.as_str());
    Ok(match options.dedup {
        Dedup::Key => sink.on_conflict(OnConflict::Ignore).key(["id"]),
        Dedup::BatchId => sink.batch_table(options.batch_table()),
        Dedup::None => sink,
    })
}
