//! MariaDB to be measured.

use std::thread::sleep;
use std::time::Duration;

use load_aware_batcher::Handler;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts};

use crate::backend::{Backend, STATEMENT_TIMEOUT_MS};
use crate::ingest::mariadb_load::MariadbLoad;
use crate::ingest::mariadb_writer::MariadbWriter;
use crate::ingest::monitor::Sensor;
use crate::ingest::once::Once;
use crate::ingest::rows::Row;
use crate::neighbours::{CPU_CLIENTS, FSYNC_CLIENTS, LOCK_FREE, LOCK_HELD, Neighbours, Storm};
use crate::servers::mariadb::Mariadb;

struct Measured {
    opts: Opts,
    conn: Conn,
    _server: Mariadb,
}

pub fn open() -> Option<Box<dyn Backend>> {
    // The memory and the log that a server has: with the tests' 32 MB of log it writes pages all the time.
    let server = Mariadb::own(&["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"])?;
    let (opts, mut conn) = server.database("storm");
    MariadbWriter::create_tables(&mut conn, "readings", Once::Key).expect("the tables");
    conn.query_drop("CREATE TABLE other (n bigint AUTO_INCREMENT PRIMARY KEY, text text)").expect("their table");
    Some(Box::new(Measured { opts, conn, _server: server }))
}

impl Backend for Measured {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn reset(&mut self) {
        for table in ["readings", "other"] {
            self.conn.query_drop(format!("TRUNCATE {table}")).expect("an empty table");
        }
    }

    fn handler(&self) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>) {
        let timeout = format!("SET max_statement_time = {}", f64::from(STATEMENT_TIMEOUT_MS) / 1e3);
        let opts = self.opts.clone();
        let writer = MariadbWriter::new(opts, "readings", Once::Key, &[&timeout], Duration::from_secs(10));
        let sensor = MariadbLoad::new(self.opts.clone(), writer.timeouts());
        (Box::new(writer), Box::new(sensor))
    }

    fn neighbours(&self, storm: Storm) -> Neighbours {
        let opts = self.opts.clone();
        let connect = move || Conn::new(opts.clone()).expect("a connection for a neighbour");
        match storm {
            Storm::Cpu => Neighbours::start(CPU_CLIENTS, move |_| {
                let mut conn = connect();
                move || Ok(conn.query_drop("SELECT benchmark(50000, md5('x'))")?)
            }),
            Storm::Locks => Neighbours::start(1, move |_| {
                let mut conn = connect();
                move || {
                    conn.query_drop("LOCK TABLES readings WRITE")?;
                    sleep(LOCK_HELD);
                    conn.query_drop("UNLOCK TABLES")?;
                    sleep(LOCK_FREE);
                    Ok(())
                }
            }),
            Storm::Fsync => Neighbours::start(FSYNC_CLIENTS, move |_| {
                let mut conn = connect();
                move || Ok(conn.query_drop("INSERT INTO other (text) VALUES (repeat('x', 20000))")?)
            }),
        }
    }
}
