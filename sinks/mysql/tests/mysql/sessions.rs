//! Sessions that are no longer what they were: idle for too long, without prepared statements.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::servers::mariadb::Mariadb;

use crate::rows::{Database, KEYLESS, LONG, builder, columns, reading, until, wait_for, whole};

/// Scenario 47.
#[test]
fn the_first_batch_after_an_idle_timeout_is_stored_once_and_is_not_in_doubt() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "idle", KEYLESS);
    let sink = database.sink().sensor(None).session("SET wait_timeout = 1");
    let batcher = builder(100).sink(sink).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let others = "SELECT count(*) FROM information_schema.processlist WHERE db = 'idle' AND id <> connection_id()";
    until(|| database.conn.query_first(others).unwrap() == Some(0_i64));
    batcher.add_many((1..100).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (100, 100));
}

#[test]
fn a_server_that_prepares_no_more_statements_is_tried_again_on_new_sessions() {
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "no_statements", KEYLESS);
    // With another unique index than the key: not by the bulk command, which prepares one row.
    database.run("ALTER TABLE readings ADD PRIMARY KEY (id), ADD UNIQUE one_text (text)");
    let sink = database.sink().on_conflict(OnConflict::Ignore);
    let batcher = whole(64).sink(sink.sensor(None)).unwrap();
    database.run("SET GLOBAL max_prepared_stmt_count = 0");
    batcher.add_many((0..640).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 2);
    database.run("SET GLOBAL max_prepared_stmt_count = DEFAULT");
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (640, 640));
}

#[test]
fn every_session_is_strict_locks_rows_only_and_bounds_its_lock_waits() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let database = Database::new(server, "settings", KEYLESS);
    let (say, said) = mpsc::channel();
    let sink = database
        .sink()
        .lock_timeout(Duration::from_secs(7))
        .session("SET SESSION max_statement_time = 9")
        .before_commit(move |transaction, _| {
            let query = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, CAST(@@max_statement_time AS INT), @@tx_isolation, @@sql_mode";
            let settings: Option<(u32, u32, u32, String, String)> = transaction.query_first(query)?;
            let _ = say.send(settings);
            Ok(())
        });
    let batcher = whole(10).sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let (rows, tables, statement, isolation, mode) = said.recv().unwrap().unwrap();
    assert_eq!((rows, tables, statement), (7, 7, 9));
    assert_eq!(isolation, "READ-COMMITTED");
    assert!(mode.contains("STRICT_ALL_TABLES"), "{mode}");
}

#[test]
fn rows_go_into_another_database_than_the_connections_with_their_batch_table() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "elsewhere", KEYLESS);
    let sink = columns(Mysql::new(server.opts(None)));
    let sink = sink.table("elsewhere.readings").batch_table("batches");
    let batcher = whole(10).sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (1, 1));
    let ids: Option<i64> = database
        .conn
        .query_first("SELECT count(*) FROM batches")
        .unwrap();
    assert_eq!(ids, Some(1));
}
