//! Tables that do not take `COPY`, and conflicts that only the server sees.

use load_aware_batcher_postgres::postgres::config::Host;
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, columns, faulty, reading, whole,
};

#[test]
fn rules_are_obeyed_where_copy_would_skip_them() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "rules", KEYLESS);
    database.run(
        "CREATE TABLE others (LIKE readings);
         CREATE RULE other AS ON INSERT TO readings WHERE NEW.id > 5 DO INSTEAD INSERT INTO others VALUES (NEW.*)",
    );
    let batcher = whole(10).sink(database.sink()).unwrap();
    batcher.add_many((0..10).map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (6, 6));
    assert_eq!(database.number("SELECT count(*) FROM others"), 4);
}

#[test]
fn views_take_rows_by_their_triggers_or_by_themselves() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "views", KEYLESS);
    database.run(
        "CREATE VIEW plain AS SELECT id, value, text FROM readings;
         CREATE VIEW instead AS SELECT max(id) AS id, max(value) AS value, max(text) AS text FROM readings;
         CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO readings VALUES (NEW.id, NEW.value, NEW.text); RETURN NEW; END $$;
         CREATE TRIGGER instead INSTEAD OF INSERT ON instead FOR EACH ROW EXECUTE FUNCTION instead()",
    );
    for (view, ids) in [("plain", 0..50), ("instead", 50..100)] {
        let batcher = whole(100).sink(database.sink().table(view)).unwrap();
        batcher.add_many(ids.map(reading)).unwrap();
        assert!(batcher.close(LONG).is_clean());
    }
    assert_eq!(database.counts(), (100, 100));
}

#[test]
fn row_level_security_refuses_its_rows_and_takes_the_others() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "row_security", KEYED);
    database.run(
        "CREATE ROLE row_security_writer LOGIN; GRANT INSERT, SELECT ON readings TO row_security_writer;
         ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
         CREATE POLICY small ON readings USING (id < 90) WITH CHECK (id < 90)",
    );
    let mut config = database.config.clone();
    config.user("row_security_writer");
    let batcher = whole(100)
        .sink(columns(Postgres::new(config)).on_conflict(OnConflict::Ignore))
        .unwrap();
    batcher.add_many((0..100).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(faulty(&report.failed), (90..100).collect::<Vec<_>>());
    assert_eq!(database.counts(), (90, 90));
}

#[test]
fn partitions_find_the_conflicts_of_the_key_and_refuse_rows_that_have_none() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id bigint PRIMARY KEY, value double precision, text text) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF readings FOR VALUES FROM (0) TO (100);
        CREATE TABLE high PARTITION OF readings FOR VALUES FROM (100) TO (200)";
    for (name, mode, value) in [
        ("partitions_ignore", OnConflict::Ignore, 7.0),
        ("partitions_replace", OnConflict::Replace, 12.5),
    ] {
        let mut database = Database::new(server, name, schema);
        database.run("INSERT INTO readings VALUES (50, 7, 'old')");
        let batcher = whole(1_000)
            .sink(database.sink().on_conflict(mode))
            .unwrap();
        batcher.add_many((0..201).map(reading)).unwrap();
        let report = batcher.close(LONG);
        assert_eq!(faulty(&report.failed), [200]);
        assert_eq!(database.counts(), (200, 200));
        assert_eq!(database.rows()[50].1, value, "{name}");
    }
}

#[test]
fn keys_that_only_the_server_finds_equal_are_merged_there() {
    let Some(server) = Server::shared() else {
        return;
    };
    // The server's collation has no case, so it finds equal what differs here.
    let schema = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE readings (id bigint, value double precision, text text COLLATE nocase PRIMARY KEY)";
    for (name, mode, id) in [
        ("nocase_ignore", OnConflict::Ignore, 1),
        ("nocase_replace", OnConflict::Replace, 2),
    ] {
        let mut database = Database::new(server, name, schema);
        let sink = database.sink().on_conflict(mode);
        let batcher = whole(1_000).sink(sink).unwrap();
        let row = |id, text: &str| Reading {
            text: text.to_owned(),
            ..reading(id)
        };
        // The rows' order is also that of their bytes.
        batcher
            .add_many([row(1, "A"), row(2, "a"), row(3, "b")])
            .unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!(batcher.stats().calls, 1, "within one call");
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        let ids: Vec<i64> = database.rows().iter().map(|row| row.0).collect();
        assert_eq!(ids, [id, 3], "{name}");
    }
}

#[test]
fn exclusion_constraints_refuse_their_row() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "exclusion", KEYED);
    database.run("ALTER TABLE readings ADD EXCLUDE USING btree (text WITH =)");
    let sink = database.sink().on_conflict(OnConflict::Ignore);
    let batcher = whole(100).sink(sink).unwrap();
    let twin = Reading {
        text: reading(1).text,
        ..reading(2)
    };
    batcher.add_many([reading(1), twin, reading(3)]).unwrap();
    assert_eq!(faulty(&batcher.close(LONG).failed), [2]);
    assert_eq!(database.counts(), (2, 2));
}

#[test]
fn nulls_in_a_key_are_no_conflict() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id bigint NOT NULL, value double precision, text text, part bigint, UNIQUE (id, part))";
    let mut database = Database::new(server, "null_keys", schema);
    let sink = database
        .sink()
        .computed("part", |r| (r.id > 5).then_some(r.id));
    let sink = sink.key(["id", "part"]).on_conflict(OnConflict::Replace);
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add_many([1, 1, 6, 6].map(reading)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (3, 2));
}

#[test]
fn conflicts_all_the_way_store_each_key_once_as_the_mode_says() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, mode) in [
        ("half_ignore", OnConflict::Ignore),
        ("half_replace", OnConflict::Replace),
    ] {
        let mut database = Database::new(server, name, KEYED);
        database.run("INSERT INTO readings SELECT n, 0, 'old' FROM generate_series(0, 19999, 2) n");
        let batcher = builder(500)
            .sink(database.sink().on_conflict(mode))
            .unwrap();
        batcher.add_many((0..20_000).map(reading)).unwrap();
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(database.counts(), (20_000, 20_000));
        let old = if name == "half_ignore" { 10_000 } else { 0 };
        let query = "SELECT count(*) FROM readings WHERE text = 'old'";
        assert_eq!(database.number(query), old, "{name}");
    }
}

#[test]
fn keys_with_a_null_are_never_merged_where_others_are_merged_on_the_server() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE readings (id bigint, value double precision, text text COLLATE nocase, part bigint, UNIQUE (text, part))";
    let mut database = Database::new(server, "null_nocase", schema);
    let sink = database
        .sink()
        .computed("part", |r| (r.id > 2).then_some(1_i64));
    let sink = sink.key(["text", "part"]).on_conflict(OnConflict::Replace);
    let batcher = whole(100).sink(sink).unwrap();
    let row = |id, text: &str| Reading {
        text: text.to_owned(),
        ..reading(id)
    };
    batcher
        .add_many([row(1, "A"), row(2, "A"), row(3, "A"), row(4, "a")])
        .unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().calls, 1, "within one call");
    assert!(batcher.close(LONG).is_clean());
    let ids: Vec<i64> = database.rows().iter().map(|row| row.0).collect();
    assert_eq!(ids, [1, 2, 4]);
}

#[test]
fn of_two_rows_with_one_key_the_good_one_is_stored_with_or_without_a_batch_table() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, mode, bad) in [
        ("good_ignore", OnConflict::Ignore, 0),
        ("good_replace", OnConflict::Replace, 1),
    ] {
        for with_batches in [false, true] {
            let name = format!("{name}_{with_batches}");
            let mut database = Database::new(server, &name, KEYED);
            let sink = database.sink().on_conflict(mode.clone());
            let sink = match with_batches {
                true => sink.batch_table("batches"),
                false => sink,
            };
            let batcher = whole(100).sink(sink).unwrap();
            let rows = (0..2).map(|number| Reading {
                value: if number == bad { -1.0 } else { 5.0 },
                ..reading(7)
            });
            batcher.add_many(rows.chain([reading(8)])).unwrap();
            assert_eq!(faulty(&batcher.close(LONG).failed), [7], "{name}");
            assert_eq!(database.counts(), (2, 2), "{name}");
            assert_eq!(database.rows()[0].1, 5.0, "{name}");
        }
    }
}

#[test]
fn foreign_tables_take_rows_and_those_that_take_none_are_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "foreign_tables", KEYED);
    let available =
        "SELECT count(*) FROM pg_available_extensions WHERE name IN ('postgres_fdw', 'file_fdw')";
    if database.number(available) < 2 {
        eprintln!("SKIPPED: PostgreSQL's foreign-data wrappers are not installed");
        return;
    }
    let [Host::Unix(folder)] = database.config.get_hosts() else {
        panic!("the server listens at a socket");
    };
    let folder = folder.display().to_string();
    let columns = "id bigint NOT NULL, value double precision NOT NULL, text text NOT NULL";
    database.run(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw;
         CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '{folder}', dbname 'foreign_tables');
         CREATE USER MAPPING FOR CURRENT_USER SERVER itself OPTIONS (user 'postgres');
         CREATE FOREIGN TABLE remote ({columns}) SERVER itself OPTIONS (table_name 'readings');
         CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE file ({columns}) SERVER files OPTIONS (filename '/dev/null')"
    ));
    // The server behind it refuses two rows.
    let batcher = whole(100).sink(database.sink().table("remote")).unwrap();
    let row = |id: i64| Reading {
        value: if [10, 77].contains(&id) { -1.0 } else { 0.5 },
        ..reading(id)
    };
    batcher.add_many((0..100).map(row)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!((faulty(&report.failed), report.handled), (vec![10, 77], 98));
    assert_eq!(database.counts(), (98, 98));

    let keyed = database.sink().table("remote").key(["id"]);
    for (sink, expected) in [
        (
            keyed.on_conflict(OnConflict::Ignore),
            "table \"remote\" has no unique index on (\"id\")",
        ),
        (
            database.sink().table("file"),
            "foreign table \"file\" takes no rows: its foreign-data wrapper does not insert",
        ),
    ] {
        let refused = builder(1).sink(sink).expect_err("it does not fit");
        assert_eq!(refused.to_string(), expected);
    }
}
