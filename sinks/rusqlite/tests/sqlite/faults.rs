//! Locked files, full disks, two writers, deferred constraints, triggers, lost answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher_rusqlite::load_aware_batcher::{
    BatchError, Batcher, ErrorClass, LoadFeedback, Sink,
};
use load_aware_batcher_rusqlite::rusqlite::Connection;
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};
use testkit::Watched;
use testkit::courses::{CloseOnPanic, tried_again};
use testkit::servers::process::small_disk;

use crate::rows::{
    File, KEYED, KEYLESS, LONG, Reading, builder, columns, faulty, reading, wait_for, whole,
};

#[test]
fn a_locked_file_is_transient_and_every_row_arrives_once_it_is_free() {
    let file = File::new(KEYLESS);
    let sink = file.sink().busy_timeout(Duration::from_millis(10));
    let batcher = builder(100).sink(sink).unwrap();
    let other = file.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    batcher.add_many((0..100).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 2);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(file.counts(), (100, 100));
}

#[test]
fn the_sensor_sees_a_locked_file_and_the_statements_that_stayed_busy_to_the_end() {
    let file = File::new(KEYLESS);
    let sink = file.sink().busy_timeout(Duration::from_millis(10));
    let mut sensor = Sink::sensor(&sink).unwrap();
    let batcher = builder(100).sink(sink).unwrap();
    let other = file.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    batcher.add_many((0..100).map(reading)).unwrap();
    // The busy timeout runs out.
    wait_for(&batcher, |stats| stats.retries >= 1);
    let sampled = sensor.sample(LoadFeedback::new());
    // The batcher's own sensor may have taken a part of both counts.
    let timeouts = |count| LoadFeedback::new().custom("timeouts", f64::from(count) / 10.0);
    let sees = |count| (1..1_000).any(|locks| sampled == timeouts(count).db_locks(locks));
    assert!((0..=10).any(sees), "{sampled:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(file.counts(), (100, 100));
}

#[test]
fn two_writers_in_opposite_key_order_store_everything_once() {
    let file = File::new(KEYED);
    let start = || {
        let sink = file.sink().on_conflict(OnConflict::Ignore).wal(true);
        builder(500).sink(sink).unwrap()
    };
    let (up, down) = (start(), start());
    std::thread::scope(|scope| {
        scope.spawn(|| up.add_many((0..20_000).map(reading)).unwrap());
        scope.spawn(|| down.add_many((0..20_000).rev().map(reading)).unwrap());
    });
    assert!(up.close(LONG).is_clean());
    assert!(down.close(LONG).is_clean());
    assert_eq!(file.counts(), (20_000, 20_000));
}

#[test]
fn a_full_database_is_transient_and_every_row_arrives_once_there_is_room() {
    let file = File::new(KEYLESS);
    let ballast = "CREATE TABLE ballast (x BLOB); INSERT INTO ballast VALUES (zeroblob(1000000))";
    file.open().execute_batch(ballast).unwrap();
    let pages: i64 = file
        .open()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let sink = file
        .sink()
        .session(format!("PRAGMA max_page_count = {pages}"));
    let batcher = builder(1_000).sink(sink).unwrap();
    batcher.add_many((0..10_000).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 2);
    file.open().execute_batch("DELETE FROM ballast").unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(file.counts(), (10_000, 10_000));
}

#[test]
fn a_full_disk_is_transient_and_every_row_arrives_once_there_is_space() {
    let Some(disk) = small_disk("8m") else { return };
    let path = disk.folder().join("db");
    let open = || Connection::open(&path).unwrap();
    open().execute_batch(KEYED).unwrap();
    let filler = disk.fill(7 << 20);
    let (tell, errors) = mpsc::channel();
    let sink = columns(Sqlite::open(&path)).wal(true);
    let sink = sink.on_conflict(OnConflict::Ignore);
    let sink = Watched::new(sink, move |error| {
        let _ = tell.send((error.to_string(), error.class()));
    });
    let batcher = builder(1_000).sink(sink).unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        scope.spawn(|| batcher.add_many((0..60_000).map(reading)).is_ok());
        let (error, class) = errors.recv_timeout(LONG).unwrap();
        assert_eq!(class, ErrorClass::Transient, "{error}");
        assert!(error.contains("full"), "{error}");
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        std::fs::remove_file(&filler).unwrap();
    });
    assert!(batcher.close(LONG).is_clean());
    let query = "SELECT count(*), count(DISTINCT id) FROM readings";
    let counts = open().query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counts, Ok((60_000, 60_000)));
}

#[test]
fn a_row_that_is_refused_is_rejected_in_the_same_call_that_stores_the_rest() {
    let file = File::new(KEYED);
    let batcher = whole(1_000).sink(file.sink()).unwrap();
    let rows = (0..1_000).map(|id| Reading {
        value: if id == 617 { -1.0 } else { 1.0 },
        ..reading(id)
    });
    batcher.add_many(rows).unwrap();
    batcher.flush(LONG).unwrap_err();
    assert_eq!((batcher.stats().calls, batcher.stats().rejected), (1, 1));
    assert_eq!(faulty(&batcher.close(LONG).failed), [617]);
    assert_eq!(file.counts(), (999, 999));
}

/// Scenario 46.
#[test]
fn a_deferred_foreign_key_fails_its_row_alone_at_the_commit() {
    let file = File::new(
        "CREATE TABLE owners (id INTEGER PRIMARY KEY); INSERT INTO owners VALUES (1);
         CREATE TABLE readings (id INTEGER REFERENCES owners DEFERRABLE INITIALLY DEFERRED, value REAL, text TEXT)",
    );
    let sink = file.sink().session("PRAGMA foreign_keys = ON");
    let batcher = whole(1_000).sink(sink).unwrap();
    let rows = (0..50).map(|n| reading(if n == 17 { 9 } else { 1 }));
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), [9]);
    assert_eq!(file.counts(), (49, 1));
}

#[test]
fn with_a_batch_table_a_batch_is_never_sent_in_parts() {
    let file = File::new(
        "CREATE TABLE owners (id INTEGER PRIMARY KEY); INSERT INTO owners VALUES (1);
         CREATE TABLE readings (id INTEGER REFERENCES owners DEFERRABLE INITIALLY DEFERRED, value REAL, text TEXT)",
    );
    let sink = file.sink().session("PRAGMA foreign_keys = ON");
    let batcher = whole(1_000).sink(sink.batch_table("batches")).unwrap();
    let rows = (0..50).map(|n| reading(if n == 17 { 9 } else { 1 }));
    batcher.add_many(rows).unwrap();
    batcher.flush(LONG).unwrap_err();
    assert_eq!(batcher.stats().calls, 1);
    assert_eq!(batcher.close(LONG).failed.len(), 50);
    assert_eq!(file.counts(), (0, 0));
}

#[test]
fn a_trigger_that_ends_the_transaction_fails_its_row_alone() {
    let file = File::new(&format!(
        "{KEYLESS}; CREATE TRIGGER refuse BEFORE INSERT ON readings WHEN NEW.id = 17
         BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END"
    ));
    let batcher = whole(1_000).sink(file.sink()).unwrap();
    batcher.add_many((0..50).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), [17]);
    assert_eq!(file.counts(), (49, 49));
}

#[test]
fn a_table_that_is_dropped_is_misconfigured_and_one_that_comes_back_is_written() {
    let file = File::new(KEYLESS);
    let batcher = Batcher::builder().sink(file.sink()).unwrap();
    file.open().execute_batch("DROP TABLE readings").unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert!(failed[0].error.is_misconfigured(), "{failed:?}");
    file.open().execute_batch(KEYLESS).unwrap();
    batcher.add(reading(2)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(file.counts(), (1, 1));
}

/// The first attempt of each batch is committed, and the caller does not hear of it: what the sink
/// would see of an I/O error at the commit. The user's part of the transaction is where a test can
/// do that: it commits by itself, and fails.
fn with_lost_answers(sink: Sqlite<Reading>) -> Sqlite<Reading> {
    let lose = Arc::new(AtomicBool::new(true));
    sink.before_commit(move |transaction, _| {
        if lose.fetch_xor(true, Ordering::SeqCst) {
            transaction.execute_batch("COMMIT")?;
            return Err(BatchError::in_doubt("the answer is lost"));
        }
        Ok(())
    })
}

#[test]
fn a_lost_answer_with_a_key_or_a_batch_table_doubles_nothing_and_loses_nothing() {
    let keyed = File::new(KEYED);
    let sink = with_lost_answers(keyed.sink().on_conflict(OnConflict::Ignore));
    let batcher = builder(100).sink(sink).unwrap();
    batcher.add_many((0..2_000).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(keyed.counts(), (2_000, 2_000));

    let keyless = File::new(KEYLESS);
    let sink = with_lost_answers(keyless.sink().batch_table("main.batches"));
    let batcher = builder(100).sink(sink).unwrap();
    batcher.add_many((0..2_000).map(reading)).unwrap();
    let (stats, report) = (batcher.stats(), batcher.close(LONG));
    assert!(report.is_clean(), "{stats:#?}");
    assert_eq!(keyless.counts(), (2_000, 2_000));
}

#[test]
fn rows_that_were_refused_in_a_batch_whose_answer_was_lost_are_reported() {
    let file = File::new(KEYLESS);
    let sink = with_lost_answers(file.sink().batch_table("batches"));
    let batcher = whole(1_000).sink(sink).unwrap();
    let rows = (0..100).map(|id| Reading {
        value: if id == 17 { -1.0 } else { 1.0 },
        ..reading(id)
    });
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 1);
    let failed = &report.failed[0];
    assert_eq!(failed.item.id, 17);
    assert!(failed.error.is_permanent(), "{failed:?}");
    assert_eq!(file.counts(), (99, 99));
}

#[test]
fn without_key_and_batch_table_what_is_in_doubt_is_reported_and_never_sent_again() {
    let file = File::new(KEYLESS);
    let batcher = whole(100).sink(with_lost_answers(file.sink())).unwrap();
    batcher.add_many((0..50).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 50);
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(file.counts(), (50, 50));
}

#[test]
fn old_ids_of_batches_are_removed() {
    let file = File::new(KEYLESS);
    file.open()
        .execute_batch(
            "CREATE TABLE batches (id TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
             INSERT INTO batches VALUES ('old', strftime('%s', 'now') - 4000), ('new', strftime('%s', 'now') - 3000)",
        )
        .unwrap();
    let sink = file
        .sink()
        .batch_table("batches")
        .keep_batches(Duration::from_secs(3_600));
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let query = "SELECT count(*), count(*) FILTER (WHERE id = 'old') FROM batches";
    let left = file
        .open()
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(left, Ok((2, 0)));
}
