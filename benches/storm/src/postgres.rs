//! PostgreSQL.

use std::thread::sleep;

use load_aware_batcher::{Handler, Sensor};
use postgres::{Client, Config, NoTls};
use testkit::servers::postgres::Postgres;
use testkit::writers::postgres::PostgresWriter;
use testkit::writers::postgres_load::PostgresLoad;
use testkit::writers::{Dedup, Row};

use crate::backend::{Backend, STATEMENT_TIMEOUT_MS, table};
use crate::competitors::{CPU_CLIENTS, Competitors, FSYNC_CLIENTS, LOCK_FREE, LOCK_HELD, Storm};

struct Measured {
    config: Config,
    client: Client,
    candidates: usize,
    _server: Postgres,
}

pub fn open() -> Option<Box<dyn Backend>> {
    // The memory of a usual server, and WAL files that are reused. A new one costs a fifth of a
    // second's rows at a random moment.
    let settings = [
        "shared_buffers=512MB",
        "min_wal_size=2GB",
        "checkpoint_timeout=1h",
    ];
    let server = Postgres::own(&settings)?;
    let (config, mut client) = server.database("storm");
    client
        .batch_execute("CREATE TABLE other (n bigserial, text text)")
        .expect("the competitors' table");
    Some(Box::new(Measured {
        config,
        client,
        candidates: 0,
        _server: server,
    }))
}

impl Backend for Measured {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn reset(&mut self, candidates: usize) {
        for table in (0..candidates).map(table) {
            PostgresWriter::create_tables(&mut self.client, &table, Dedup::Key)
                .expect("the tables");
            self.client
                .batch_execute(&format!("TRUNCATE {table}"))
                .expect("an empty table");
        }
        self.client
            .batch_execute("TRUNCATE other; CHECKPOINT")
            .expect("an empty table");
        self.candidates = candidates;
    }

    fn handler(&self, candidate: usize) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>) {
        let writer = PostgresWriter::new(self.config.clone(), &table(candidate), Dedup::Key)
            .session(&format!("SET statement_timeout = {STATEMENT_TIMEOUT_MS}"));
        let sensor = PostgresLoad::new(self.config.clone(), writer.timeouts());
        (Box::new(writer), Box::new(sensor))
    }

    fn competitors(&self, storm: Storm) -> Competitors {
        let config = self.config.clone();
        let tables = (0..self.candidates)
            .map(table)
            .collect::<Vec<_>>()
            .join(", ");
        let connect = move || {
            config
                .connect(NoTls)
                .expect("a connection for a competitor")
        };
        match storm {
            Storm::Cpu => Competitors::start(CPU_CLIENTS, move |_| {
                let mut client = connect();
                move || {
                    Ok(client
                        .batch_execute("SELECT sum(sqrt(n)) FROM generate_series(1, 100000) n")?)
                }
            }),
            Storm::Locks => Competitors::start(1, move |_| {
                let mut client = connect();
                let lock = format!("BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE");
                move || {
                    client.batch_execute(&lock)?;
                    sleep(LOCK_HELD);
                    client.batch_execute("ROLLBACK")?;
                    sleep(LOCK_FREE);
                    Ok(())
                }
            }),
            Storm::Fsync => Competitors::start(FSYNC_CLIENTS, move |_| {
                let mut client = connect();
                move || {
                    Ok(client
                        .batch_execute("INSERT INTO other (text) VALUES (repeat('x', 20000))")?)
                }
            }),
        }
    }
}
