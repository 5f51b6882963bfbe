//! MariaDB.

use std::thread::sleep;
use std::time::Duration;

use load_aware_batcher::{Handler, Sensor};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts};
use testkit::servers::mariadb::Mariadb;
use testkit::writers::mariadb::MariadbWriter;
use testkit::writers::mariadb_load::MariadbLoad;
use testkit::writers::{Dedup, Row};

use crate::backend::{Backend, STATEMENT_TIMEOUT_MS, table};
use crate::competitors::{CPU_CLIENTS, Competitors, FSYNC_CLIENTS, LOCK_FREE, LOCK_HELD, Storm};

struct Measured {
    opts: Opts,
    conn: Conn,
    candidates: usize,
    _server: Mariadb,
}

pub fn open() -> Option<Box<dyn Backend>> {
    // The memory and the log of a usual server. With the tests' 32 MB of log it would write pages
    // all the time.
    let server = Mariadb::own(&["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"])?;
    let (opts, mut conn) = server.database("storm");
    conn.query_drop("CREATE TABLE other (n bigint AUTO_INCREMENT PRIMARY KEY, text text)")
        .expect("their table");
    Some(Box::new(Measured {
        opts,
        conn,
        candidates: 0,
        _server: server,
    }))
}

impl Backend for Measured {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn reset(&mut self, candidates: usize) {
        for table in (0..candidates).map(table) {
            MariadbWriter::create_tables(&mut self.conn, &table, Dedup::Key).expect("the tables");
            self.conn
                .query_drop(format!("TRUNCATE {table}"))
                .expect("an empty table");
        }
        self.conn
            .query_drop("TRUNCATE other")
            .expect("an empty table");
        self.candidates = candidates;
    }

    fn handler(&self, candidate: usize) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>) {
        let timeout = format!(
            "SET max_statement_time = {}",
            f64::from(STATEMENT_TIMEOUT_MS) / 1e3
        );
        let opts = self.opts.clone();
        let writer = MariadbWriter::new(
            opts,
            &table(candidate),
            Dedup::Key,
            &[&timeout],
            Duration::from_secs(10),
        );
        let sensor = MariadbLoad::new(self.opts.clone(), writer.timeouts());
        (Box::new(writer), Box::new(sensor))
    }

    fn competitors(&self, storm: Storm) -> Competitors {
        let opts = self.opts.clone();
        let tables = (0..self.candidates)
            .map(|candidate| format!("{} WRITE", table(candidate)))
            .collect::<Vec<_>>()
            .join(", ");
        let connect = move || Conn::new(opts.clone()).expect("a connection for a competitor");
        match storm {
            Storm::Cpu => Competitors::start(CPU_CLIENTS, move |_| {
                let mut conn = connect();
                move || Ok(conn.query_drop("SELECT benchmark(50000, md5('x'))")?)
            }),
            Storm::Locks => Competitors::start(1, move |_| {
                let mut conn = connect();
                let lock = format!("LOCK TABLES {tables}");
                move || {
                    conn.query_drop(&lock)?;
                    sleep(LOCK_HELD);
                    conn.query_drop("UNLOCK TABLES")?;
                    sleep(LOCK_FREE);
                    Ok(())
                }
            }),
            Storm::Fsync => Competitors::start(FSYNC_CLIENTS, move |_| {
                let mut conn = connect();
                move || Ok(conn.query_drop("INSERT INTO other (text) VALUES (repeat('x', 20000))")?)
            }),
        }
    }
}
