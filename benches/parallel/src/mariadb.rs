//! MariaDB.

use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Opts, OptsBuilder};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::servers::mariadb::Mariadb as Server;

use crate::backend::{Backend, far};
use crate::cells::{COMMIT_S, Cell, Situation, Way};
use crate::measure::Row;
use crate::run::{Run, Span, measure};

const DATABASE: &str = "parallel";

struct Near {
    opts: Opts,
    conn: Conn,
    server: Server,
}

/// `None` where it is not installed.
pub fn open() -> Option<Box<dyn Backend>> {
    let server = Server::own(&["--innodb-log-file-size=512M"])?;
    let (opts, conn) = server.database(DATABASE);
    Some(Box::new(Near { opts, conn, server }))
}

impl Backend for Near {
    fn name(&self) -> &'static str {
        "MariaDB"
    }

    fn run(&mut self, cell: Cell, way: Way, span: Span) -> Run {
        let index = match cell.situation {
            Situation::SecondIndex => ", INDEX (value)",
            _ => "",
        };
        let table = format!(
            "CREATE TABLE readings (id BIGINT PRIMARY KEY, value DOUBLE NOT NULL,
             text VARCHAR(200) NOT NULL{index}) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4"
        );
        for statement in ["DROP TABLE IF EXISTS readings", &table] {
            self.conn.query_drop(statement).expect("a new table");
        }
        let proxy = far(&self.server.socket(), cell.situation);
        let opts = proxy.as_ref().map_or_else(
            || self.opts.clone(),
            |proxy| {
                OptsBuilder::new()
                    .ip_or_hostname(Some("127.0.0.1"))
                    .tcp_port(proxy.port())
                    .user(Some("root"))
                    .db_name(Some(DATABASE))
                    // The driver would go round the proxy.
                    .prefer_socket(false)
                    .into()
            },
        );
        let mut sink = Mysql::new(opts)
            .table("readings")
            .column("id", |row: &Row| &row.id)
            .column("value", |row| &row.value)
            .column("text", |row| row.text)
            .on_conflict(OnConflict::Ignore);
        if cell.situation == Situation::SlowCommit {
            let sleep = format!("DO SLEEP({COMMIT_S})");
            sink = sink.before_commit(move |transaction, _| Ok(transaction.query_drop(&sleep)?));
        }
        measure(sink, cell, way, span)
    }
}
