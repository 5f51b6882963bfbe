//! Four connections of one batcher: kills, rows of the same keys, connections that are refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use load_aware_batcher_mysql::load_aware_batcher::{Batcher, BuildError, Builder};
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, OptsBuilder};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::Watched;
use testkit::courses::{KEYS, VERSIONS, add_versions};
use testkit::servers::mariadb::Mariadb;

use crate::outages::killed_fifty_times;
use crate::rows::{Database, KEYED, LONG, Reading, builder, code_of, columns, reading};

const CONNECTIONS: usize = 4;

fn several(size: usize) -> Builder<Reading> {
    builder(size).concurrency(CONNECTIONS)
}

#[test]
fn a_server_killed_fifty_times_under_four_connections_loses_and_doubles_no_row_with_a_key() {
    killed_fifty_times("killed_four", true, several(200));
}

/// The table, and a trigger that notes each row which an older one overwrites.
fn versions(server: &Mariadb, name: &str) -> Database {
    let mut database = Database::new(server, name, KEYED);
    database.run("CREATE TABLE overtaken (id BIGINT) ENGINE = InnoDB");
    database.run(
        "CREATE TRIGGER compare AFTER UPDATE ON readings FOR EACH ROW
         INSERT INTO overtaken SELECT NEW.id FROM DUAL WHERE NEW.value < OLD.value",
    );
    database
}

/// Deadlocks that connections met, rows that an older one overwrote, keys without their last value.
fn outcome(server: &Mariadb, name: &str, builder: Builder<Reading>) -> (usize, i64, i64) {
    let mut database = versions(server, name);
    let sink = database.sink().on_conflict(OnConflict::Replace);
    let deadlocks = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&deadlocks);
    let sink = Watched::new(sink, move |error| {
        let is_deadlock = code_of(error) == Some(1213);
        heard.fetch_add(usize::from(is_deadlock), Ordering::SeqCst);
    });
    let batcher = builder.sink(sink).unwrap();
    add_versions(&batcher, |key, version| Reading {
        value: version as f64,
        ..reading(key)
    });
    let lanes = batcher.stats().lanes;
    let idle = lanes.iter().filter(|lane| lane.added == 0).count();
    assert_eq!(idle, 0, "every connection has rows: {lanes:#?}");
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (KEYS, KEYS));
    let last = VERSIONS - 1;
    let old = format!("SELECT count(*) FROM readings WHERE value <> {last}");
    let mut number = |query: &str| database.conn.query_first(query).unwrap().unwrap();
    let overtaken = number("SELECT count(*) FROM overtaken");
    (deadlocks.load(Ordering::SeqCst), overtaken, number(&old))
}

#[test]
fn upserts_of_the_same_keys_through_four_connections_stay_in_order_and_never_deadlock() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    assert_eq!(outcome(server, "versions", several(100)), (0, 0, 0));
}

/// What the order is for. Nothing is promised here, so the counts are printed.
#[test]
fn upserts_of_the_same_keys_without_order_are_all_stored_and_what_is_lost_is_counted() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (deadlocks, overtaken, old) =
        outcome(server, "versions_unordered", several(100).unordered());
    eprintln!(
        "unordered: {deadlocks} deadlocks, {overtaken} rows overwritten by older ones, {old} of {KEYS} keys without their last value"
    );
}

/// The sentence of a start that fails.
fn sentence(started: Result<Batcher<Reading>, BuildError>) -> String {
    let error = started.map(drop).unwrap_err();
    assert!(matches!(error, BuildError::Sink { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

#[test]
fn a_pool_of_fewer_connections_than_calls_at_once_is_an_error_of_the_start() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "small_pool", KEYED);
    let opts = database.opts.clone();
    let left = Mutex::new(CONNECTIONS - 1);
    let sink = columns(Mysql::from_fn(move || {
        let mut left = left.lock().unwrap();
        *left = left
            .checked_sub(1)
            .ok_or("the pool has no connection left")?;
        Conn::new(opts.clone()).map_err(|error| error.to_string())
    }));
    let sentence = sentence(several(10).sink(sink.sensor(None)));
    let expected =
        "cannot connect to the server for another call at once: the pool has no connection left";
    assert_eq!(sentence, expected);
    assert_eq!(database.counts(), (0, 0));
}

#[test]
fn a_server_that_refuses_the_third_connection_is_an_error_of_the_start() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "two_allowed", KEYED);
    let user = "two_allowed@localhost";
    database.run(&format!(
        "CREATE USER {user} IDENTIFIED BY '' WITH MAX_USER_CONNECTIONS 2"
    ));
    database.run(&format!("GRANT ALL ON two_allowed.* TO {user}"));
    let opts = OptsBuilder::from_opts(database.opts.clone()).user(Some("two_allowed"));
    let sink = columns(Mysql::new(opts)).sensor(None);
    let sentence = sentence(several(10).sink(sink));
    let start = "cannot connect to ";
    assert!(
        sentence.starts_with(start) && sentence.contains("max_user_connections"),
        "{sentence}"
    );
}
