//! Sessions that are no longer what they were: idle for too long, without prepared statements.

use load_aware_batcher_mysql::mysql::prelude::Queryable;
use testkit::servers::mariadb::Mariadb;

use crate::rows::{Database, KEYLESS, LONG, builder, reading, until, wait_for, whole};

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
    let batcher = whole(64).sink(database.sink().sensor(None)).unwrap();
    database.run("SET GLOBAL max_prepared_stmt_count = 0");
    batcher.add_many((0..640).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 2);
    database.run("SET GLOBAL max_prepared_stmt_count = DEFAULT");
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (640, 640));
}
