//! What is wrong at the start is one sentence, and no thread starts.

use load_aware_batcher_rusqlite::load_aware_batcher::{Batcher, BuildError};
use load_aware_batcher_rusqlite::rusqlite::Connection;
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};

use crate::rows::{File, KEYED, KEYLESS, Reading, columns, reading};

/// The sentence.
fn refused(sink: Sqlite<Reading>) -> String {
    let error = Batcher::builder().sink(sink).expect_err("it does not fit");
    assert!(matches!(error, BuildError::Sink { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

#[test]
fn a_wrong_path_is_named_and_no_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.db");
    let sentence = refused(columns(Sqlite::open(&path)));
    assert!(
        sentence.starts_with(&format!("cannot open the database {path:?}: ")),
        "{sentence}"
    );
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(
        &path,
        "some text that is longer than a header is".repeat(50),
    )
    .unwrap();
    let sentence = refused(columns(Sqlite::open(&path)));
    assert!(sentence.contains("file is not a database"), "{sentence}");
}

#[test]
fn a_read_only_database_is_named() {
    let file = File::new(KEYED);
    let uri = format!("file:{}?mode=ro", file.path().display());
    assert_eq!(
        refused(columns(Sqlite::open(&uri))),
        format!("the database {uri:?} is read only")
    );
}

#[test]
fn a_table_or_schema_that_is_missing_is_named() {
    let file = File::new(KEYED);
    assert_eq!(
        refused(file.sink().table("redings")),
        "there is no table \"redings\""
    );
    assert_eq!(
        refused(file.sink().table("archive.readings")),
        "there is no schema \"archive\""
    );
    assert_eq!(
        refused(file.sink().table("a.b.c")),
        "\"a.b.c\" is not a table's name"
    );
    assert_eq!(
        refused(Sqlite::open(file.path()).column("id", |r: &Reading| &r.id)),
        "no table is named: call `table`"
    );
}

#[test]
fn a_column_that_does_not_fit_is_named() {
    let schema =
        "CREATE TABLE readings (id INTEGER PRIMARY KEY, value REAL NOT NULL, text TEXT NOT NULL,
        size INT GENERATED ALWAYS AS (length(text)), needed INT NOT NULL DEFAULT 5)";
    let file = File::new(schema);
    let sink = || file.sink();
    assert_eq!(
        refused(sink().column("valeu", |r| &r.value)),
        "table \"readings\" has no column \"valeu\""
    );
    assert_eq!(
        refused(sink().column("size", |r| &r.id)),
        "column \"size\" of table \"readings\" is generated: it cannot be written"
    );
    assert_eq!(
        refused(sink().column("VALUE", |r| &r.value)),
        "column \"VALUE\" is named twice"
    );
    assert_eq!(
        refused(
            Sqlite::open(file.path())
                .table("readings")
                .column("id", |r: &Reading| &r.id)
        ),
        "column \"value\" of table \"readings\" takes no null, has no default and is not named"
    );
    assert_eq!(
        refused(Sqlite::open(file.path()).table("readings")),
        "no column of table \"readings\" is named: call `column`"
    );
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let file = File::new(KEYLESS);
    let sink = || file.sink().on_conflict(OnConflict::Ignore);
    assert_eq!(
        refused(sink()),
        "rows of table \"readings\" have no key to find conflicts by: call `key`"
    );
    assert_eq!(
        refused(sink().key(["id"])),
        "table \"readings\" has no unique index on (\"id\")"
    );
    assert_eq!(
        refused(sink().key(["ident"])),
        "table \"readings\" has no column \"ident\""
    );
    let none: [&str; 0] = [];
    assert_eq!(refused(sink().key(none)), "`key` names no column");
    let file = File::new(KEYED);
    assert_eq!(
        refused(file.sink().on_conflict(OnConflict::update(["size"]))),
        "table \"readings\" has no column \"size\""
    );
    let sink = Sqlite::open(file.path())
        .table("readings")
        .column("value", |r: &Reading| &r.value)
        .column("text", |r| &r.text);
    assert_eq!(
        refused(sink.key(["id"])),
        "column \"id\" of the key is not written: name it with `column`"
    );
}

#[test]
fn a_view_takes_rows_through_its_trigger_and_is_refused_without() {
    let file = File::new(KEYED);
    let view = "CREATE VIEW all_readings AS SELECT * FROM readings";
    file.open().execute_batch(view).unwrap();
    let sentence = refused(file.sink().table("all_readings"));
    assert!(
        sentence.starts_with("cannot insert into \"all_readings\": "),
        "{sentence}"
    );
    let trigger = "CREATE TRIGGER write INSTEAD OF INSERT ON all_readings BEGIN
        INSERT INTO readings VALUES (NEW.id, NEW.value, NEW.text); END";
    file.open().execute_batch(trigger).unwrap();
    let batcher = Batcher::builder()
        .sink(file.sink().table("all_readings"))
        .unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(crate::rows::LONG).is_clean());
    assert_eq!(file.counts(), (1, 1));
}

#[test]
fn a_batch_table_of_another_shape_or_database_is_named() {
    let file = File::new(KEYED);
    let other = "CREATE TABLE taken (number INT)";
    file.open().execute_batch(other).unwrap();
    let sentence = refused(file.sink().batch_table("taken"));
    let begin = "table \"taken\" cannot hold the ids of batches: ";
    assert!(sentence.starts_with(begin), "{sentence}");
    assert_eq!(
        refused(file.sink().batch_table("temp.batches")),
        "the ids of batches are in \"temp\".\"batches\", which is another database than that of \"readings\""
    );
}

#[test]
fn a_database_that_cannot_become_wal_is_named() {
    let connect = || {
        let connection = Connection::open("")?;
        connection.execute_batch(KEYED)?;
        Ok(connection)
    };
    assert_eq!(
        refused(columns(Sqlite::from_fn(connect)).wal(true)),
        "the journal mode stays \"delete\" and does not become WAL"
    );
}
