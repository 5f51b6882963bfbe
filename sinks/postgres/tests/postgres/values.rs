//! Values arrive as they are, and what is not named takes its default.

use std::time::{Duration, SystemTime};

use load_aware_batcher_postgres::load_aware_batcher::{BatchError, Batcher};
use load_aware_batcher_postgres::postgres::NoTls;
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{Database, KEYED, KEYLESS, LONG, Reading, faulty, reading, whole};

#[test]
fn ten_lines_store_what_is_added() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "ten_lines", KEYED);
    let batcher = Batcher::builder()
        .sink(
            Postgres::new(database.config.clone())
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

#[derive(Clone)]
struct All {
    big: i64,
    int: i32,
    small: i16,
    real: f32,
    double: f64,
    text: String,
    bytes: Vec<u8>,
    flag: bool,
    none: Option<String>,
    some: Option<i32>,
    at: SystemTime,
    numbers: Vec<i64>,
    short: String,
}

/// Everything is sent by each way: by COPY; by arrays or the staging table, as a conflict makes it.
#[test]
fn every_type_arrives_as_it_is_by_each_way_and_columns_not_named_take_their_default() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, with_array) in [("types_unnest", false), ("types_staging", true)] {
        let schema = "CREATE SCHEMA \"the shop\"; CREATE DOMAIN short AS varchar(5) CHECK (value <> 'never');
            CREATE TABLE \"the shop\".\"all \"\"of\"\" them\" (\"b ig\" bigint PRIMARY KEY, \"select\" int, small smallint,
            \"real\" real, double double precision, \"Text\" text, bytes bytea, flag bool, \"none\" text, \"some\" int,
            at timestamptz, numbers bigint[] DEFAULT '{}', short short,
            constant text DEFAULT 'as ever', serial bigserial, id bigint GENERATED ALWAYS AS IDENTITY,
            twice bigint GENERATED ALWAYS AS (\"select\" * 2) STORED, made timestamptz NOT NULL DEFAULT now())";
        let mut database = Database::new(server, name, schema);
        let sink = || {
            let sink = Postgres::new(database.config.clone())
                .table("the shop.\"all \"\"of\"\" them\"")
                .column("b ig", |r: &All| &r.big)
                .column("select", |r| &r.int)
                .column("small", |r| &r.small)
                .column("real", |r| &r.real)
                .column("double", |r| &r.double)
                .column("Text", |r| r.text.as_str())
                .column("bytes", |r| r.bytes.as_slice())
                .column("flag", |r| &r.flag)
                .column("none", |r| &r.none)
                .column("some", |r| &r.some)
                .column("at", |r| &r.at)
                .column("short", |r| &r.short)
                .on_conflict(OnConflict::Replace);
            match with_array {
                true => sink.column("numbers", |r| &r.numbers),
                false => sink,
            }
        };
        let row = |big| All {
            big,
            int: -1,
            small: i16::MIN,
            real: 0.25,
            double: 0.1,
            text: "ü 🦀 'quoted'".to_owned(),
            bytes: vec![0, 255],
            flag: true,
            none: None,
            some: Some(5),
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_005),
            numbers: vec![3, 1, 2],
            short: "five5".to_owned(),
        };
        let send = |rows: Vec<All>| {
            let batcher = whole_of(100).sink(sink()).unwrap();
            batcher.add_many(rows).unwrap_or_else(|_| panic!("open"));
            let report = batcher.close(LONG);
            assert!(report.is_clean(), "{report:?}");
        };
        send(vec![row(i64::MIN), row(2)]);
        send(vec![row(3), row(2)]);
        let query = "SELECT count(*) FROM \"the shop\".\"all \"\"of\"\" them\" WHERE \"select\" = -1 AND small = -32768
            AND \"real\" = 0.25 AND double = 0.1 AND \"Text\" = 'ü 🦀 ''quoted''' AND bytes = '\\x00ff' AND flag AND \"none\" IS NULL
            AND \"some\" = 5 AND at = 'epoch'::timestamptz + interval '1700000000000005 microseconds' AND short = 'five5'
            AND constant = 'as ever' AND serial > 0 AND id > 0 AND twice = -2 AND made > '2020-01-01'
            AND numbers = ";
        let numbers = if with_array { "'{3,1,2}'" } else { "'{}'" };
        assert_eq!(database.number(&format!("{query}{numbers}")), 3, "{name}");
    }
}

fn whole_of<T: Send + 'static>(
    size: usize,
) -> load_aware_batcher_postgres::load_aware_batcher::Builder<T> {
    Batcher::builder()
        .policy(load_aware_batcher_postgres::load_aware_batcher::Fixed(size))
        .linger(LONG * 100)
}

#[test]
fn values_that_do_not_fit_fail_their_row_alone_and_are_never_changed() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id bigint PRIMARY KEY, value double precision CHECK (value >= 0), text varchar(20) NOT NULL)";
    for (name, mode) in [
        ("unfit_fail", OnConflict::Fail),
        ("unfit_ignore", OnConflict::Ignore),
        ("unfit_replace", OnConflict::Replace),
    ] {
        let mut database = Database::new(server, name, schema);
        // With a key that is there, so that what can goes by arrays.
        database.run("INSERT INTO readings VALUES (0, 7, 'old')");
        let batcher = whole(100).sink(database.sink().on_conflict(mode)).unwrap();
        let rows = (1..50).map(|id| Reading {
            text: match id {
                17 => "a text of over twenty letters".to_owned(),
                30 => "nul \0".to_owned(),
                _ => "fits".to_owned(),
            },
            ..reading(id)
        });
        let old = Reading {
            text: "new".to_owned(),
            ..reading(0)
        };
        batcher.add_many(rows.chain([old])).unwrap();
        let report = batcher.close(LONG);
        let mut bad = vec![17, 30];
        if name == "unfit_fail" {
            bad.insert(0, 0);
        }
        assert_eq!(faulty(&report.failed), bad, "{name}");
        assert_eq!(database.counts(), (48, 48));
        assert_eq!(
            database.number("SELECT count(*) FROM readings WHERE text = 'fits'"),
            47
        );
    }
}

/// A value that the driver itself refuses.
#[derive(Debug)]
struct Picky(bool);

impl load_aware_batcher_postgres::postgres::types::ToSql for Picky {
    fn to_sql(
        &self,
        ty: &load_aware_batcher_postgres::postgres::types::Type,
        into: &mut bytes::BytesMut,
    ) -> Result<
        load_aware_batcher_postgres::postgres::types::IsNull,
        Box<dyn std::error::Error + Sync + Send>,
    > {
        if self.0 {
            1_i64.to_sql(ty, into)
        } else {
            Err("it will not".into())
        }
    }

    fn accepts(ty: &load_aware_batcher_postgres::postgres::types::Type) -> bool {
        <i64 as load_aware_batcher_postgres::postgres::types::ToSql>::accepts(ty)
    }

    load_aware_batcher_postgres::postgres::types::to_sql_checked!();
}

/// Scenario 45.
#[test]
fn a_value_that_the_driver_refuses_fails_its_row_alone_and_names_the_column() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "picky", KEYLESS);
    let sink = Postgres::new(database.config.clone())
        .table("readings")
        .computed("id", |r: &Reading| Picky(r.id != 3))
        .column("value", |r| &r.value)
        .column("text", |r| &r.text);
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add_many((0..10).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), [3]);
    assert_eq!(
        report.failed[0].error.to_string(),
        "column \"id\": it will not"
    );
    assert_eq!(database.counts(), (9, 1));
}

#[test]
fn what_before_commit_writes_is_stored_with_the_rows_or_not_at_all() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "before_commit", KEYLESS);
    database.run("CREATE TABLE offsets (lines bigint); INSERT INTO offsets VALUES (0)");
    let sink = database.sink().before_commit(|transaction, batch| {
        let lines = batch.len() as i64;
        transaction.execute("UPDATE offsets SET lines = lines + $1", &[&lines])?;
        if batch.iter().any(|row| row.id == 7) {
            return Err(BatchError::permanent("not this row"));
        }
        // What fails here and is not passed on still ends the transaction.
        if batch.iter().any(|row| row.id == 9) {
            let _ = transaction.batch_execute("SELECT 1 / 0");
        }
        Ok(())
    });
    let batcher = whole(16)
        .retry(load_aware_batcher_postgres::load_aware_batcher::Retry::attempts(2))
        .sink(sink)
        .unwrap();
    batcher.add_many((0..16).map(reading)).unwrap();
    let report = batcher.close(LONG);
    let stored = database.counts().0;
    assert_eq!(
        stored + report.failed.len() as i64,
        16,
        "nothing is acknowledged and rolled back"
    );
    assert_eq!(database.number("SELECT lines FROM offsets"), stored);
    let failed: Vec<i64> = report.failed.iter().map(|failed| failed.item.id).collect();
    assert!(failed.contains(&7) && failed.contains(&9), "{failed:?}");
}

#[test]
fn connections_of_ones_own_making_are_used() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "own_making", KEYLESS);
    let config = database.config.clone();
    let sink = Postgres::from_fn(move || config.connect(NoTls).map(Box::new));
    let batcher = whole(100).sink(crate::rows::columns(sink)).unwrap();
    batcher.add_many((0..100).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (100, 100));
    let tls = database.sink().tls(NoTls);
    let batcher = whole(100).sink(tls).unwrap();
    batcher.add(reading(100)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (101, 101));
}
