//! PostgreSQL: `\copy` through psql.

use std::fs;
use std::process::Command;

use load_aware_batcher_postgres as sink;
use postgres::types::ToSql;
use postgres::{Client, Config};
use testkit::servers::postgres::Postgres as Server;

use crate::database::{Database, Failure, Key, ROWS_A_STATEMENT, Rows, Way, write_by};
use crate::program::{ended, installed};
use crate::row::{Reading, readings};
use crate::usage::Usage;

pub struct Postgres {
    server: Server,
    config: Config,
    client: Client,
}

impl Postgres {
    /// `None` where there is no server.
    pub fn start() -> Option<Self> {
        let server = Server::own(&[])?;
        let (config, client) = server.database("loaders");
        Some(Self {
            server,
            config,
            client,
        })
    }

    fn copy(&self, rows: Rows<'_>) -> Result<bool, Failure> {
        if !installed("psql") {
            return Ok(false);
        }
        let status = Command::new("psql")
            .arg("-h")
            .arg(
                self.server
                    .socket()
                    .parent()
                    .ok_or("a socket is in a folder")?,
            )
            .args(["-X", "-q", "-U", "postgres", "-d", "loaders", "-c"])
            .arg(format!("\\copy readings from '{}' csv", rows.csv.display()))
            .status()?;
        ended("psql", status)
    }

    fn sink(&self, key: Key, rows: Rows<'_>) -> Result<(), Failure> {
        let sink = sink::Postgres::new(self.config.clone())
            .table("readings")
            .column("id", |r: &Reading| &r.id)
            .column("value", |r| &r.value)
            .column("text", |r| &r.text);
        let sink = match key {
            Key::Primary => sink.on_conflict(sink::OnConflict::Ignore),
            Key::None => sink,
        };
        write_by(sink, rows)
    }

    fn multi_row(&mut self, rows: Rows<'_>) -> Result<(), Failure> {
        let places: Vec<String> = (0..ROWS_A_STATEMENT)
            .map(|row| format!("(${}, ${}, ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3))
            .collect();
        let insert = format!("INSERT INTO readings VALUES {}", places.join(", "));
        let insert = self.client.prepare(&insert)?;
        let mut readings = readings(rows.count);
        loop {
            let some: Vec<Reading> = readings.by_ref().take(ROWS_A_STATEMENT).collect();
            if some.is_empty() {
                return Ok(());
            }
            let values: Vec<&(dyn ToSql + Sync)> = some
                .iter()
                .flat_map(|r| [&r.id as &(dyn ToSql + Sync), &r.value, &r.text])
                .collect();
            self.client.execute(&insert, &values)?;
        }
    }

    fn row_by_row(&mut self, rows: Rows<'_>) -> Result<(), Failure> {
        let mut transaction = self.client.transaction()?;
        let insert = transaction.prepare("INSERT INTO readings VALUES ($1, $2, $3)")?;
        for r in readings(rows.count) {
            transaction.execute(&insert, &[&r.id, &r.value, &r.text])?;
        }
        Ok(transaction.commit()?)
    }
}

impl Database for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn loader(&self) -> &'static str {
        "`\\copy`"
    }

    /// With a checkpoint, so that nothing of the previous round is left to be written.
    fn create(&mut self, key: Key) -> Result<(), Failure> {
        self.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS readings;
             CREATE TABLE readings (id bigint NOT NULL{}, value double precision NOT NULL, text text NOT NULL)",
            key.clause()
        ))?;
        Ok(self.client.batch_execute("CHECKPOINT")?)
    }

    fn write(&mut self, way: Way, key: Key, rows: Rows<'_>) -> Result<bool, Failure> {
        match way {
            Way::Loader => return self.copy(rows),
            Way::Sink => self.sink(key, rows)?,
            Way::MultiRow => self.multi_row(rows)?,
            Way::RowByRow => self.row_by_row(rows)?,
        }
        Ok(true)
    }

    fn stored(&mut self) -> Result<usize, Failure> {
        let row = self
            .client
            .query_one("SELECT count(*) FROM readings", &[])?;
        Ok(usize::try_from(row.try_get::<_, i64>(0)?)?)
    }

    fn server(&self) -> Option<Usage> {
        let file = self.server.socket().with_file_name("data/postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        Some(Usage::of_server(text.lines().next()?.trim()))
    }

    fn target(&self, key: Key) -> f64 {
        match key {
            Key::Primary => 0.95,
            Key::None => 0.85,
        }
    }
}
