//! PostgreSQL.

use std::time::Duration;

use load_aware_batcher_postgres::postgres::{Client, Error, NoTls};
use load_aware_batcher_postgres::{OnConflict, Postgres};

use crate::database::{Database, Problem, TABLES, said};
use crate::reading::Reading;

pub fn connect(url: &str) -> Result<Client, Problem> {
    let refused = |error: Error| format!("cannot connect to the server: {}", said(&error));
    Ok(Client::connect(url, NoTls).map_err(refused)?)
}

pub fn sink(url: &str, table: &str) -> Postgres<Reading> {
    Postgres::from_url(url)
        .table(table)
        .column("id", |reading: &Reading| &reading.id)
        .column("value", |reading| &reading.value)
        .on_conflict(OnConflict::Ignore)
        .key(["id"])
}

impl Database for Client {
    fn run(&mut self, statements: &str) -> Result<(), Problem> {
        Ok(self.batch_execute(statements)?)
    }

    fn hold(&mut self, time: Duration) -> Result<(), Problem> {
        let (tables, seconds) = (TABLES.join(", "), time.as_secs_f64());
        self.run(&format!(
            "BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT"
        ))
    }
}
