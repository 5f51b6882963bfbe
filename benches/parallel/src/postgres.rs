//! PostgreSQL.

use load_aware_batcher_postgres::postgres::config::SslMode;
use load_aware_batcher_postgres::postgres::{Client, Config};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::backend::{Backend, far};
use crate::cells::{COMMIT_S, Cell, Situation, Way};
use crate::measure::Row;
use crate::run::{Run, Span, measure};

const DATABASE: &str = "parallel";

struct Near {
    config: Config,
    client: Client,
    server: Server,
}

/// `None` where it is not installed.
pub fn open() -> Option<Box<dyn Backend>> {
    let server = Server::own(&["shared_buffers=256MB"])?;
    let (config, client) = server.database(DATABASE);
    Some(Box::new(Near {
        config,
        client,
        server,
    }))
}

impl Backend for Near {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn run(&mut self, cell: Cell, way: Way, span: Span) -> Run {
        let index = match cell.situation {
            Situation::SecondIndex => "CREATE INDEX ON readings (value)",
            _ => "",
        };
        let table = format!(
            "DROP TABLE IF EXISTS readings; CREATE TABLE readings (id bigint PRIMARY KEY,
             value double precision NOT NULL, text text NOT NULL); {index}"
        );
        self.client.batch_execute(&table).expect("a new table");
        let proxy = far(&self.server.socket(), cell.situation);
        let config = proxy.as_ref().map_or_else(
            || self.config.clone(),
            |proxy| {
                let mut config = Config::new();
                config.host("127.0.0.1").port(proxy.port());
                config.user("postgres").dbname(DATABASE);
                config.ssl_mode(SslMode::Disable);
                config
            },
        );
        let mut sink = Postgres::new(config)
            .table("readings")
            .column("id", |row: &Row| &row.id)
            .column("value", |row| &row.value)
            .column("text", |row| row.text)
            .on_conflict(OnConflict::Ignore);
        if cell.situation == Situation::SlowCommit {
            let sleep = format!("SELECT pg_sleep({COMMIT_S})");
            sink = sink.before_commit(move |transaction, _| Ok(transaction.batch_execute(&sleep)?));
        }
        measure(sink, cell, way, span)
    }
}
