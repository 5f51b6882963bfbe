//! Handlers written by hand against a real MariaDB: every row is stored or reported, once. The
//! companion crate in sinks/mysql has tests of its own.

#![cfg(all(unix, not(loom)))]

mod outages;
mod sessions;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher::classify::{Stage, mysql as class_of};
use load_aware_batcher::{Batch, BatchError, Builder, ErrorClass, Handler, LoadFeedback};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use testkit::courses::tried_again;
use testkit::servers::mariadb::Mariadb;
use testkit::servers::proxy::{Fate, Proxy};
use testkit::writers::mariadb::{MariadbWriter, failed};
use testkit::writers::{Dedup, Row};

/// Longer than anything here takes. No test asserts a time.
const LONG: Duration = Duration::from_secs(120);

/// A database with the table, and a builder for its rows.
fn prepared(server: &Mariadb, name: &str, dedup: Dedup, size: usize) -> (Opts, Conn, Builder<Row>) {
    let (opts, mut conn) = server.database(name);
    MariadbWriter::create_tables(&mut conn, "readings", dedup).unwrap();
    (opts, conn, dedup.builder(size))
}

/// Waits until the condition is true.
fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn writer(opts: &Opts, dedup: Dedup) -> MariadbWriter {
    MariadbWriter::new(opts.clone(), "readings", dedup, &[], LONG)
}

/// The number of rows, and of different ids.
fn counts(conn: &mut Conn) -> (i64, i64) {
    conn.query_first("SELECT count(*), count(DISTINCT id) FROM readings")
        .unwrap()
        .unwrap()
}

/// The error code of this statement on this server, and its class.
fn class_on(conn: &mut Conn, statement: &str) -> (u16, ErrorClass) {
    // Reads the rows, too, since an error may come among them.
    match conn.query::<mysql::Row, _>(statement).unwrap_err() {
        mysql::Error::MySqlError(error) => {
            (error.code, class_of(Some(error.code), Stage::Statement))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn this_servers_errors_have_the_class_of_the_table() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, _) = prepared(server, "classes", Dedup::Key, 1);
    conn.query_drop("SET sql_mode = 'STRICT_ALL_TABLES'")
        .unwrap();
    conn.query_drop("INSERT INTO readings VALUES (1, 1, '')")
        .unwrap();
    use ErrorClass::{Misconfigured, Permanent, Transient};
    for (statement, code, class) in [
        ("INSERT INTO readings VALUES (1, 1, '')", 1062, Permanent),
        ("INSERT INTO readings VALUES (2, NULL, '')", 1048, Permanent),
        (
            "INSERT INTO readings (id, value) VALUES (2, 1)",
            1364,
            Permanent,
        ),
        (
            "INSERT INTO readings VALUES (99999999999999999999, 1, '')",
            1264,
            Permanent,
        ),
        ("INSERT INTO readings VALUES (2, 'x', '')", 1366, Permanent),
        (
            "INSERT INTO readings VALUES (2, 1, repeat('x', 70000))",
            1406,
            Permanent,
        ),
        (
            "SET STATEMENT max_statement_time = 0.001 FOR INSERT INTO readings SELECT seq, 1, '' FROM seq_9_to_99999999",
            1969,
            Transient,
        ),
        ("SELECT 1 FROM no_such_table", 1146, Misconfigured),
        ("SELECT no_such_column FROM readings", 1054, Misconfigured),
        ("SELEC 1", 1064, Misconfigured),
    ] {
        assert_eq!(class_on(&mut conn, statement), (code, class), "{statement}");
    }
    // A row lock that another session holds.
    let mut other = Conn::new(opts).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM readings WHERE id = 1 FOR UPDATE")
        .unwrap();
    conn.query_drop("SET innodb_lock_wait_timeout = 0").unwrap();
    assert_eq!(
        class_on(&mut conn, "UPDATE readings SET value = 2 WHERE id = 1"),
        (1205, Transient)
    );
    // A killed session.
    let id: u64 = conn.query_first("SELECT connection_id()").unwrap().unwrap();
    other.query_drop(format!("KILL {id}")).unwrap();
    let class = match conn.query_drop("SELECT 1").unwrap_err() {
        mysql::Error::MySqlError(error) => class_of(Some(error.code), Stage::Commit),
        _ => class_of(None, Stage::Commit),
    };
    assert_eq!(class, ErrorClass::InDoubt);
}

/// The error code of the server.
fn code_of(error: &BatchError) -> u16 {
    match error.source().downcast_ref() {
        Some(mysql::Error::MySqlError(error)) => error.code,
        _ => 0,
    }
}

#[test]
fn deadlocks_of_two_writers_are_retried_and_rows_sorted_by_key_have_none() {
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    const ROUNDS: i64 = 5;
    for (name, sorted) in [("unsorted", false), ("sorted", true)] {
        let (opts, mut conn, _) = prepared(&server, name, Dedup::Key, 200);
        let (tell, codes) = mpsc::channel();
        let spawn = || {
            let mut writer = writer(&opts, Dedup::Key);
            writer.sorted = sorted;
            let tell = tell.clone();
            let handler = move |batch: &mut Batch<Row>| {
                writer
                    .handle(batch)
                    .inspect_err(|error| tell.send(code_of(error)).unwrap())
            };
            // In each round each writer has one batch.
            Dedup::Key.builder(200).linger(LONG).spawn(handler).unwrap()
        };
        let writers = [spawn(), spawn()];
        for round in 0..ROUNDS {
            // Both batches have the same keys in opposite orders, and one in the middle that both
            // have to wait for. Unsorted, each then holds the lock that the other needs next.
            let ids = round * 200..(round + 1) * 200;
            conn.query_drop("BEGIN").unwrap();
            conn.query_drop(format!(
                "INSERT INTO readings VALUES ({}, 0, '')",
                ids.start + 100
            ))
            .unwrap();
            writers[0].add_many(ids.clone().map(Row::of)).unwrap();
            writers[1].add_many(ids.rev().map(Row::of)).unwrap();
            let waiting = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
            until(|| {
                conn.query_first::<(String, u64), _>(waiting)
                    .unwrap()
                    .unwrap()
                    .1
                    == 2
            });
            conn.query_drop("ROLLBACK").unwrap();
            writers
                .iter()
                .for_each(|writer| assert_eq!(writer.flush(LONG), Ok(())));
        }
        let retries: u64 = writers
            .iter()
            .map(|writer| tried_again(&writer.stats()))
            .sum();
        drop((writers, tell));
        let codes: Vec<_> = codes.iter().collect();
        assert!(codes.iter().all(|code| *code == 1213), "{name}: {codes:?}");
        assert_eq!(codes.len() as u64, retries, "{name}");
        assert_eq!(retries >= ROUNDS as u64, !sorted, "{name}: {retries}");
        assert!(!sorted || retries == 0, "{name}: {retries}");
        assert_eq!(counts(&mut conn), (ROUNDS * 200, ROUNDS * 200));
    }
}
