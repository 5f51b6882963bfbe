//! Two writers, locks, killed connections, triggers, tables that go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load_aware_batcher_postgres::load_aware_batcher::{BatchError, Batcher, Retry};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, code_of, faulty, reading, until, wait_for,
    whole,
};

#[test]
fn two_writers_in_opposite_key_order_store_everything_once_without_a_deadlock() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "opposite", KEYED);
    // Slow enough for the two to meet.
    database.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id % 10 = 0 THEN PERFORM pg_sleep(0.001); END IF; RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let start = || {
        let sink = database.sink().on_conflict(OnConflict::Replace);
        whole(2_000).sink(sink).unwrap()
    };
    let (up, down) = (start(), start());
    let both = std::sync::Barrier::new(2);
    // The same rows at the same time.
    let write = |batcher: &Batcher<Reading>, turn: fn(i64) -> i64| {
        for round in 0..3 {
            both.wait();
            let ids = (0..2_000).map(|id| round * 2_000 + turn(id));
            batcher.add_many(ids.map(reading)).unwrap();
            batcher.flush(LONG).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| write(&up, |id| id));
        scope.spawn(|| write(&down, |id| 1_999 - id));
    });
    assert_eq!((up.stats().retries, down.stats().retries), (0, 0));
    assert!(up.close(LONG).is_clean());
    assert!(down.close(LONG).is_clean());
    assert_eq!(database.counts(), (6_000, 6_000));
    // The figure of a session that has ended is in.
    let query = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'opposite'";
    assert_eq!(database.number(query), 0);
}

#[test]
fn a_lock_that_is_held_is_transient_and_every_row_arrives_once_it_is_free() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "locked", KEYED);
    database.run("INSERT INTO readings VALUES (5, 0, 'locked')");
    let sink = database.sink().on_conflict(OnConflict::Replace);
    let batcher = whole(100)
        .sink(sink.lock_timeout(Duration::from_secs(1)))
        .unwrap();
    database.run("BEGIN");
    database.run("SELECT * FROM readings WHERE id = 5 FOR UPDATE");
    batcher.add_many((0..100).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.retries >= 1);
    database.run("ROLLBACK");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (100, 100));
}

#[test]
fn killed_connections_lose_and_double_nothing() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, keyed) in [("killed_keyed", true), ("killed_batches", false)] {
        let mut database = Database::new(server, name, if keyed { KEYED } else { KEYLESS });
        let sink = match keyed {
            true => database.sink().on_conflict(OnConflict::Ignore),
            false => database.sink().batch_table("batches"),
        };
        let batcher = builder(200).sink(sink.sensor(None)).unwrap();
        let rows = 30_000;
        std::thread::scope(|scope| {
            scope.spawn(|| batcher.add_many((0..rows).map(reading)).unwrap());
            for kill in 1..=10 {
                let handled = kill * 2_000;
                wait_for(&batcher, |stats| stats.handled >= handled);
                let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                database.number(others);
            }
        });
        let stats = batcher.stats();
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert!(stats.retries > 0, "{stats:#?}");
        assert_eq!(database.counts(), (rows, rows));
    }
}

#[test]
fn a_poisoned_row_fails_alone_within_the_promised_calls() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "poisoned", KEYED);
    let sink = database.sink().on_conflict(OnConflict::Ignore);
    let batcher = whole(1_000).sink(sink).unwrap();
    let rows = (0..1_000).map(|id| Reading {
        value: if id == 617 { -1.0 } else { 1.0 },
        ..reading(id)
    });
    batcher.add_many(rows).unwrap();
    batcher.flush(LONG).unwrap_err();
    let calls = batcher.stats().calls;
    assert!(calls <= 1 + 2 * 10, "{calls}");
    assert_eq!(faulty(&batcher.close(LONG).failed), [617]);
    assert_eq!(database.counts(), (999, 999));
}

/// Sixty bad rows side by side among 500, across the boundary of the halves.
/// Scenario 40.
#[test]
fn rows_that_a_trigger_or_an_index_refuses_fail_and_take_no_good_row_with_them() {
    let Some(server) = Server::shared() else {
        return;
    };
    let bad: Vec<i64> = (220..280).collect();
    // No compression makes this fit into an index page.
    let mut state = 1u64;
    let digits = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{state:x}")
    });
    let long: String = digits.take(600).collect();
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF length(NEW.text) > 1000 THEN RAISE EXCEPTION 'too long'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION refuse()";
    for (name, setup, code) in [
        ("trigger_refuses", trigger, "P0001"),
        ("index_refuses", "CREATE INDEX ON readings (text)", "54000"),
    ] {
        let mut database = Database::new(server, name, KEYLESS);
        database.run(setup);
        let batcher = whole(500).sink(database.sink()).unwrap();
        let rows = (0..500).map(|id| match bad.contains(&id) {
            true => Reading {
                text: long.clone(),
                ..reading(id)
            },
            false => reading(id),
        });
        batcher.add_many(rows).unwrap();
        let report = batcher.close(LONG);
        assert_eq!(faulty(&report.failed), bad, "{name}");
        let codes = report.failed.iter().map(|failed| code_of(&failed.error));
        assert!(
            codes
                .into_iter()
                .all(|found| found.as_deref() == Some(code))
        );
        assert_eq!(database.counts(), (440, 440), "{name}");
    }
}

#[test]
fn a_missing_table_fails_the_batch_without_a_search_for_bad_rows() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "missing", KEYLESS);
    let retry = Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO);
    let batcher = whole(1_000).retry(retry).sink(database.sink()).unwrap();
    database.run("DROP TABLE readings");
    batcher.add_many((0..1_000).map(reading)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    // Row by row it would be two thousand.
    let calls = batcher.stats().calls;
    assert!(calls < 100, "{calls}");
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 1_000);
    let mut errors = report.failed.iter().map(|failed| &failed.error);
    assert!(errors.all(BatchError::is_misconfigured));
}

#[test]
fn a_table_that_is_dropped_is_misconfigured_and_one_that_comes_back_is_written() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "dropped", KEYLESS);
    let batcher = Batcher::builder().sink(database.sink()).unwrap();
    database.run("DROP TABLE readings");
    batcher.add(reading(1)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert!(failed[0].error.is_misconfigured(), "{failed:?}");
    database.run(KEYLESS);
    batcher.add(reading(2)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(database.counts(), (1, 1));
}

/// By turns the first attempt at a batch is committed and its caller does not hear of it.
fn with_lost_answers(sink: Postgres<Reading>) -> Postgres<Reading> {
    let lose = Arc::new(AtomicBool::new(true));
    sink.before_commit(move |transaction, _| {
        if lose.fetch_xor(true, Ordering::SeqCst) {
            transaction.batch_execute("COMMIT")?;
            return Err(BatchError::in_doubt("the answer is lost").handler_broken());
        }
        Ok(())
    })
}

#[test]
fn rows_that_were_refused_in_a_batch_whose_answer_was_lost_are_reported() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refused_in_doubt", KEYLESS);
    let sink = with_lost_answers(database.sink().batch_table("batches"));
    let batcher = whole(1_000).sink(sink).unwrap();
    let rows = (0..100).map(|id| Reading {
        value: if id == 17 { -1.0 } else { 1.0 },
        ..reading(id)
    });
    batcher.add_many(rows).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 1);
    let failed = &report.failed[0];
    assert_eq!(failed.item.id, 17);
    assert!(failed.error.is_permanent(), "{failed:?}");
    assert_eq!(database.counts(), (99, 99));
}

#[test]
fn without_key_and_batch_table_what_is_in_doubt_is_reported_and_never_sent_again() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "in_doubt", KEYLESS);
    let batcher = whole(100).sink(with_lost_answers(database.sink())).unwrap();
    batcher.add_many((0..50).map(reading)).unwrap();
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 50);
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(database.counts(), (50, 50));
}

#[test]
fn old_ids_of_batches_are_removed() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "old_ids", KEYLESS);
    let sink = || {
        let sink = database.sink().batch_table("batches");
        sink.keep_batches(Duration::from_secs(3_600))
    };
    drop(Batcher::builder().sink(sink()).unwrap());
    let sink = sink();
    database.run("INSERT INTO batches VALUES (gen_random_uuid(), now() - interval '4000 s'), (gen_random_uuid(), now() - interval '3000 s')");
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.number("SELECT count(*) FROM batches"), 2);
    let old = "SELECT count(*) FROM batches WHERE at < now() - interval '3600 s'";
    assert_eq!(database.number(old), 0);
}

#[test]
fn a_table_lock_is_waited_for_no_longer_than_the_lock_timeout() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "table_lock", KEYLESS);
    let sink = database.sink().lock_timeout(Duration::from_secs(1));
    let batcher = builder(100)
        .retry(Retry::attempts(1).total_limit(Duration::ZERO))
        .sink(sink)
        .unwrap();
    database.run("BEGIN; LOCK TABLE readings IN SHARE MODE");
    batcher.add(reading(1)).unwrap();
    until(|| batcher.stats().failed == 1);
    database.run("ROLLBACK");
    assert!(batcher.take_failed()[0].error.is_transient());
}
