//! Every mode, with keys that are in the table already and keys that are twice in a batch.

use load_aware_batcher_rusqlite::OnConflict;

use crate::rows::{File, KEYED, LONG, Reading, faulty, reading, whole};

/// Rows 1 and 2 are stored; 2, 3, 3, 4 come in one batch. Returns what is stored then, and which
/// rows failed.
fn after(mode: OnConflict) -> (Vec<(i64, f64, String)>, Vec<i64>) {
    let file = File::new(KEYED);
    let old = "INSERT INTO readings VALUES (1, 10, 'old'), (2, 20, 'old')";
    file.open().execute_batch(old).unwrap();
    let batcher = whole(1_000).sink(file.sink().on_conflict(mode)).unwrap();
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
    (file.rows(), faulty(&report.failed))
}

fn rows(expected: [(i64, f64, &str); 4]) -> Vec<(i64, f64, String)> {
    expected
        .into_iter()
        .map(|(id, value, text)| (id, value, text.to_owned()))
        .collect()
}

#[test]
fn fail_reports_the_row_that_is_there_and_the_second_of_two() {
    let expected = rows([
        (1, 10.0, "old"),
        (2, 20.0, "old"),
        (3, 30.0, "first"),
        (4, 40.0, "new"),
    ]);
    assert_eq!(after(OnConflict::Fail), (expected, vec![2, 3]));
}

#[test]
fn ignore_keeps_the_row_that_is_there_and_the_first_of_two() {
    let expected = rows([
        (1, 10.0, "old"),
        (2, 20.0, "old"),
        (3, 30.0, "first"),
        (4, 40.0, "new"),
    ]);
    assert_eq!(after(OnConflict::Ignore), (expected, vec![]));
}

#[test]
fn update_changes_the_named_columns_alone_and_the_last_of_two_wins() {
    let expected = rows([
        (1, 10.0, "old"),
        (2, 21.0, "old"),
        (3, 31.0, "first"),
        (4, 40.0, "new"),
    ]);
    assert_eq!(after(OnConflict::update(["value"])), (expected, vec![]));
}

#[test]
fn replace_changes_all_but_the_key_and_the_last_of_two_wins() {
    let expected = rows([
        (1, 10.0, "old"),
        (2, 21.0, "new"),
        (3, 31.0, "last"),
        (4, 40.0, "new"),
    ]);
    assert_eq!(after(OnConflict::Replace), (expected, vec![]));
}

#[test]
fn another_unique_index_than_the_key_refuses_its_row_in_every_mode() {
    let modes = [
        OnConflict::Ignore,
        OnConflict::update(["value"]),
        OnConflict::Replace,
    ];
    for mode in modes {
        let file = File::new(KEYED);
        file.open()
            .execute_batch("CREATE UNIQUE INDEX one_text ON readings (text)")
            .unwrap();
        let batcher = whole(1_000).sink(file.sink().on_conflict(mode)).unwrap();
        let twin = Reading {
            text: reading(1).text,
            ..reading(2)
        };
        batcher.add_many([reading(1), twin, reading(3)]).unwrap();
        let report = batcher.close(LONG);
        assert_eq!(faulty(&report.failed), [2]);
        assert_eq!(file.counts(), (2, 2));
    }
}

#[test]
fn a_key_of_two_columns_finds_conflicts_by_both() {
    let file = File::new(
        "CREATE TABLE readings (id INTEGER, value REAL, text TEXT, UNIQUE (value, id)); INSERT INTO readings VALUES (1, 0.5, 'old')",
    );
    let sink = file
        .sink()
        .on_conflict(OnConflict::Replace)
        .key(["id", "value"]);
    let batcher = whole(1_000).sink(sink).unwrap();
    let row = |id, value| Reading {
        value,
        ..reading(id)
    };
    batcher
        .add_many([row(2, 0.5), row(1, 0.5), row(1, 0.25)])
        .unwrap();
    assert!(batcher.close(LONG).is_clean());
    let text = |id| reading(id).text;
    assert_eq!(
        file.rows(),
        [(1, 0.5, text(1)), (1, 0.25, text(1)), (2, 0.5, text(2))]
    );
}
