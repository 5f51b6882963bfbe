//! MariaDB: `LOAD DATA LOCAL` through the client.

use std::fs;
use std::process::Command;

use load_aware_batcher_mysql as sink;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, TxOpts, Value};
use testkit::servers::mariadb::Mariadb as Server;

use crate::database::{Database, Failure, Key, ROWS_A_STATEMENT, Rows, Way, write_by};
use crate::program::{ended, installed};
use crate::row::{Reading, readings};
use crate::usage::Usage;

pub struct Mariadb {
    server: Server,
    opts: Opts,
    conn: Conn,
}

impl Mariadb {
    /// `None` where there is no server.
    pub fn start() -> Option<Self> {
        let server = Server::own(&["--local-infile=1"])?;
        let (opts, conn) = server.database("loaders");
        Some(Self { server, opts, conn })
    }

    fn load_data(&self, rows: Rows<'_>) -> Result<bool, Failure> {
        let Some(client) = ["mariadb", "mysql"]
            .into_iter()
            .find(|name| installed(name))
        else {
            return Ok(false);
        };
        let load = format!(
            "LOAD DATA LOCAL INFILE '{}' INTO TABLE readings FIELDS TERMINATED BY ','",
            rows.csv.display()
        );
        let status = Command::new(client)
            .args(["--no-defaults", "--local-infile=1", "--user=root"])
            .arg(format!("--socket={}", self.server.socket().display()))
            .args(["loaders", "--execute", &load])
            .status()?;
        ended(client, status)
    }

    fn sink(&self, key: Key, rows: Rows<'_>) -> Result<(), Failure> {
        let sink = sink::Mysql::new(self.opts.clone())
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
        let places = vec!["(?, ?, ?)"; ROWS_A_STATEMENT].join(", ");
        let insert = self
            .conn
            .prep(format!("INSERT INTO readings VALUES {places}"))?;
        let mut readings = readings(rows.count);
        loop {
            let values: Vec<Value> = readings
                .by_ref()
                .take(ROWS_A_STATEMENT)
                .flat_map(|r| [r.id.into(), r.value.into(), r.text.into()])
                .collect();
            if values.is_empty() {
                return Ok(());
            }
            self.conn.exec_drop(&insert, values)?;
        }
    }

    fn row_by_row(&mut self, rows: Rows<'_>) -> Result<(), Failure> {
        let mut transaction = self.conn.start_transaction(TxOpts::default())?;
        let insert = transaction.prep("INSERT INTO readings VALUES (?, ?, ?)")?;
        for r in readings(rows.count) {
            transaction.exec_drop(&insert, (r.id, r.value, r.text))?;
        }
        Ok(transaction.commit()?)
    }
}

impl Database for Mariadb {
    fn name(&self) -> &'static str {
        "MariaDB"
    }

    fn loader(&self) -> &'static str {
        "`LOAD DATA LOCAL`"
    }

    fn create(&mut self, key: Key) -> Result<(), Failure> {
        self.conn.query_drop("DROP TABLE IF EXISTS readings")?;
        Ok(self.conn.query_drop(format!(
            "CREATE TABLE readings (id BIGINT NOT NULL{}, value DOUBLE NOT NULL, text TEXT NOT NULL)
             ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
            key.clause()
        ))?)
    }

    fn write(&mut self, way: Way, key: Key, rows: Rows<'_>) -> Result<bool, Failure> {
        match way {
            Way::Loader => return self.load_data(rows),
            Way::Sink => self.sink(key, rows)?,
            Way::MultiRow => self.multi_row(rows)?,
            Way::RowByRow => self.row_by_row(rows)?,
        }
        Ok(true)
    }

    fn stored(&mut self) -> Result<usize, Failure> {
        let count: Option<usize> = self.conn.query_first("SELECT count(*) FROM readings")?;
        Ok(count.unwrap_or(0))
    }

    fn server(&self) -> Option<Usage> {
        let text = fs::read_to_string(self.server.socket().with_file_name("pid")).ok()?;
        Some(Usage::of_server(text.trim()))
    }

    fn target(&self, _: Key) -> f64 {
        0.95
    }
}
