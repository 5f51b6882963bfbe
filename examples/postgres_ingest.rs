//! Writes lines `id,value,text`, or with `--log` the lines of a log, into PostgreSQL in batches
//! sized by what they cost.
//!
//! ```text
//! cargo run --release --example postgres_ingest -- --url postgres://me@localhost/shop --create readings.csv
//! ```
//!
//! Without `--dedup none` a server that is killed and comes back costs no row and doubles none.

mod ingest;

use std::process::ExitCode;

use ingest::{Dedup, Options, Problem, Row};
use load_aware_batcher_postgres::postgres::{Client, NoTls};
use load_aware_batcher_postgres::{OnConflict, Postgres};

fn main() -> ExitCode {
    let url = "postgres://postgres@localhost/postgres";
    ingest::main("postgres_ingest", url, sink)
}

fn sink(options: &Options) -> Result<Postgres<Row>, Problem> {
    if options.create {
        let (table, key) = (&options.table, options.primary_key());
        Client::connect(&options.url, NoTls)?.batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {table}
             (id bigint NOT NULL {key}, value double precision NOT NULL, text text NOT NULL)"
        ))?;
    }
    let sink = Postgres::from_url(&options.url)
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
