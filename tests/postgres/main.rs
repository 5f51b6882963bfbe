//! Handlers written by hand against a real PostgreSQL: every row is stored or reported, once. The
//! companion crate in sinks/postgres has tests of its own.

#![cfg(all(unix, not(loom)))]

mod anew;
mod outages;
mod refusals;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher::classify::{Stage, sqlstate};
use load_aware_batcher::{
    Batch, BatchError, Batcher, Builder, ErrorClass, FlushError, Handler, LoadFeedback,
};
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls};
use testkit::courses::{CloseOnPanic, tried_again};
use testkit::servers::postgres::Postgres;
use testkit::servers::proxy::{Fate, Proxy};
use testkit::writers::postgres::{PostgresWriter, failed};
use testkit::writers::{Dedup, Row};

/// Longer than anything here takes. No test asserts a time.
const LONG: Duration = Duration::from_secs(120);

/// A database with the table, and a builder for its rows.
fn prepared(
    server: &Postgres,
    name: &str,
    dedup: Dedup,
    size: usize,
) -> (Config, Client, Builder<Row>) {
    let (config, mut client) = server.database(name);
    PostgresWriter::create_tables(&mut client, "readings", dedup).unwrap();
    (config, client, dedup.builder(size))
}

/// Waits until the condition is true.
fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn writer(config: &Config, dedup: Dedup) -> PostgresWriter {
    PostgresWriter::new(config.clone(), "readings", dedup)
}

/// The number of rows, and of different ids.
fn counts(client: &mut Client) -> (i64, i64) {
    let row = client
        .query_one("SELECT count(*), count(DISTINCT id) FROM readings", &[])
        .unwrap();
    (row.get(0), row.get(1))
}

/// The error code of these statements on this server, and its class.
fn class_on(client: &mut Client, statements: &str) -> (String, ErrorClass) {
    let error = client.batch_execute(statements).unwrap_err();
    let code = error.code().map(|code| code.code().to_owned());
    let _ = client.batch_execute("ROLLBACK");
    (
        code.clone().unwrap_or_default(),
        sqlstate(code.as_deref(), Stage::Statement),
    )
}

#[test]
fn this_servers_errors_have_the_class_of_the_table() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, _) = prepared(server, "classes", Dedup::Key, 1);
    client
        .batch_execute("INSERT INTO readings VALUES (1, 1, '')")
        .unwrap();
    use ErrorClass::{Misconfigured, Permanent, Transient, Unclassified};
    for (statements, code, class) in [
        ("INSERT INTO readings VALUES (1, 1, '')", "23505", Permanent),
        (
            "INSERT INTO readings VALUES (2, NULL, '')",
            "23502",
            Permanent,
        ),
        (
            "INSERT INTO readings VALUES (99999999999999999999, 1, '')",
            "22003",
            Permanent,
        ),
        (
            "INSERT INTO readings VALUES (2, 'x', '')",
            "22P02",
            Permanent,
        ),
        (
            "SET statement_timeout = 1; SELECT pg_sleep(60)",
            "57014",
            Transient,
        ),
        (
            "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$",
            "P0001",
            Permanent,
        ),
        ("DO $$ BEGIN ASSERT false; END $$", "P0004", Permanent),
        (
            "DO $$ BEGIN CASE 1 WHEN 2 THEN END CASE; END $$",
            "20000",
            Permanent,
        ),
        ("SELECT repeat('[', 1000000)::json", "54001", Permanent),
        ("SELECT 1 FROM no_such_table", "42P01", Misconfigured),
        (
            "SELECT no_such_column FROM readings",
            "42703",
            Misconfigured,
        ),
        (
            "INSERT INTO readings VALUES (1, 1, '') ON CONFLICT (value) DO NOTHING",
            "42P10",
            Misconfigured,
        ),
        ("SELEC 1", "42601", Misconfigured),
        (
            "SET ROLE pg_monitor; CREATE TABLE public.mine (id int)",
            "42501",
            Unclassified,
        ),
        (
            "BEGIN READ ONLY; INSERT INTO readings VALUES (2, 1, '')",
            "25006",
            ErrorClass::Unavailable,
        ),
        ("EXECUTE no_such_statement", "26000", Transient),
    ] {
        assert_eq!(
            class_on(&mut client, statements),
            (code.to_owned(), class),
            "{statements}"
        );
    }
    // Two transactions that write what the other has read.
    let mut other = config.connect(NoTls).unwrap();
    let serializable = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM readings; ";
    other
        .batch_execute(&format!(
            "{serializable} INSERT INTO readings VALUES (3, 1, '')"
        ))
        .unwrap();
    client
        .batch_execute(&format!(
            "{serializable} INSERT INTO readings VALUES (4, 1, '')"
        ))
        .unwrap();
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(
        class_on(&mut client, "COMMIT"),
        ("40001".to_owned(), Transient)
    );
    // An administrator ends a session.
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    other
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .unwrap();
    let (code, class) = class_on(&mut client, "SELECT 1");
    assert!(code == "57P01" || code.is_empty(), "{code}");
    assert_eq!(class, Transient);
}

#[test]
fn the_search_separates_two_rows_of_one_key_in_an_upsert() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "upsert", Dedup::Key, 100);
    let mut writer = config.connect(NoTls).unwrap();
    let batcher = builder
        .spawn(move |batch: &mut Batch<Row>| {
            let ids: Vec<i64> = batch.iter().map(|row| row.id).collect();
            let values: Vec<f64> = batch.iter().map(|row| row.value).collect();
            let upsert = "INSERT INTO readings SELECT id, value, '' FROM unnest($1::bigint[], $2::double precision[])
                AS new (id, value) ON CONFLICT (id) DO UPDATE SET value = excluded.value";
            match writer.execute(upsert, &[&ids, &values]) {
                Ok(_) => Ok(LoadFeedback::new()),
                Err(error) => {
                    let class = sqlstate(error.code().map(|code| code.code()), Stage::Commit);
                    assert_eq!(error.code().map(|code| code.code()), Some("21000"));
                    Err(BatchError::classified(class, error))
                }
            }
        })
        .unwrap();
    // Of two adjacent rows with the same key the later one must win.
    batcher
        .add_many((0..100).map(|n| Row {
            id: n / 2,
            value: n as f64,
            text: String::new(),
        }))
        .unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().retries, 0, "halved at once");
    let won = client
        .query_one(
            "SELECT count(*) FROM readings WHERE value = id * 2 + 1",
            &[],
        )
        .unwrap();
    assert_eq!(won.get::<_, i64>(0), 50);
}

/// The error code of the server.
fn code_of(error: &BatchError) -> Option<String> {
    let error = error.source().downcast_ref::<postgres::Error>()?;
    error.code().map(|code| code.code().to_owned())
}

#[test]
fn deadlocks_of_two_writers_are_retried_and_rows_sorted_by_key_have_none() {
    let Some(server) = Postgres::own(&["deadlock_timeout=5ms"]) else {
        return;
    };
    const ROUNDS: i64 = 5;
    for (name, sorted) in [("unsorted", false), ("sorted", true)] {
        let (config, mut client, _) = prepared(&server, name, Dedup::Key, 200);
        let (tell, codes) = mpsc::channel();
        let spawn = || {
            let mut writer = writer(&config, Dedup::Key);
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
            client
                .batch_execute(&format!(
                    "BEGIN; INSERT INTO readings VALUES ({}, 0, '')",
                    ids.start + 100
                ))
                .unwrap();
            writers[0].add_many(ids.clone().map(Row::of)).unwrap();
            writers[1].add_many(ids.rev().map(Row::of)).unwrap();
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            until(|| client.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 2);
            client.batch_execute("ROLLBACK").unwrap();
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
        assert!(
            codes.iter().all(|code| code.as_deref() == Some("40P01")),
            "{name}: {codes:?}"
        );
        assert_eq!(codes.len() as u64, retries, "{name}");
        assert_eq!(retries >= ROUNDS as u64, !sorted, "{name}: {retries}");
        assert!(!sorted || retries == 0, "{name}: {retries}");
        assert_eq!(counts(&mut client), (ROUNDS * 200, ROUNDS * 200));
    }
}

/// A list of VALUES needs three parameters for each row. The number that the driver can send is set
/// as the limit on the batch's weight.
#[test]
fn bind_parameters_stay_at_the_drivers_limit() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "parameters", Dedup::Key, 40_000);
    const LIMIT: usize = 65_535;
    let mut connection = config.connect(NoTls).unwrap();
    let (tell, sizes) = mpsc::channel();
    let batcher = builder
        .linger(LONG)
        .max_batch_weight(LIMIT, |_| 3)
        .spawn(move |batch: &mut Batch<Row>| {
            tell.send(batch.len())?;
            insert_values(&mut connection, batch)?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many((0..50_000).map(Row::of)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(
        sizes.iter().max(),
        Some(LIMIT / 3),
        "as many as fit and no more"
    );
    assert_eq!(counts(&mut client), (50_000, 50_000));
    // The limit is real: with one row more the statement fails.
    let rows: Vec<Row> = (60_000..60_000 + LIMIT as i64 / 3 + 1)
        .map(Row::of)
        .collect();
    assert!(insert_values(&mut config.connect(NoTls).unwrap(), &rows).is_err());
}

fn insert_values(client: &mut Client, rows: &[Row]) -> Result<u64, postgres::Error> {
    let places: Vec<String> = (0..rows.len())
        .map(|n| format!("(${}, ${}, ${})", 3 * n + 1, 3 * n + 2, 3 * n + 3))
        .collect();
    let values: Vec<&(dyn ToSql + Sync)> = rows
        .iter()
        .flat_map(|row| [&row.id as &(dyn ToSql + Sync), &row.value, &row.text])
        .collect();
    client.execute(
        &format!("INSERT INTO readings VALUES {}", places.join(",")),
        &values,
    )
}
