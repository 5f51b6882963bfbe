//! Values arrive as they are, and what is not named takes its default.

use std::time::Duration;

use load_aware_batcher_mysql::load_aware_batcher::{
    Batcher, Builder, Limits, LoadFeedback, LoadThreshold, Sensor, Sink,
};
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Pool, Value};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::servers::mariadb::Mariadb;

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, columns, faulty, reading, until, wait_for,
    whole,
};

#[test]
fn ten_lines_store_what_is_added() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "ten_lines", KEYED);
    let batcher = Batcher::builder()
        .sink(
            Mysql::new(database.opts.clone())
                .table("readings")
                .column("id", |r: &Reading| &r.id)
                .column("value", |r| &r.value)
                .computed("text", |r| r.text.to_uppercase())
                .on_conflict(OnConflict::Ignore),
        )
        .unwrap();
    batcher.add_many((0..1_000).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let rows = database.rows();
    assert_eq!(rows.len(), 1_000);
    assert_eq!(rows[7], (7, 1.75, "READING NUMBER 7".to_owned()));
}

#[test]
fn every_type_arrives_as_it_is_and_columns_not_named_take_their_default() {
    struct All {
        integer: i64,
        unsigned: u64,
        real: f64,
        text: String,
        bytes: Vec<u8>,
        flag: bool,
        none: Option<String>,
        some: Option<i32>,
        moment: Value,
        span: Duration,
        price: String,
    }
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let schema = "CREATE TABLE `all ``of`` them` (`in teger` BIGINT, `select` BIGINT UNSIGNED, `real` DOUBLE,
        `text` TEXT CHARACTER SET utf8mb4, bytes BLOB, flag BOOL, none TEXT, some INT, moment DATETIME(6), span TIME(6), price DECIMAL(10, 2),
        constant VARCHAR(9) DEFAULT 'as ever', number BIGINT AUTO_INCREMENT PRIMARY KEY, made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, json JSON DEFAULT '{}')";
    let mut database = Database::new(server, "every_type", schema);
    let batcher = Batcher::builder()
        .sink(
            Mysql::new(database.opts.clone())
                .table("every_type.`all ``of`` them`")
                .column("in teger", |r: &All| &r.integer)
                .column("select", |r| &r.unsigned)
                .column("real", |r| &r.real)
                .column("text", |r| r.text.as_str())
                .column("bytes", |r| r.bytes.as_slice())
                .column("flag", |r| &r.flag)
                .column("none", |r| &r.none)
                .column("some", |r| &r.some)
                .column("moment", |r| &r.moment)
                .column("span", |r| &r.span)
                .column("price", |r| &r.price),
        )
        .unwrap();
    let row = All {
        integer: i64::MIN,
        unsigned: u64::MAX,
        real: 0.1,
        text: "nul \0 and ü 🦀".to_owned(),
        bytes: vec![0, 255],
        flag: true,
        none: None,
        some: Some(-1),
        moment: Value::Date(2026, 11, 28, 15, 30, 1, 5),
        span: Duration::from_micros(3_600_000_001),
        price: "12345678.90".to_owned(),
    };
    batcher.add(row).unwrap_or_else(|_| panic!("open"));
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    let query = "SELECT * FROM `all ``of`` them` WHERE made > '2020-01-01'";
    let stored: load_aware_batcher_mysql::mysql::Row =
        database.conn.exec_first(query, ()).unwrap().unwrap();
    let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let expected = [
        Value::Int(i64::MIN),
        Value::UInt(u64::MAX),
        Value::Double(0.1),
        text("nul \0 and ü 🦀"),
        Value::Bytes(vec![0, 255]),
        Value::Int(1),
        Value::NULL,
        Value::Int(-1),
        Value::Date(2026, 11, 28, 15, 30, 1, 5),
        Value::Time(false, 0, 1, 0, 0, 1),
        text("12345678.90"),
        text("as ever"),
        Value::Int(1),
    ];
    let stored = stored.unwrap();
    assert_eq!(stored[..13], expected);
    assert_eq!(stored[14], text("{}"));
}

#[test]
fn values_that_do_not_fit_fail_their_row_alone_and_are_never_changed() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id TINYINT, value DECIMAL(4, 1), text VARCHAR(20) CHARACTER SET ascii)";
    let mut database = Database::new(server, "do_not_fit", schema);
    // The server's own default is not strict here.
    database.run("SET GLOBAL sql_mode = ''");
    let batcher = whole(1_000).sink(database.sink()).unwrap();
    database.run("SET GLOBAL sql_mode = DEFAULT");
    let row = |id, value, text: &str| Reading {
        id,
        value,
        text: text.to_owned(),
    };
    let rows = [
        row(1, 1.5, "fits"),
        row(999, 1.5, "id"),
        row(2, 12_345.0, "value"),
        row(3, 1.5, "longer than twenty characters"),
        row(4, 1.5, "ü"),
        row(5, 2.5, "fits"),
    ];
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), [2, 3, 4, 999]);
    let fits = |id, value| (id, value, "fits".to_owned());
    assert_eq!(database.rows(), [fits(1, 1.5), fits(5, 2.5)]);
}

#[test]
fn a_hundred_thousand_rows_of_four_producers_arrive_once_each_and_poison_fails_alone() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for keyed in [true, false] {
        let (name, schema) = if keyed {
            ("plenty_keyed", KEYED)
        } else {
            ("plenty", KEYLESS)
        };
        let mut database = Database::new(server, name, schema);
        let sink = match keyed {
            true => database.sink().on_conflict(OnConflict::Ignore),
            false => database.sink().batch_table("readings_batches"),
        };
        let batcher = builder(5_000).sink(sink).unwrap();
        let poisoned = |id: i64| id % 10_000 == 617;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let producer = batcher.producer();
                let rows = (thread * 25_000..(thread + 1) * 25_000).map(move |id| Reading {
                    value: if poisoned(id) { -1.0 } else { 1.0 },
                    ..reading(id)
                });
                scope.spawn(move || producer.add_many(rows).unwrap());
            }
        });
        let report = batcher.close(LONG);
        let expected: Vec<i64> = (0..100_000).filter(|id| poisoned(*id)).collect();
        assert_eq!(faulty(&report.failed), expected);
        assert_eq!(database.counts(), (99_990, 99_990));
    }
}

/// Scenario 45.
#[test]
fn a_batch_is_cut_by_the_servers_packet_and_a_row_over_it_fails_alone() {
    let Some(server) = Mariadb::own(&["--max-allowed-packet=1M"]) else {
        return;
    };
    let schema = KEYLESS.replace("VARCHAR(200)", "LONGTEXT");
    let mut database = Database::new(&server, "packets", &schema);
    let batcher = whole(200).sink(database.sink()).unwrap();
    // A batch of several rows, so that what it prepares is not counted below.
    batcher.add_many((500..502).map(reading)).unwrap();
    batcher.flush(LONG).unwrap();
    let text = |id| match id {
        137 => "x".repeat(2 << 20),
        _ => "x".repeat(50_000),
    };
    let rows = (0..200).map(|id| Reading {
        text: text(id),
        ..reading(id)
    });
    let mut prepared = || {
        let query = "SHOW GLOBAL STATUS LIKE 'Com_stmt_prepare'";
        let found: Option<(String, u64)> = database.conn.query_first(query).unwrap();
        found.unwrap().1
    };
    let before = prepared();
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), [137]);
    // For 16, 8, 4 and 2 rows: none was too large.
    assert_eq!(prepared() - before, 4);
    assert_eq!(database.counts(), (201, 201));
}

#[test]
fn what_is_written_before_the_commit_is_stored_with_the_rows_or_not_at_all() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "before_commit", KEYED);
    database.run("CREATE TABLE offsets (rows_stored INT CHECK (rows_stored < 15))");
    database.run("INSERT INTO offsets VALUES (0)");
    let sink = database.sink().before_commit(|transaction, batch| {
        let add = "UPDATE offsets SET rows_stored = rows_stored + ?";
        transaction.exec_drop(add, (batch.len(),))?;
        Ok(())
    });
    let batcher = whole(1_000).sink(sink).unwrap();
    batcher.add_many((0..10).map(reading)).unwrap();
    batcher.flush(LONG).unwrap();
    batcher.add_many((10..20).map(reading)).unwrap();
    // The offset's own constraint refuses the second ten; parts of them fit.
    let _ = batcher.flush(LONG);
    let failed = faulty(&batcher.take_failed());
    assert_eq!(failed.len(), 6);
    assert_eq!(database.counts(), (14, 14));
    let offset: Option<i64> = database
        .conn
        .query_first("SELECT rows_stored FROM offsets")
        .unwrap();
    assert_eq!(offset, Some(14));
}

#[test]
fn the_sensor_reports_with_declared_signals_and_can_be_turned_off() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "sensor", KEYED);
    let start = |sink: Mysql<Reading>| {
        let builder = Batcher::builder()
            .policy(LoadThreshold::new())
            .load_check_interval(Duration::from_millis(5));
        builder.sink(sink).unwrap()
    };
    let batcher = start(database.sink());
    wait_for(&batcher, |stats| stats.average_load.is_some());
    assert_eq!(batcher.stats().unknown_signals, 0);
    drop(batcher);
    let batcher = start(database.sink().sensor(None));
    batcher.add(reading(1)).unwrap();
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.stats().average_load, None);
    assert_eq!(database.counts(), (1, 1));
}

#[test]
fn the_sensor_sees_waiting_locks_and_reports_nothing_while_the_server_is_away() {
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "sensor", KEYED);
    let mut sensor = Sink::sensor(&database.sink()).unwrap();
    // It waits a second for an answer and no more.
    let sees = |sensor: &mut Box<dyn Sensor>, waiting, least| {
        let sampled = sensor.sample(LoadFeedback::new());
        let feedback = |threads| {
            LoadFeedback::new()
                .db_locks(waiting)
                .queue_depth(threads)
                .custom("deadlocks", 0.0)
                .custom("timeouts", 0.0)
        };
        (least..10).any(|threads| sampled == feedback(threads))
    };
    until(|| sees(&mut sensor, 0, 0));
    database.run("BEGIN");
    database.run("INSERT INTO readings VALUES (1, 1, '')");
    let mut second = Conn::new(database.opts.clone()).unwrap();
    let insert = "INSERT INTO readings VALUES (1, 2, '')";
    let waiting = std::thread::spawn(move || second.query_drop(insert));
    until(|| sees(&mut sensor, 1, 1));
    database.run("ROLLBACK");
    waiting.join().unwrap().unwrap();
    server.kill();
    let own = LoadFeedback::new().cpu_load(0.5);
    assert_eq!(sensor.sample(own), own);
    server.start();
    until(|| sees(&mut sensor, 0, 0));
}

/// A statement for all of them would take more bind parameters than the protocol's 65 535.
#[test]
fn a_batch_of_forty_thousand_rows_is_one_call() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, mode) in [
        ("many_fail", OnConflict::Fail),
        ("many_ignore", OnConflict::Ignore),
    ] {
        let mut database = Database::new(server, name, KEYED);
        let sink = database.sink().on_conflict(mode);
        let batcher = whole(40_000).sink(sink).unwrap();
        batcher.add_many((0..40_000).map(reading)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!((batcher.stats().calls, batcher.stats().bisections), (1, 0));
        assert_eq!(database.counts(), (40_000, 40_000));
    }
}

#[test]
fn the_connections_of_a_pool_are_used_and_given_back() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "pooled", KEYED);
    let pool = Pool::new(database.opts.clone()).unwrap();
    let made = pool.clone();
    let sink = columns(Mysql::from_fn(move || made.get_conn())).sensor(None);
    let batcher = Batcher::builder().sink(sink).unwrap();
    batcher.add_many((0..100).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (100, 100));
}

#[test]
fn the_sinks_largest_batch_gives_way_to_the_users() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let database = Database::new(server, "limits", KEYED);
    let largest = |builder: Builder<Reading>| {
        let batcher = builder.sink(database.sink()).unwrap();
        let mut largest = 0;
        let look = |limits: &mut Limits| largest = limits.max_batch_size;
        batcher.reconfigure(look).unwrap();
        largest
    };
    assert_eq!(largest(Batcher::builder()), 50_000);
    assert_eq!(largest(Batcher::builder().max_batch_size(7)), 7);
}

#[test]
fn columns_with_values_of_several_types_and_nulls_are_stored_as_they_are() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    // All of eight bytes: the server could not tell them apart.
    struct Mixed(i64, Value, Option<String>);
    let schema = "CREATE TABLE readings (id BIGINT, value DOUBLE, text VARCHAR(20))";
    let mut database = Database::new(server, "mixed", schema);
    let sink = Mysql::new(database.opts.clone())
        .table("readings")
        .column("id", |r: &Mixed| &r.0)
        .column("value", |r| &r.1)
        .column("text", |r| &r.2);
    let batcher = Batcher::builder().linger(LONG).sink(sink).unwrap();
    let some = |text: &str| Some(text.to_owned());
    let rows = [
        Mixed(1, Value::NULL, None),
        Mixed(2, Value::Double(0.5), some("b")),
        Mixed(3, Value::Int(3), None),
        Mixed(4, Value::UInt(4), some("d")),
    ];
    batcher
        .add_many(rows)
        .unwrap_or_else(|_| panic!("it is open"));
    assert!(batcher.close(LONG).is_clean());
    let stored: Vec<(i64, Option<f64>, Option<String>)> = database
        .conn
        .query("SELECT id, value, text FROM readings ORDER BY id")
        .unwrap();
    let expected = [
        (1, None, None),
        (2, Some(0.5), some("b")),
        (3, Some(3.0), None),
        (4, Some(4.0), some("d")),
    ];
    assert_eq!(stored, expected);
}

#[test]
fn rows_go_by_the_bulk_command_and_after_a_spoilt_one_by_statements() {
    // Its own: the server counts the commands of all.
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "bulk", KEYLESS);
    let batcher = whole(100).sink(database.sink().sensor(None)).unwrap();
    let mut executed = |rows: std::ops::Range<i64>, poison: i64| {
        let mut count = || {
            let query = "SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'";
            let found: Option<(String, u64)> = database.conn.query_first(query).unwrap();
            found.unwrap().1
        };
        let before = count();
        let rows = rows.map(|id| Reading {
            value: if id == poison { -1.0 } else { 1.0 },
            ..reading(id)
        });
        batcher.add_many(rows).unwrap();
        let _ = batcher.flush(LONG);
        count() - before
    };
    let by_bulk = executed(0..100, -1);
    let spoilt = executed(100..200, 150);
    let after = executed(200..300, -1);
    // By statements it takes those for 64, 32 and 4 rows.
    assert_eq!(by_bulk, 1);
    assert!(spoilt > 3, "{spoilt}");
    assert_eq!(after, 3);
    assert_eq!(faulty(&batcher.close(LONG).failed), [150]);
    assert_eq!(database.counts(), (299, 299));
}
