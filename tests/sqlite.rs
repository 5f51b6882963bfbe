//! The example's handler against real SQLite files: every row is stored or told of, once.

#![cfg(all(unix, not(loom)))]

#[path = "support/flows.rs"]
mod flows;
#[path = "../examples/ingest/mod.rs"]
mod ingest;

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use flows::{
    CloseOnPanic, LONG, Random, kills, one_poisoned_row_fails_alone, patient, row, tried_again,
    wait_for,
};
use ingest::monitor::{Sensor, share};
use ingest::once::Once;
use ingest::rows::Row;
use ingest::sqlite_load::SqliteLoad;
use ingest::sqlite_writer::{BUSY_RETRIES, SqliteWriter, failed};
use load_aware_batcher::classify::{Stage, sqlite};
use load_aware_batcher::{
    Batch, BatchError, Batcher, Builder, ErrorClass, Fixed, Handler, LoadFeedback, Retry,
};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::servers::process::small_disk;

struct File {
    folder: TempDir,
}

impl File {
    fn new(once: Once) -> Self {
        let folder = tempfile::tempdir().unwrap();
        SqliteWriter::create_tables(&folder.path().join("db"), "readings", once).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn open(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn builder(once: Once, size: usize) -> Builder<Row> {
    let builder = Batcher::builder()
        .policy(Fixed(size))
        .max_batch_size(size.max(1_000))
        .linger(Duration::from_millis(20));
    once.settle(builder).retry(patient(once))
}

fn writer(path: &Path, once: Once) -> SqliteWriter {
    SqliteWriter::new(path, "readings", once)
}

/// Rows and different ids.
fn counts(connection: &Connection) -> (i64, i64) {
    let query = "SELECT count(*), count(DISTINCT id) FROM readings";
    connection
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

#[test]
fn a_hundred_thousand_rows_arrive_once_each() {
    for once in [Once::Key, Once::BatchTable, Once::Never] {
        let file = File::new(once);
        let batcher = builder(once, 5_000)
            .spawn(writer(&file.path(), once))
            .unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    producer
                        .add_many((thread * 25_000..(thread + 1) * 25_000).map(row))
                        .unwrap()
                });
            }
        });
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(counts(&file.open()), (100_000, 100_000));
    }
}

#[test]
fn a_poisoned_row_is_rejected_in_the_same_call_that_stores_the_rest() {
    let file = File::new(Once::Key);
    file.open()
        .execute_batch(
            "DROP TABLE readings; CREATE TABLE readings
            (id INTEGER PRIMARY KEY, value REAL NOT NULL CHECK (value >= 0), text TEXT NOT NULL)",
        )
        .unwrap();
    // One batch, however slowly the rows come.
    let batcher = builder(Once::Key, 1_000)
        .linger(LONG)
        .spawn(writer(&file.path(), Once::Key))
        .unwrap();
    one_poisoned_row_fails_alone(&batcher);
    assert_eq!((batcher.stats().calls, batcher.stats().rejected), (1, 1));
    assert_eq!(counts(&file.open()), (999, 999));
}

#[test]
fn sqlites_errors_have_the_class_of_the_table() {
    let file = File::new(Once::Key);
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
    // A transaction that has read and finds the file changed when it wants to write.
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

#[test]
fn a_locked_file_is_waited_for_and_tried_again_and_the_sensor_sees_it() {
    let file = File::new(Once::Key);
    let writer = writer(&file.path(), Once::Key);
    let busy_before = BUSY_RETRIES.load(Ordering::Relaxed);
    let mut sensor = SqliteLoad::new(writer.timeouts());
    let batcher = builder(Once::Key, 100).spawn(writer).unwrap();
    let other = file.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    batcher.add_many((0..100).map(row)).unwrap();
    // The busy time-out runs out at least once.
    wait_for(&batcher, |stats| tried_again(stats) >= 1);
    let sampled = sensor.sample(LoadFeedback::new());
    // Other writers of this process count too, and meanwhile it may have run out more often.
    let busy = BUSY_RETRIES.load(Ordering::Relaxed) - busy_before;
    let sees = |timeouts| {
        (1..=busy).any(|waits| {
            sampled
                == LoadFeedback::new()
                    .db_locks(waits)
                    .custom("timeouts", share(timeouts))
        })
    };
    let seen = (1..=10).any(sees);
    assert!(seen, "{sampled:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(counts(&other), (100, 100));
}

#[test]
fn two_writers_of_one_file_lose_nothing() {
    let file = File::new(Once::Key);
    let writers = [0, 1].map(|_| {
        builder(Once::Key, 50)
            .spawn(writer(&file.path(), Once::Key))
            .unwrap()
    });
    std::thread::scope(|scope| {
        for (number, writer) in writers.iter().enumerate() {
            // Half of the rows come from both.
            scope.spawn(move || {
                writer
                    .add_many((number as i64 * 2_500..(number as i64 + 2) * 2_500).map(row))
                    .unwrap()
            });
        }
    });
    writers
        .iter()
        .for_each(|writer| assert_eq!(writer.flush(LONG), Ok(())));
    assert_eq!(counts(&file.open()), (7_500, 7_500));
}

#[test]
fn a_full_disk_is_transient_and_every_row_arrives_once_there_is_space() {
    let Some(disk) = small_disk("8m") else { return };
    let path = disk.folder().join("db");
    SqliteWriter::create_tables(&path, "readings", Once::Key).unwrap();
    let filler = disk.fill(7 << 20);
    let (tell, classes) = mpsc::channel();
    let mut handler = writer(&path, Once::Key);
    let batcher = builder(Once::Key, 1_000)
        .spawn(move |batch: &mut Batch<Row>| {
            let result = handler.handle(batch);
            if let Err(error) = &result {
                tell.send((code_of(error), error.class()))?;
            }
            result
        })
        .unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        scope.spawn(|| batcher.add_many((0..60_000).map(row)).is_ok());
        assert_eq!(
            classes.recv_timeout(LONG).unwrap(),
            (Some(13), ErrorClass::Transient)
        );
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        std::fs::remove_file(&filler).unwrap();
    });
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&Connection::open(&path).unwrap()), (60_000, 60_000));
}

/// Scenario 45.
#[test]
fn a_value_that_the_driver_refuses_fails_alone_at_once_and_is_never_in_doubt() {
    let file = File::new(Once::Never);
    let mut connection = file.open();
    let batcher = builder(Once::Never, 500)
        .linger(LONG)
        .spawn(move |batch: &mut Batch<Row>| {
            let transaction = connection
                .transaction()
                .map_err(|error| failed(error, Stage::Statement))?;
            for row in batch.iter() {
                // Over `i64::MAX` the driver has no value for it: -1 becomes 2^64 - 1.
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
        .add_many((0..500).map(|id| row(if id == 137 { -1 } else { id })))
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

/// Scenario 46.
#[test]
fn a_deferred_foreign_key_at_the_commit_fails_the_bad_row_alone_and_leaves_nothing_in_doubt() {
    let file = File::new(Once::Never);
    file.open()
        .execute_batch(
            "DROP TABLE readings; CREATE TABLE sensors (id INTEGER PRIMARY KEY); INSERT INTO sensors VALUES (0);
             CREATE TABLE readings (id INTEGER NOT NULL, text TEXT NOT NULL,
                 value REAL NOT NULL REFERENCES sensors DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
    let writer = writer(&file.path(), Once::Never).session("PRAGMA foreign_keys = 1");
    let batcher = builder(Once::Never, 200)
        .linger(LONG)
        .spawn(writer)
        .unwrap();
    batcher
        .add_many((0..200).map(|id| Row {
            value: f64::from(u8::from(id == 77)),
            ..row(id)
        }))
        .unwrap();
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert_eq!(
        failed
            .iter()
            .map(|failed| failed.item.id)
            .collect::<Vec<_>>(),
        [77]
    );
    assert!(
        failed[0].error.is_permanent() && !failed[0].in_doubt,
        "{:?}",
        failed[0]
    );
    assert_eq!((batcher.stats().retries, batcher.stats().in_doubt), (0, 0));
    assert_eq!(counts(&file.open()), (199, 199));
}

#[test]
fn a_table_that_is_missing_is_misconfigured_though_sqlite_has_no_code_of_its_own_for_it() {
    let file = File::new(Once::Key);
    let mut writer = writer(&file.path(), Once::Key);
    writer.connect().unwrap();
    file.open().execute_batch("DROP TABLE readings").unwrap();
    let (tell, classes) = mpsc::channel();
    let batcher = builder(Once::Key, 10)
        .retry(Retry::attempts(3).backoff(Duration::ZERO, Duration::ZERO))
        .spawn(move |batch: &mut Batch<Row>| {
            writer
                .handle(batch)
                .inspect_err(|error| tell.send((code_of(error), error.class())).unwrap())
        })
        .unwrap();
    batcher.add(row(0)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    drop(batcher);
    // A connection finds out that its schema is old when it runs the first statement, and prepares
    // by the new one from then on.
    let classes: Vec<_> = classes.iter().collect();
    assert!(
        classes.iter().all(|(code, _)| *code == Some(1)),
        "{classes:?}"
    );
    assert!(
        classes.len() > 1
            && classes[1..]
                .iter()
                .all(|(_, class)| *class == ErrorClass::Misconfigured),
        "{classes:?}"
    );
}

/// Scenario 54: the driver's guard rolls back while the panic unwinds, so the same connection goes
/// on.
#[test]
fn a_panic_inside_a_transaction_guard_leaves_nothing_behind_on_the_connection() {
    let file = File::new(Once::Never);
    let mut connection = file.open();
    let mut calls = 0;
    let batcher = builder(Once::Never, 10)
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
    batcher.add_many((0..10).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert_eq!(counts(&file.open()), (10, 10));
}

fn code_of(error: &BatchError) -> Option<i32> {
    let error = error.source().downcast_ref::<rusqlite::Error>()?;
    error.sqlite_error().map(|error| error.extended_code)
}

/// Not a test of its own: the process that the next one kills. Writes the rows from the first that
/// was not acknowledged on, to the end that it is told, and prints each row's id when its ticket
/// says handled.
#[test]
fn child_of_the_kill_test() {
    let Some(path) = std::env::var_os("KILLED_WRITERS_FILE") else {
        return;
    };
    let [first, end] = ["KILLED_WRITERS_FIRST", "KILLED_WRITERS_END"]
        .map(|name| std::env::var(name).unwrap().parse::<i64>().unwrap());
    let batcher = builder(Once::Key, 200)
        .spawn(writer(Path::new(&path), Once::Key))
        .unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        let (tickets, submitted) = mpsc::sync_channel(2_000);
        let producer = batcher.producer();
        scope.spawn(move || {
            for id in first..end {
                let Ok(ticket) = producer.submit(row(id)) else {
                    return;
                };
                if tickets.send((id, ticket)).is_err() {
                    return;
                }
            }
        });
        // Past the test runner, which would keep it to itself, and has begun a line.
        let mut out = std::io::stdout();
        writeln!(out).unwrap();
        for (id, ticket) in submitted {
            assert!(ticket.wait().is_handled());
            writeln!(out, "handled {id}").unwrap();
        }
    });
    drop(batcher);
}

#[test]
fn a_writer_killed_fifty_times_has_stored_every_row_it_acknowledged_and_none_twice() {
    let file = File::new(Once::Key);
    let mut random = Random::new();
    let mut acknowledged = -1;
    for kill in 1..=kills() {
        let mut child = start_child(&file.path(), acknowledged + 1..i64::MAX);
        // The child says something first, so that each kill hits it at work.
        let after = 1 + random.below(1_500);
        let mut heard = 0;
        for id in handled_by(&mut child) {
            acknowledged = id;
            heard += 1;
            if heard == after {
                child.kill().unwrap();
            }
        }
        let ended = child.wait().unwrap();
        assert!(heard >= after, "the child failed: {ended}");
        let query = "SELECT count(*) FROM readings WHERE id <= ?1";
        let there: i64 = file
            .open()
            .query_row(query, [acknowledged], |row| row.get(0))
            .unwrap();
        assert_eq!(there, acknowledged + 1, "after kill {kill}");
    }
    // The last one is left alone, and goes beyond all that any other has stored.
    let stored: i64 = file
        .open()
        .query_row("SELECT coalesce(max(id), -1) FROM readings", [], |row| {
            row.get(0)
        })
        .unwrap();
    let end = stored + 1_000;
    let mut child = start_child(&file.path(), acknowledged + 1..end);
    assert_eq!(handled_by(&mut child).last(), Some(end - 1));
    assert!(child.wait().unwrap().success());
    assert_eq!(counts(&file.open()), (end, end));
}

/// The ids that a child says are handled, until it ends.
fn handled_by(child: &mut Child) -> impl Iterator<Item = i64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("handled ")?.parse().ok())
}

fn start_child(path: &Path, rows: Range<i64>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "child_of_the_kill_test",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("KILLED_WRITERS_FILE", path)
        .env("KILLED_WRITERS_FIRST", rows.start.to_string())
        .env("KILLED_WRITERS_END", rows.end.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Scenario 54. The table has no key, so that a row stored twice would be seen.
#[test]
fn a_panic_between_begin_and_commit_leaves_nothing_behind() {
    let file = File::new(Once::Never);
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
    batcher.add_many((0..10).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(counts(&file.open()), (10, 10));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert!(batcher.close(LONG).is_clean());
}
