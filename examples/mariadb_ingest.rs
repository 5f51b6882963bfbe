//! Writes lines `id,value,text`, or with `--log` the lines of a log, into MariaDB or MySQL in
//! batches sized by what they cost.
//!
//! ```text
//! cargo run --release --example mariadb_ingest -- --url mysql://me@localhost/shop --create readings.csv
//! ```
//!
//! Without `--dedup none` a server that is killed and comes back costs no row and doubles none.

mod ingest;

use std::process::ExitCode;

use ingest::{Dedup, Options, Problem, Row};
use load_aware_batcher_mysql::mysql::Conn;
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::{Mysql, OnConflict};

fn main() -> ExitCode {
    let url = "mysql://root@localhost/test";
    ingest::main("mariadb_ingest", url, sink)
}

fn sink(options: &Options) -> Result<Mysql<Row>, Problem> {
    if options.create {
        let (table, key) = (&options.table, options.primary_key());
        Conn::new(&*options.url)?.query_drop(format!(
            "CREATE TABLE IF NOT EXISTS {table} (id bigint NOT NULL {key}, value double NOT NULL, text text NOT NULL)
             ENGINE = InnoDB DEFAULT CHARSET = utf8mb4"
        ))?;
    }
    let sink = Mysql::from_url(&options.url)
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
