//! Handlers written by hand against real SQLite files: every row is stored or reported, once. The
//! companion crate in sinks/rusqlite has tests of its own.

#![cfg(all(unix, not(loom)))]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load_aware_batcher::classify::{Stage, sqlite};
use load_aware_batcher::{Batch, Batcher, ErrorClass, LoadFeedback};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::writers::sqlite::{SqliteWriter, failed};
use testkit::writers::{Dedup, Row};

/// Longer than anything here takes. No test asserts a time.
const LONG: Duration = Duration::from_secs(120);

struct File {
    folder: TempDir,
}

impl File {
    fn new(dedup: Dedup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        SqliteWriter::create_tables(&folder.path().join("db"), "readings", dedup).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn open(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

/// The number of rows, and of different ids.
fn counts(connection: &Connection) -> (i64, i64) {
    let query = "SELECT count(*), count(DISTINCT id) FROM readings";
    connection
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

#[test]
fn a_hundred_thousand_rows_arrive_once_each() {
    for dedup in [Dedup::Key, Dedup::BatchId, Dedup::None] {
        let file = File::new(dedup);
        let writer = SqliteWriter::new(&file.path(), "readings", dedup);
        let batcher = dedup.builder(5_000).spawn(writer).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    producer
                        .add_many((thread * 25_000..(thread + 1) * 25_000).map(Row::of))
                        .unwrap()
                });
            }
        });
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(counts(&file.open()), (100_000, 100_000));
    }
}

#[test]
fn sqlites_errors_have_the_class_of_the_table() {
    let file = File::new(Dedup::Key);
    let connection = file.open();
    connection.busy_handler(None).unwrap();
    connection
        .execute_batch("INSERT INTO readings VALUES (1, 1, '')")
        .unwrap();
    let class_on = |statements: &str| {
        let error = connection.execute_batch(statements).unwrap_err();
        let code = error.sqlite_error().map(|error| error.extended_code);
        (code.unwrap_or(-1), sqlite(code, Stage::Statement))
    };
    use ErrorClass::{Permanent, Transient, Unavailable, Unclassified};
    assert_eq!(
        class_on("INSERT INTO readings VALUES (1, 1, '')"),
        (1_555, Permanent)
    );
    assert_eq!(
        class_on("INSERT INTO readings VALUES (2, NULL, '')"),
        (1_299, Permanent)
    );
    assert_eq!(
        class_on("INSERT INTO readings VALUES ('x', 1, '')"),
        (20, Permanent)
    );
    assert_eq!(
        class_on("INSERT INTO no_such_table VALUES (1)"),
        (1, Unclassified)
    );
    // The same code from a row.
    assert_eq!(
        class_on("INSERT INTO readings VALUES (9, 1, json_extract('{', '$'))"),
        (1, Unclassified)
    );
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON readings WHEN NEW.id = 8 BEGIN SELECT RAISE(ABORT, 'no'); END";
    connection.execute_batch(trigger).unwrap();
    assert_eq!(
        class_on("INSERT INTO readings VALUES (8, 1, '')"),
        (1_811, Permanent)
    );
    connection.execute_batch("PRAGMA query_only = 1").unwrap();
    assert_eq!(
        class_on("INSERT INTO readings VALUES (9, 1, '')"),
        (8, Unavailable)
    );
    connection.execute_batch("PRAGMA query_only = 0").unwrap();
    let other = file.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(class_on("BEGIN IMMEDIATE"), (5, Transient));
    other.execute_batch("ROLLBACK").unwrap();
    // A transaction that has read, and finds the file changed when it writes.
    connection
        .execute_batch("BEGIN; SELECT count(*) FROM readings")
        .unwrap();
    other
        .execute_batch("INSERT INTO readings VALUES (2, 1, '')")
        .unwrap();
    assert_eq!(
        class_on("INSERT INTO readings VALUES (3, 1, '')"),
        (517, Transient)
    );
    connection.execute_batch("ROLLBACK").unwrap();
    connection
        .execute_batch("PRAGMA max_page_count = 1")
        .unwrap();
    assert_eq!(
        class_on("INSERT INTO readings VALUES (3, 1, hex(zeroblob(1000000)))"),
        (13, Transient)
    );
}

/// Scenario 45.
#[test]
fn a_value_that_the_driver_refuses_fails_alone_at_once_and_is_never_in_doubt() {
    let file = File::new(Dedup::None);
    let mut connection = file.open();
    let batcher = Dedup::None
        .builder(500)
        .linger(LONG)
        .spawn(move |batch: &mut Batch<Row>| {
            let transaction = connection
                .transaction()
                .map_err(|error| failed(error, Stage::Statement))?;
            for row in batch.iter() {
                // The driver has no value above `i64::MAX`. Here -1 becomes 2^64 - 1.
                let insert = "INSERT INTO readings VALUES (?1, 0, '')";
                transaction
                    .execute(insert, [row.id as u64])
                    .map_err(|error| failed(error, Stage::Statement))?;
            }
            transaction
                .commit()
                .map_err(|error| failed(error, Stage::Commit))?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher
        .add_many((0..500).map(|id| Row::of(if id == 137 { -1 } else { id })))
        .unwrap();
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert_eq!(
        failed
            .iter()
            .map(|failed| failed.item.id)
            .collect::<Vec<_>>(),
        [-1]
    );
    assert!(
        failed[0].error.is_permanent() && !failed[0].in_doubt,
        "{:?}",
        failed[0]
    );
    assert_eq!((batcher.stats().retries, batcher.stats().in_doubt), (0, 0));
    assert_eq!(counts(&file.open()), (499, 499));
}

/// Scenario 54: the driver's guard rolls back while the panic unwinds, so the same connection can
/// be used.
#[test]
fn a_panic_inside_a_transaction_guard_leaves_nothing_behind_on_the_connection() {
    let file = File::new(Dedup::None);
    let mut connection = file.open();
    let mut calls = 0;
    let batcher = Dedup::None
        .builder(10)
        .linger(LONG)
        .spawn(move |batch: &mut Batch<Row>| {
            calls += 1;
            let transaction = connection
                .transaction()
                .map_err(|error| failed(error, Stage::Statement))?;
            for (index, row) in batch.iter().enumerate() {
                assert!(calls != 1 || index != 5, "in the middle of the batch");
                let insert = "INSERT INTO readings VALUES (?1, 0, '')";
                transaction
                    .execute(insert, [row.id])
                    .map_err(|error| failed(error, Stage::Statement))?;
            }
            transaction
                .commit()
                .map_err(|error| failed(error, Stage::Commit))?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many((0..10).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert_eq!(counts(&file.open()), (10, 10));
}

/// Scenario 54. The table has no key, so that a row stored twice would be seen.
#[test]
fn a_panic_between_begin_and_commit_leaves_nothing_behind() {
    let file = File::new(Dedup::None);
    let path = file.path();
    let panics = Arc::new(AtomicBool::new(true));
    let batcher = Batcher::builder()
        .linger(LONG)
        .spawn_workers(move |_| {
            let connection = Connection::open(&path)?;
            let panics = Arc::clone(&panics);
            Ok::<_, rusqlite::Error>(move |batch: &mut Batch<Row>| {
                connection.execute_batch("BEGIN")?;
                for (index, row) in batch.iter().enumerate() {
                    assert!(
                        index < 5 || !panics.swap(false, Ordering::SeqCst),
                        "row 5 of the first call"
                    );
                    let row = (row.id, row.value, &row.text);
                    connection.execute("INSERT INTO readings VALUES (?, ?, ?)", row)?;
                }
                connection.execute_batch("COMMIT")?;
                Ok(LoadFeedback::new())
            })
        })
        .unwrap();
    batcher.add_many((0..10).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(counts(&file.open()), (10, 10));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert!(batcher.close(LONG).is_clean());
}
