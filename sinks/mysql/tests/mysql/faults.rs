//! Two writers, locks, killed connections, triggers, tables that go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load_aware_batcher_mysql::load_aware_batcher::{BatchError, Batcher, ErrorClass, Retry};
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::Watched;
use testkit::servers::mariadb::Mariadb;

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, code_of, faulty, reading, until, wait_for,
    whole,
};

#[test]
fn two_writers_in_opposite_key_order_store_everything_once_without_a_deadlock() {
    // Its own: the server counts the deadlocks of all.
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "opposite", KEYED);
    let start = || {
        let sink = database.sink().on_conflict(OnConflict::Replace);
        builder(1_000).sink(sink).unwrap()
    };
    let (up, down) = (start(), start());
    std::thread::scope(|scope| {
        scope.spawn(|| up.add_many((0..30_000).map(reading)).unwrap());
        scope.spawn(|| down.add_many((0..30_000).rev().map(reading)).unwrap());
    });
    assert!(up.close(LONG).is_clean());
    assert!(down.close(LONG).is_clean());
    assert_eq!(database.counts(), (30_000, 30_000));
    let query = "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'";
    let deadlocks: Option<(String, u64)> = database.conn.query_first(query).unwrap();
    assert_eq!(deadlocks.unwrap().1, 0);
}

#[test]
fn a_lock_that_is_held_is_transient_and_every_row_arrives_once_it_is_free() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "locked", KEYED);
    database.run("INSERT INTO readings VALUES (5, 0, 'locked')");
    let sink = database.sink().on_conflict(OnConflict::Replace);
    let batcher = whole(100)
        .sink(sink.lock_timeout(Duration::from_secs(1)))
        .unwrap();
    database.run("BEGIN");
    database.run("SELECT * FROM readings WHERE id = 5 FOR UPDATE");
    batcher.add_many((0..100).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 1);
    database.run("ROLLBACK");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (100, 100));
}

#[test]
fn statements_that_take_too_long_are_tried_again_until_the_lock_is_gone() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "statement_timeout", KEYED);
    let sink = database.sink().on_conflict(OnConflict::Ignore);
    let sink = sink.session("SET max_statement_time = 0.2");
    let (tell, codes) = std::sync::mpsc::channel();
    let sink = Watched::new(sink.sensor(None), move |error| {
        tell.send((code_of(error), error.class())).unwrap();
    });
    let batcher = whole(100).sink(sink).unwrap();
    database.run("BEGIN");
    database.run("INSERT INTO readings VALUES (50, 0, 'not yet')");
    batcher.add_many((0..100).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 2);
    database.run("ROLLBACK");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (100, 100));
    let codes: Vec<_> = codes.iter().collect();
    let too_long = (Some(1969), ErrorClass::Transient);
    assert!(codes.iter().all(|code| *code == too_long), "{codes:?}");
    assert!(codes.len() >= 2, "{codes:?}");
}

#[test]
fn killed_connections_lose_and_double_nothing() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, keyed) in [("killed_keyed", true), ("killed_batches", false)] {
        let mut database = Database::new(server, name, if keyed { KEYED } else { KEYLESS });
        let sink = match keyed {
            true => database.sink().on_conflict(OnConflict::Ignore),
            false => database.sink().batch_table("batches"),
        };
        let batcher = builder(200).sink(sink.sensor(None)).unwrap();
        let rows = 30_000;
        std::thread::scope(|scope| {
            scope.spawn(|| batcher.add_many((0..rows).map(reading)).unwrap());
            for kill in 1..=10 {
                let handled = kill * 2_000;
                wait_for(&batcher, |stats| stats.handled >= handled);
                let others = format!(
                    "SELECT id FROM information_schema.processlist WHERE db = '{name}' AND id <> connection_id()"
                );
                for id in database.conn.query::<u64, _>(others).unwrap() {
                    // It may be gone by now.
                    let _ = database.conn.query_drop(format!("KILL {id}"));
                }
            }
        });
        let stats = batcher.stats();
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert!(stats.retries > 0, "{stats:#?}");
        assert_eq!(database.counts(), (rows, rows));
    }
}

/// Scenario 40.
#[test]
fn rows_that_a_trigger_refuses_fail_and_take_no_good_row_with_them() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "trigger_refuses", KEYLESS);
    database.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW
         IF NEW.id BETWEEN 220 AND 279 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
    );
    let batcher = whole(500).sink(database.sink()).unwrap();
    batcher.add_many((0..500).map(reading)).unwrap();
    batcher.flush(LONG).unwrap_err();
    assert_eq!(batcher.stats().calls, 1, "found inside one transaction");
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), (220..280).collect::<Vec<_>>());
    assert_eq!(database.counts(), (440, 440));
}

#[test]
fn a_table_that_is_dropped_is_misconfigured_and_one_that_comes_back_is_written() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "dropped", KEYLESS);
    let batcher = Batcher::builder().sink(database.sink()).unwrap();
    database.run("DROP TABLE readings");
    batcher.add(reading(1)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert!(failed[0].error.is_misconfigured(), "{failed:?}");
    database.run(KEYLESS);
    batcher.add(reading(2)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(database.counts(), (1, 1));
}

#[test]
fn a_missing_table_fails_the_batch_without_a_search_for_bad_rows() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "missing", KEYLESS);
    let retry = Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO);
    let batcher = whole(1_000).retry(retry).sink(database.sink()).unwrap();
    database.run("DROP TABLE readings");
    batcher.add_many((0..1_000).map(reading)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    // Row by row it would be two thousand.
    let calls = batcher.stats().calls;
    assert!(calls < 100, "{calls}");
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 1_000);
    let mut errors = report.failed.iter().map(|failed| &failed.error);
    assert!(errors.all(BatchError::is_misconfigured));
}

/// By turns the first attempt at a batch is committed and its caller does not hear of it.
fn with_lost_answers(sink: Mysql<Reading>) -> Mysql<Reading> {
    let lose = Arc::new(AtomicBool::new(true));
    sink.before_commit(move |transaction, _| {
        if lose.fetch_xor(true, Ordering::SeqCst) {
            transaction.query_drop("COMMIT")?;
            return Err(BatchError::in_doubt("the answer is lost").handler_broken());
        }
        Ok(())
    })
}

#[test]
fn rows_that_were_refused_in_a_batch_whose_answer_was_lost_are_reported() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "refused_in_doubt", KEYLESS);
    let sink = with_lost_answers(database.sink().batch_table("batches"));
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
    assert_eq!(database.counts(), (99, 99));
}

#[test]
fn without_key_and_batch_table_what_is_in_doubt_is_reported_and_never_sent_again() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "in_doubt", KEYLESS);
    let batcher = whole(100).sink(with_lost_answers(database.sink())).unwrap();
    batcher.add_many((0..50).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 50);
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(database.counts(), (50, 50));
}

#[test]
fn old_ids_of_batches_are_removed() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "old_ids", KEYLESS);
    let sink = || {
        let sink = database.sink().batch_table("old_ids.batches");
        sink.keep_batches(Duration::from_secs(3_600))
    };
    drop(Batcher::builder().sink(sink()).unwrap());
    let sink = sink();
    database.run("INSERT INTO batches VALUES ('old', NOW() - INTERVAL 4000 SECOND), ('new', NOW() - INTERVAL 3000 SECOND)");
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let query = "SELECT count(*), CAST(sum(id = 'old') AS SIGNED) FROM batches";
    let left: Option<(i64, i64)> = database.conn.query_first(query).unwrap();
    assert_eq!(left, Some((2, 0)));
}

#[test]
fn a_metadata_lock_is_waited_for_no_longer_than_the_lock_timeout() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "metadata", KEYLESS);
    let sink = database.sink().lock_timeout(Duration::from_secs(1));
    let batcher = builder(100)
        .retry(Retry::attempts(1).total_limit(Duration::ZERO))
        .sink(sink)
        .unwrap();
    database.run("LOCK TABLES readings READ");
    batcher.add(reading(1)).unwrap();
    until(|| batcher.stats().failed == 1);
    database.run("UNLOCK TABLES");
    assert!(batcher.take_failed()[0].error.is_transient());
}
