//! Values arrive as they are, and what is not named takes its default.

use load_aware_batcher_rusqlite::load_aware_batcher::{Batcher, Builder, Limits, LoadThreshold};
use load_aware_batcher_rusqlite::rusqlite::types::{ToSqlOutput, Value};
use load_aware_batcher_rusqlite::rusqlite::{Error, ToSql};
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};
use std::time::Duration;

use crate::rows::{File, KEYED, KEYLESS, LONG, Reading, builder, columns, faulty, reading, whole};

#[test]
fn ten_lines_store_what_is_added() {
    let file = File::new(KEYED);
    let batcher = Batcher::builder()
        .sink(
            Sqlite::open(file.path())
                .table("readings")
                .column("id", |r: &Reading| &r.id)
                .column("value", |r| &r.value)
                .computed("text", |r| r.text.to_uppercase())
                .on_conflict(OnConflict::Ignore),
        )
        .unwrap();
    batcher.add_many((0..1_000).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let rows = file.rows();
    assert_eq!(rows.len(), 1_000);
    assert_eq!(rows[7], (7, 1.75, "READING NUMBER 7".to_owned()));
}

#[test]
fn every_type_arrives_as_it_is_and_columns_not_named_take_their_default() {
    struct All {
        integer: i64,
        real: f64,
        text: String,
        bytes: Vec<u8>,
        flag: bool,
        small: u8,
        none: Option<String>,
        some: Option<i32>,
    }
    let file = File::new(
        "CREATE TABLE \"all \"\"of\"\" them\" (\"in teger\" INTEGER, real REAL, text TEXT, bytes BLOB, flag INT, small INT,
         none TEXT, some INT, constant TEXT DEFAULT 'as ever', number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, moment TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    );
    let batcher = Batcher::builder()
        .sink(
            Sqlite::open(file.path())
                .table("main.\"all \"\"of\"\" them\"")
                .column("in teger", |r: &All| &r.integer)
                .column("real", |r| &r.real)
                .column("text", |r| r.text.as_str())
                .column("bytes", |r| r.bytes.as_slice())
                .column("flag", |r| &r.flag)
                .column("small", |r| &r.small)
                .column("none", |r| &r.none)
                .column("some", |r| &r.some),
        )
        .unwrap();
    let row = All {
        integer: i64::MIN,
        real: 0.1,
        text: "nul \0 and ü".to_owned(),
        bytes: vec![0, 255],
        flag: true,
        small: 255,
        none: None,
        some: Some(-1),
    };
    batcher.add(row).unwrap_or_else(|_| panic!("open"));
    assert!(batcher.close(LONG).is_clean());
    let connection = file.open();
    let query = "SELECT * FROM \"all \"\"of\"\" them\" WHERE moment > '2020'";
    let stored: Vec<Value> = connection
        .query_row(query, [], |row| {
            (0..10).map(|place| row.get(place)).collect()
        })
        .unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        Value::Integer(i64::MIN),
        Value::Real(0.1),
        text("nul \0 and ü"),
        Value::Blob(vec![0, 255]),
        Value::Integer(1),
        Value::Integer(255),
        Value::Null,
        Value::Integer(-1),
        text("as ever"),
        Value::Integer(1),
    ];
    assert_eq!(stored, expected);
}

/// Converts even numbers only.
struct Even(i64);

impl ToSql for Even {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        match self.0 % 2 {
            0 => self.0.to_sql(),
            _ => Err(Error::ToSqlConversionFailure("it is odd".into())),
        }
    }
}

/// Scenario 45.
#[test]
fn a_value_that_the_driver_cannot_convert_fails_its_row_alone_and_names_its_column() {
    let file = File::new("CREATE TABLE numbers (number INTEGER PRIMARY KEY)");
    let sink = Sqlite::open(file.path())
        .table("numbers")
        .column("number", |number: &Even| number);
    let batcher = Batcher::builder().linger(LONG).sink(sink).unwrap();
    batcher
        .add_many([4, 3, 2].map(Even))
        .unwrap_or_else(|_| panic!("open"));
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 1);
    let failed = &report.failed[0];
    assert!(
        failed.error.is_permanent() && !failed.in_doubt,
        "{failed:?}"
    );
    let because = failed.error.to_string();
    assert_eq!(because, "column \"number\": it is odd");
    let sum = "SELECT sum(number) FROM numbers";
    assert_eq!(file.open().query_row(sum, [], |row| row.get(0)), Ok(6));
}

#[test]
fn rows_with_a_key_are_written_in_its_order_and_others_as_they_came() {
    let ids = |rows: Vec<(i64, f64, String)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    // A key that is no rowid, so that the rowid shows the order.
    let schema = KEYED.replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY");
    for (schema, expected) in [(&*schema, [1, 2, 3]), (KEYLESS, [3, 1, 2])] {
        let file = File::new(schema);
        let batcher = whole(1_000).sink(file.sink()).unwrap();
        batcher.add_many([3, 1, 2].map(reading)).unwrap();
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(ids(file.rows()), expected);
    }
}

#[test]
fn a_hundred_thousand_rows_of_four_producers_arrive_once_each_and_poison_fails_alone() {
    for keyed in [true, false] {
        let file = File::new(if keyed { KEYED } else { KEYLESS });
        let sink = match keyed {
            true => file.sink().on_conflict(OnConflict::Ignore),
            false => file.sink().batch_table("readings_batches"),
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
        let because = report.failed[0].error.to_string();
        assert!(because.contains("CHECK constraint failed"), "{because}");
        assert_eq!(file.counts(), (99_990, 99_990));
    }
}

#[test]
fn the_users_limits_bound_the_batches_and_heavy_rows_make_small_ones() {
    let file = File::new(KEYLESS);
    let heavy = |id| Reading {
        text: "x".repeat(5 << 20),
        ..reading(id)
    };
    // Three rows of 5 MiB are under the default of 16 MiB, the fourth is not.
    let batcher = whole(1_000).sink(file.sink()).unwrap();
    batcher.add_many((0..6).map(heavy)).unwrap();
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.stats().calls, 2);
    assert!(batcher.close(LONG).is_clean());
    // By the user's own weights all go in one.
    let batcher = whole(1_000).sink(file.sink().weigh(|_| 1)).unwrap();
    batcher.add_many((0..6).map(heavy)).unwrap();
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.stats().calls, 1);
}

#[test]
fn what_is_written_before_the_commit_is_stored_with_the_rows_or_not_at_all() {
    let file = File::new(&format!(
        "{KEYED}; CREATE TABLE offsets (rows INT CHECK (rows < 15)); INSERT INTO offsets VALUES (0)"
    ));
    let sink = file.sink().before_commit(|transaction, batch| {
        transaction.execute("UPDATE offsets SET rows = rows + ?1", [batch.len() as i64])?;
        Ok(())
    });
    let batcher = whole(1_000).sink(sink).unwrap();
    batcher.add_many((0..10).map(reading)).unwrap();
    batcher.flush(LONG).unwrap();
    batcher.add_many((10..20).map(reading)).unwrap();
    // The offset's own constraint refuses the second ten; parts of them fit.
    let _ = batcher.flush(LONG);
    let failed = faulty(&batcher.take_failed());
    let stored = 20 - failed.len() as i64;
    assert_eq!(file.counts(), (stored, stored));
    let offset = file
        .open()
        .query_row("SELECT rows FROM offsets", [], |row| row.get(0));
    assert_eq!(offset, Ok(stored));
    assert_eq!(stored, 14);
}

#[test]
fn the_sensor_reports_with_a_declared_signal_and_can_be_turned_off() {
    let file = File::new(KEYED);
    let start = |sink: Sqlite<Reading>| {
        let builder = Batcher::builder()
            .policy(LoadThreshold::new())
            .load_check_interval(Duration::from_millis(1));
        builder.sink(sink).unwrap()
    };
    let batcher = start(file.sink());
    crate::rows::wait_for(&batcher, |stats| stats.average_load.is_some());
    assert_eq!(batcher.stats().unknown_signals, 0);
    let batcher = start(file.sink().sensor(None));
    batcher.add(reading(1)).unwrap();
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.stats().average_load, None);
}

#[test]
fn the_journal_mode_stays_unless_wal_is_asked_for() {
    let file = File::new(KEYED);
    let mode = || {
        let mode = "PRAGMA journal_mode";
        file.open()
            .query_row(mode, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    drop(Batcher::builder().sink(file.sink()).unwrap());
    assert_eq!(mode(), "delete");
    drop(Batcher::builder().sink(file.sink().wal(true)).unwrap());
    assert_eq!(mode(), "wal");
}

#[test]
fn a_connection_of_ones_own_is_used() {
    let file = File::new(KEYED);
    let path = file.path();
    let sink = Sqlite::from_fn(move || {
        let connection = load_aware_batcher_rusqlite::rusqlite::Connection::open(":memory:")?;
        connection.execute("ATTACH ?1 AS shop", [path.to_str().unwrap()])?;
        Ok(connection)
    });
    let sink = columns(sink).table("shop.readings").batch_table("batches");
    let batcher = Batcher::builder().sink(sink).unwrap();
    batcher.add(reading(5)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(file.rows(), [(5, 1.25, "reading number 5".to_owned())]);
    let ids = "SELECT count(*) FROM batches";
    assert_eq!(file.open().query_row(ids, [], |row| row.get(0)), Ok(1));
}

#[test]
fn the_sinks_largest_batch_gives_way_to_the_users() {
    let file = File::new(KEYED);
    let largest = |builder: Builder<Reading>| {
        let batcher = builder.sink(file.sink()).unwrap();
        let mut largest = 0;
        let look = |limits: &mut Limits| largest = limits.max_batch_size;
        batcher.reconfigure(look).unwrap();
        largest
    };
    assert_eq!(largest(Batcher::builder()), 50_000);
    assert_eq!(largest(Batcher::builder().max_batch_size(7)), 7);
}
