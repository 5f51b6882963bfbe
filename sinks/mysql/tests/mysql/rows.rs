//! The row, the table and the builder that most tests use.

use std::time::{Duration, Instant};

use load_aware_batcher_mysql::Mysql;
use load_aware_batcher_mysql::load_aware_batcher::{
    BatchError, Batcher, Builder, Failed, Fixed, Retry, Stats,
};
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Error, Opts};
use testkit::servers::mariadb::Mariadb;

/// A net for what should come soon. No test asserts how soon.
pub const LONG: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub id: i64,
    pub value: f64,
    pub text: String,
}

pub fn reading(id: i64) -> Reading {
    Reading {
        id,
        value: id as f64 / 4.0,
        text: format!("reading number {id}"),
    }
}

pub const KEYED: &str =
    "CREATE TABLE readings (id BIGINT PRIMARY KEY, value DOUBLE NOT NULL CHECK (value >= 0),
    text VARCHAR(200) NOT NULL) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4";
pub const KEYLESS: &str =
    "CREATE TABLE readings (id BIGINT NOT NULL, value DOUBLE NOT NULL CHECK (value >= 0),
    text VARCHAR(200) NOT NULL) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4";

/// A database of the test's own with this table in it.
pub struct Database {
    pub opts: Opts,
    pub conn: Conn,
}

impl Database {
    pub fn new(server: &Mariadb, name: &str, schema: &str) -> Self {
        let (opts, mut conn) = server.database(name);
        conn.query_drop(schema).unwrap();
        Self { opts, conn }
    }

    /// The sink of all three columns.
    pub fn sink(&self) -> Mysql<Reading> {
        columns(Mysql::new(self.opts.clone()))
    }

    /// Rows and different ids.
    pub fn counts(&mut self) -> (i64, i64) {
        counts(&mut self.conn)
    }

    pub fn rows(&mut self) -> Vec<(i64, f64, String)> {
        let query = "SELECT id, value, text FROM readings ORDER BY id, value";
        self.conn.query(query).unwrap()
    }

    pub fn run(&mut self, statement: &str) {
        self.conn.query_drop(statement).unwrap();
    }
}

pub fn counts(conn: &mut Conn) -> (i64, i64) {
    let query = "SELECT count(*), count(DISTINCT id) FROM readings";
    conn.query_first(query).unwrap().unwrap()
}

pub fn columns(sink: Mysql<Reading>) -> Mysql<Reading> {
    sink.table("readings")
        .column("id", |r: &Reading| &r.id)
        .column("value", |r| &r.value)
        .column("text", |r| r.text.as_str())
}

/// Batches of this size, tried for as long as it takes.
pub fn builder(size: usize) -> Builder<Reading> {
    Batcher::builder()
        .policy(Fixed(size))
        .linger(Duration::from_millis(20))
        .retry(
            Retry::attempts(u32::MAX)
                .backoff(Duration::from_millis(5), Duration::from_millis(200))
                .total_limit(LONG * 10),
        )
}

/// The same, with nothing but full batches and what is flushed.
pub fn whole(size: usize) -> Builder<Reading> {
    builder(size).linger(LONG * 100)
}

pub fn wait_for(batcher: &Batcher<Reading>, expected: impl Fn(&Stats) -> bool) {
    until(|| expected(&batcher.stats()));
}

pub fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The server's code of an error.
pub fn code_of(error: &BatchError) -> Option<u16> {
    match error.source().downcast_ref::<Error>()? {
        Error::MySqlError(refused) => Some(refused.code),
        _ => None,
    }
}

/// The ids of rows that failed, each by its own fault and with nothing in doubt.
pub fn faulty(failed: &[Failed<Reading>]) -> Vec<i64> {
    for failed in failed {
        let at_fault = failed.error.is_permanent() && !failed.in_doubt && !failed.outage;
        assert!(at_fault, "{failed:?}");
    }
    let mut ids: Vec<_> = failed.iter().map(|failed| failed.item.id).collect();
    ids.sort_unstable();
    ids
}
