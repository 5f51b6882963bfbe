//! The row, the table and the builder that most tests use.

use std::time::{Duration, Instant};

use load_aware_batcher_postgres::load_aware_batcher::{
    BatchError, Batcher, Builder, Failed, Fixed, Retry, Stats,
};
use load_aware_batcher_postgres::postgres::{Client, Config, Error};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

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

pub const KEYED: &str = "CREATE TABLE readings (id bigint PRIMARY KEY,
    value double precision NOT NULL CHECK (value >= 0), text text NOT NULL)";
pub const KEYLESS: &str = "CREATE TABLE readings (id bigint NOT NULL,
    value double precision NOT NULL CHECK (value >= 0), text text NOT NULL)";

/// A database of the test's own with this table in it.
pub struct Database {
    pub config: Config,
    pub client: Client,
}

impl Database {
    pub fn new(server: &Server, name: &str, schema: &str) -> Self {
        let (config, mut client) = server.database(name);
        client.batch_execute(schema).unwrap();
        Self { config, client }
    }

    /// The sink of all three columns.
    pub fn sink(&self) -> Postgres<Reading> {
        columns(Postgres::new(self.config.clone()))
    }

    /// Rows and different ids.
    pub fn counts(&mut self) -> (i64, i64) {
        counts(&mut self.client)
    }

    pub fn rows(&mut self) -> Vec<(i64, f64, String)> {
        let query = "SELECT id, value, text FROM readings ORDER BY id, value";
        let rows = self.client.query(query, &[]).unwrap();
        rows.iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect()
    }

    pub fn run(&mut self, statements: &str) {
        self.client.batch_execute(statements).unwrap();
    }

    /// The one number that a query answers.
    pub fn number(&mut self, query: &str) -> i64 {
        self.client.query_one(query, &[]).unwrap().get(0)
    }
}

pub fn counts(client: &mut Client) -> (i64, i64) {
    let query = "SELECT count(*), count(DISTINCT id) FROM readings";
    let row = client.query_one(query, &[]).unwrap();
    (row.get(0), row.get(1))
}

pub fn columns(sink: Postgres<Reading>) -> Postgres<Reading> {
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
pub fn code_of(error: &BatchError) -> Option<String> {
    let error = error.source().downcast_ref::<Error>()?;
    error.code().map(|code| code.code().to_owned())
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

#[test]
fn a_hundred_thousand_rows_with_bad_ones_among_them_are_stored_or_reported_once() {
    let Some(server) = Server::shared() else {
        return;
    };
    // Modes with a key, without one, and with a batch table.
    for (name, schema) in [
        ("poison_fail", KEYLESS),
        ("poison_ignore", KEYED),
        ("poison_batches", KEYLESS),
    ] {
        let mut database = Database::new(server, name, schema);
        let sink = match name {
            "poison_ignore" => database.sink().on_conflict(OnConflict::Ignore),
            "poison_batches" => database.sink().batch_table("batches"),
            _ => database.sink(),
        };
        let batcher = builder(5_000).sink(sink).unwrap();
        let is_bad = |id: &i64| id % 9_973 == 5;
        std::thread::scope(|scope| {
            for part in 0..4 {
                let batcher = &batcher;
                scope.spawn(move || {
                    let rows = (0..25_000).map(|number| {
                        let id = number * 4 + part;
                        let value = if is_bad(&id) { -1.0 } else { 1.0 };
                        Reading {
                            value,
                            ..reading(id)
                        }
                    });
                    batcher.add_many(rows).unwrap();
                });
            }
        });
        let report = batcher.close(LONG);
        let bad: Vec<i64> = (0..100_000).filter(is_bad).collect();
        assert_eq!(faulty(&report.failed), bad, "{name}");
        let good = 100_000 - bad.len() as i64;
        assert_eq!(database.counts(), (good, good), "{name}");
    }
}
