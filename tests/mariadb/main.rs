//! The example's handler against a real MariaDB: every row is stored or told of, once.

#![cfg(all(unix, not(loom)))]

#[path = "../support/flows.rs"]
mod flows;
#[path = "../../examples/ingest/mod.rs"]
mod ingest;

mod outages;
mod refusals;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use flows::{
    CloseOnPanic, LONG, one_poisoned_row_fails_alone, patient, row, survive_kills, tried_again,
    until, wait_for,
};
use ingest::mariadb_load::MariadbLoad;
use ingest::mariadb_writer::{BIND_PARAMETERS_A_ROW, BIND_PARAMETERS_MAX, MariadbWriter};
use ingest::monitor::Sensor;
use ingest::once::Once;
use ingest::rows::Row;
use load_aware_batcher::classify::{Stage, mysql as class_of};
use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Builder, ErrorClass, Fixed, FlushError, Handler,
    LoadFeedback, Outcome,
};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use testkit::servers::mariadb::Mariadb;
use testkit::servers::process::small_disk;
use testkit::servers::proxy::{Fate, Proxy};

/// A database with the table, and a builder for rows that go into it.
fn prepared(server: &Mariadb, name: &str, once: Once, size: usize) -> (Opts, Conn, Builder<Row>) {
    let (opts, mut conn) = server.database(name);
    MariadbWriter::create_tables(&mut conn, "readings", once).unwrap();
    (opts, conn, builder(once, size))
}

fn builder(once: Once, size: usize) -> Builder<Row> {
    let builder = Batcher::builder()
        .policy(Fixed(size))
        .max_batch_size(size.max(1_000))
        .linger(Duration::from_millis(20));
    once.settle(builder).retry(patient(once))
}

fn writer(opts: &Opts, once: Once) -> MariadbWriter {
    MariadbWriter::new(opts.clone(), "readings", once, &[], LONG)
}

/// Rows and different ids.
fn counts(conn: &mut Conn) -> (i64, i64) {
    conn.query_first("SELECT count(*), count(DISTINCT id) FROM readings")
        .unwrap()
        .unwrap()
}

#[test]
fn a_hundred_thousand_rows_arrive_once_each() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "plenty", Once::Key, 1_000);
    let batcher = builder.spawn(writer(&opts, Once::Key)).unwrap();
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
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&mut conn), (100_000, 100_000));
    let sample: (f64, String) = conn
        .query_first("SELECT value, text FROM readings WHERE id = 99")
        .unwrap()
        .unwrap();
    assert_eq!(sample, (row(99).value, row(99).text));
}

#[test]
fn a_poisoned_row_fails_alone_within_the_promised_calls() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "poisoned", Once::Key, 1_000);
    conn.query_drop("ALTER TABLE readings ADD CHECK (value >= 0)")
        .unwrap();
    // One batch, however slowly the rows come.
    let batcher = builder
        .linger(LONG)
        .spawn(writer(&opts, Once::Key))
        .unwrap();
    one_poisoned_row_fails_alone(&batcher);
    assert_eq!(counts(&mut conn), (999, 999));
    assert!(
        batcher.stats().calls <= 1 + 2 * 10,
        "{}",
        batcher.stats().calls
    );
}

/// The code and its class that this server gives to a statement.
fn class_on(conn: &mut Conn, statement: &str) -> (u16, ErrorClass) {
    // With its rows: an error may come among them.
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
    let (opts, mut conn, _) = prepared(server, "classes", Once::Key, 1);
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
    // A row lock that another holds.
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

/// The server's code of an error.
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
        let (opts, mut conn, _) = prepared(&server, name, Once::Key, 200);
        let (tell, codes) = mpsc::channel();
        let spawn = || {
            let mut writer = writer(&opts, Once::Key);
            writer.sorted = sorted;
            let tell = tell.clone();
            let handler = move |batch: &mut Batch<Row>| {
                writer
                    .handle(batch)
                    .inspect_err(|error| tell.send(code_of(error)).unwrap())
            };
            // Each round is one batch of each writer.
            builder(Once::Key, 200).linger(LONG).spawn(handler).unwrap()
        };
        let writers = [spawn(), spawn()];
        for round in 0..ROUNDS {
            // The same keys in opposite orders, and one in the middle that both have to wait for:
            // unsorted, each then holds what the other needs next.
            let ids = round * 200..(round + 1) * 200;
            conn.query_drop("BEGIN").unwrap();
            conn.query_drop(format!(
                "INSERT INTO readings VALUES ({}, 0, '')",
                ids.start + 100
            ))
            .unwrap();
            writers[0].add_many(ids.clone().map(row)).unwrap();
            writers[1].add_many(ids.rev().map(row)).unwrap();
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

#[test]
fn lock_and_statement_time_outs_are_retried_until_the_lock_is_gone() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, session) in [
        ("lock_timeout", "SET innodb_lock_wait_timeout = 0"),
        ("statement_timeout", "SET max_statement_time = 0.2"),
    ] {
        let (opts, mut conn, builder) = prepared(server, name, Once::Key, 100);
        let writer = MariadbWriter::new(opts, "readings", Once::Key, &[session], LONG);
        let timeouts = writer.timeouts();
        let batcher = builder.spawn(writer).unwrap();
        conn.query_drop("BEGIN").unwrap();
        conn.query_drop("INSERT INTO readings VALUES (50, 0, '')")
            .unwrap();
        batcher.add_many((0..100).map(row)).unwrap();
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        conn.query_drop("ROLLBACK").unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        drop(batcher);
        assert_eq!(counts(&mut conn), (100, 100));
        assert!(timeouts.load(Ordering::Relaxed) >= 2);
    }
}

#[test]
fn bind_parameters_stay_at_the_protocols_limit() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "parameters", Once::Key, 40_000);
    let (tell, sizes) = mpsc::channel();
    let one_statement = || {
        let mut writer = writer(&opts, Once::Key);
        writer.one_statement = true;
        writer
    };
    let mut handler = one_statement();
    let batcher = builder
        .linger(LONG)
        .max_batch_weight(BIND_PARAMETERS_MAX, |_| BIND_PARAMETERS_A_ROW)
        .spawn(move |batch: &mut Batch<Row>| {
            tell.send(batch.len())?;
            handler.handle(batch)
        })
        .unwrap();
    batcher.add_many((0..50_000).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().bisections, 0);
    drop(batcher);
    assert_eq!(
        sizes.iter().max(),
        Some(BIND_PARAMETERS_MAX / BIND_PARAMETERS_A_ROW),
        "as many as fit and no more"
    );
    assert_eq!(counts(&mut conn), (50_000, 50_000));
    // The limit is real: without the weight the server refuses, and half a batch fits.
    let batcher = self::builder(Once::Key, 40_000)
        .linger(LONG)
        .spawn(one_statement())
        .unwrap();
    batcher.add_many((100_000..140_000).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().bisections, 1);
    drop(batcher);
    // In several statements there is no limit.
    let batcher = self::builder(Once::Key, 40_000)
        .linger(LONG)
        .spawn(writer(&opts, Once::Key))
        .unwrap();
    batcher.add_many((200_000..240_000).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!((batcher.stats().calls, batcher.stats().bisections), (1, 0));
    drop(batcher);
    assert_eq!(counts(&mut conn), (130_000, 130_000));
}

#[test]
fn a_sensor_sees_waiting_locks_and_says_nothing_while_the_server_is_away() {
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let (opts, mut conn, _) = prepared(&server, "sensor", Once::Key, 10);
    let mut sensor = MariadbLoad::new(opts.clone(), Arc::new(AtomicU64::new(5)));
    let feedback = |locks, threads, timeouts: f64| {
        LoadFeedback::new()
            .db_locks(locks)
            .queue_depth(threads)
            .custom("deadlocks", 0.0)
            .custom("timeouts", timeouts)
    };
    // It waits a second for an answer and no more.
    let mut first = LoadFeedback::new();
    until(|| {
        first = sensor.sample(LoadFeedback::new());
        first != LoadFeedback::new()
    });
    assert!(
        (0..10).any(|threads| first == feedback(0, threads, 0.5)),
        "{first:?}"
    );
    conn.query_drop("BEGIN").unwrap();
    conn.query_drop("INSERT INTO readings VALUES (1, 1, '')")
        .unwrap();
    let waiting = std::thread::spawn({
        let mut second = Conn::new(opts).unwrap();
        move || second.query_drop("INSERT INTO readings VALUES (1, 2, '')")
    });
    let sees = |sensor: &mut MariadbLoad, locks, least| {
        let sampled = sensor.sample(LoadFeedback::new());
        (least..10).any(|threads| sampled == feedback(locks, threads, 0.0))
    };
    until(|| sees(&mut sensor, 1, 1));
    conn.query_drop("ROLLBACK").unwrap();
    waiting.join().unwrap().unwrap();
    server.kill();
    assert_eq!(
        sensor.sample(LoadFeedback::new().cpu_load(0.5)),
        LoadFeedback::new().cpu_load(0.5)
    );
    server.start();
    until(|| sees(&mut sensor, 0, 0));
}
