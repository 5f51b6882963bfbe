//! Every mode, with keys that are in the table already and keys that are twice in a batch.

use load_aware_batcher_postgres::OnConflict;
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{Database, KEYED, LONG, Reading, faulty, reading, whole};

type Rows = Vec<(i64, f64, String)>;

/// Rows 1 and 2 are stored; 4, 3, 2, 3 come in one batch. Returns what is stored then, and which
/// rows failed.
fn after(name: &str, mode: OnConflict) -> Option<(Rows, Vec<i64>)> {
    let mut database = Database::new(Server::shared()?, name, KEYED);
    database.run("INSERT INTO readings VALUES (1, 10, 'old'), (2, 20, 'old')");
    let sink = database.sink().on_conflict(mode);
    let batcher = whole(1_000).sink(sink).unwrap();
    let new = |id, value, text: &str| Reading {
        id,
        value,
        text: text.to_owned(),
    };
    let rows = [
        new(4, 40.0, "new"),
        new(3, 30.0, "first"),
        new(2, 21.0, "new"),
        new(3, 31.0, "last"),
    ];
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    Some((database.rows(), faulty(&report.failed)))
}

fn expect(name: &str, mode: OnConflict, two: (f64, &str), three: (f64, &str), failed: &[i64]) {
    let Some((rows, found)) = after(name, mode) else {
        return;
    };
    let row = |id, (value, text): (f64, &str)| (id, value, text.to_owned());
    let expected = [
        row(1, (10.0, "old")),
        row(2, two),
        row(3, three),
        row(4, (40.0, "new")),
    ];
    assert_eq!((rows, found), (expected.to_vec(), failed.to_vec()));
}

#[test]
fn fail_reports_the_row_that_is_there_and_the_second_of_two() {
    expect(
        "mode_fail",
        OnConflict::Fail,
        (20.0, "old"),
        (30.0, "first"),
        &[2, 3],
    );
}

#[test]
fn ignore_keeps_the_row_that_is_there_and_the_first_of_two() {
    expect(
        "mode_ignore",
        OnConflict::Ignore,
        (20.0, "old"),
        (30.0, "first"),
        &[],
    );
}

#[test]
fn update_changes_the_named_columns_alone_and_the_last_of_two_wins() {
    let mode = OnConflict::update(["value"]);
    // The first of the two is never written, so the second brings its other columns too.
    expect("mode_update", mode, (21.0, "old"), (31.0, "last"), &[]);
}

#[test]
fn replace_changes_all_but_the_key_and_the_last_of_two_wins() {
    expect(
        "mode_replace",
        OnConflict::Replace,
        (21.0, "new"),
        (31.0, "last"),
        &[],
    );
}

#[test]
fn another_unique_index_than_the_key_refuses_its_row_in_every_mode() {
    let Some(server) = Server::shared() else {
        return;
    };
    let modes = [
        ("other_fail", OnConflict::Fail),
        ("other_ignore", OnConflict::Ignore),
        ("other_update", OnConflict::update(["value"])),
        ("other_replace", OnConflict::Replace),
    ];
    for (name, mode) in modes {
        let mut database = Database::new(server, name, KEYED);
        database.run("ALTER TABLE readings ADD UNIQUE (text)");
        database.run("INSERT INTO readings VALUES (0, 0, 'old')");
        let batcher = whole(1_000)
            .sink(database.sink().on_conflict(mode))
            .unwrap();
        let twin = Reading {
            text: reading(1).text,
            ..reading(2)
        };
        // A conflict of the key, so that the next batch goes by ON CONFLICT.
        batcher.add(reading(0)).unwrap();
        let _ = batcher.flush(LONG);
        batcher.add_many([reading(1), twin, reading(3)]).unwrap();
        let report = batcher.close(LONG);
        let failed = faulty(&report.failed);
        assert_eq!(failed[failed.len() - 1..], [2], "{name}");
        assert_eq!(failed.len(), if name == "other_fail" { 2 } else { 1 });
        let stored = |id| (id, reading(id).value, reading(id).text);
        assert_eq!(database.rows()[1..], [stored(1), stored(3)], "{name}");
    }
}

#[test]
fn with_another_unique_index_the_key_still_finds_its_conflicts() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "other_key", KEYED);
    database.run("ALTER TABLE readings ADD UNIQUE (text)");
    database.run("INSERT INTO readings VALUES (1, 10, 'old')");
    let sink = database.sink().on_conflict(OnConflict::update(["value"]));
    let batcher = whole(1_000).sink(sink).unwrap();
    batcher.add_many([reading(1), reading(2)]).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(
        database.rows(),
        [(1, 0.25, "old".to_owned()), (2, 0.5, reading(2).text)]
    );
}

#[test]
fn a_key_of_two_columns_finds_conflicts_by_both() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema =
        "CREATE TABLE readings (id bigint, value double precision, text text, UNIQUE (value, id))";
    let mut database = Database::new(server, "key_of_two", schema);
    database.run("INSERT INTO readings VALUES (1, 0.5, 'old')");
    let sink = database.sink().on_conflict(OnConflict::Replace);
    let batcher = whole(1_000).sink(sink.key(["id", "value"])).unwrap();
    let row = |id, value| Reading {
        value,
        ..reading(id)
    };
    batcher
        .add_many([row(2, 0.5), row(1, 0.5), row(1, 0.25)])
        .unwrap();
    assert!(batcher.close(LONG).is_clean());
    let stored = |id, value| (id, value, reading(id).text);
    assert_eq!(
        database.rows(),
        [stored(1, 0.25), stored(1, 0.5), stored(2, 0.5)]
    );
}
