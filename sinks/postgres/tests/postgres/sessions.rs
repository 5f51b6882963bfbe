//! Sessions that are no longer what they were, and tables that change under a running writer.

use load_aware_batcher_postgres::OnConflict;
use testkit::courses::tried_again;
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, faulty, reading, until, wait_for, whole,
};

/// Scenario 47.
#[test]
fn the_first_batch_after_an_idle_timeout_is_stored_once_and_is_not_in_doubt() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "idle", KEYLESS);
    let sink = database.sink().sensor(None);
    let sink = sink.session("SET idle_session_timeout = '200ms'");
    let batcher = builder(100).sink(sink).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'idle' AND pid <> pg_backend_pid()";
    until(|| database.number(others) == 0);
    batcher.add_many((1..100).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (100, 100));
}

/// A row that is there makes the batches go by prepared `INSERT`s.
/// Scenario 44.
#[test]
fn prepared_statements_that_are_lost_are_prepared_again() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, mode) in [
        ("lost_fail", OnConflict::Fail),
        ("lost_replace", OnConflict::Replace),
    ] {
        let mut database = Database::new(server, name, KEYED);
        let first = std::sync::atomic::AtomicBool::new(true);
        let sink = database
            .sink()
            .on_conflict(mode)
            .before_commit(move |transaction, _| {
                if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                    transaction.batch_execute("DEALLOCATE ALL")?;
                }
                Ok(())
            });
        let batcher = whole(10).sink(sink.sensor(None)).unwrap();
        batcher.add_many((0..100).map(reading)).unwrap();
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(database.counts(), (100, 100));
    }
}

#[test]
fn a_table_that_is_altered_while_it_is_written_takes_every_row() {
    let Some(server) = Server::shared() else {
        return;
    };
    let alterations = [
        "ALTER TABLE readings ADD COLUMN more text DEFAULT 'more'",
        "ALTER TABLE readings ALTER COLUMN text TYPE varchar(100)",
        "ALTER TABLE readings DROP COLUMN more",
        "ALTER TABLE readings ALTER COLUMN text TYPE text",
    ];
    for (name, mode) in [
        ("altered_fail", OnConflict::Fail),
        ("altered_replace", OnConflict::Replace),
    ] {
        let mut database = Database::new(server, name, KEYED);
        let batcher = builder(50).sink(database.sink().on_conflict(mode)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| batcher.add_many((0..10_000).map(reading)).unwrap());
            for (number, alteration) in alterations.iter().enumerate() {
                wait_for(&batcher, |stats| {
                    stats.handled >= 1_000 * (number as u64 + 1)
                });
                database.run(alteration);
            }
        });
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(database.counts(), (10_000, 10_000));
    }
}

#[test]
fn a_column_that_takes_another_type_fails_no_row_for_good_and_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "retyped", KEYLESS);
    let batcher = whole(10).sink(database.sink().sensor(None)).unwrap();
    database.run("ALTER TABLE readings ALTER COLUMN id TYPE int");
    batcher.add_many((0..10).map(reading)).unwrap();
    until(|| batcher.stats().failed == 10);
    let failed = batcher.take_failed();
    assert!(failed[0].error.is_misconfigured(), "{:?}", failed[0].error);
    assert_eq!(
        failed[0].error.to_string(),
        "column \"id\" of table \"readings\" has the type integer: it does not take values of type i64"
    );
    database.run("ALTER TABLE readings ALTER COLUMN id TYPE bigint");
    batcher.add_many((0..10).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(database.counts(), (10, 10));
}

/// Scenario 46.
#[test]
fn a_deferred_constraint_that_fails_at_the_commit_fails_its_row_alone() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, with_batches) in [("deferred", false), ("deferred_batches", true)] {
        let mut database = Database::new(server, name, KEYLESS);
        database.run(
            "CREATE TABLE parents (id bigint PRIMARY KEY); INSERT INTO parents SELECT generate_series(0, 98);
             ALTER TABLE readings ADD FOREIGN KEY (id) REFERENCES parents DEFERRABLE INITIALLY DEFERRED",
        );
        let sink = match with_batches {
            true => database.sink().batch_table("batches"),
            false => database.sink(),
        };
        let batcher = whole(100).sink(sink).unwrap();
        batcher.add_many((0..100).map(reading)).unwrap();
        let report = batcher.close(LONG);
        assert_eq!(faulty(&report.failed), [99]);
        assert_eq!(database.counts(), (99, 99));
    }
}

/// Scenario 46.
#[test]
fn a_serialization_failure_at_the_commit_is_tried_again_and_leaves_nothing_in_doubt() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "serialization", KEYLESS);
    // A sequence keeps its value over a rollback: the first commit fails, the second goes through.
    database.run(
        "CREATE SEQUENCE commits;
         CREATE FUNCTION first_commit_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 0 AND nextval('commits') = 1 THEN
                 RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
             END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON readings DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION first_commit_fails()",
    );
    let batcher = whole(200).sink(database.sink()).unwrap();
    batcher.add_many((0..200).map(reading)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.in_doubt), (200, 0));
    assert_eq!(tried_again(&stats), 1);
    assert_eq!(database.counts(), (200, 200));
}

#[test]
fn without_a_key_a_lost_statement_timeout_is_tried_again() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "slow", KEYLESS);
    database.run(
        "CREATE SEQUENCE calls; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('calls') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let sink = database
        .sink()
        .statement_timeout(std::time::Duration::from_millis(200));
    let batcher = builder(10).sink(sink).unwrap();
    batcher
        .add_many((0..10).map(|id| Reading {
            text: "slow".to_owned(),
            ..reading(id)
        }))
        .unwrap();
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (10, 10));
}
