//! The row and the file that most tests use.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use load_aware_batcher_rusqlite::Sqlite;
use load_aware_batcher_rusqlite::load_aware_batcher::{
    Batcher, Builder, Failed, Fixed, Retry, Stats,
};
use load_aware_batcher_rusqlite::rusqlite::Connection;
use tempfile::TempDir;

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

pub const KEYED: &str = "CREATE TABLE readings (id INTEGER PRIMARY KEY, value REAL NOT NULL CHECK (value >= 0), text TEXT NOT NULL)";
pub const KEYLESS: &str = "CREATE TABLE readings (id INTEGER NOT NULL, value REAL NOT NULL CHECK (value >= 0), text TEXT NOT NULL)";

/// A database in a folder of its own.
pub struct File(TempDir);

impl File {
    pub fn new(schema: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.open().execute_batch(schema).unwrap();
        file
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("db")
    }

    pub fn open(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// The sink of all three columns.
    pub fn sink(&self) -> Sqlite<Reading> {
        columns(Sqlite::open(self.path()))
    }

    /// Rows and different ids.
    pub fn counts(&self) -> (i64, i64) {
        let query = "SELECT count(*), count(DISTINCT id) FROM readings";
        let read = self
            .open()
            .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
        read.unwrap()
    }

    /// All rows in the order in which they were stored.
    pub fn rows(&self) -> Vec<(i64, f64, String)> {
        let connection = self.open();
        let mut query = connection
            .prepare("SELECT id, value, text FROM readings ORDER BY rowid")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}

pub fn columns(sink: Sqlite<Reading>) -> Sqlite<Reading> {
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
                .backoff(Duration::from_millis(5), Duration::from_millis(100))
                .total_limit(LONG * 10),
        )
}

/// The same, with nothing but full batches and what is flushed.
pub fn whole(size: usize) -> Builder<Reading> {
    builder(size).linger(LONG * 100)
}

pub fn wait_for(batcher: &Batcher<Reading>, expected: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    while !expected(&batcher.stats()) {
        assert!(begun.elapsed() < LONG, "not seen: {:#?}", batcher.stats());
        std::thread::sleep(Duration::from_millis(1));
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
